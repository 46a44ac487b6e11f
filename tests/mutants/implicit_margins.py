"""Wrong answers to `implicit_margins`, as people write them."""

import torch
import torch.nn.functional as F


def no_mask(policy_logps, ref_logps, mask, *, beta):
    rewards = beta * (policy_logps - ref_logps).sum(dim=1)
    chosen, rejected = rewards.chunk(2)
    return chosen - rejected


def every_other_row(policy_logps, ref_logps, mask, *, beta):
    rewards = beta * ((policy_logps - ref_logps) * mask).sum(dim=1)
    return rewards[::2] - rewards[1::2]


def rejected_less_chosen(policy_logps, ref_logps, mask, *, beta):
    rewards = beta * ((policy_logps - ref_logps) * mask).sum(dim=1)
    half = len(rewards) // 2
    return rewards[half:] - rewards[:half]


def no_reference(policy_logps, ref_logps, mask, *, beta):
    chosen, rejected = (policy_logps * mask).sum(dim=1).chunk(2)
    return beta * (chosen - rejected)


def no_beta(policy_logps, ref_logps, mask, *, beta):
    chosen, rejected = ((policy_logps - ref_logps) * mask).sum(dim=1).chunk(2)
    return chosen - rejected


def mean_token(policy_logps, ref_logps, mask, *, beta):
    ratio = ((policy_logps - ref_logps) * mask).sum(dim=1) / mask.sum(dim=1)
    chosen, rejected = ratio.chunk(2)
    return beta * (chosen - rejected)


def divides_logs(policy_logps, ref_logps, mask, *, beta):
    policy, ref = (policy_logps * mask).sum(dim=1), (ref_logps * mask).sum(dim=1)
    chosen, rejected = (beta * (policy / ref)).chunk(2)
    return chosen - rejected


def a_plus(policy_logps, ref_logps, mask, *, beta):
    chosen, rejected = (beta * ((policy_logps - ref_logps) * mask).sum(dim=1)).chunk(2)
    return chosen + rejected


def a_reward_each(policy_logps, ref_logps, mask, *, beta):
    return beta * ((policy_logps - ref_logps) * mask).sum(dim=1)


def the_dpo_loss(policy_logps, ref_logps, mask, *, beta):
    chosen, rejected = (beta * ((policy_logps - ref_logps) * mask).sum(dim=1)).chunk(2)
    return -F.logsigmoid(chosen - rejected)


def batch_mean(policy_logps, ref_logps, mask, *, beta):
    chosen, rejected = (beta * ((policy_logps - ref_logps) * mask).sum(dim=1)).chunk(2)
    return (chosen - rejected).mean()


def a_list(policy_logps, ref_logps, mask, *, beta):
    rewards = beta * ((policy_logps - ref_logps) * mask).sum(dim=1)
    half = len(rewards) // 2
    return [(rewards[i] - rewards[i + half]).item() for i in range(half)]


def without_a_gradient(policy_logps, ref_logps, mask, *, beta):
    with torch.no_grad():
        rewards = beta * ((policy_logps - ref_logps) * mask).sum(dim=1)
    chosen, rejected = rewards.chunk(2)
    return chosen - rejected


MUTANTS = {
    "no_mask": "mask_forgotten",
    "every_other_row": "interleaved",
    "rejected_less_chosen": "swapped",
    "no_reference": "ref_forgotten",
    "no_beta": "beta_forgotten",
    "mean_token": "mean_of_tokens",
    "divides_logs": "ratio_of_logs",
    "a_plus": "rejected_added",
    "a_reward_each": "rewards_not_margins",
    "the_dpo_loss": "the_loss",
    "batch_mean": "reduced",
    "a_list": "wrong_type",
    "without_a_gradient": "no_gradient",
}
