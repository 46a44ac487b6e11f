"""What goes wrong when two models are compared: each mistake as a function that makes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake

Votes = Sequence[float]


def _tail(gained: int, lost: int, upto: int) -> float:
    """P(X <= upto) of the changed prompts' fair coins."""
    n = gained + lost
    return sum(math.comb(n, k) for k in range(upto + 1)) / 2**n


def _right(gained: int, lost: int) -> float:
    return min(1.0, 2 * _tail(gained, lost, min(gained, lost)))


def _chi_square(gained: int, lost: int, correction: float = 0.0) -> float:
    return max(0.0, abs(gained - lost) - correction) ** 2 / (gained + lost)


MCNEMAR_P = (
    Mistake(
        "one_sided",
        "you count one tail: so uneven in the other direction would have surprised you as much, "
        "twice the tail is the two-sided p",
        lambda g, lost: _tail(g, lost, min(g, lost)),
    ),
    Mistake(
        "point",
        "you take the probability of this very outcome: all that are as uneven *or more* count",
        lambda g, lost: 2 * math.comb(g + lost, lost) / 2 ** (g + lost),
        lambda g, lost: math.comb(g + lost, lost) / 2 ** (g + lost),
    ),
    Mistake(
        "fixed_tail",
        "you always start from the same count: the tail begins at the smaller of the two",
        lambda g, lost: 2 * _tail(g, lost, lost),
        lambda g, lost: 2 * _tail(g, lost, g),
        lambda g, lost: min(1.0, 2 * _tail(g, lost, lost)),
        lambda g, lost: min(1.0, 2 * _tail(g, lost, g)),
    ),
    Mistake(
        "strict",
        "your tail stops before the outcome itself: as uneven as this counts too, and range(k) "
        "ends at k - 1",
        lambda g, lost: 2 * _tail(g, lost, min(g, lost) - 1),
    ),
    Mistake(
        "not_divided",
        "you count falls of the coins: divide by all there are, 2**n",
        lambda g, lost: 2 * sum(math.comb(g + lost, k) for k in range(min(g, lost) + 1)),
        lambda g, lost: sum(math.comb(g + lost, k) for k in range(min(g, lost) + 1)),
    ),
    Mistake(
        "statistic",
        "you return McNemar's statistic, (gained - lost)^2 / (gained + lost): a p is wanted, and "
        "the exact one",
        _chi_square,
        lambda g, lost: _chi_square(g, lost, 1.0),
    ),
    Mistake(
        "approximation",
        "this is the chi-square (or normal) approximation: with few changes it is off, count the "
        "falls of the coins instead",
        lambda g, lost: math.erfc(math.sqrt(_chi_square(g, lost) / 2)),
        lambda g, lost: math.erfc(math.sqrt(_chi_square(g, lost, 1.0) / 2)),
    ),
    Mistake(
        "complement",
        "you return 1 - p: a small p is what speaks against chance",
        lambda g, lost: 1 - _right(g, lost),
        lambda g, lost: 1 - _tail(g, lost, min(g, lost)),
    ),
    Mistake(
        "share",
        "you return a share of the changed prompts: how probable is such a share by chance?",
        lambda g, lost: g / (g + lost),
        lambda g, lost: lost / (g + lost),
        lambda g, lost: min(g, lost) / (g + lost),
    ),
)


def _mean(score: Callable[[float, float], float]) -> Callable[[Votes, Votes], float]:
    """The mean over pairs of a score of the two votes."""

    def swapped_win_rate(a_first: Votes, b_first: Votes) -> float:
        return sum(map(score, a_first, b_first)) / len(a_first)

    return swapped_win_rate


def _decided(a_first: Votes, b_first: Votes) -> float:
    """Ties thrown away, in either order."""
    won = a_first.count(1) + b_first.count(0)
    return won / (won + a_first.count(0) + b_first.count(1))


def _consistent_only(a_first: Votes, b_first: Votes) -> float:
    both = [first for first, second in zip(a_first, b_first, strict=True) if first == 1 - second]
    return sum(both) / len(both)


