"""Wrong answers to `bradley_terry_loss`, as people write them."""

import torch
import torch.nn.functional as F


def the_wrong_way_round(chosen_rewards, rejected_rewards):
    return -F.logsigmoid(rejected_rewards - chosen_rewards)


def no_minus(chosen_rewards, rejected_rewards):
    return F.logsigmoid(chosen_rewards - rejected_rewards)


def the_probability(chosen_rewards, rejected_rewards):
    return torch.sigmoid(chosen_rewards - rejected_rewards)


def one_minus_the_probability(chosen_rewards, rejected_rewards):
    p = torch.sigmoid(chosen_rewards - rejected_rewards)
    return 1 - p


def just_the_margin(chosen_rewards, rejected_rewards):
    return -(chosen_rewards - rejected_rewards)


def two_sigmoids(chosen_rewards, rejected_rewards):
    chosen = torch.sigmoid(chosen_rewards)
    rejected = torch.sigmoid(rejected_rewards)
    return -(torch.log(chosen) - torch.log(rejected))


def share_of_the_rewards(chosen_rewards, rejected_rewards):
    return -torch.log(chosen_rewards / (chosen_rewards + rejected_rewards))


def hinge(chosen_rewards, rejected_rewards):
    return torch.clamp(1 - (chosen_rewards - rejected_rewards), min=0)


def takes_the_mean(chosen_rewards, rejected_rewards):
    return -F.logsigmoid(chosen_rewards - rejected_rewards).mean()


def log_of_sigmoid(chosen_rewards, rejected_rewards):
    return -torch.log(torch.sigmoid(chosen_rewards - rejected_rewards))


def rejected_is_a_constant(chosen_rewards, rejected_rewards):
    return -F.logsigmoid(chosen_rewards - rejected_rewards.detach())


def a_list_of_numbers(chosen_rewards, rejected_rewards):
    pairs = zip(chosen_rewards, rejected_rewards)  # noqa: B905
    return [-F.logsigmoid(c - r).item() for c, r in pairs]


def math_on_tensors(chosen_rewards, rejected_rewards):
    import math

    return -math.log(1 / (1 + math.exp(-(chosen_rewards - rejected_rewards))))


def log_of_the_margin(chosen_rewards, rejected_rewards):
    return -torch.log(chosen_rewards - rejected_rewards)


def all_against_all(chosen_rewards, rejected_rewards):
    return -F.logsigmoid(chosen_rewards[:, None] - rejected_rewards[None, :])


MUTANTS = {
    "the_wrong_way_round": "swapped",
    "no_minus": "sign",
    "the_probability": "probability",
    "one_minus_the_probability": "probability_lost",
    "just_the_margin": "difference",
    "two_sigmoids": "each_alone",
    "share_of_the_rewards": "ratio_of_rewards",
    "hinge": "hinge",
    "takes_the_mean": "reduced",
    "log_of_sigmoid": "overflow",
    "rejected_is_a_constant": "no_gradient_to_rejected_rewards",
    "a_list_of_numbers": "wrong_type",
    "math_on_tensors": "raises_ValueError",
    "log_of_the_margin": "log_of_difference",
    "all_against_all": "wrong_shape",
}
