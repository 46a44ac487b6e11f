"""What a labeller's labels are worth and cost: agreement with the truth, noise, price, a budget.

Labels are "a", "b" or "tie", one a pair. Left out: labellers whose errors depend on the pair
(`judge.noisy_judge` has some), and what an annotator's mood does over a day.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from postlab.stats import Interval, cohen_kappa, wilson

LABELS = ("a", "b", "tie")


@dataclass(frozen=True)
class Agreement:
    """A labeller against the truth: kappa, and how often it is wrong where the truth takes sides.

    `error` and `silent` are shares of the pairs whose true label is no tie: the other side chosen,
    and a tie called. `forced` is the share of true ties in which a side was chosen all the same.
    """

    kappa: Interval
    error: Interval
    silent: Interval
    forced: Interval


def agreement(labels: Sequence[str], truth: Sequence[str]) -> Agreement:
    """How far a labeller agrees with the oracle, or with your own blind labels.

    Args:
        labels: (n,) "a", "b" or "tie".
        truth: (n,) the same pairs in the same order.
    Returns:
        An Agreement; an interval of no pairs is all NaN.
    Raises:
        ValueError: if lengths differ, there is no pair, or a label is unknown.
    Taught in week 9.

    >>> found = agreement(["a", "b", "tie", "a"], ["a", "a", "a", "tie"])
    >>> found.error.value, found.silent.value, found.forced.value
    (0.3333333333333333, 0.3333333333333333, 1.0)
    """
    _check(labels)
    _check(truth)
    kappa = cohen_kappa(labels, truth)
    pairs = list(zip(labels, truth, strict=True))
    sided = [(label, true) for label, true in pairs if true != "tie"]
    return Agreement(
        kappa,
        error=_share([label not in (true, "tie") for label, true in sided]),
        silent=_share([label == "tie" for label, _ in sided]),
        forced=_share([label != "tie" for label, true in pairs if true == "tie"]),
    )


def noisy_labels(labels: Sequence[str], rate: float, *, seed: int = 0) -> list[str]:
    """Turn exactly a share of the labels round, "a" for "b" and back; ties stay ties.

    Args:
        labels: (n,) "a", "b" or "tie".
        rate: 0 to 1, of the labels that are no tie; rounded to whole labels, half up.
        seed: of the choice. With one seed a higher rate turns those of a lower one and more, so a
            curve over rates is about noise and not about which labels were hit.
    Returns:
        (n,) new labels.
    Raises:
        ValueError: if rate or a label is out of range.
    Taught in week 9.

    >>> noisy_labels(["a", "tie", "b", "a", "b"], 0.5)
    ['a', 'tie', 'b', 'b', 'a']
    """
    _check(labels)
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}, expected between 0 and 1")
    sided = [i for i, label in enumerate(labels) if label != "tie"]
    random.Random(f"noise {seed}").shuffle(sided)
    turned = set(sided[: math.floor(rate * len(sided) + 0.5)])
    other = {"a": "b", "b": "a"}
    return [other[label] if i in turned else label for i, label in enumerate(labels)]


def comparison_cost(
    *,
    ai: int = 0,
    human: int = 0,
    ai_dollars: float = 0.01,
    human_dollars: float = 3.0,
    orders: int = 2,
    questions: int = 1,
) -> float:
    """What so many comparisons cost, in dollars; change the prices to your own.

    The roadmap's figures: $1 to $5 a human comparison, $0.01 an AI one. The first is an annotator's
    minutes; the second is tokens, which `orders` and `questions` multiply, and a long constitution
    does too. By default it is the price of `comparing_labeller`, asked in both orders.

    Args:
        ai: pairs labelled by a model.
        human: pairs labelled by a person, in one order.
        ai_dollars: a question to the model.
        human_dollars: a comparison by a person.
        orders: how often a pair is asked about: 2 with the order swapped, which is idle for a
            labeller that looks at each reply alone.
        questions: to the model, a pair and order: 1 for `comparing_labeller`; 2 replies times the
            rules for `chance_labeller` and `critic_labeller`.
    Raises:
        ValueError: if a number is negative or not finite.
    Taught in week 9.

    >>> comparison_cost(ai=1000), comparison_cost(human=1000)
    (20.0, 3000.0)
    """
    amounts = {"ai": ai, "human": human, "ai_dollars": ai_dollars, "human_dollars": human_dollars}
    for name, value in (amounts | {"orders": orders, "questions": questions}).items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} is {value}; expected a number from 0")
    return ai * questions * orders * ai_dollars + human * human_dollars


def mixed_labels(
    ai: Sequence[str], human: Sequence[str], count: int, *, where: str = "ties", seed: int = 0
) -> list[str]:
    """AI labels with a few human ones in their place, as many as the budget pays for.

    Args:
        ai: (n,) "a", "b" or "tie".
        human: (n,) the label a person would give; only those that are bought are looked at.
        count: human labels bought.
        where: 'ties' spends them first on pairs that the AI could not decide, then by chance;
            'random' by chance alone.
        seed: of the chance.
    Returns:
        (n,) labels.
    Raises:
        ValueError: if lengths differ, a label is unknown, or more is bought than there are pairs.
    Taught in week 9.

    >>> mixed_labels(["a", "tie", "a"], ["b", "b", "b"], 1)
    ['a', 'b', 'a']
    """
    _check(ai)
    _check(human)
    if len(ai) != len(human) or not 0 <= count <= len(ai):
        raise ValueError(
            f"{len(ai)} AI labels, {len(human)} human ones, {count} bought; expected as many of"
            " each, and at most all of them bought"
        )
    if where not in ("ties", "random"):
        raise ValueError(f"where is {where!r:.40}; expected 'ties' or 'random'")
    order = list(range(len(ai)))
    random.Random(f"human {seed}").shuffle(order)
    if where == "ties":
        order.sort(key=lambda i: ai[i] != "tie")
    bought = set(order[:count])
    return [human[i] if i in bought else label for i, label in enumerate(ai)]


def _check(labels: Sequence[str]) -> None:
    for number, label in enumerate(labels):
        if label not in LABELS:
            raise ValueError(f"label {number} is {label!r:.40}; expected 'a', 'b' or 'tie'")


def _share(hits: Sequence[bool]) -> Interval:
    if not hits:
        return Interval(math.nan, math.nan, math.nan, 0)
    return wilson(sum(hits), len(hits))
