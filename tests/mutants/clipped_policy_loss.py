"""Wrong answers to `clipped_policy_loss`, as people write them."""

import torch


def max_of_the_objective(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    clipped_ratio = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
    loss = -torch.max(ratio * advantages, clipped_ratio * advantages)
    return loss, clipped_ratio * advantages < ratio * advantages


def no_minus(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    one, two = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return torch.min(one, two), two < one


def clips_and_forgets_the_min(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = (logps - old_logps).exp()
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)
    clipped = clipped_ratio * advantages < ratio * advantages
    return -clipped_ratio * advantages, clipped


def plain_policy_gradient(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = (logps - old_logps).exp()
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -ratio * advantages, clipped_ratio * advantages < ratio * advantages


def flags_every_ratio_outside(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = (logps - old_logps).exp()
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.min(ratio * advantages, clipped_ratio * advantages)
    return loss, (ratio < 1 - clip_low) | (ratio > 1 + clip_high)


def difference_as_ratio(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = logps - old_logps
    one, two = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return -torch.min(one, two), two < one


def divides_the_logps(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = logps / old_logps
    one, two = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return -torch.min(one, two), two < one


def old_over_new(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(old_logps - logps)
    one, two = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return -torch.min(one, two), two < one


def clips_the_product(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    surrogate = torch.exp(logps - old_logps) * advantages
    clipped = torch.clamp(surrogate, 1 - clip_low, 1 + clip_high)
    return -torch.min(surrogate, clipped), clipped < surrogate


def one_epsilon(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    eps = clip_low
    ratio = torch.exp(logps - old_logps)
    one, two = ratio * advantages, ratio.clamp(1 - eps, 1 + eps) * advantages
    return -torch.min(one, two), two < one


def bounds_are_the_epsilons(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    one, two = ratio * advantages, ratio.clamp(-clip_low, clip_high) * advantages
    return -torch.min(one, two), two < one


def always_twenty_percent(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    one, two = ratio * advantages, ratio.clamp(0.8, 1.2) * advantages
    return -torch.min(one, two), two < one


def already_averaged(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    one, two = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return -torch.min(one, two).mean(), two < one


def flags_as_floats(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    one, two = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return -torch.min(one, two), (two < one).float()


def the_loss_alone(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def ratio_is_a_constant(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps).detach()
    one, two = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    return -torch.min(one, two), two < one


def reinforce_with_weights(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    held = ratio.clamp(1 - clip_low, 1 + clip_high).detach() + 0 * logps
    one, two = ratio * advantages, held * advantages
    kept = torch.where(two < one, two.detach(), one.detach())
    return -(kept + (logps - logps.detach()) * advantages), two < one


def min_of_the_ratios(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    clipped_ratio = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
    loss = -torch.min(ratio, clipped_ratio) * advantages
    return loss, (ratio != clipped_ratio)


def an_if_on_a_tensor(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    ratio = torch.exp(logps - old_logps)
    clipped = False
    if ratio > 1 + clip_high:
        ratio, clipped = 1 + clip_high, True
    return -ratio * advantages, clipped


MUTANTS = {
    "max_of_the_objective": "max_not_min",
    "no_minus": "sign",
    "clips_and_forgets_the_min": "always_clipped",
    "plain_policy_gradient": "never_clipped",
    "flags_every_ratio_outside": "flag_ignores_sign",
    "difference_as_ratio": "ratio_not_exp",
    "divides_the_logps": "ratio_of_logs",
    "old_over_new": "ratio_upside_down",
    "clips_the_product": "product_clipped",
    "one_epsilon": "one_bound",
    "bounds_are_the_epsilons": "bounds_not_around_1",
    "always_twenty_percent": "bounds_fixed",
    "already_averaged": "reduced",
    "flags_as_floats": "wrong_dtype",
    "the_loss_alone": "wrong_count",
    "ratio_is_a_constant": "no_gradient",
    "reinforce_with_weights": "gradient_differs",
    "min_of_the_ratios": "min_before_product",
    "an_if_on_a_tensor": "raises_RuntimeError",
}
