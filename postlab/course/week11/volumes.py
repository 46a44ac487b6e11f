"""Hypervolumes of measured policies, with intervals: how much of one is luck.

Policies are measured on prompts, so their points are noisy, and the farthest of many noisy points
is too far. `hypervolumes` takes the points as they are and is too high, most where many points are
alike; `chosen_hypervolume` chooses on one half of the prompts, measures on the other, and is too
low. What both say may be believed. Both resample prompts, the same for all sets, so that the
difference of two sets is paired. Left out: prompts that several metrics share, and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from postlab.objectives import hypervolume

DIRECTIONS = {2: 512, 3: 512, 4: 2048}  # by the number of metrics
Values = Mapping[str, ArrayLike]  # metric -> (points, prompts)


@dataclass(frozen=True)
class Hypervolume:
    """A set's hypervolume with its interval, and what each resample of the prompts made of it."""

    value: float
    low: float
    high: float
    draws: NDArray[np.float64]


def hypervolumes(
    sets: Mapping[str, Values],
    *,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
    reference: float = 0.0,
) -> dict[str, Hypervolume]:
    """The hypervolume of each set of policies, measured on one set of prompts, with intervals.

    Each resample draws prompts anew, the same ones for every policy of every set, so draws of two
    sets can be subtracted: their difference is paired. Luck is in the value itself (the largest of
    noisy means is too large), the more the larger the set: see `chosen_hypervolume`.

    Args:
        sets: name -> metric -> (points, prompts), each metric on prompts of its own.
        resamples: of the prompts.
        confidence: coverage of the percentile interval.
        seed: of the resampling.
        reference: of every metric.
    Returns:
        name -> Hypervolume.
    Raises:
        ValueError: if sets are empty or do not share metrics and prompts, if a value is not finite,
            or if there is no resample.
    Taught in week 11.

    >>> one = hypervolumes({"a": {"x": [[1, 1]], "y": [[0, 1]]}}, resamples=50)["a"]
    >>> one.value, one.low, one.high
    (0.5, 0.0, 1.0)
    """
    arrays = checked_sets(sets)
    sizes = _sizes(arrays)
    # 1. How often each prompt counts: once as measured, and as drawn in each resample. The draws
    # are made once for all sets, so that differences between sets are paired.
    every = {metric: np.full((1, n), 1.0) for metric, n in sizes.items()}
    rng = np.random.default_rng(seed)
    counts = {metric: _counts(rng, n, resamples) for metric, n in sizes.items()}

    # 2. Weighted means are a set's points, (resamples, points, metrics); a volume of each resample.
    def volumes(values: dict[str, NDArray], weights: dict[str, NDArray]) -> NDArray:
        return np.array(
            [hypervolume(p, np.full(len(sizes), reference)) for p in _means(values, weights)]
        )

    return {
        name: _interval(volumes(v, every)[0], volumes(v, counts), confidence)
        for name, v in arrays.items()
    }


def chosen_hypervolume(
    sets: Mapping[str, Values],
    *,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
    reference: float = 0.0,
) -> dict[str, Hypervolume]:
    """As `hypervolumes`, but what is chosen on one half of the prompts is measured on the other.

    The hypervolume is a mean over directions of how far the set reaches in each. The policy that
    reaches farthest is chosen on one half, how far it reaches is measured on the other, both ways
    are averaged: no luck is left in it. In the mean it is right where all policies are alike, and
    too low where they differ: half the prompts choose worse than all of them would.

    Args:
        sets, resamples, confidence, seed, reference: as for `hypervolumes`. Even and odd prompts
            are the halves; prompts are drawn anew inside each.
    Returns:
        name -> Hypervolume, up to the error of DIRECTIONS directions (about a percent).
    Raises:
        ValueError: as `hypervolumes`, or if a metric has fewer than two prompts, or there are not
            two to four metrics.
    Source: Zhang and Golovin 2020, arXiv 2006.04655 (hypervolume by directions); the halves are
        ours. Taught in week 11.

    >>> lucky = {"x": [[1, 0], [0, 1]], "y": [[1, 1], [1, 1]]}  # each is good on one half only
    >>> found = chosen_hypervolume({"a": lucky}, resamples=10)["a"]
    >>> found.value, hypervolumes({"a": lucky}, resamples=10)["a"].value
    (0.0, 0.5)
    """
    arrays = checked_sets(sets)
    sizes = _sizes(arrays)
    if len(sizes) not in DIRECTIONS:
        raise ValueError(f"metrics {', '.join(sizes)}; expected two to four metrics")
    # 1. Even and odd prompts: as they are, and drawn anew inside each half.
    whole, resampled = split_draws(sizes, resamples=resamples, seed=seed)
    # 2. A hypervolume is a constant times the mean, over directions of the positive orthant, of
    # the set's reach ** K. A point reaches the least of its coordinates over the direction's, a
    # set as far as its farthest point.
    ways = _directions(len(sizes))
    ball = {2: math.pi / 4, 3: math.pi / 6, 4: math.pi**2 / 32}[len(sizes)]  # radius 1, positive

    def volumes(values: dict[str, NDArray], parts: list[dict[str, NDArray]]) -> NDArray:
        both = [np.maximum(part - reference, 0.0) for part in split_means(values, parts)]
        estimates = []
        for a, b in zip(*both, strict=True):  # (points, metrics) of a resample's two halves
            # 3. How far each point reaches in each direction, on either half.
            one, two = ((x[:, None] / ways).min(-1) for x in (a, b))  # (points, directions)
            # 4. The point that reaches farthest on one half is measured on the other, both ways.
            each = np.arange(len(ways))
            met = [two[one.argmax(0), each], one[two.argmax(0), each]]
            # 5. The mean over both ways and all directions.
            estimates.append(ball * np.mean(np.power(met, len(sizes))))
        return np.array(estimates)

    return {
        name: _interval(volumes(v, whole)[0], volumes(v, resampled), confidence)
        for name, v in arrays.items()
    }


