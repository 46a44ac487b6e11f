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
}
