"""Whether two versions of one model are equally good: an interval inside a margin, not a large p.

A difference without significance doesn't show that two things are equal: a small sample never
finds one. Two one-sided tests (TOST) do: both 'at least the margin worse' and 'at least the margin
better' must be rejected at 5%, which is the same as a 90% interval inside the margin.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from postlab.stats.intervals import SIGNIFICANCE, paired_difference


@dataclass(frozen=True)
class Equivalence:
    """mean(after) - mean(before), its 90% interval, the test's p, and what they say of a margin."""

    difference: float
    low: float
    high: float
    p: float
    n: int
    margin: float
    verdict: str


def equivalence(
    a: ArrayLike, b: ArrayLike, *, margin: float, resamples: int = 2000, seed: int = 0
) -> Equivalence:
    """Test whether b scores the same as a on the same prompts, up to a margin.

    Args:
        a: (n,) the reference, one number a prompt.
        b: (n,) the version in question, the same prompts in the same order.
        margin: the largest difference that doesn't matter, in the unit of the values; chosen
            before looking.
        resamples: of the bootstrap, as in `paired_difference`; `seed` too.
    Returns:
        With the verdict "equivalent" (the 90% interval lies inside the margin), "different" (it
        doesn't, and the paired test has p < 0.05) or "inconclusive" (too few prompts to tell).
        A difference that is real and smaller than the margin counts as equivalent.
    Raises:
        ValueError: as `paired_difference`, or if the margin isn't above zero.
    Source: Schuirmann 1987 (TOST). Taught in week 12.

    >>> right = [1] * 90 + [0] * 10
    >>> equivalence(right, right, margin=0.05).verdict  # none of 100 changed
    'equivalent'
    >>> equivalence(right[:4], right[:4], margin=0.05).verdict  # none of 4 changed
    'inconclusive'
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; expected a number above 0, such as 0.05")
    d = paired_difference(a, b, confidence=1 - 2 * SIGNIFICANCE, resamples=resamples, seed=seed)
    inside = -margin < d.low and d.high < margin
    verdict = "equivalent" if inside else "different" if d.p < SIGNIFICANCE else "inconclusive"
    return Equivalence(d.difference, d.low, d.high, d.p, d.n, margin, verdict)


def upper_bound(changed: int, n: int, *, confidence: float = 0.95) -> float:
    """The largest share that `changed` of n leaves possible (exact, one-sided).

    >>> round(upper_bound(0, 4), 2)  # none of 4: 1 - 0.05 ** (1 / 4)
    0.53
    """
    test = scipy_stats.binomtest(changed, n, alternative="less")
    return float(test.proportion_ci(confidence, method="exact").high)
