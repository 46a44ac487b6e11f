"""What a frame of votes says: who is preferred, and how far the judge leans.

Left out: several judges at once, and prompts that are not independent of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from scipy.special import expit

from postlab.stats import Interval, bootstrap_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

_VOTE_COLUMNS = ("id", "order", "choice", "length_a", "length_b")
_BATCH = 2_000_000  # weights held at a time
LEAST_PROMPTS = 20  # for a regression with four weights
_FOR_B = {"a": 0.0, "tie": 0.5, "b": 1.0}


def preference_rate(frame: pd.DataFrame, *, swapped: bool = True) -> Interval:
    """Share of votes for b, the answer after, ties counted as half; 0.5 is no preference.

    Averaging the two orders takes a lean to a position out of the comparison. It does not bring
    back the votes that the lean used up: they count half for each, so the rate moves towards 0.5.

    Args:
        frame: from `judge_pairs`.
        swapped: average both orders of a prompt first; False reads only the questions that showed
            a first, as somebody would who never swapped.
    Returns:
        Interval between 0 and 1, a bootstrap over prompts; n is the number of prompts.
    Raises:
        ValueError: if the frame lacks a column, an order, or holds an unknown choice.
    Source: Wang et al. 2023, arXiv 2305.17926 (swapping). Taught in week 6.

    >>> import pandas as pd
    >>> votes = pd.DataFrame({"id": [0, 0], "order": ["ab", "ba"], "choice": ["a", "b"]})
    >>> votes = votes.assign(length_a=1, length_b=1)  # always the one shown first
    >>> preference_rate(votes, swapped=False).value, preference_rate(votes).value
    (0.0, 0.5)
    """
    votes = _votes(frame, both=swapped)
    if not swapped:
        votes = votes[votes["order"] == "ab"]
    return bootstrap_interval(votes.groupby("id")["for_b"].mean().to_numpy())


def position_bias(frame: pd.DataFrame) -> Interval:
    """How far the judge leans to the answer shown first: share for first minus share for second.

    Over both orders of each pair the better answer is shown first and second once each, so what
    is left is the lean: 0 for none, 1 for always the first. `noisy_judge(position_bias=x)` has x.

    Args:
        frame: from `judge_pairs` with both orders.
    Returns:
        Interval between -1 and 1, a bootstrap over prompts.
    Raises:
        ValueError: if a prompt was not judged in both orders.
    Source: Wang et al. 2023, arXiv 2305.17926. Taught in week 6.

    >>> import pandas as pd
    >>> votes = pd.DataFrame({"id": [0, 0], "order": ["ab", "ba"], "choice": ["a", "tie"]})
    >>> position_bias(votes.assign(length_a=1, length_b=1)).value  # first once, then a tie
    0.5
    """
    votes = _votes(frame, both=True)
    for_first = votes["for_b"].where(votes["order"] == "ba", 1 - votes["for_b"])
    share = for_first.groupby(votes["id"]).mean().to_numpy()
    lean = paired_difference(1 - share, share)
    return Interval(lean.difference, lean.low, lean.high, lean.n)


def length_controlled_rate(frame: pd.DataFrame) -> Interval:
    """Share of votes for b that would be left if the two answers were equally long.

    A logistic regression of the vote on which answer is longer (-1, 0, 1), on by how much,
    tanh((length_b - length_a) / its root mean square), and on the order shown; the rate is read at
    no difference and no order. Prompts where b is longer weigh as much as those where a is. It
    answers for equal length only as far as lengths vary both ways: if b is always longer, length
    and stage cannot be told apart, and what is better *because* it is longer is taken away too.

    Args:
        frame: from `judge_pairs`.
    Returns:
        Interval between 0 and 1 (robust standard error, clustered by prompt); where every vote
        went one way nothing can be fitted, and it is `preference_rate`'s. Judged in one order
        only, a lean to a position stays in it.
    Raises:
        ValueError: if the frame lacks a column or holds an unknown choice.
    Source: Dubois et al. 2024, arXiv 2404.04475 (length-controlled AlpacaEval), without its term
        for the prompt's difficulty; the first of the two length terms and the weights are added.
        Taught in week 6.

    >>> import pandas as pd
    >>> votes = pd.DataFrame({"id": [0, 1, 2, 3], "order": "ab", "choice": list("abba")})
    >>> votes = votes.assign(length_a=[9, 1, 1, 9], length_b=[1, 9, 9, 1])  # always the longer
    >>> round(length_controlled_rate(votes).value, 3)
    0.5
    """
    votes = _votes(frame, both=False)
    y = votes["for_b"].to_numpy()
    if y.min() == y.max():
        return preference_rate(frame, swapped=bool((votes["order"] == "ba").any()))
    x, times = _regressors(votes), np.ones((len(y), 1))
    times = _balanced(x, times)
    weights = _logistic(x, y, times)[0]
    error = _intercept_error(x, y, weights, times[:, 0], votes["id"].to_numpy())
    z = float(scipy_stats.norm.ppf(0.975))
    middle, low, high = (float(expit(weights[0] + step * error)) for step in (0.0, -z, z))
    return Interval(middle, low, high, int(votes["id"].nunique()))


def bootstrap_controlled_rate(
    frame: pd.DataFrame, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """`length_controlled_rate` with an interval by bootstrap, and refused where it means nothing.

    The logistic regression is fitted again to each resample of the prompts; both orders of a
    prompt stay together. The interval lies between the 2.5th and 97.5th percentile.

    Args:
        frame: from `judge_pairs`.
        resamples: bootstrap resamples.
        seed: of the resampling; the same seed gives the same interval.
    Returns:
        Interval between 0 and 1; where every vote went one way, `preference_rate`'s.
    Raises:
        ValueError: if there are fewer than 20 prompts, or if b's answer is never the longer one or
            never the shorter one: length and stage can't be told apart then.
    Source: Dubois et al. 2024, arXiv 2404.04475; see `length_controlled_rate` for what differs.
    """
    votes = _votes(frame, both=False)
    prompts, place = np.unique(votes["id"].to_numpy(), return_inverse=True)
    gap = (votes["length_b"] - votes["length_a"]).to_numpy()
    if len(prompts) < LEAST_PROMPTS:
        raise ValueError(
            f"{len(prompts)} prompts are too few to separate length from quality; expected"
            f" {LEAST_PROMPTS} or more"
        )
    if not gap.any():
        raise ValueError(
            "both answers are equally long at every prompt, so there is no length to control for;"
            " the win rate is already one at equal length"
        )
    if not (gap.min() < 0 < gap.max()):
        side = "longer" if gap.max() > 0 else "shorter"
        raise ValueError(
            f"the second stage's answer is {side} or as long at every prompt, so length and stage"
            " can't be told apart; report the win rate together with the lengths, or compare on"
            " prompts where lengths vary both ways"
        )
    whole = length_controlled_rate(frame)
    y, x = votes["for_b"].to_numpy(), _regressors(votes)
    if y.min() == y.max():
        return whole
    rng, rates = np.random.default_rng(seed), []
    for begin in range(0, resamples, _BATCH // len(y) + 1):
        size = min(_BATCH // len(y) + 1, resamples - begin)
        drawn = rng.multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)), size).T
        times = drawn[place].astype(float)
        share = (y @ times) / times.sum(axis=0)
        both = (share > 0) & (share < 1)  # with votes for one side only, no intercept fits best
        share[both] = expit(_logistic(x, y, _balanced(x, times[:, both]))[:, 0])
        rates.append(share)
    low, high = (float(end) for end in np.quantile(np.concatenate(rates), (0.025, 0.975)))
    return Interval(whole.value, low, high, len(prompts))


def _regressors(votes: pd.DataFrame) -> NDArray[np.float64]:
    """(votes, 2 to 4): ones, who is longer (-1, 0, 1), by how much, and the order shown."""
    gap = (votes["length_b"] - votes["length_a"]).to_numpy(float)
    columns = [np.ones(len(gap)), np.sign(gap)]
    if gap.any():
        columns.append(np.tanh(gap / np.sqrt((gap**2).mean())))
    if votes["order"].nunique() > 1:
        columns.append(np.where(votes["order"] == "ba", 1.0, -1.0))
    return np.stack(columns, axis=1)


def _balanced(x: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(votes, r) weights `times`, scaled so that both signs of the length difference weigh as much.

    Without this the intercept of a judge that goes by length alone is half the log ratio of the
    two signs' sizes: 67% for b if b is longer at four prompts of five.
    """
    longer, shorter = x[:, 1] > 0, x[:, 1] < 0
    sums = np.stack([times[longer].sum(axis=0), times[shorter].sum(axis=0)])
    mean = sums.mean(axis=0)
    scales = np.where((sums > 0).all(axis=0), mean / np.maximum(sums, 1), 1.0)
    return times * np.where(longer[:, None], scales[0], np.where(shorter[:, None], scales[1], 1.0))


