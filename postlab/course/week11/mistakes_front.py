"""What goes wrong with fronts: who beats whom, and areas that overlap or stick out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake


def _front(beats: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The points that nobody beats, by some idea of beating; nobody is compared with itself."""

    def pareto_front(points: Tensor) -> Tensor:
        beaten = beats(points[:, None], points[None])  # row beats column
        return ~(beaten & ~torch.eye(len(points), dtype=torch.bool)).any(0)

    return pareto_front


def _swept(
    points: Tensor,
    reference: Tensor,
    *,
    sort: bool = True,
    running: bool = True,
    joined: bool = False,
) -> Tensor:
    """The area from the right to the left, with parts of the recipe left out."""
    above = (points - reference).clamp(min=0)
    above = above[above[:, 0].argsort(descending=True)] if sort else above
    heights = above[:, 1].cummax(0).values if running else above[:, 1]
    if joined:
        following = torch.cat([heights[1:], heights[-1:]])
        heights = (heights + following) / 2
    return ((above[:, 0] - torch.cat([above[1:, 0], above.new_zeros(1)])) * heights).sum()


def _boxes(points: Tensor, reference: Tensor) -> Tensor:
    return (points - reference).clamp(min=0).prod(-1)


PARETO_FRONT = (
    Mistake(
        "minimised",
        "you keep what is least: here more is better, turn the comparisons round",
        _front(lambda x, y: (x <= y).all(-1) & (x < y).any(-1)),
    ),
    Mistake(
        "twins_beaten",
        "a point is beaten by its equal: beating takes 'somewhere better' besides 'nowhere worse'",
        _front(lambda x, y: (x >= y).all(-1)),
    ),
    Mistake(
        "itself",
        "each point is beaten by itself, so none is left: 'somewhere better' is missing",
        lambda points: ~(points[:, None] >= points[None]).all(-1).any(0),
    ),
    Mistake(
        "better_everywhere",
        "you ask for better in every objective: better in one and equal in the others is enough",
        _front(lambda x, y: (x > y).all(-1)),
    ),
    Mistake(
        "better_somewhere",
        "you ask for better in some objective only: it must be worse in none as well",
        _front(lambda x, y: (x > y).any(-1)),
    ),
    Mistake(
        "beaten_returned",
        "you mark the points that are beaten: the front is the others",
        lambda points: ~_front(lambda x, y: (x >= y).all(-1) & (x > y).any(-1))(points),
    ),
    Mistake(
        "corners_only",
        "you keep the best of each objective: a compromise that nobody beats belongs to it too",
        lambda points: (points == points.max(0).values).any(-1),
    ),
    Mistake(
        "summed",
        "you compare sums of the objectives: that is one choice of weights, and one of many points",
        lambda points: points.sum(-1) == points.sum(-1).max(),
    ),
    Mistake(
        "first_two_only",
        "you look at some of the objectives and not at all of them",
        lambda points: _front(lambda x, y: (x >= y).all(-1) & (x > y).any(-1))(points[:, :2]),
        lambda points: points[:, 0] == points[:, 0].max(),
    ),
)
HYPERVOLUME = (
    Mistake(
        "overlap_counted",
        "you add up the points' boxes: where they overlap counts once",
        lambda points, reference: _boxes(points, reference).sum(),
    ),
    Mistake(
        "largest_box",
        "you take the largest single box: the union of all is wanted",
        lambda points, reference: _boxes(points, reference).max(),
    ),
    Mistake(
        "bounding_box",
        "you take the box around all points: no policy is best in both at once",
        lambda points, reference: (points - reference).clamp(min=0).max(0).values.prod(),
    ),
    Mistake(
        "reference_ignored",
        "you measure from 0: subtract the reference first",
        lambda points, reference: _swept(points, torch.zeros(2)),
    ),
    Mistake(
        "not_sorted",
        "you go through the points in the order they came: sort them by one objective first",
        lambda points, reference: _swept(points, reference, sort=False),
        lambda points, reference: _swept(points, reference, sort=False, running=False),
    ),
    Mistake(
        "beaten_points",
        "a beaten point pulls the height down: carry the best height so far along, or drop beaten "
        "points first",
        lambda points, reference: _swept(points, reference, running=False),
    ),
    Mistake(
        "joined",
        "you join the points by lines: between two policies there is no third one, unless you "
        "toss a coin a request; what they cover is a staircase",
        lambda points, reference: _swept(points, reference, joined=True),
    ),
    Mistake(
        "mean",
        "you divide by the number of points",
        lambda points, reference: _swept(points, reference) / len(points),
        lambda points, reference: _boxes(points, reference).mean(),
    ),
)
