"""Wrong answers to `holm`, as people write them."""

import torch


def times_m(p):
    return torch.clamp(p * p.numel(), max=1.0)


def false_discovery_rate(p):
    m, (values, order) = len(p), p.sort()
    scaled = values * m / torch.arange(1, m + 1)
    out = torch.empty_like(p)
    out[order] = scaled.flip(0).cummin(0).values.flip(0).clamp(max=1)
    return out


def stays_sorted(p):
    m, values = len(p), p.sort().values
    return (values * torch.arange(m, 0, -1)).cummax(0).values.clamp(max=1)


def indexes_twice(p):
    order = p.argsort()
    adjusted = (p[order] * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1)
    return adjusted[order]


def no_running_maximum(p):
    order = p.argsort()
    out = torch.empty_like(p)
    out[order] = (p[order] * torch.arange(len(p), 0, -1)).clamp(max=1)
    return out


def running_minimum(p):
    order = p.argsort()
    out = torch.empty_like(p)
    out[order] = (p[order] * torch.arange(len(p), 0, -1)).cummin(0).values.clamp(max=1)
    return out


def largest_times_m(p):
    order = p.argsort(descending=True)
    out = torch.empty_like(p)
    steps = p[order] * torch.arange(len(p), 0, -1)
    out[order] = steps.flip(0).cummax(0).values.flip(0).clamp(max=1)
    return out


def counts_from_nought(p):
    order = p.argsort()
    ranks = torch.arange(len(p))
    out = torch.empty_like(p)
    out[order] = (p[order] * (len(p) - 1 - ranks)).cummax(0).values.clamp(max=1)
    return out


def as_they_come(p):
    return (p * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1)


def each_alone(p):
    return 1 - (1 - p).pow(len(p))


def above_one(p):
    order = p.argsort()
    out = torch.empty_like(p)
    out[order] = (p[order] * torch.arange(len(p), 0, -1)).cummax(0).values
    return out


def found_or_not(p):
    order = p.argsort()
    out = torch.empty_like(p)
    out[order] = (p[order] * torch.arange(len(p), 0, -1)).cummax(0).values
    return out < 0.05


def a_list_of_floats(p):
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(p.argsort().tolist()):
        highest = max(highest, (len(p) - rank) * p[i].item())
        adjusted[i] = min(1.0, highest)
    return adjusted


def the_maximum_with_its_places(p):
    order = p.argsort()
    out = torch.empty_like(p)
    out[order] = (p[order] * torch.arange(len(p), 0, -1)).cummax(0)
    return out


def sorts_in_place(p):
    order = p.argsort()
    p[order] = (p[order] * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1)
    return p


MUTANTS = {
    "times_m": "bonferroni",
    "false_discovery_rate": "benjamini_hochberg",
    "stays_sorted": "sorted_order",
    "indexes_twice": "wrong_way_back",
    "no_running_maximum": "not_monotone",
    "running_minimum": "running_minimum",
    "largest_times_m": "factors_turned",
    "counts_from_nought": "factors_off_by_one",
    "as_they_come": "not_sorted",
    "each_alone": "sidak",
    "above_one": "above_one",
    "found_or_not": "wrong_dtype",
    "a_list_of_floats": "wrong_type",
    "the_maximum_with_its_places": "raises_TypeError",
    "sorts_in_place": "edits_inputs",
}
