"""How far arms moved from their start, over seeds and prompts: frames for the extras' figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from postlab.stats import paired_difference


def family_moves(
    arm: str, start: Mapping[str, Sequence[float]], ends: Sequence[Mapping[str, Sequence[float]]]
) -> list[dict[str, Any]]:
    """Rows for `plot_families`: an arm's change of each metric, in points.

    Args:
        arm: its name.
        start: for each metric the score of every prompt before training.
        ends: the same after training, one mapping per seed; metrics that are missing are left out.
    Returns:
        For each metric its mean change over seeds, every seed's, and a 95% interval: the wider of
        the t interval over the seeds and the bootstrap over the prompts, because both are samples,
        cut off where the share would leave 0 to 1.

    >>> ends = [{"facts": [1, 1, 0, 0]}, {"facts": [1, 0, 0, 0]}]
    >>> row = family_moves("narrow", {"facts": [1, 1, 1, 1]}, ends)[0]
    >>> row["points"], row["seeds"]
    (-62.5, [-50.0, -75.0])
    """
    rows = []
    for metric in (name for name in start if name in ends[0]):
        before, after = np.array(start[metric]), np.array([end[metric] for end in ends])
        seeds = 100 * (after.mean(axis=1) - before.mean())
        half = float(scipy_stats.t.ppf(0.975, len(seeds) - 1)) * seeds.std(ddof=1)
        half /= math.sqrt(len(seeds))
        prompts = paired_difference(before, after.mean(axis=0))
        mean = float(seeds.mean())
        share = before.mean()  # a share can't fall below 0 nor rise above 1
        low = max(min(mean - half, 100 * prompts.low), -100 * share)
        high = min(max(mean + half, 100 * prompts.high), 100 * (1 - share))
        rows.append(
            {"arm": arm, "metric": metric, "points": mean, "low": low, "high": high,
             "seeds": seeds.tolist()}
        )  # fmt: skip
    return rows


def mean_until(curve: Mapping[str, Any], start: float, *, unit: str, budget: float) -> float:
    """The mean accuracy of a run while it spends a budget, interpolated between measurements.

    Args:
        curve: `right`, the held-out prompts at each measured step, and the unit's totals there.
        start: the accuracy before training.
        unit: "tokens" or "passes".
        budget: in that unit; at most what the run spent.
    Raises:
        ValueError: if the run spent less.

    >>> curve = {"tokens": [100, 200], "right": [[1, 0], [1, 1]]}
    >>> round(mean_until(curve, 0.0, unit="tokens", budget=200), 3)  # 0 to 0.5, then 0.5 to 1
    0.5
    """
    spent = [0, *curve[unit]]
    if budget > spent[-1]:
        raise ValueError(f"budget is {budget}, but the run spent only {spent[-1]} {unit}")
    accuracy = [start, *(sum(right) / len(right) for right in curve["right"])]
    grid = np.linspace(0, budget, 201)
    return float(np.interp(grid, spent, accuracy).mean())
