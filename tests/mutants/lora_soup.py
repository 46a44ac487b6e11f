"""Wrong answers to `lora_soup`, as people write them."""

import torch


def means_of_factors(a, b, weights, *, scaling):
    a = torch.einsum("k,kri->ri", weights, a)
    b = torch.einsum("k,kor->or", weights, b)
    return scaling * b @ a


def pefts_linear(a, b, weights, *, scaling):
    root = (weights * scaling).sqrt()[:, None, None]
    return (root * b).sum(0) @ (root * a).sum(0)


def weights_on_a(a, b, weights, *, scaling):
    return scaling * b.sum(0) @ (weights[:, None, None] * a).sum(0)


def no_scaling(a, b, weights, *, scaling):
    return sum(w * y @ x for w, x, y in zip(weights, a, b, strict=True))


def scaled_factors(a, b, weights, *, scaling):
    return sum(w * (scaling * y) @ (scaling * x) for w, x, y in zip(weights, a, b, strict=True))


def plain_mean(a, b, weights, *, scaling):
    return scaling * (b @ a).mean(dim=0)


def stacked_without_weights(a, b, weights, *, scaling):
    return scaling * torch.cat([*b], dim=1) @ torch.cat([*a], dim=0)


def weights_on_both(a, b, weights, *, scaling):
    w = weights[:, None, None]
    return scaling * ((w * b) @ (w * a)).sum(dim=0)


def mean_of_weighted(a, b, weights, *, scaling):
    return scaling * (weights[:, None, None] * (b @ a)).mean(dim=0)


def not_summed(a, b, weights, *, scaling):
    return scaling * weights[:, None, None] * (b @ a)


MUTANTS = {
    "means_of_factors": "factors_averaged",
    "pefts_linear": "roots",
    "weights_on_a": "one_side",
    "no_scaling": "scaling_forgotten",
    "scaled_factors": "scaling_twice",
    "plain_mean": "weights_ignored",
    "stacked_without_weights": "added_up",
    "weights_on_both": "weights_twice",
    "mean_of_weighted": "averaged_again",
    "not_summed": "wrong_shape",
}
