"""Wrong answers to `grpo_loss`, as people write them."""

import torch


def over_all_tokens(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return ((policy + beta * kl) * mask).sum() / mask.sum()


def mean_of_the_rows(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return ((policy + beta * kl) * mask).mean(dim=1).mean()


def sum_of_the_rows(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return ((policy + beta * kl) * mask).sum(dim=1).mean()


def one_loss_an_answer(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return ((policy + beta * kl) * mask).sum(dim=1) / mask.sum(dim=1)


def the_objective(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return (((policy + beta * kl) * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def minus_the_kl(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return (((policy - beta * kl) * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def plain_log_ratio(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    return (((policy + beta * (logps - ref_logps)) * mask).sum(1) / mask.sum(1)).mean()


def squared_log_ratio(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = 0.5 * (logps - ref_logps) ** 2
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def kl_the_other_way(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(logps - ref_logps) - (logps - ref_logps) - 1
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def kl_to_the_sampler(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(old_logps - logps) - (old_logps - logps) - 1
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def reference_in_the_ratio(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - ref_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def no_clip(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    policy = -torch.exp(logps - old_logps) * advantages[:, None]
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def no_min(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio = torch.exp(logps - old_logps).clamp(1 - clip, 1 + clip)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    policy = -ratio * advantages[:, None]
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def max_of_the_products(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.max(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def no_kl(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    return ((policy * mask).sum(1) / mask.sum(1)).mean()


def two_tenths_always(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


def ratio_without_gradient(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, adv = torch.exp(logps.detach() - old_logps), advantages[:, None]
    policy = -torch.min(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    kl = torch.exp(ref_logps - logps) - (ref_logps - logps) - 1
    return (((policy + beta * kl) * mask).sum(1) / mask.sum(1)).mean()


MUTANTS = {
    "over_all_tokens": "all_tokens_alike",
    "mean_of_the_rows": "padding_counts",
    "sum_of_the_rows": "summed",
    "one_loss_an_answer": "not_reduced",
    "the_objective": "sign",
    "minus_the_kl": "kl_subtracted",
    "plain_log_ratio": "kl_k1",
    "squared_log_ratio": "kl_k2",
    "kl_the_other_way": "kl_turned",
    "kl_to_the_sampler": "kl_to_old",
    "reference_in_the_ratio": "ratio_to_ref",
    "no_clip": "never_clipped",
    "no_min": "always_clipped",
    "max_of_the_products": "max_not_min",
    "no_kl": "ignores_ref_logps",
    "two_tenths_always": "ignores_clip",
    "ratio_without_gradient": "gradient_differs",
}
