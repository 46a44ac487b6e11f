"""Wrong answers to `length_bias`, as people write them."""

import torch


def intercept_first(margins, extra_tokens):
    x = extra_tokens.float()
    slope = ((x - x.mean()) * (margins - margins.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return margins.mean() - slope * x.mean(), slope


def lengths_over_margins(margins, extra_tokens):
    x, y = margins, extra_tokens.float()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope, y.mean() - slope * x.mean()


def the_correlation(margins, extra_tokens):
    x = extra_tokens.float()
    r = torch.corrcoef(torch.stack([margins, x]))[0, 1]
    return r, margins.mean() - r * x.mean()


def no_intercept(margins, extra_tokens):
    x = extra_tokens.float()
    return (x @ margins) / (x @ x), torch.tensor(0.0)


def mean_margin(margins, extra_tokens):
    x = extra_tokens.float()
    slope = ((x - x.mean()) * (margins - margins.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope, margins.mean()


def adds_it(margins, extra_tokens):
    x = extra_tokens.float()
    slope = ((x - x.mean()) * (margins - margins.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return slope, margins.mean() + slope * x.mean()


def margin_by_token(margins, extra_tokens):
    x = extra_tokens.float()
    slope = (margins / x).mean()
    return slope, margins.mean() - slope * x.mean()


def n_and_n_less_one(margins, extra_tokens):
    x = extra_tokens.float()
    slope = ((x - x.mean()) * (margins - margins.mean())).mean() / x.var()
    return slope, margins.mean() - slope * x.mean()


def covariance(margins, extra_tokens):
    x = extra_tokens.float()
    slope = ((x - x.mean()) * (margins - margins.mean())).mean()
    return slope, margins.mean() - slope * x.mean()


MUTANTS = {
    "intercept_first": "order",
    "lengths_over_margins": "axes_swapped",
    "the_correlation": "correlation",
    "no_intercept": "through_the_origin",
    "mean_margin": "intercept_is_the_mean",
    "adds_it": "intercept_sign",
    "margin_by_token": "ratio_of_means",
    "n_and_n_less_one": "mixed_denominators",
    "covariance": "not_divided",
}
