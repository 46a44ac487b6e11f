"""Points of several objectives: which are not beaten, how much they cover, and how sure that is.

More is better everywhere. A point is beaten by one that is nowhere worse and somewhere better. The
hypervolume is what the points cover together above a reference, and so judges a whole set by one
number; for shares and reference 0 it is a share of the unit cube.

A front is chosen among noisy points, and the best of many is partly luck: `chosen_hypervolume`
chooses it on one half of the prompts and measures it on the other. Left out: more than three
objectives (the exact volume grows expensive), and prompts that several metrics share.

Source: Zitzler and Thiele 1999 (hypervolume). Taught in week 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = Mapping[str, ArrayLike]  # metric -> (points, prompts)


@dataclass(frozen=True)
class Hypervolume:
    """A set's hypervolume with its interval, and what each resample of the prompts made of it."""

    value: float
    low: float
    high: float
    draws: NDArray[np.float64]


def pareto_front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point beats: nowhere worse and somewhere better. More is better.

    Args:
        points: (N, K), a row a policy, a column an objective.
    Returns:
        (N,) True for those on the front; equal points do not beat each other.
    Raises:
        ValueError: if points is not (N, K) with N and K at least 1, or is not finite.
    Taught in week 11.

    >>> pareto_front([[0.9, 0.2], [0.5, 0.5], [0.5, 0.4], [0.1, 0.9]]).tolist()
    [True, True, False, True]
    """
    x = _points(points)
    no_worse = (x[:, None] >= x[None]).all(-1)  # (N, N): row against column
    better = (x[:, None] > x[None]).any(-1)
    return ~(no_worse & better).any(0)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """What the points cover together above the reference: area of two objectives, volume of three.

    Args:
        points: (N, K) with K 1, 2 or 3; a point that is not above the reference covers nothing.
        reference: (K,) the worst that counts, the same for all sets that are compared.
    Returns:
        The measure of the union of the boxes between the reference and each point.
    Raises:
        ValueError: if shapes do not fit, K is above 3, or a number is not finite.
    Source: Zitzler and Thiele 1999. Taught in week 11.

    >>> hypervolume([[2, 1], [1, 3]], [0, 0])  # 2 * 1 + 1 * (3 - 1)
    4.0
    >>> hypervolume([[1, 1, 1], [2, 1, 0.5]], [0, 0, 0])  # 1 + 1 more on half the height
    1.5
    """
    x = _points(points)
    origin = np.asarray(reference, dtype=np.float64)
    if origin.shape != (x.shape[1],) or not np.isfinite(origin).all():
        raise ValueError(
            f"reference is {np.asarray(reference).tolist()}, points have {x.shape[1]} objectives;"
            " expected one finite number an objective"
        )
    if x.shape[1] > 3:
        raise ValueError(f"points have {x.shape[1]} objectives; expected at most 3")
    return _volume(np.maximum(x - origin, 0.0))


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
        ValueError: if sets are empty, or do not share metrics and prompts.
    Taught in week 11.

    >>> one = hypervolumes({"a": {"x": [[1, 1]], "y": [[0, 1]]}}, resamples=50)["a"]
    >>> one.value, one.low, one.high
    (0.5, 0.0, 1.0)
    """
    made = _arrays(sets)
    sizes = _sizes(made)
    every = {metric: np.full((1, n), 1.0) for metric, n in sizes.items()}
    rng = np.random.default_rng(seed)
    counts = {metric: _counts(rng, n, resamples) for metric, n in sizes.items()}

    def volumes(values: dict[str, NDArray], drawn: dict[str, NDArray]) -> NDArray:
        return np.array(
            [hypervolume(p, np.full(len(sizes), reference)) for p in _means(values, drawn)]
        )

    return {
        name: _interval(volumes(v, every)[0], volumes(v, counts), confidence)
        for name, v in made.items()
    }


