"""Wrong answers to `dual_step`, as people write them."""

import torch


def descent(multipliers, measured, levels, rate):
    return torch.relu(multipliers + rate * (measured - levels))


def no_floor(multipliers, measured, levels, rate):
    return multipliers + rate * (levels - measured)


def only_up(multipliers, measured, levels, rate):
    return multipliers + rate * torch.relu(levels - measured)


def anew(multipliers, measured, levels, rate):
    return torch.relu(rate * (levels - measured))


def in_the_logarithm(multipliers, measured, levels, rate):
    return torch.exp(torch.log(multipliers) + rate * (levels - measured))


def full_step(multipliers, measured, levels, rate):
    return torch.relu(multipliers + levels - measured)


def a_share(multipliers, measured, levels, rate):
    return torch.clamp(multipliers + rate * (levels - measured), 0, 1)


def up_or_down(multipliers, measured, levels, rate):
    return torch.relu(multipliers + rate * torch.sign(levels - measured))


def in_place(multipliers, measured, levels, rate):
    multipliers += rate * (levels - measured)
    return multipliers.clamp_(min=0).clone()


def only_where_it_is_paid(multipliers, measured, levels, rate):
    stepped = torch.relu(multipliers + rate * (levels - measured))
    return torch.where(multipliers > 0, stepped, multipliers)


MUTANTS = {
    "descent": "sign",
    "no_floor": "negative",
    "only_up": "never_shrinks",
    "anew": "forgetful",
    "in_the_logarithm": "logarithmic",
    "full_step": "rate_ignored",
    "a_share": "clamped_at_one",
    "up_or_down": "sign_of_the_gap",
    "in_place": "edits_inputs",
    "only_where_it_is_paid": "stuck_at_nought",
}