def split_draws(
    sizes: Mapping[str, int], *, resamples: int, seed: int
) -> tuple[list[dict[str, NDArray]], list[dict[str, NDArray]]]:
    """How often each prompt counts in each half: as it is, and drawn anew inside the halves.

    Args:
        sizes: prompts a metric.
    Returns:
        For even and odd prompts, metric -> (1, prompts); and the same with (resamples, prompts).
    Raises:
        ValueError: if a metric has fewer than two prompts.
    """
    if min(sizes.values()) < 2:
        raise ValueError(f"prompts a metric: {dict(sizes)}; expected at least two prompts of each")
    rng = np.random.default_rng(seed)
    halves = [{m: np.arange(n) % 2 == part for m, n in sizes.items()} for part in (0, 1)]
    whole = [{m: mask[None].astype(float) for m, mask in half.items()} for half in halves]
    resampled = [
        {m: _counts(rng, int(mask.sum()), resamples, mask) for m, mask in half.items()}
        for half in halves
    ]
    return whole, resampled


def split_means(
    values: Mapping[str, NDArray], parts: list[dict[str, NDArray]]
) -> list[NDArray[np.float64]]:
    """(resamples, points, metrics) of each half."""
    return [_means(values, part) for part in parts]


def _directions(objectives: int) -> NDArray[np.float64]:
    """(DIRECTIONS, objectives) unit vectors, spread evenly over where all is positive."""
    many = DIRECTIONS[objectives]
    # Kronecker's sequence: multiples of powers of 1 over the root of x ** d = x + 1 (the golden
    # ratio, the plastic number, ...), which fill the unit square or cube evenly.
    root = {1: 1.6180339887, 2: 1.3247179572, 3: 1.2207440846}[objectives - 1]
    steps = root ** -np.arange(1.0, objectives)
    spread = (
        np.random.default_rng(0).random(objectives - 1) + np.outer(np.arange(many), steps)
    ) % 1
    angle = spread[:, -1] * math.pi / 2
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if objectives == 2:
        return circle
    if objectives == 3:  # heights are uniform on a sphere
        height = spread[:, :1]
        vectors = np.hstack([np.sqrt(1 - height**2) * circle, height])
    else:  # in four dimensions, the squared length of the first two coordinates is uniform
        share, other = spread[:, :1], spread[:, 1] * math.pi / 2
        second = np.stack([np.cos(other), np.sin(other)], axis=1)
        vectors = np.hstack([np.sqrt(share) * circle, np.sqrt(1 - share) * second])
    return np.maximum(vectors, 1e-9)


def checked_sets(sets: Mapping[str, Values]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Sets as arrays.

    Raises:
        ValueError: if one is no table, holds a value that is not finite, or has not the same
            number of points in every metric.
    """
    arrays = {
        name: {metric: np.asarray(v, dtype=np.float64) for metric, v in values.items()}
        for name, values in sets.items()
    }
    for name, values in arrays.items():
        for metric, v in values.items():
            if v.ndim != 2 or 0 in v.shape:
                raise ValueError(f"{name}, {metric}: shape {v.shape}; expected (points, prompts)")
            if not np.isfinite(v).all():
                point, prompt = np.argwhere(~np.isfinite(v))[0]
                raise ValueError(
                    f"{name}, {metric}: point {point}, prompt {prompt} is {v[point, prompt]};"
                    f" expected finite numbers (leave an unscored prompt out of every policy)"
                )
        points = {metric: len(v) for metric, v in values.items()}
        if len(set(points.values())) > 1:
            raise ValueError(f"{name}: points a metric {points}; expected one number of points")
    return arrays


def _sizes(arrays: dict[str, dict[str, NDArray]]) -> dict[str, int]:
    """Prompts a metric, the same in every set."""
    prompt_counts = [
        {metric: v.shape[1] for metric, v in values.items()} for values in arrays.values()
    ]
    if (
        not prompt_counts
        or not prompt_counts[0]
        or any(sizes != prompt_counts[0] for sizes in prompt_counts)
    ):
        raise ValueError(
            f"prompts a metric: {prompt_counts}; expected the same in every set, and some"
        )
    return prompt_counts[0]


def _counts(
    rng: np.random.Generator, n: int, resamples: int, mask: NDArray | None = None
) -> NDArray[np.float64]:
    """(resamples, prompts): how often each prompt was drawn; 0 outside of the mask."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    if mask is None:
        return counts
    whole = np.zeros((resamples, len(mask)))
    whole[:, mask] = counts
    return whole


def _means(values: Mapping[str, NDArray], counts: dict[str, NDArray]) -> NDArray[np.float64]:
    """(resamples, points, metrics)."""
    means = [counts[m] @ values[m].T / counts[m].sum(axis=1, keepdims=True) for m in counts]
    return np.stack(means, axis=-1)


def _interval(value: float, draws: NDArray[np.float64], confidence: float) -> Hypervolume:
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Hypervolume(float(value), float(low), float(high), draws)
