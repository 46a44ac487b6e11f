"""Wrong answers to `robust_dpo_loss`, as people write them."""

import torch
from torch.nn.functional import logsigmoid


def label_smoothing(margins, noise):
    return -(1 - noise) * logsigmoid(margins) - noise * logsigmoid(-margins)


def undivided(margins, noise):
    return -(1 - noise) * logsigmoid(margins) + noise * logsigmoid(-margins)


def divided_by_the_right_share(margins, noise):
    return (-(1 - noise) * logsigmoid(margins) + noise * logsigmoid(-margins)) / (1 - noise)


def plain_dpo(margins, noise):
    return -logsigmoid(margins)


def weights_exchanged(margins, noise):
    return (-noise * logsigmoid(margins) + (1 - noise) * logsigmoid(-margins)) / (1 - 2 * noise)


def sign_turned(margins, noise):
    return ((1 - noise) * logsigmoid(margins) - noise * logsigmoid(-margins)) / (1 - 2 * noise)


def batch_mean(margins, noise):
    loss = -(1 - noise) * logsigmoid(margins) + noise * logsigmoid(-margins)
    return (loss / (1 - 2 * noise)).mean()


def of_probabilities(margins, noise):
    right, wrong = torch.sigmoid(margins), torch.sigmoid(-margins)
    return -((1 - noise) * right - noise * wrong) / (1 - 2 * noise)


def log_of_sigmoid(margins, noise):
    right, wrong = -torch.sigmoid(margins).log(), -torch.sigmoid(-margins).log()
    return ((1 - noise) * right - noise * wrong) / (1 - 2 * noise)


def one_less_sigmoid(margins, noise):
    right, wrong = -logsigmoid(margins), -(1 - torch.sigmoid(margins)).log()
    return ((1 - noise) * right - noise * wrong) / (1 - 2 * noise)


def detached(margins, noise):
    x = margins.detach()
    return (-(1 - noise) * logsigmoid(x) + noise * logsigmoid(-x)) / (1 - 2 * noise)


MUTANTS = {
    "label_smoothing": "smoothed",
    "undivided": "not_rescaled",
    "divided_by_the_right_share": "wrong_divisor",
    "plain_dpo": "noise_ignored",
    "weights_exchanged": "exchanged",
    "sign_turned": "sign",
    "batch_mean": "reduced",
    "of_probabilities": "no_logarithm",
    "log_of_sigmoid": "overflow",
    "one_less_sigmoid": "overflow_turned",
    "detached": "no_gradient",
}
