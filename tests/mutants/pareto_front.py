"""Wrong answers to `pareto_front`, as people write them."""

import torch


def least_is_best(points):
    no_better = (points[:, None] <= points[None]).all(-1)
    return ~(no_better & (points[:, None] < points[None]).any(-1)).any(0)


def equals_beat(points):
    kept = []
    for i, one in enumerate(points):
        others = torch.cat([points[:i], points[i + 1 :]])
        kept.append(not (others >= one).all(-1).any())
    return torch.tensor(kept)


def beaten_by_itself(points):
    return ~(points[:, None] >= points[None]).all(-1).any(0)


def better_in_all(points):
    return ~(points[:, None] > points[None]).all(-1).any(0)


def better_in_one(points):
    return ~(points[:, None] > points[None]).any(-1).any(0)


def the_beaten(points):
    no_worse = (points[:, None] >= points[None]).all(-1)
    return (no_worse & (points[:, None] > points[None]).any(-1)).any(0)


def best_of_each(points):
    return torch.stack([points[:, k] == points[:, k].max() for k in range(points.shape[1])]).any(0)


def best_sum(points):
    total = points.sum(dim=1)
    return total == total.max()


def two_objectives(points):
    x, y = points[:, 0], points[:, 1]
    no_worse = (x[:, None] >= x) & (y[:, None] >= y)
    return ~(no_worse & ((x[:, None] > x) | (y[:, None] > y))).any(0)


def points_themselves(points):
    no_worse = (points[:, None] >= points[None]).all(-1)
    return points[~(no_worse & (points[:, None] > points[None]).any(-1)).any(0)]


MUTANTS = {
    "least_is_best": "minimised",
    "equals_beat": "twins_beaten",
    "beaten_by_itself": "itself",
    "better_in_all": "better_everywhere",
    "better_in_one": "better_somewhere",
    "the_beaten": "beaten_returned",
    "best_of_each": "corners_only",
    "best_sum": "summed",
    "two_objectives": "first_two_only",
    "points_themselves": "wrong_shape",
}
