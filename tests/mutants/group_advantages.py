"""Wrong answers to `group_advantages`, as people write them."""

import torch


def over_the_batch(rewards, group_size):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def mean_of_the_batch(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return ((groups - rewards.mean()) / (groups.std(dim=1, keepdim=True) + 1e-4)).flatten()


def spread_of_the_batch(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / (rewards.std() + 1e-4)).flatten()


def axes_the_other_way(rewards, group_size):
    groups = rewards.view(group_size, -1)
    centred = groups - groups.mean(dim=0, keepdim=True)
    return (centred / (groups.std(dim=0, keepdim=True) + 1e-4)).flatten()


def dim_zero(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(dim=0)
    return (centred / (groups.std(dim=0) + 1e-4)).flatten()


def centred_only(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


def divided_only(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return (groups / (groups.std(dim=1, keepdim=True) + 1e-4)).flatten()


def numpys_std(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / (groups.std(dim=1, keepdim=True, unbiased=False) + 1e-4)).flatten()


def by_the_variance(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / (groups.var(dim=1, keepdim=True) + 1e-4)).flatten()


def without_epsilon(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return ((groups - groups.mean(1, keepdim=True)) / groups.std(1, keepdim=True)).flatten()


def against_the_others(rewards, group_size):
    groups = rewards.view(-1, group_size)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).flatten()


def mean_minus_reward(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred = groups.mean(dim=1, keepdim=True) - groups
    return (centred / (groups.std(dim=1, keepdim=True) + 1e-4)).flatten()


def left_in_groups(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)


def silent_groups_are_nan(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred, std = groups - groups.mean(1, keepdim=True), groups.std(1, keepdim=True)
    return (centred / torch.where(std > 0, std + 1e-4, std)).flatten()


MUTANTS = {
    "over_the_batch": "whole_batch",
    "mean_of_the_batch": "batch_mean",
    "spread_of_the_batch": "batch_std",
    "axes_the_other_way": "interleaved",
    "dim_zero": "across_groups",
    "centred_only": "not_scaled",
    "divided_only": "not_centred",
    "numpys_std": "population_std",
    "by_the_variance": "variance",
    "without_epsilon": "epsilon",
    "against_the_others": "leave_one_out",
    "mean_minus_reward": "turned_round",
    "left_in_groups": "wrong_shape",
    "silent_groups_are_nan": "silent_group",
}