def _logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit r regressions of y on x (n, k), with row weights `times` (n, r); returns (r, k).

    Slopes have a standard normal prior, so that they stay finite.
    """
    prior = _prior(x)
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    weights = np.zeros((times.shape[1], x.shape[1]))
    for _ in range(100):  # Newton's method; some ten steps are enough
        share = expit(x @ weights.T)
        slope = (x.T @ (times * (y[:, None] - share))).T - weights * prior
        curve = (products.T @ (times * share * (1 - share))).T.reshape(-1, *2 * x.shape[1:])
        step = np.linalg.solve(curve + np.diag(prior), slope[..., None])[..., 0]
        size = np.abs(step).max(axis=1, keepdims=True)
        weights = weights + step / np.maximum(1.0, size)
        if size.max(initial=0.0) < 1e-9:
            break
    return weights


def _intercept_error(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    times: NDArray[np.float64],
    cluster: NDArray,
) -> float:
    """The intercept's standard error, robust to votes on one prompt that depend on each other."""
    share = expit(x @ weights)
    _, group = np.unique(cluster, return_inverse=True)
    scores = np.zeros((group.max() + 1, x.shape[1]))
    np.add.at(scores, group, x * (times * (y - share))[:, None])
    curve = (x * (times * share * (1 - share))[:, None]).T @ x
    inverse = np.linalg.inv(curve + np.diag(_prior(x)))
    return float(np.sqrt((inverse @ (scores.T @ scores) @ inverse)[0, 0]))


def _prior(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) precision of each weight's normal prior: none on the intercept."""
    return np.r_[0.0, np.ones(x.shape[1] - 1)]


def _votes(frame: pd.DataFrame, *, both: bool) -> pd.DataFrame:
    """The frame with `for_b` (0, 0.5 or 1), checked."""
    missing = [name for name in _VOTE_COLUMNS if name not in frame]
    if missing:
        raise ValueError(f"the frame has no column {missing[0]!r}; expected one of judge_pairs")
    odd = sorted({str(c) for c in frame["choice"]} - set(_FOR_B))
    if odd or not set(frame["order"]) <= {"ab", "ba"} or frame.empty:
        raise ValueError(
            f"choices {odd or 'fine'}, orders {sorted(set(map(str, frame['order'])))}, {len(frame)}"
            " rows; expected choices 'a', 'b', 'tie' and orders 'ab', 'ba', from judge_pairs"
        )
    if both and not (frame.groupby("id")["order"].nunique() == 2).all():
        raise ValueError(
            "some prompt was judged in one order only, so position and quality cannot be told"
            " apart; judge with judge_pairs(..., swap=True), or read preference_rate(frame,"
            " swapped=False) and say so"
        )
    return frame.assign(for_b=frame["choice"].map(_FOR_B))
