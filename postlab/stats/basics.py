"""What the parts of `stats` share: interval, difference, a share by Wilson, what input may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, from n independent values."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """mean(after) - mean(before) on n shared prompts, or seeds: interval and two-sided p."""

    difference: float
    low: float
    high: float
    p: float
    n: int


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Interval:
    """A proportion with Wilson's score interval, which keeps its width at 0% and at 100%.

    Args:
        successes: number of successes; a half for a tie is allowed.
        n: number of trials.
        confidence: coverage aimed at, between 0 and 1.
    Returns:
        Interval between 0 and 1.
    Raises:
        ValueError: if n < 1 or successes lie outside 0..n.
    Source: Wilson 1927. Taught in week 6.

    >>> none = wilson(0, 100)  # high is z^2 / (n + z^2), z = 1.96
    >>> none.low, round(none.high, 4)
    (0.0, 0.037)
    """
    low, high = wilson_ends(successes, n, confidence=confidence)
    return Interval(successes / n, low, high, n)


def wilson_ends(successes: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Low and high end of Wilson's interval, where n need not be whole."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"got {successes} successes of {n}, expected 0 <= successes <= n and n >= 1"
        )
    check_settings(confidence, 1)
    z2 = float(scipy_stats.norm.ppf(0.5 + confidence / 2)) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    # rounding in the last bit must not move the ends off 0 and 1
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        x = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numbers, one a prompt: {error}") from error
    if x.ndim != 1:
        raise ValueError(f"{name} has shape {x.shape}, expected one number a prompt, shape (n,)")
    if len(x) == 0:
        raise ValueError(f"{name} is empty; an interval needs at least one prompt")
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        raise ValueError(
            f"{name}[{bad[0]}] is {x[bad[0]]} ({len(bad)} of {len(x)} are not finite); "
            "drop the prompts the metric does not apply to first"
        )
    return x


def paired(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, after = numbers("a", a), numbers("b", b)
    if len(before) != len(after):
        raise ValueError(
            f"a has {len(before)} values and b has {len(after)}; a paired test needs "
            "the same prompts in the same order"
        )
    return before, after


def check_settings(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected between 0 and 1, such as 0.95")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected at least 1")
