"""What a constraint costs: the best of some objectives among policies that hold one to a level.

As with hypervolumes, who is best is chosen on one half of the prompts and measured on the other.
Of several objectives, the worst one counts. Left out: policies mixed by a coin for each request,
which would reach every point between two of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from postlab.course.week11.volumes import Values, checked_sets, split_draws, split_means


@dataclass(frozen=True)
class Best:
    """The policy chosen at a level, measured where it was not chosen; NaN where nobody qualifies.

    `value` is the objective, or the worst of several, with its interval. `held` is the held
    objective, `metrics` holds each one, and `reached` is the share of resamples in which somebody
    qualified. `draws` has the value in each resample.
    """

    value: float
    low: float
    high: float
    held: float
    reached: float
    metrics: dict[str, float] = field(repr=False)
    draws: NDArray[np.float64] = field(repr=False)


def best_at(
    values: Values,
    *,
    hold: str,
    level: float,
    of: str | Sequence[str],
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Best:
    """The best of one metric, or of the worst of several, among policies that hold another.

    Args:
        values: metric -> (points, prompts), each metric on prompts of its own.
        hold: the metric that is held.
        level: what its mean has to be on the half that chooses.
        of: the metric to make the most of, or several, whose worst is made the most of.
        resamples, confidence, seed: of the percentile interval over prompts.
    Returns:
        Best; the mean of both ways to use the halves.
    Raises:
        ValueError: if a metric is missing, has fewer than two prompts or a value that is not
            finite, or if nothing but the held metric is to be made the most of.
    Taught in week 11.

    >>> values = {"safety": [[1, 1, 0, 0], [1, 1, 1, 1]], "help": [[1, 1, 1, 1], [1, 1, 0, 0]]}
    >>> best_at(values, hold="safety", level=0.9, of="help", resamples=5).value
    0.5
    """
    aims = [of] if isinstance(of, str) else list(of)
    if {hold, *aims} - set(values) or set(aims) <= {hold}:
        raise ValueError(f"hold={hold!r}, of={of!r}; expected two of {', '.join(values)}")
    names = [*dict.fromkeys([hold, *aims])]
    columns = [names.index(name) for name in aims]
    kept = checked_sets({"values": {name: values[name] for name in names}})["values"]
    # 1. Two halves of the prompts: as they are, and resampled inside each.
    whole, resampled = split_draws(
        {name: v.shape[1] for name, v in kept.items()}, resamples=resamples, seed=seed
    )
    # 2. The best policy that keeps the level is chosen on one half, measured on the other.
    point = _chosen(split_means(kept, whole), level, columns)[0]
    draws = _chosen(split_means(kept, resampled), level, columns)[:, columns].min(axis=1)
    # 3. The interval is over the resamples in which some policy kept the level.
    low, high = _interval(draws, confidence)
    return Best(
        value=float(point[columns].min()),
        low=low,
        high=high,
        held=float(point[0]),
        reached=float((~np.isnan(draws)).mean()),
        metrics=dict(zip(names, map(float, point), strict=True)),
        draws=draws,
    )


def best_rows(
    sets: Mapping[str, Mapping[int, Values]],
    *,
    hold: str,
    of: str | Sequence[str],
    levels: Sequence[float],
    resamples: int = 500,
) -> list[dict[str, object]]:
    """`best_at` for several methods and levels: the mean over seeds, a row each, in %.

    Each seed chooses a policy of its own. A level that some seed doesn't reach has no value.

    Args:
        sets: method -> seed -> metric -> (points, prompts), the same prompts for every seed.
    Returns:
        Rows of `method`, `level`, `value`, `low`, `high` (over prompts), `held`, `seeds` (a value
        for each), and of every metric a mean over seeds.
    """
    rows = []
    for method, by_seed in sets.items():
        for level in levels:
            found = [
                best_at(values, hold=hold, level=level, of=of, resamples=resamples)
                for values in by_seed.values()
            ]
            low, high = _interval(np.mean([one.draws for one in found], axis=0), 0.95)
            row: dict[str, object] = {"method": method, "level": 100 * level}
            row["value"] = 100 * float(np.mean([one.value for one in found]))
            row |= {"low": 100 * low, "high": 100 * high}
            row["held"] = 100 * float(np.mean([one.held for one in found]))
            row["seeds"] = [100 * one.value for one in found]
            for metric in found[0].metrics:
                row[metric] = 100 * float(np.mean([one.metrics[metric] for one in found]))
            rows.append(row)
    return rows


def _interval(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The percentile interval of the resamples that have a value."""
    got, tail = draws[~np.isnan(draws)], (1 - confidence) / 2
    if not len(got):
        return math.nan, math.nan
    low, high = np.quantile(got, [tail, 1 - tail])
    return float(low), float(high)


def _chosen(
    halves: list[NDArray[np.float64]], level: float, columns: Sequence[int]
) -> NDArray[np.float64]:
    """(resamples, metrics) of who was chosen on the other half, the held metric first.

    Args:
        halves: (resamples, points, metrics) each.
        columns: the metrics whose worst is made the most of.
    """
    means = []
    for choose, measure in (halves, halves[::-1]):
        worth = np.where(choose[..., 0] >= level, choose[..., columns].min(axis=-1), -np.inf)
        best = worth.argmax(axis=1)
        rows = np.arange(len(best))
        met = measure[rows, best]
        met[np.isneginf(worth[rows, best])] = math.nan
        means.append(met)
    return np.mean(means, axis=0)
