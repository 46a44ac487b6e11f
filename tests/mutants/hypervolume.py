"""Wrong answers to `hypervolume`, as people write them."""

import torch


def all_boxes(points, reference):
    return (points - reference).clamp(min=0).prod(dim=1).sum()


def one_box(points, reference):
    return (points - reference).clamp(min=0).prod(dim=1).max()


def box_around(points, reference):
    return (points.max(dim=0).values - reference).prod()


def from_nought(points, reference):
    points = points[points[:, 0].argsort(descending=True)]
    width = points[:, 0] - torch.cat([points[1:, 0], torch.zeros(1)])
    return (width * points[:, 1].cummax(0).values).sum()


def as_they_came(points, reference):
    above = (points - reference).clamp(min=0)
    width = above[:, 0] - torch.cat([above[1:, 0], torch.zeros(1)])
    return (width * above[:, 1]).sum()


def beaten_left_in(points, reference):
    area, x = torch.tensor(0.0), reference[0]
    for point in points[points[:, 0].argsort()]:
        area = area + (point[0] - x) * (point[1] - reference[1])
        x = point[0]
    return area


def under_the_line(points, reference):
    above = (points - reference).clamp(min=0)
    above = above[above[:, 0].argsort(descending=True)]
    heights = above[:, 1].cummax(0).values
    width = above[:, 0] - torch.cat([above[1:, 0], torch.zeros(1)])
    return (width * (heights + torch.cat([heights[1:], heights[-1:]])) / 2).sum()


def averaged(points, reference):
    return (points - reference).clamp(min=0).prod(dim=1).mean()


def not_clamped(points, reference):
    above = points - reference
    above = above[above[:, 0].argsort(descending=True)]
    width = above[:, 0] - torch.cat([above[1:, 0], torch.zeros(1)])
    return (width * above[:, 1].cummax(0).values).sum()


def without_twins(points, reference):
    above = (points - reference).clamp(min=0)
    above = above[above.prod(dim=1) > 0]
    beaten = (above[:, None] <= above[None]).all(dim=2).sum(dim=1) > 1
    above = above[~beaten]
    above = above[above[:, 0].argsort(descending=True)]
    width = above[:, 0] - torch.cat([above[1:, 0], torch.zeros(1)])
    return (width * above[:, 1]).sum()


def needs_a_point(points, reference):
    above = points[(points > reference).all(dim=1)] - reference
    best, area = above[:, 0].argsort(descending=True), 0.0
    high = above[best[0], 1] * 0
    for i, j in zip(best, [*best[1:], None], strict=True):
        high = torch.maximum(high, above[i, 1])
        area = area + high * (above[i, 0] - (0 if j is None else above[j, 0]))
    return area


def of_sizes(points, reference):
    above = (points.abs() - reference.abs()).clamp(min=0)
    above = above * (points >= reference).all(dim=1, keepdim=True)
    above = above[above[:, 0].argsort(descending=True)]
    width = above[:, 0] - torch.cat([above[1:, 0], torch.zeros(1)])
    return (width * above[:, 1].cummax(0).values).sum()


MUTANTS = {
    "all_boxes": "overlap_counted",
    "one_box": "largest_box",
    "box_around": "bounding_box",
    "from_nought": "reference_ignored",
    "as_they_came": "not_sorted",
    "beaten_left_in": "beaten_points",
    "under_the_line": "joined",
    "averaged": "mean",
    "not_clamped": "below_reference",
    "without_twins": "twins_dropped",
    "needs_a_point": "nothing_above",
    "of_sizes": "below_nought",
}
