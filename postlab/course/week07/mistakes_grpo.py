"""What goes wrong in the policy gradient, the group's advantages and GRPO's loss, as functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake


def _reinforce(
    *,
    surplus: Callable[[Tensor], Tensor] = lambda r: r - r.mean(),
    answer: Callable[[Tensor, Tensor], Tensor] = lambda lp, m: (lp * m).sum(1),
    reduce: Callable[[Tensor], Tensor] = lambda x: -x.mean(),
) -> Callable[..., Any]:
    """The right loss, but for what is given."""

    def reinforce_loss(logps: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        return reduce(surplus(rewards) * answer(logps, mask))

    return reinforce_loss


REINFORCE_LOSS = (
    Mistake(
        "sign",
        "the minus is missing: a better answer should get a *lower* loss as it becomes more likely",
        _reinforce(reduce=lambda x: x.mean()),
    ),
    Mistake(
        "no_baseline",
        "you weigh with the rewards themselves: take off their mean, the baseline",
        _reinforce(surplus=lambda r: r),
    ),
    Mistake(
        "mask_ignored",
        "what stands in the padding is in your sum: multiply by the mask first",
        _reinforce(answer=lambda lp, m: lp.sum(1)),
    ),
    Mistake(
        "mean_of_tokens",
        "you average an answer's log-probs: the log-prob of an answer is their sum",
        _reinforce(answer=lambda lp, m: (lp * m).sum(1) / m.sum(1)),
        _reinforce(answer=lambda lp, m: (lp * m).mean(1)),
    ),
    Mistake(
        "summed",
        "you add the answers up: the mean over them is wanted",
        _reinforce(reduce=lambda x: -x.sum()),
    ),
    Mistake(
        "probability",
        "you take the answers' probabilities: the gradient of the expected reward is that of their "
        "*log*-probs",
        _reinforce(answer=lambda lp, m: (lp * m).sum(1).exp()),
        _reinforce(answer=lambda lp, m: (lp.exp() * m).sum(1)),
    ),
    Mistake(
        "scaled",
        "you divide by the standard deviation: that comes with the groups, here the difference to "
        "the mean is all",
        _reinforce(surplus=lambda r: (r - r.mean()) / r.std()),
        _reinforce(surplus=lambda r: (r - r.mean()) / (r.std() + 1e-4)),
        _reinforce(surplus=lambda r: (r - r.mean()) / (r.std() + 1e-8)),
    ),
    Mistake(
        "means_multiplied",
        "you average before you multiply: each answer's surplus belongs to its own log-prob",
        lambda logps, rewards, mask: -rewards.mean() * (logps * mask).sum(1).mean(),
    ),
    Mistake(
        "not_averaged",
        "you return a loss an answer: their mean is wanted",
        _reinforce(reduce=lambda x: -x),
    ),
)


def _groups(
    *,
    groups: Callable[[Tensor, int], Tensor] = lambda r, g: r.view(-1, g),
    mean: Callable[[Tensor], Tensor | float] = lambda g: g.mean(1, keepdim=True),
    scale: Callable[[Tensor], Tensor | float] = lambda g: g.std(1, keepdim=True) + 1e-4,
    back: Callable[[Tensor], Tensor] = torch.flatten,
) -> Callable[..., Any]:
    """The right advantages, but for what is given."""

    def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
        g = groups(rewards, group_size)
        return back((g - mean(g)) / scale(g))

    return group_advantages


def _all(statistic: str) -> Callable[[Tensor], Tensor]:
    return lambda g: getattr(g, statistic)()


def _without_itself(g: Tensor) -> Tensor:
    """The mean of an answer's siblings."""
    return (g.sum(1, keepdim=True) - g) / (g.shape[1] - 1)


GROUP_ADVANTAGES = (
    Mistake(
        "whole_batch",
        "you take mean and standard deviation of the whole batch: an easy prompt's answers then "
        "all look good. Each group is its own judge",
        _groups(mean=_all("mean"), scale=lambda g: g.std() + 1e-4),
    ),
    Mistake(
        "batch_mean",
        "you subtract the mean of the whole batch: subtract that of each group",
        _groups(mean=_all("mean")),
        _groups(mean=_all("mean"), scale=lambda g: 1.0),
    ),
    Mistake(
        "batch_std",
        "you divide by the standard deviation of the whole batch: divide by that of each group",
        _groups(scale=lambda g: g.std() + 1e-4),
    ),
    Mistake(
        "interleaved",
        "you read the groups down the columns: the G answers to one prompt stand next to one "
        "another, view(-1, group_size) makes them rows",
        _groups(groups=lambda r, g: r.view(g, -1).T, back=lambda a: a.T.flatten()),
        _groups(groups=lambda r, g: r.view(g, -1)),
        _groups(groups=lambda r, g: r.view(g, -1).T),
    ),
    Mistake(
        "across_groups",
        "you average over the prompts (dim=0): a group is a row, dim=1",
        _groups(mean=lambda g: g.mean(0), scale=lambda g: g.std(0) + 1e-4),
        _groups(
            mean=lambda g: g.mean(0, keepdim=True), scale=lambda g: g.std(1, keepdim=True) + 1e-4
        ),
    ),
    Mistake(
        "not_scaled",
        "you do not divide by the standard deviation: that is Dr. GRPO, which has its reasons, "
        "but is another formula",
        _groups(scale=lambda g: 1.0),
    ),
    Mistake(
        "not_centred",
        "you do not subtract the group's mean: then nothing right is ever worse than its siblings",
        _groups(mean=lambda g: 0.0),
    ),
    Mistake(
        "population_std",
        "you divide the squares by n: here, as in TRL, the standard deviation is torch's own, with "
        "n - 1",
        _groups(scale=lambda g: g.std(1, keepdim=True, unbiased=False) + 1e-4),
    ),
    Mistake(
        "variance",
        "you divide by the variance: its root, the standard deviation, is wanted",
        _groups(scale=lambda g: g.var(1, keepdim=True) + 1e-4),
    ),
    Mistake(
        "epsilon",
        "your epsilon is another one: 1e-4 is added to the standard deviation, outside the root",
        _groups(scale=lambda g: g.std(1, keepdim=True)),
        _groups(scale=lambda g: g.std(1, keepdim=True) + 1e-8),
        _groups(scale=lambda g: g.std(1, keepdim=True) + 1e-6),
        _groups(scale=lambda g: (g.var(1, keepdim=True) + 1e-4).sqrt()),
    ),
    Mistake(
        "leave_one_out",
        "you compare with the other answers only: that is RLOO's baseline; here the answer is in "
        "its own group's mean",
        _groups(mean=_without_itself),
        _groups(mean=_without_itself, scale=lambda g: 1.0),
    ),
    Mistake(
        "turned_round",
        "you subtract the rewards from their mean: a better answer then has the lower advantage",
        _groups(scale=lambda g: -(g.std(1, keepdim=True) + 1e-4)),
    ),
)


