"""Intervals and paired tests for evaluation rows: what may be claimed, and what may not.

Every number in a comparison is an estimate from some held-out prompts. This module says how far
it may be off (`bootstrap_interval`, `wilson`, `win_rate`) and whether two stages differ on the
*same* prompts (`paired_difference`, `mcnemar`, `verdict`), what many metrics at once do to a p
(`holm`, `benjamini_hochberg`), what n prompts can settle at all (`minimum_detectable_effect`,
`power`), how far two judges agree (`cohen_kappa`), which arms of an experiment differ over its
seeds (`blocked_differences`), and how much of the noise the seeds cause (`variance_split`). scipy
does the work.

Left out on purpose: an interval over prompts and seeds as one random sample, and clusters: average
the samples of one prompt before you call, because the prompt, not the sample, is the independent
unit.
`verdict` corrects nothing: give it a p from `holm` if you look at many metrics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from postlab.stats.basics import Difference, Interval, check_settings, numbers, paired, wilson

SIGNIFICANCE = 0.05  # `verdict` wants p below this and a 95% interval on one side of nought
_BCA_LIMIT = (
    5_000  # BCa leaves out each value once: n^2 work; percentiles agree with it at this size
)
_BATCH = 2_000_000  # random indices held at a time, so that long inputs do not fill the memory


@dataclass(frozen=True)
class McNemar:
    """Of n pairs, `lost` went from right to wrong and `gained` from wrong to right; p is exact."""

    lost: int
    gained: int
    p: float
    n: int


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of independent values with a bootstrap interval (BCa), for one metric of one stage.

    Values that are all 0, or all 1, get the Wilson interval of a proportion instead: resampling
    them can only repeat them, and "0%, give or take nothing" after 20 prompts would be a lie. Other
    values that are all equal have a zero-width interval; one such value has none (ends are NaN).

    Args:
        values: (n,) one number a prompt; average the samples of a prompt first.
        confidence: coverage aimed at, between 0 and 1.
        resamples: bootstrap resamples.
        seed: of the resampling; the same seed gives the same interval.
    Returns:
        Interval in the unit of the values.
    Raises:
        ValueError: if values are empty, not one-dimensional, or hold NaN or infinity.
    Source: Efron 1987 (BCa); Wilson 1927. Taught in week 6.

    >>> bootstrap_interval([0, 0, 1, 1]).value
    0.5
    >>> all_wrong = bootstrap_interval([0] * 20)
    >>> all_wrong.low, round(all_wrong.high, 3)
    (0.0, 0.161)
    """
    x = numbers("values", values)
    check_settings(confidence, resamples)
    if x.min() == x.max():
        if x[0] in (0.0, 1.0):
            return wilson(float(x.sum()), len(x), confidence=confidence)
        edge = float(x[0]) if len(x) > 1 else math.nan
        return Interval(float(x[0]), edge, edge, len(x))
    low, high = _bootstrap_mean(x, confidence, resamples, seed)
    return Interval(float(x.mean()), low, high, len(x))


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Difference:
    """mean(b - a) over the same prompts, `a` before and `b` after, with interval and p.

    The interval bootstraps the differences per prompt (BCa). The p-value is the sign-flip
    permutation test: if nothing changed, each difference could as well have had the other sign. It
    is exact where that is cheap (0/1 values, where it is McNemar's exact test, and few prompts that
    differ), else from `resamples` flips. If every prompt of a metric between 0 and 1 changed by the
    same 0 or +-1, the bootstrap has nothing to resample: the interval then lets as many unseen
    prompts behave otherwise as Wilson's interval for 0 of n allows.

    Args:
        a: (n,) before, one number a prompt.
        b: (n,) after, the same prompts in the same order.
        confidence: coverage aimed at, between 0 and 1.
        resamples: bootstrap resamples, and sign flips.
        seed: of both.
    Returns:
        Difference in the unit of the values.
    Raises:
        ValueError: if lengths differ, or values are empty, not one-dimensional, NaN or infinite.
    Source: Efron 1987; Fisher 1935 (sign flips). Taught in week 6.

    >>> before, after = [0, 0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0]
    >>> found = paired_difference(before, after)
    >>> found.difference, found.p  # 4 gained, 1 lost: p = 2 * (1 + 5) / 2**5
    (0.375, 0.375)
    """
    before, after = paired(a, b)
    check_settings(confidence, resamples)
    change = after - before
    if np.ptp(change) == 0:
        bounded = min(before.min(), after.min()) >= 0 and max(before.max(), after.max()) <= 1
        low, high = _constant_change(float(change[0]), len(change), bounded, confidence)
    else:
        low, high = _bootstrap_mean(change, confidence, resamples, seed)
    p = _sign_flip_p(change, resamples, seed)
    return Difference(float(change.mean()), low, high, p, len(change))


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """McNemar's exact test: did right answers change more one way than the other?

    Args:
        a: (n,) 0/1 before.
        b: (n,) 0/1 after, the same prompts in the same order.
    Returns:
        McNemar with the two counts of changed prompts and the exact two-sided p (binomial, 1/2).
    Raises:
        ValueError: if lengths differ, or a value is neither 0 nor 1.
    Source: McNemar 1947. Taught in week 6.

    >>> mcnemar([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 1])  # 2 * (1 + 5) / 2**5
    McNemar(lost=1, gained=4, p=0.375, n=6)
    """
    before, after = paired(a, b)
    odd = [v for v in np.unique(np.concatenate([before, after])) if v not in (0.0, 1.0)]
    if odd:
        raise ValueError(
            f"mcnemar compares right (1) with wrong (0), but got {odd[0]:g}; "
            "use paired_difference for scores that are not 0/1"
        )
    gained, lost = int((after > before).sum()), int((after < before).sum())
    p = scipy_stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return McNemar(lost=lost, gained=gained, p=float(p), n=len(before))