SWAPPED_WIN_RATE = (
    Mistake(
        "not_turned",
        "you add the votes as they are: in b_first a 1 means that *B* won, A's share is 1 less it",
        _mean(lambda first, second: (first + second) / 2),
    ),
    Mistake(
        "one_order",
        "only one of the orders is counted: the judge's love of a place stays in",
        _mean(lambda first, second: first),
        _mean(lambda first, second: 1 - second),
        _mean(lambda first, second: second),
    ),
    Mistake(
        "other_side",
        "this is B's win rate: A's is 1 less it",
        _mean(lambda first, second: (1 - first + second) / 2),
    ),
    Mistake(
        "doubled",
        "each pair has two verdicts: divide by two for each pair",
        _mean(lambda first, second: first + 1 - second),
    ),
    Mistake(
        "not_averaged",
        "you return a sum: divide by the number of pairs",
        lambda a, b: sum(first + 1 - second for first, second in zip(a, b, strict=True)) / 2,
        lambda a, b: sum(first + 1 - second for first, second in zip(a, b, strict=True)),
    ),
    Mistake(
        "ties_are_losses",
        "a tie counts for nothing: it is half a win, for both",
        _mean(lambda first, second: ((first == 1) + (second == 0)) / 2),
    ),
    Mistake(
        "ties_dropped",
        "the ties are thrown away: they are votes, half for each, and a judge who is often unsure "
        "says something by it",
        _decided,
    ),
    Mistake(
        "both_or_nothing",
        "A wins a pair only if it wins in both orders, and otherwise loses it: average the two "
        "verdicts of a pair",
        _mean(lambda first, second: float(first == 1 and second == 0)),
        _mean(lambda first, second: min(first, 1 - second)),
    ),
    Mistake(
        "inconsistent_dropped",
        "pairs on which the two orders disagree are left out: they are the judge's ties, average "
        "their verdicts",
        _consistent_only,
    ),
    Mistake(
        "inconsistent_tied",
        "a win beside a tie becomes a tie: their mean is 3/4",
        _mean(lambda first, second: first if first == 1 - second else 0.5),
    ),
)


def _holm(
    factors: Callable[[int], Tensor] = lambda m: torch.arange(m, 0, -1),
    carry: Callable[[Tensor], Tensor] = lambda x: x.cummax(0).values,
    back: Callable[[Tensor, Tensor], Tensor] = lambda x, order: x[order.argsort()],
) -> Callable[[Tensor], Tensor]:
    """The right correction, but for what is given: the factors, the carry, the way back."""

    def holm(p: Tensor) -> Tensor:
        order = p.argsort()
        return back(carry(p[order] * factors(len(p))), order).clamp(max=1)

    return holm


def _minimum_from_the_end(x: Tensor) -> Tensor:
    return x.flip(0).cummin(0).values.flip(0)


HOLM = (
    Mistake(
        "bonferroni",
        "every p is multiplied by the number of tests: that is Bonferroni. Holm multiplies only "
        "the smallest by m, the next by m - 1 and so on",
        lambda p: (p * len(p)).clamp(max=1),
        lambda p: p * len(p),
    ),
    Mistake(
        "benjamini_hochberg",
        "this is Benjamini and Hochberg's: it bounds the *share* of false findings, Holm the "
        "chance of any",
        _holm(lambda m: m / torch.arange(1, m + 1), _minimum_from_the_end),
    ),
    Mistake(
        "sorted_order",
        "the values are right and come back sorted: put each in the place of its own p",
        _holm(back=lambda x, order: x),
    ),
    Mistake(
        "wrong_way_back",
        "you index with the sorting order once more, where its inverse is wanted: "
        "out[order] = adjusted, or adjusted[order.argsort()]",
        _holm(back=lambda x, order: x[order]),
    ),
    Mistake(
        "not_monotone",
        "a larger p may not end below a smaller one: take the running maximum, cummax, over the "
        "sorted values",
        _holm(carry=lambda x: x),
    ),
    Mistake(
        "running_minimum",
        "you take a running minimum: Holm stops at the first p that fails, so each is at least as "
        "large as those before it (cummax)",
        _holm(carry=lambda x: x.cummin(0).values),
        _holm(carry=_minimum_from_the_end),
    ),
    Mistake(
        "factors_turned",
        "the factors are the wrong way round: the *smallest* p is multiplied by m",
        _holm(lambda m: torch.arange(1, m + 1)),
    ),
    Mistake(
        "factors_off_by_one",
        "the factors are off by one: they run from m down to 1",
        _holm(lambda m: torch.arange(m - 1, -1, -1)),
        _holm(lambda m: torch.arange(m + 1, 1, -1)),
    ),
    Mistake(
        "not_sorted",
        "the p-values are taken as they come: sort them first, the factor depends on the rank",
        lambda p: (p * torch.arange(len(p), 0, -1)).cummax(0).values,
        lambda p: p * torch.arange(len(p), 0, -1),
    ),
    Mistake(
        "sidak",
        "this is Sidak's correction of each alone: it wants independent tests",
        lambda p: 1 - (1 - p) ** len(p),
    ),
)