def _policy(ratio: Tensor, adv: Tensor, clip: float) -> Tensor:
    return -torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)


def _k3(logps: Tensor, ref: Tensor) -> Tensor:
    return torch.expm1(ref - logps) + logps - ref


def _per_answer(loss: Tensor, mask: Tensor) -> Tensor:
    return ((loss * mask).sum(1) / mask.sum(1)).mean()


def _grpo(
    *,
    policy: Callable[[Tensor, Tensor, float], Tensor] = _policy,
    kl: Callable[[Tensor, Tensor], Tensor] = _k3,
    join: Callable[[Tensor, Tensor], Tensor] = torch.add,
    reduce: Callable[[Tensor, Tensor], Tensor] = _per_answer,
    old: str = "old_logps",
    ref: str = "ref_logps",
) -> Callable[..., Any]:
    """The right loss, but for what is given."""

    def grpo_loss(
        logps: Tensor,
        advantages: Tensor,
        mask: Tensor,
        *,
        old_logps: Tensor,
        ref_logps: Tensor,
        clip: float = 0.2,
        beta: float = 0.0,
    ) -> Tensor:
        given = {"old_logps": old_logps, "ref_logps": ref_logps}
        ratio = (logps - given[old]).exp()
        loss = policy(ratio, advantages[:, None], clip)
        return reduce(join(loss, beta * kl(logps, given[ref])), mask)

    return grpo_loss


GRPO_LOSS = (
    Mistake(
        "all_tokens_alike",
        "you average over all tokens of the batch: GRPO averages each answer first, then the "
        "answers (the other way is DAPO's)",
        _grpo(reduce=lambda x, m: (x * m).sum() / m.sum()),
    ),
    Mistake(
        "padding_counts",
        "you divide by T: by the number of tokens that the mask leaves of each answer",
        _grpo(reduce=lambda x, m: (x * m).mean(1).mean()),
        _grpo(reduce=lambda x, m: x.mean(1).mean()),
    ),
    Mistake(
        "summed",
        "you add up the tokens of an answer: their mean is wanted",
        _grpo(reduce=lambda x, m: (x * m).sum(1).mean()),
        _grpo(reduce=lambda x, m: (x * m).sum()),
    ),
    Mistake(
        "not_reduced",
        "you return the loss of each token or answer: one number is wanted",
        _grpo(reduce=lambda x, m: x),
        _grpo(reduce=lambda x, m: (x * m).sum(1) / m.sum(1)),
    ),
    Mistake(
        "sign",
        "the minus before the min is missing: the objective is maximised, a loss is minimised",
        _grpo(policy=lambda r, a, c: -_policy(r, a, c)),
    ),
    Mistake(
        "kl_subtracted",
        "you subtract the KL: a loss is to *grow* with the distance to the reference",
        _grpo(join=torch.sub),
    ),
    Mistake(
        "kl_k1",
        "your KL is the plain log-ratio (k1): k3 is exp(ref - logps) - 1 - (ref - logps)",
        _grpo(kl=lambda lp, ref: lp - ref),
    ),
    Mistake(
        "kl_k2",
        "your KL is half the square of the log-ratio (k2): k3 is exp(ref - logps) - 1 - "
        "(ref - logps)",
        _grpo(kl=lambda lp, ref: (lp - ref) ** 2 / 2),
        _grpo(kl=lambda lp, ref: (lp - ref) ** 2),
    ),
    Mistake(
        "kl_turned",
        "policy and reference have changed places in your KL: the exp is of ref - logps",
        _grpo(kl=lambda lp, ref: _k3(ref, lp)),
    ),
    Mistake(
        "kl_to_old",
        "your KL is to the policy that sampled: it is to the reference",
        _grpo(ref="old_logps"),
    ),
    Mistake(
        "ratio_to_ref",
        "your ratio is to the reference: it is to the policy that sampled, old_logps",
        _grpo(old="ref_logps"),
    ),
    Mistake(
        "never_clipped",
        "the ratio is not clipped",
        _grpo(policy=lambda r, a, c: -r * a),
    ),
    Mistake(
        "always_clipped",
        "only the clipped product is left: the smaller of the two is wanted",
        _grpo(policy=lambda r, a, c: -r.clamp(1 - c, 1 + c) * a),
    ),
    Mistake(
        "max_not_min",
        "you take the larger of the two products: the objective takes the smaller one",
        _grpo(policy=lambda r, a, c: -torch.maximum(r * a, r.clamp(1 - c, 1 + c) * a)),
    ),
)