def win_rate(votes: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Share of blind votes won, ties counted as half, with Wilson's interval.

    With ties the interval is a little too wide (a half varies less than a coin), never too narrow.

    Args:
        votes: (n,) 1 for a win, 0 for a loss, 0.5 for a tie.
        confidence: coverage aimed at, between 0 and 1.
    Returns:
        Interval between 0 and 1; 0.5 is no preference.
    Raises:
        ValueError: if there is no vote, or a vote is not 0, 0.5 or 1.
    Source: Wilson 1927. Taught in week 6.

    >>> win_rate([1, 1, 0.5, 0]).value
    0.625
    """
    x = numbers("votes", votes)
    odd = [v for v in np.unique(x) if v not in (0.0, 0.5, 1.0)]
    if odd:
        raise ValueError(f"a vote is 1 (win), 0 (loss) or 0.5 (tie), got {odd[0]:g}")
    return wilson(float(x.sum()), len(x), confidence=confidence)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k samples is right, estimated without bias from c right of n.

    Args:
        n: samples drawn for one prompt.
        c: how many of them were right.
        k: how many tries the user has.
    Returns:
        1 - C(n-c, k) / C(n, k).
    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.
    Source: Chen et al. 2021, arXiv 2107.03374, eq. 1. Taught in week 10.

    >>> pass_at_k(4, 1, 2)  # of the 6 pairs, 3 hold the right one
    0.5
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"got n={n}, c={c}, k={k}, expected 0 <= c <= n and 1 <= k <= n")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def verdict(difference: Difference, *, higher_is_better: bool = True) -> str:
    """Say what a paired difference supports; 'inconclusive' is a normal answer.

    A change counts when its interval lies on one side of nought *and* the test agrees (p < 0.05):
    with a handful of changed prompts a bootstrap interval alone is too sure of itself.

    Args:
        difference: from `paired_difference`; anything with low, high and p.
        higher_is_better: False for metrics such as over-refusal.
    Returns:
        "better", "worse" or "inconclusive" (also when an end is NaN).

    >>> verdict(Difference(0.3, 0.2, 0.4, 0.001, 200))
    'better'
    >>> verdict(Difference(0.02, -0.01, 0.05, 0.3, 200))
    'inconclusive'
    """
    if not difference.p < SIGNIFICANCE or not (difference.low > 0 or difference.high < 0):
        return "inconclusive"
    return "better" if (difference.low > 0) == higher_is_better else "worse"


def _bootstrap_mean(
    x: NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Ends of the interval of the mean; x holds at least two different values."""

    def ends(method: str) -> tuple[float, float]:
        interval = scipy_stats.bootstrap(
            (x,),
            np.mean,
            confidence_level=confidence,
            n_resamples=resamples,
            batch=max(1, _BATCH // len(x)),
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return float(interval.low), float(interval.high)

    if len(x) <= _BCA_LIMIT:
        with np.errstate(all="ignore"):
            low, high = ends("BCa")
        if math.isfinite(low) and math.isfinite(high):
            return low, high
    return ends("percentile")  # BCa has no answer when every resample falls on one side of the mean


def _constant_change(
    change: float, n: int, bounded: bool, confidence: float
) -> tuple[float, float]:
    """Ends of the interval when all n prompts changed by the same amount."""
    if bounded and change in (-1.0, 0.0, 1.0):
        # unseen prompts: at most this share may go as far the other way as the metric allows
        reach = wilson(0, n, confidence=confidence).high * (1 + abs(change))
        return max(-1.0, change - reach), min(1.0, change + reach)
    edge = change if n > 1 else math.nan
    return edge, edge


def _sign_flip_p(change: NDArray[np.float64], resamples: int, seed: int) -> float:
    moved = change[change != 0]
    if len(moved) == 0:
        return 1.0
    size = np.abs(moved)
    if np.allclose(size, size[0], rtol=1e-12, atol=0):  # then it is a matter of counting signs
        return float(scipy_stats.binomtest(int((moved > 0).sum()), len(moved)).pvalue)
    if 2 ** len(moved) <= resamples:
        codes = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float(np.mean(_as_far(codes * 2.0 - 1.0, size, moved)))
    rng = np.random.default_rng(seed)
    hits, batch = 0, max(1, _BATCH // len(moved))
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        hits += int(_as_far(rng.choice([-1.0, 1.0], (rows, len(moved))), size, moved).sum())
    return (1 + hits) / (1 + resamples)  # the observed signs count as one flip, so p is never 0


def _as_far(
    signs: NDArray[np.floating[Any]], size: NDArray[np.float64], moved: NDArray[np.float64]
) -> NDArray[np.bool_]:
    observed = abs(moved.sum())
    return np.abs(signs @ size) >= observed * (1 - 1e-9)  # ties count, whatever the order of adding
