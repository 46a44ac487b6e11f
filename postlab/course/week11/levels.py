"""What a constraint costs: the best of one objective among policies that hold another to a level.

As with hypervolumes, who is best is chosen on one half of the prompts and measured on the other.
Left out: policies mixed by a coin a request, which would reach every point between two of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from postlab.course.week11.volumes import Values, checked_sets, split_draws, split_means


@dataclass(frozen=True)
class Best:
    """What is left of the objective, measured where it was not chosen; NaN where nobody qualifies.

    `held` is the held objective of those chosen, measured likewise, and `reached` the share of
    resamples in which somebody qualified.
    """

    value: float
    low: float
    high: float
    held: float
    reached: float


def best_at(
    values: Values,
    *,
    hold: str,
    level: float,
    of: str,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Best:
    """The best of one metric among the policies whose other metric is at least a level.

    Args:
        values: metric -> (points, prompts), each metric on prompts of its own.
        hold: the metric that is held.
        level: what its mean has to be on the half that chooses.
        of: the metric to make the most of.
        resamples, confidence, seed: of the percentile interval over prompts.
    Returns:
        Best; the mean of both ways to use the halves.
    Raises:
        ValueError: if a metric is missing, has fewer than two prompts or a value that is not
            finite, or if both are the same metric.
    Taught in week 11.

    >>> values = {"safety": [[1, 1, 0, 0], [1, 1, 1, 1]], "help": [[1, 1, 1, 1], [1, 1, 0, 0]]}
    >>> best_at(values, hold="safety", level=0.9, of="help", resamples=5).value
    0.5
    """
    missing = {hold, of} - set(values)
    if missing or hold == of:
        raise ValueError(f"hold={hold!r}, of={of!r}; expected two of {', '.join(values)}")
    two = checked_sets({"values": {name: values[name] for name in (hold, of)}})["values"]
    # 1. Two halves of the prompts: as they are, and resampled inside each.
    whole, resampled = split_draws(
        {name: v.shape[1] for name, v in two.items()}, resamples=resamples, seed=seed
    )
    # 2. The best policy that keeps the level is chosen on one half, measured on the other.
    point = _chosen(split_means(two, whole), level)
    draws = _chosen(split_means(two, resampled), level)
    # 3. The interval is over the resamples in which some policy kept the level.
    got = draws[~np.isnan(draws[:, 1]), 1]
    tail = (1 - confidence) / 2
    low, high = np.quantile(got, [tail, 1 - tail]) if len(got) else (math.nan, math.nan)
    constraint, value = point[0]
    return Best(float(value), float(low), float(high), float(constraint), len(got) / resamples)


def best_rows(
    sets: Mapping[str, Values], *, hold: str, of: str, levels: Sequence[float]
) -> list[dict[str, object]]:
    """`best_at` for several sets and levels: a row each, in %, ready for a frame.

    Returns:
        Rows of `method`, `level`, `value`, `low`, `high`, `held`, `reached`.
    """
    rows = []
    for name, values in sets.items():
        for level in levels:
            best = best_at(values, hold=hold, level=level, of=of)
            row: dict[str, object] = {"method": name, "level": 100 * level}
            rows.append(row | {part: 100 * value for part, value in vars(best).items()})
    return rows


def _chosen(halves: list[NDArray[np.float64]], level: float) -> NDArray[np.float64]:
    """(resamples, 2): the held metric and the other one, of who was chosen on the other half."""
    means = []
    for choose, measure in (halves, halves[::-1]):  # (resamples, points, 2) each
        worth = np.where(choose[..., 0] >= level, choose[..., 1], -np.inf)
        best = worth.argmax(axis=1)
        rows = np.arange(len(best))
        met = measure[rows, best]
        met[np.isneginf(worth[rows, best])] = math.nan
        means.append(met)
    return np.mean(means, axis=0)
