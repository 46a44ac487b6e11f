"""Week 6: an exact test from two counts, a judge asked in both orders, and Holm's correction."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week06 import mistakes_compare


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test: could the changes be those of a fair coin?

    Args:
        gained: prompts that went from wrong to right.
        lost: prompts that went from right to wrong.
    Returns:
        The probability that as many fair coins fall at least as unevenly; 1 if nothing changed.
    Source: McNemar 1947. Taught in week 6.

    >>> mcnemar_p(4, 1)  # 2 * (1 + 5) / 2**5
    0.375
    """
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def swapped_win_rate(a_first: Sequence[float], b_first: Sequence[float]) -> float:
    """A's win rate from pairs that were judged in both orders, with the two verdicts averaged.

    Args:
        a_first: one vote per pair, with A's reply shown first: 1 it won, 0 it lost, 0.5 a tie.
        b_first: the same pairs in the same order, with B's reply shown first: 1 means that B's won.
    Returns:
        Between 0 and 1; 0.5 means no preference.
    Source: Zheng et al. 2023, arXiv 2306.05685, section 3.4. Taught in week 6.

    >>> swapped_win_rate([1, 1, 1, 0.5], [1, 0, 1, 0.5])  # pairs: 1/2, 1, 1/2, 1/2
    0.625
    """
    both = zip(a_first, b_first, strict=True)
    return sum((first + 1 - second) / 2 for first, second in both) / len(a_first)


def holm(p: Tensor) -> Tensor:
    """Holm's adjusted p-values: the chance of any false finding below 0.05 is at most 5%.

    Args:
        p: (m,) one p-value per test.
    Returns:
        (m,) in the same order.
    Source: Holm 1979. Taught in week 6.

    >>> holm(torch.tensor([0.04, 0.01, 0.03]))  # 3 * .01; 2 * .03; .04, but no less than .06
    tensor([0.0600, 0.0300, 0.0600])
    """
    order = p.argsort()
    factors = torch.arange(len(p), 0, -1, device=p.device)
    adjusted = torch.empty_like(p)
    adjusted[order] = (p[order] * factors).cummax(0).values.clamp(max=1)
    return adjusted


def _counts(seed: int) -> dict[str, Any]:
    """Never as many gained as lost, because that is an edge case."""
    gained, lost = ((7, 2), (3, 9), (0, 5), (12, 10), (20, 8), (2, 13))[seed % 6]
    later = seed // 6
    return {"gained": gained + 3 * later, "lost": lost + later}


def _votes(seed: int) -> dict[str, Any]:
    draw, n = random.Random(seed), 7 + 2 * (seed % 3)
    votes = {name: draw.choices((1, 0, 0.5), (4, 2, 1), k=n) for name in ("a_first", "b_first")}
    votes["a_first"][:3], votes["b_first"][:3] = [1, 1, 0], [0.5, 0, 1]  # no list without a tie
    return votes


def _p_values(seed: int) -> dict[str, Any]:
    """Small enough that none has to be cut at 1, and in an order that isn't its own inverse."""
    g, n = torch.Generator().manual_seed(seed), (4, 6, 5)[seed % 3]
    steps = (0.5 + torch.rand(n, generator=g)).cumsum(0)
    return {"p": 0.09 * steps.roll(1 + seed % 2) / steps[-1] / (1 + seed // 6)}


MCNEMAR_P = Exercise(
    name="mcnemar_p",
    reference=mcnemar_p,
    positional=("gained", "lost"),
    cases=(
        Case(
            "4 gained and 1 lost",
            {"gained": 4, "lost": 1},
            "(1 + 5) of the 2^5 outcomes of five coins, doubled",
        ),
        Case(
            "2 gained and 5 lost",
            {"gained": 2, "lost": 5},
            "(1 + 7 + 21) of the 2^7 outcomes of seven coins, doubled",
        ),
        Case(
            "0 gained and 5 lost",
            {"gained": 0, "lost": 5},
            "1 of the 2^5 outcomes of five coins, doubled",
        ),
    ),
    random=_counts,
    mistakes=mistakes_compare.MCNEMAR_P,
    edges=(
        Edge(
            "above_one",
            Case(
                "3 gained and 3 lost",
                {"gained": 3, "lost": 3},
                "2 * 42/64 counts the even outcome in both tails",
            ),
            "If as many were gained as lost, the two tails overlap, and twice one of them is "
            "more than 1: limit p with min(1.0, p).",
            ("return min(1.0, 2 * tail) -> return 2 * tail if n else 1.0",),
        ),
        Edge(
            "nothing_changed",
            Case("0 gained and 0 lost", {"gained": 0, "lost": 0}, "no coins, no evidence"),
            "If no prompt changed, nothing speaks against chance: p is 1.",
            ("return min(1.0, 2 * tail) -> return min(1.0, 2 * tail) if n else 0.0",),
        ),
        Edge(
            "underflow",
            Case("700 gained and 640 lost", {"gained": 700, "lost": 640}, "integers are exact"),
            "With a thousand prompts or more, 0.5**n becomes 0 and 2.0**n overflows: add up "
            "math.comb(n, k) as integers and divide by 2**n once.",
            ("/ 2 ** n -> * 0.5 ** n",),
        ),
    ),
)
SWAPPED_WIN_RATE = Exercise(
    name="swapped_win_rate",
    reference=swapped_win_rate,
    positional=("a_first", "b_first"),
    cases=(
        Case(
            "a_first [1, 1, 1, 0.5] and b_first [1, 0, 1, 0.5]",
            {"a_first": [1, 1, 1, 0.5], "b_first": [1, 0, 1, 0.5]},
            "A gets 1/2, 1, 1/2 and 1/2",
        ),
        Case(
            "a_first [0, 0, 1, 1, 0.5, 1] and b_first [0, 0.5, 1, 0, 0, 0.5]",
            {"a_first": [0, 0, 1, 1, 0.5, 1], "b_first": [0, 0.5, 1, 0, 0, 0.5]},
            "A gets 1/2, 1/4, 1/2, 1, 3/4 and 3/4",
        ),
    ),
    random=_votes,
    mistakes=mistakes_compare.SWAPPED_WIN_RATE,
    axes={"a_first": "b", "b_first": "b"},
)
HOLM = Exercise(
    name="holm",
    reference=holm,
    positional=("p",),
    cases=(
        Case(
            "p [0.03, 0.05, 0.01]",
            {"p": torch.tensor([0.03, 0.05, 0.01])},
            "the smallest times 3, the next times 2, the last times 1 but no less than the one "
            "before it",
        ),
    ),
    random=_p_values,
    mistakes=mistakes_compare.HOLM,
    axes={"p": "m"},
    edges=(
        Edge(
            "above_one",
            Case("p [0.9, 0.6]", {"p": torch.tensor([0.9, 0.6])}, "2 * 0.6, cut at 1"),
            "A p-value can't be above 1: use clamp(max=1).",
            (".clamp(max=1) -> .clone()",),
        ),
    ),
)
