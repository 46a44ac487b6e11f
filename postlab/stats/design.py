"""Power of a comparison: what n prompts, or n seeds per method, can settle.

For prompts it is about McNemar's exact test, the one `stats.mcnemar` makes: of n prompts some
change from wrong to right (`gained`) and some the other way (`lost`). For seeds it is about Welch's
t-test between two methods, whose spread over seeds is taken as known. Left out: power of metrics of
a prompt that are not 0/1, and of several samples per prompt.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy import stats as scipy_stats

from postlab.stats.basics import Interval, wilson


def minimum_detectable_effect(
    n: int, *, disagreement: float, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest true change that n paired 0/1 prompts find with the wanted power.

    Ask it before a run: 'can 200 prompts settle this?' It is computed, not approximated: the
    chance that McNemar's exact test says p <= alpha, summed over how many prompts may change.

    Args:
        n: prompts, each answered by both stages.
        disagreement: share of prompts on which the two stages differ, gained and lost together;
            from a pilot run, or a guess to vary.
        power: wanted chance of p <= alpha if the change is there.
        alpha: two-sided.
    Returns:
        |gained - lost| as a share of all prompts, between 0 and `disagreement`, to 1e-6; infinity
        where even a change that is all one way would not be found.
    Raises:
        ValueError: if n < 1 or a share is out of range.
    Source: McNemar 1947; Miettinen 1968 (power given the number that changed). Taught in week 6.

    >>> minimum_detectable_effect(5, disagreement=1.0)  # 5 of 5 one way: p = 2 / 2**5 > 0.05
    inf
    >>> round(minimum_detectable_effect(6, disagreement=1.0), 3)  # gains g: g**6 = 0.8, 2g - 1
    0.927
    """
    _check_design(n, alpha, disagreement=disagreement)
    if disagreement == 0:
        raise ValueError("disagreement is 0: stages that never differ have no effect to detect")
    if not alpha < power < 1:
        raise ValueError(f"power is {power}, expected between alpha ({alpha}) and 1, such as 0.8")
    if _exact_power(n, disagreement, disagreement, alpha) < power:
        return math.inf
    low, high = 0.0, float(disagreement)
    while high - low > 1e-7:
        middle = (low + high) / 2
        if _exact_power(n, disagreement, middle, alpha) >= power:
            high = middle
        else:
            low = middle
    return high


def power(
    n: int,
    *,
    gained: float,
    lost: float,
    alpha: float = 0.05,
    repeats: int = 2000,
    seed: int = 0,
) -> Interval:
    """Chance that n prompts show a change, by simulating the experiment `repeats` times.

    With `gained` equal to `lost` this is the rate of false alarms, at most alpha.

    Args:
        n: prompts of one experiment.
        gained: true share of prompts that go from wrong to right.
        lost: true share that goes from right to wrong.
        alpha: an experiment counts if McNemar's exact two-sided p is at most this.
        repeats: experiments simulated; the interval says how far so many may be off.
        seed: of the simulation.
    Returns:
        Share of experiments with p <= alpha, Wilson's interval, n = repeats.
    Raises:
        ValueError: if n or repeats < 1, or shares are out of range or sum to more than 1.
    Source: McNemar 1947. Taught in week 6.

    >>> power(5, gained=1.0, lost=0.0).value  # 5 of 5 gained: p = 2 / 2**5, never below 0.05
    0.0
    >>> power(6, gained=1.0, lost=0.0).value  # 6 of 6: p = 2 / 2**6 = 0.03, always
    1.0
    """
    _check_design(n, alpha, gained=gained, lost=lost)
    if gained + lost > 1 + 1e-12:
        raise ValueError(f"gained + lost is {gained + lost:g}; shares of prompts sum to at most 1")
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}, expected at least 1")
    rng = np.random.default_rng(seed)
    rest = max(0.0, 1.0 - gained - lost)
    won, worse, _ = rng.multinomial(n, [gained, lost, rest], size=repeats).T
    rejected = np.minimum(won, worse) <= _critical(won + worse, alpha)
    return wilson(int(rejected.sum()), repeats)


