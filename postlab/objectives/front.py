"""Points of several objectives: which of them no other beats, and how much they cover together.

More is better everywhere. A point is beaten by one that is nowhere worse and somewhere better. The
hypervolume is what the points cover together above a reference, and so judges a whole set by one
number; for shares and reference 0 it is a share of the unit cube. Left out: faster algorithms for
many objectives. Each objective beyond the second multiplies the work by the points on the front.

Source: Zitzler and Thiele 1999 (hypervolume). Taught in week 11.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    # 1. Compare every point with every other: (N, N), row against column.
    no_worse = (x[:, None] >= x[None]).all(-1)
    better = (x[:, None] > x[None]).any(-1)
    # 2. A column is beaten (dominated) if some row is nowhere worse and somewhere better.
    beaten: NDArray[np.bool_] = np.any(no_worse & better, axis=0)
    return np.logical_not(beaten)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """What the points cover together above the reference: area of two objectives, volume of more.

    Args:
        points: (N, K); a point that is not above the reference covers nothing.
        reference: (K,) the worst that counts, the same for all sets that are compared.
    Returns:
        The measure of the union of the boxes between the reference and each point.
    Raises:
        ValueError: if shapes do not fit or a number is not finite.
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
    above = np.maximum(x - origin, 0.0)
    return _volume(above[pareto_front(above)])


def _points(points: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"points has shape {x.shape}; expected (policies, objectives), at least 1")
    if not np.isfinite(x).all():
        raise ValueError("points holds nan or infinity; drop the policies that were not measured")
    return x


def _volume(x: NDArray[np.float64]) -> float:
    """The union of boxes from 0, swept along the last objective from the highest point down."""
    # 1. With one objective, the union is the longest interval.
    if x.shape[1] == 1:
        return float(x.max())
    # 2. Cut the volume into slabs between the heights of the points, from the top down.
    x = x[np.argsort(-x[:, -1], kind="stable")]
    thickness = x[:, -1] - np.append(x[1:, -1], 0.0)
    # 3. In each slab only the points above it count; their union has one objective fewer. With two
    # objectives, that's the widest point so far.
    if x.shape[1] == 2:
        return float(np.maximum.accumulate(x[:, 0]) @ thickness)
    slabs = np.flatnonzero(thickness)
    return float(sum(_volume(x[: slab + 1, :-1]) * thickness[slab] for slab in slabs))