def chosen_hypervolume(
    sets: Mapping[str, Values],
    *,
    resamples: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
    reference: float = 0.0,
) -> dict[str, Hypervolume]:
    """As `hypervolumes`, but a front is chosen on one half of the prompts, measured on the other.

    Both ways, and averaged. A policy that was on the front by luck has no luck left where it is
    measured. What remains of it: those that were chosen are still several noisy points.

    Args:
        sets, resamples, confidence, seed, reference: as for `hypervolumes`. Even and odd prompts
            are the halves; prompts are drawn anew inside each.
    Returns:
        name -> Hypervolume.
    Raises:
        ValueError: as `hypervolumes`, or if a metric has fewer than two prompts.
    Taught in week 11.

    >>> lucky = {"x": [[1, 0], [0, 1]], "y": [[1, 1], [1, 1]]}  # each is good on one half only
    >>> found = chosen_hypervolume({"a": lucky}, resamples=10)["a"]
    >>> found.value, hypervolumes({"a": lucky}, resamples=10)["a"].value
    (0.0, 0.5)
    """
    made = _arrays(sets)
    sizes = _sizes(made)
    if min(sizes.values()) < 2:
        raise ValueError(f"prompts a metric: {sizes}; expected at least two, one for each half")
    rng = np.random.default_rng(seed)
    halves = [{m: np.arange(n) % 2 == part for m, n in sizes.items()} for part in (0, 1)]
    whole = [{m: mask[None].astype(float) for m, mask in half.items()} for half in halves]
    drawn = [
        {m: _counts(rng, int(mask.sum()), resamples, mask) for m, mask in half.items()}
        for half in halves
    ]
    origin = np.full(len(sizes), reference)

    def volumes(values: dict[str, NDArray], parts: list[dict[str, NDArray]]) -> NDArray:
        a, b = (_means(values, part) for part in parts)
        pairs = [*zip(a, b, strict=True)], [*zip(b, a, strict=True)]
        both = [[hypervolume(m[pareto_front(c)], origin) for c, m in way] for way in pairs]
        return np.mean(both, axis=0)

    return {
        name: _interval(volumes(v, whole)[0], volumes(v, drawn), confidence)
        for name, v in made.items()
    }


def _points(points: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"points has shape {x.shape}; expected (policies, objectives), at least 1")
    if not np.isfinite(x).all():
        raise ValueError("points holds nan or infinity; drop the policies that were not measured")
    return x


def _volume(x: NDArray[np.float64]) -> float:
    """The union of boxes from 0, swept along the last objective from the highest point down."""
    if x.shape[1] == 1:
        return float(x.max())
    x = x[np.argsort(-x[:, -1], kind="stable")]
    floors = np.append(x[1:, -1], 0.0)
    total = 0.0
    for number, (height, floor) in enumerate(zip(x[:, -1], floors, strict=True), start=1):
        if height == floor:
            continue
        total += _volume(x[:number, :-1]) * (height - floor)
    return float(total)


def _arrays(sets: Mapping[str, Values]) -> dict[str, dict[str, NDArray[np.float64]]]:
    made = {
        name: {metric: np.asarray(v, dtype=np.float64) for metric, v in values.items()}
        for name, values in sets.items()
    }
    for name, values in made.items():
        for metric, v in values.items():
            if v.ndim != 2 or 0 in v.shape:
                raise ValueError(f"{name}, {metric}: shape {v.shape}; expected (points, prompts)")
    return made


def _sizes(made: dict[str, dict[str, NDArray]]) -> dict[str, int]:
    """Prompts a metric, the same in every set."""
    found = [{metric: v.shape[1] for metric, v in values.items()} for values in made.values()]
    if not found or not found[0] or any(sizes != found[0] for sizes in found):
        raise ValueError(f"prompts a metric: {found}; expected the same in every set, and some")
    return found[0]


def _counts(
    rng: np.random.Generator, n: int, resamples: int, mask: NDArray | None = None
) -> NDArray[np.float64]:
    """(resamples, prompts): how often each prompt was drawn; 0 outside of the mask."""
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    if mask is None:
        return drawn
    whole = np.zeros((resamples, len(mask)))
    whole[:, mask] = drawn
    return whole


def _means(values: dict[str, NDArray], counts: dict[str, NDArray]) -> NDArray[np.float64]:
    """(resamples, points, metrics)."""
    found = [counts[m] @ values[m].T / counts[m].sum(axis=1, keepdims=True) for m in counts]
    return np.stack(found, axis=-1)


def _interval(value: float, draws: NDArray[np.float64], confidence: float) -> Hypervolume:
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Hypervolume(float(value), float(low), float(high), draws)