def _critical(changed: NDArray[np.int64], alpha: float) -> NDArray[np.int64]:
    """The largest smaller count that is significant among so many changed prompts; -1 for none."""
    guess = scipy_stats.binom.ppf(alpha / 2, changed, 0.5).astype(np.int64)
    # ppf is the first count whose tail reaches alpha / 2: significant only where it meets it
    too_far = 2 * scipy_stats.binom.cdf(guess, changed, 0.5) > alpha * (1 + 1e-12)
    return np.where(changed == 0, -1, guess - too_far)


def detectable_difference(
    spreads: tuple[float, float],
    counts: tuple[int, int],
    *,
    power: float = 0.8,
    alpha: float = 0.05,
) -> float:
    """The smallest true difference between two methods that Welch's t-test finds over seeds.

    Ask it when a comparison is inconclusive: 'what could these seeds have found?' It treats the
    measured spreads as the true ones, so with three seeds it is a rough figure.

    Args:
        spreads: standard deviation over seeds of each method's result (with n - 1).
        counts: seeds of each method, at least two.
        power: wanted chance of p <= alpha if the difference is there.
        alpha: two-sided; of k comparisons under Holm's correction, the first needs alpha / k.
    Returns:
        A difference in the unit of the spreads; 0 if both spreads are 0.
    Raises:
        ValueError: if a count is below 2, a spread negative, or a share out of range.
    Source: Welch 1947; the power of a t-test is the noncentral t distribution. Taught in week 2.

    >>> round(detectable_difference((1.0, 1.0), (3, 3)), 2)  # in standard deviations
    3.07
    >>> round(detectable_difference((1.0, 1.0), (8, 8)), 2)
    1.51
    """
    if min(counts) < 2 or min(spreads) < 0:
        raise ValueError(
            f"got spreads {spreads} and counts {counts}; expected spreads of at least 0, and at "
            "least two seeds of each method"
        )
    if not (0 < alpha < 1 and alpha < power < 1):
        raise ValueError(f"got power {power} and alpha {alpha}; expected 0 < alpha < power < 1")
    variances = [spread**2 / n for spread, n in zip(spreads, counts, strict=True)]
    if not sum(variances):
        return 0.0
    # 1. Welch's degrees of freedom, and the t above which p <= alpha.
    shares = sum(v**2 / (n - 1) for v, n in zip(variances, counts, strict=True))
    freedom = sum(variances) ** 2 / shares
    critical = scipy_stats.t.isf(alpha / 2, freedom)
    # 2. The shift of t at which it is exceeded with the wanted chance. The other tail is left out:
    #    it is reached less than once in ten thousand times at the powers one asks for.
    shift = optimize.brentq(
        lambda nc: scipy_stats.nct.sf(critical, freedom, nc) - power, 0.0, 10 * critical + 10
    )
    return float(shift * math.sqrt(sum(variances)))


def _exact_power(n: int, disagreement: float, effect: float, alpha: float) -> float:
    """P(p <= alpha): the number that change is binomial, and so is the number gained among them."""
    changed = np.arange(n + 1)
    critical = _critical(changed, alpha)
    gain = (1 + effect / disagreement) / 2
    few_gained = scipy_stats.binom.cdf(critical, changed, gain)
    few_lost = scipy_stats.binom.cdf(critical, changed, 1 - gain)
    significant = np.where(critical >= 0, few_gained + few_lost, 0.0)
    return float(scipy_stats.binom.pmf(changed, n, disagreement) @ significant)


def _check_design(n: int, alpha: float, **shares: float) -> None:
    if n < 1:
        raise ValueError(f"n is {n}, expected at least one prompt")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, expected between 0 and 1, such as 0.05")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}, expected a share of the prompts, 0 to 1")
