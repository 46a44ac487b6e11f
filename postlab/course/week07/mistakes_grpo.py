"""What goes wrong in the policy gradient, the group's advantages and GRPO's loss: edits."""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.course.check._answers import mistakes


def reinforce_loss(logps: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    surplus = rewards - rewards.mean()
    answers = (logps * mask).sum(1)
    return -(surplus * answers).mean()


REINFORCE_LOSS = mistakes("""
sign: the minus is missing: a better answer should get a *lower* loss as it becomes more likely
- return - -> return

no_baseline: you weigh with the rewards themselves: take off their mean, the baseline
- rewards - rewards.mean() -> rewards

other_baseline: your baseline is another one than the mean of all rewards
- rewards - rewards.mean() -> rewards - rewards.median()
- rewards - rewards.mean() -> rewards - rewards.max()
- rewards - rewards.mean() -> rewards - rewards.min()

one_fewer: you divide by one answer fewer than there are, or compare each answer with the mean of the
others, which comes to the same: here its own reward is in the mean, and the mean is over all
- return - -> return -len(rewards) / (len(rewards) - 1) *

mask_ignored: what stands in the padding is in your sum: multiply by the mask first
- (logps * mask) -> logps

mean_of_tokens: you average an answer's log-probs: the log-prob of an answer is their sum
- .sum(1) -> .sum(1) / mask.sum(1)
- .sum(1) -> .mean(1)

over_all_tokens: you divide by the number of tokens in the batch: by the number of answers
- (surplus * answers).mean() -> (surplus * answers).sum() / mask.sum()

baseline_of_tokens: your baseline counts long answers more often: take the mean over answers, not
over tokens
- rewards.mean() -> (rewards[:, None] * mask).sum() / mask.sum()

summed: you add the answers up: the mean over them is wanted
- (surplus * answers).mean() -> (surplus * answers).sum()

probability: you take the answers' probabilities: the gradient of the expected reward is that of
their *log*-probs
- .sum(1) -> .sum(1).exp()
- logps * mask -> logps.exp() * mask

scaled: you divide by the standard deviation: that comes with the groups, here the difference to
the mean is all
- rewards - rewards.mean() -> (rewards - rewards.mean()) / rewards.std()
- rewards - rewards.mean() -> (rewards - rewards.mean()) / (rewards.std() + 1e-4)
- rewards - rewards.mean() -> (rewards - rewards.mean()) / rewards.std(correction=0)

means_multiplied: you average before you multiply: each answer's surplus belongs to its own log-prob
- (surplus * answers).mean() -> rewards.mean() * answers.mean()

surplus_lost: you multiply means, or every surplus with every answer (an axis of size 1 broadcasts):
the surpluses add up to 0
- (surplus * answers).mean() -> surplus.mean() * answers.mean()

not_averaged: you return a loss an answer: their mean is wanted
- (surplus * answers).mean() -> (surplus * answers)
""")


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    groups = rewards.view(-1, group_size)
    mean = groups.mean(1, keepdim=True)
    std = groups.std(1, keepdim=True) + 1e-4
    return ((groups - mean) / std).flatten()


GROUP_ADVANTAGES = mistakes("""
whole_batch: you take mean and standard deviation of the whole batch: an easy prompt's answers then
all look good. Each group is its own judge
- mean(1, keepdim=True) -> mean()
+ std(1, keepdim=True) -> std()

batch_mean: you subtract the mean of the whole batch: subtract that of each group
- mean(1, keepdim=True) -> mean()
- mean(1, keepdim=True) -> mean()
+ / std -> / 1

batch_std: you divide by the standard deviation of the whole batch: divide by that of each group
- std(1, keepdim=True) -> std()

repeat_not_interleave: the groups' numbers are laid out with `repeat`, a b c a b c: the answers of a
group stand together, a a b b c c, which is `repeat_interleave`
- ((groups - mean) / std).flatten() -> (rewards - mean.flatten().repeat(group_size)) / std.flatten().repeat(group_size)
- ((groups - mean) / std).flatten() -> (rewards - mean.flatten().repeat(group_size)) / std.flatten().repeat_interleave(group_size)
- ((groups - mean) / std).flatten() -> rewards - mean.flatten().repeat(group_size)

interleaved: you read the groups down the columns: the G answers to one prompt stand next to one
another, view(-1, group_size) makes them rows
- rewards.view(-1, group_size) -> rewards.view(group_size, -1).T
+ / std).flatten() -> / std).T.flatten()
- rewards.view(-1, group_size) -> rewards.view(group_size, -1)
- rewards.view(-1, group_size) -> rewards.view(group_size, -1).T
- ((groups - mean) / std).flatten() -> ((groups - mean) / std).T.flatten()

across_groups: you average over the prompts (dim=0): a group is a row, dim=1
- mean(1, keepdim=True) -> mean(0)
+ std(1, keepdim=True) -> std(0)
- mean(1, keepdim=True) -> mean(0)
- std(1, keepdim=True) -> std(0)

not_scaled: you do not divide by the standard deviation: that is Dr. GRPO, which has its reasons,
but is another formula
- / std -> / 1

not_centred: you do not subtract the group's mean: then nothing right is ever worse than its
siblings
- groups - mean -> groups

median: you subtract the group's median: subtract its mean
- mean(1, keepdim=True) -> median(1, keepdim=True).values

best_of_group: you subtract the group's best or worst reward: subtract its mean
- mean(1, keepdim=True) -> amax(1, keepdim=True)
- mean(1, keepdim=True) -> amin(1, keepdim=True)

range: you divide by the group's range, or scale it to [0, 1]: divide by its standard deviation
- std(1, keepdim=True) + 0.0001 -> amax(1, keepdim=True) - groups.amin(1, keepdim=True)
- std(1, keepdim=True) -> amax(1, keepdim=True) - groups.amin(1, keepdim=True)
- std(1, keepdim=True) + 0.0001 -> amax(1, keepdim=True) - groups.amin(1, keepdim=True)
+ mean(1, keepdim=True) -> amin(1, keepdim=True)

mean_deviation: you divide by the mean absolute deviation: divide by the standard deviation
- groups.std(1, keepdim=True) -> (groups - mean).abs().mean(1, keepdim=True)

population_std: you divide the squares by n: here, as in TRL, the standard deviation is torch's own,
with n - 1
- std(1, keepdim=True) -> std(1, keepdim=True, correction=0)
- std(1, keepdim=True) + 0.0001 -> std(1, keepdim=True, correction=0)
- std(1, keepdim=True) + 0.0001 -> std(1, keepdim=True, correction=0) + 1e-8

variance: you divide by the variance: its root, the standard deviation, is wanted
- std(1, keepdim=True) -> var(1, keepdim=True)

multiplied: you multiply by the standard deviation: divide by it
- / std -> * std

epsilon: your epsilon is another one, or none: 1e-4 is added to the standard deviation, outside the
root
- + 0.0001 -> + 0
- + 0.0001 -> + 1e-6
- + 0.0001 -> + 1e-5
- + 0.0001 -> + 1e-3
- groups.std(1, keepdim=True) + 0.0001 -> (groups.var(1, keepdim=True) + 0.0001).sqrt()

leave_one_out: you compare with the other answers only: that is RLOO's baseline; here the answer is
in its own group's mean
- groups.mean(1, keepdim=True) -> (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
- groups.mean(1, keepdim=True) -> (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
+ / std -> / 1

turned_round: you subtract the rewards from their mean: a better answer then has the lower advantage
- groups - mean -> mean - groups

softmaxed: your advantages are a softmax or ranks of the group's rewards: they are the distance to
its mean, in standard deviations
- ((groups - mean) / std) -> groups.softmax(1)
- ((groups - mean) / std) -> groups.argsort(1).argsort(1).float()
""")


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
    ratio = torch.exp(logps - old_logps)
    adv = advantages[:, None]
    policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    away = ref_logps - logps
    kl = torch.exp(away) - 1 - away
    loss = beta * kl - policy
    return ((loss * mask).sum(1) / mask.sum(1)).mean()


GRPO_LOSS = mistakes("""
all_tokens_alike: you average over all tokens of the batch: GRPO averages each answer first, then
the answers (the other way is DAPO's)
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> (loss * mask).sum() / mask.sum()

padding_counts: padding counts in the mean of an answer: multiply by the mask, and divide by the
number of tokens that it leaves, not by T
- (loss * mask).sum(1) / mask.sum(1) -> (loss * mask).mean(1)
- (loss * mask).sum(1) / mask.sum(1) -> loss.mean(1)

summed: you add up the tokens of an answer, or the answers: the mean of the means is wanted
- .sum(1) / mask.sum(1) -> .sum(1)
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> (loss * mask).sum()
- mask.sum(1)).mean() -> mask.sum(1)).sum()

mask_too_early: you multiply the log-probs by the mask, and padding still has a loss: its ratio is
1. Multiply the loss
- ratio = -> logps, old_logps, ref_logps = (x * mask for x in (logps, old_logps, ref_logps)); ratio =
+ (loss * mask).sum(1) -> loss.sum(1)

not_reduced: you return the loss of each token or answer: one number is wanted
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> loss
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> loss * mask
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> (loss * mask).sum(1) / mask.sum(1)

sign: the minus before the min is missing: the objective is maximised, a loss is minimised
- beta * kl - policy -> beta * kl + policy

kl_subtracted: you subtract the KL: a loss is to *grow* with the distance to the reference
- beta * kl - policy -> -beta * kl - policy

all_negated: your loss has the wrong sign as a whole: the objective is maximised, a loss is its
negative
- beta * kl - policy -> policy - beta * kl

kl_k1: your KL is the plain log-ratio (k1): k3 is exp(ref - logps) - 1 - (ref - logps)
- torch.exp(away) - 1 - away -> -away
- torch.exp(away) - 1 - away -> away
- torch.exp(away) - 1 - away -> away.abs()

kl_k2: your KL is half the square of the log-ratio (k2): k3 is exp(ref - logps) - 1 - (ref - logps)
- torch.exp(away) - 1 - away -> away ** 2 / 2
- torch.exp(away) - 1 - away -> away ** 2

kl_one_lost: a term of k3 is missing or has the wrong sign: exp(ref - logps) - 1 - (ref - logps)
- torch.exp(away) - 1 - away -> torch.exp(away) - away
- torch.exp(away) - 1 - away -> torch.exp(away) - 1
- torch.exp(away) - 1 - away -> torch.exp(away) - 1 + away

kl_weighted: your KL has the policy's probabilities in it, as a sum over the vocabulary would: k3
takes the sampled token alone
- torch.exp(away) - 1 - away -> logps.exp() * -away
- torch.exp(away) - 1 - away -> ref_logps.exp() * away

kl_turned: policy and reference have changed places in your KL: the exp is of ref - logps
- away = ref_logps - logps -> away = logps - ref_logps

kl_to_old: your KL is to the policy that sampled: it is to the reference
- away = ref_logps - logps -> away = old_logps - logps

beta_forgotten: the KL is added without beta
- beta * kl -> kl

ratio_to_ref: your ratio is to the reference: it is to the policy that sampled, old_logps
- logps - old_logps -> logps - ref_logps

ratio_not_exp: your ratio is a difference or a quotient of log-probs: it is exp(logps - old_logps)
- torch.exp(logps - old_logps) -> logps - old_logps
- torch.exp(logps - old_logps) -> logps / old_logps

ratio_upside_down: the ratio is old to new: it is exp(logps - old_logps)
- logps - old_logps -> old_logps - logps

ratio_of_answer: you take one ratio for the whole answer, as GSPO does: GRPO has one for each token
- torch.exp(logps - old_logps) -> torch.exp(((logps - old_logps) * mask).sum(1, True) / mask.sum(1, True)).expand_as(logps)
- torch.exp(logps - old_logps) -> torch.exp(((logps - old_logps) * mask).sum(1, True)).expand_as(logps)

log_prob_weighted: you weigh the log-prob with the clipped ratio, as CISPO does, or with the
advantage alone, as REINFORCE does: here the product of ratio and advantage is the objective
- policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> policy = ratio.clamp(1 - clip, 1 + clip) * adv * logps
- policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> policy = ratio.clamp(max=1 + clip) * adv * logps
- policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> policy = adv * logps

never_clipped: the ratio is not clipped
- torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> ratio * adv

one_sided: the ratio is clipped on one side only: it has a lower and an upper bound
- clamp(1 - clip, 1 + clip) -> clamp(max=1 + clip)
- clamp(1 - clip, 1 + clip) -> clamp(min=1 - clip)

always_clipped: only the clipped product is left: the smaller of the two is wanted
- torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> ratio.clamp(1 - clip, 1 + clip) * adv

min_before_product: you take the min of the two ratios and then multiply: for a negative advantage
that is the larger product
- torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> torch.minimum(ratio, ratio.clamp(1 - clip, 1 + clip)) * adv

bounds_not_around_1: the bounds are not around 1: they are 1 - clip and 1 + clip
- clamp(1 - clip, 1 + clip) -> clamp(-clip, clip)

product_clipped: you clip the product: the ratio alone is clipped, then multiplied
- ratio.clamp(1 - clip, 1 + clip) * adv -> (ratio * adv).clamp(1 - clip, 1 + clip)

max_not_min: you take the larger of the two products: the objective takes the smaller one
- torch.minimum -> torch.maximum

advantages_normalised: you normalise the advantages once more: they come out of their groups as they
are to be used
- adv = advantages[:, None] -> adv = ((advantages - advantages.mean()) / (advantages.std() + 1e-4))[:, None]
- adv = advantages[:, None] -> adv = ((advantages - advantages.mean()) / (advantages.std() + 1e-8))[:, None]
""")
