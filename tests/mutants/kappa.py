"""Wrong answers to `kappa`, as people write them."""

import torch


def share_agreed(labels, truth):
    return (labels == truth).float().mean()


def chance_is_a_third(labels, truth):
    agreed = (labels == truth).float().mean()
    return (agreed - 1 / 3) / (1 - 1 / 3)


def chance_subtracted(labels, truth):
    agreed = (labels == truth).float().mean()
    chance = sum((labels == k).float().mean() * (truth == k).float().mean() for k in range(3))
    return agreed - chance


def over_chance(labels, truth):
    agreed = (labels == truth).float().mean()
    chance = sum((labels == k).float().mean() * (truth == k).float().mean() for k in range(3))
    return (agreed - chance) / chance


def one_raters_habits(labels, truth):
    agreed = (labels == truth).float().mean()
    chance = (torch.bincount(labels, minlength=3) / len(labels)).square().sum()
    return (agreed - chance) / (1 - chance)


def scotts_pi(labels, truth):
    agreed = (labels == truth).float().mean()
    both = torch.cat([labels, truth])
    chance = sum((both == k).float().mean() ** 2 for k in range(3))
    return (agreed - chance) / (1 - chance)


def no_ties(labels, truth):
    agreed = (labels == truth).float().mean()
    chance = sum((labels == k).float().mean() * (truth == k).float().mean() for k in range(2))
    return (agreed - chance) / (1 - chance)


def by_chance(labels, truth):
    return sum((labels == k).float().mean() * (truth == k).float().mean() for k in range(3))


def none_below_nought(labels, truth):
    agreed = (labels == truth).float().mean()
    chance = sum((labels == k).float().mean() * (truth == k).float().mean() for k in range(3))
    return ((agreed - chance) / (1 - chance)).clamp(min=0)


def two_values(labels, truth):
    agreed = (labels == truth).float().mean()
    chance = sum((labels == k).float().mean() * (truth == k).float().mean() for k in range(3))
    return agreed, chance


MUTANTS = {
    "share_agreed": "chance_forgotten",
    "chance_is_a_third": "uniform_chance",
    "chance_subtracted": "not_rescaled",
    "over_chance": "divided_by_chance",
    "one_raters_habits": "one_rater",
    "scotts_pi": "pooled",
    "no_ties": "ties_left_out",
    "by_chance": "chance_only",
    "none_below_nought": "negative_lost",
    "two_values": "wrong_type",
}
