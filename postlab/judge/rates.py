"""What a frame of votes says: who is preferred, and how far the judge leans.

Left out: several judges at once, and prompts that are not independent of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from postlab.stats import Interval, bootstrap_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

_VOTE_COLUMNS = ("id", "order", "choice", "length_a", "length_b")
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
    no difference and no order. It answers for equal length only as far as lengths vary both ways:
    if b is always longer, length and stage cannot be told apart, and what is better *because* it is
    longer is taken away too.

    Args:
        frame: from `judge_pairs`.
    Returns:
        Interval between 0 and 1 (robust standard error, clustered by prompt); where every vote
        went one way nothing can be fitted, and it is `preference_rate`'s. Judged in one order
        only, a lean to a position stays in it.
    Raises:
        ValueError: if the frame lacks a column or holds an unknown choice.
    Source: Dubois et al. 2024, arXiv 2404.04475 (length-controlled AlpacaEval), without its term
        for the prompt's difficulty and with the first of the two length terms added. Taught
        in week 6.

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
    gap = (votes["length_b"] - votes["length_a"]).to_numpy(float)
    columns = [np.ones(len(y))]
    if gap.any():
        columns += [np.sign(gap), np.tanh(gap / np.sqrt((gap**2).mean()))]
    if votes["order"].nunique() > 1:
        columns.append(np.where(votes["order"] == "ba", 1.0, -1.0))
    x = np.stack(columns, axis=1)
    weights, error = _logistic(x, y, votes["id"].to_numpy())
    z = float(scipy_stats.norm.ppf(0.975))
    middle, low, high = (
        float(1 / (1 + np.exp(-(weights[0] + step * error)))) for step in (0.0, -z, z)
    )
    return Interval(middle, low, high, int(votes["id"].nunique()))


def _logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], cluster: NDArray
) -> tuple[NDArray[np.float64], float]:
    """Weights and the intercept's error. Slopes have a standard normal prior: always finite."""
    prior = np.eye(x.shape[1])
    prior[0, 0] = 0.0
    weights = np.zeros(x.shape[1])
    for _ in range(100):  # Newton's method; some five steps are enough
        share = 1 / (1 + np.exp(-x @ weights))
        curve = (x * (share * (1 - share))[:, None]).T @ x + prior
        step = np.linalg.solve(curve, x.T @ (y - share) - prior @ weights)
        weights = weights + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    share = 1 / (1 + np.exp(-x @ weights))
    _, group = np.unique(cluster, return_inverse=True)
    scores = np.zeros((group.max() + 1, x.shape[1]))
    np.add.at(scores, group, x * (y - share)[:, None])
    inverse = np.linalg.inv((x * (share * (1 - share))[:, None]).T @ x + prior)
    return weights, float(np.sqrt((inverse @ (scores.T @ scores) @ inverse)[0, 0]))


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
