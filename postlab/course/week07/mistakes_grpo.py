"""Usual mistakes in the policy gradient, the group advantages and GRPO's loss, as edits."""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.course.check._answers import mistakes


def reinforce_loss(logps: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    surplus = rewards - rewards.mean()
    answers = (logps * mask).sum(1)
    return -(surplus * answers).mean()


REINFORCE_LOSS = mistakes("""
sign: the minus is missing: the loss of a good answer should get *lower* as the answer becomes more
likely
- return - -> return

no_baseline: you weight the log-probs with the rewards themselves: subtract their mean, the
baseline, first
- rewards - rewards.mean() -> rewards

other_baseline: your baseline isn't the mean of all rewards
- rewards - rewards.mean() -> rewards - rewards.median()
- rewards - rewards.mean() -> rewards - rewards.max()
- rewards - rewards.mean() -> rewards - rewards.min()

baseline_outside: the baseline is subtracted from the products, or it alone is multiplied: put
rewards - rewards.mean() in parentheses, and multiply that by the log-probs
- -(surplus * answers).mean() -> -(rewards * answers - rewards.mean()).mean()
- -(surplus * answers).mean() -> -(rewards * answers).mean() - rewards.mean()
- -(surplus * answers).mean() -> -(rewards - rewards.mean() * answers).mean()

wrong_axis: each position of the answers meets one of the rewards: first sum over the tokens of each
answer, dim=1, which gives one log-prob for each reward
- .sum(1) -> .sum(0)
- (logps * mask).sum(1) -> logps * mask
- (logps * mask).sum(1) -> logps * mask
+ (surplus * answers).mean() -> (surplus * answers).sum(1).mean()

one_fewer: you divide by one answer fewer than there are, or compare each answer with the mean of
the others, which comes to the same: here the mean is over all answers, and each one's own reward
is part of it
- return - -> return -len(rewards) / (len(rewards) - 1) *

mask_ignored: padding is part of your sum: multiply by the mask first
- (logps * mask) -> logps

mean_of_tokens: you average the log-probs of an answer's tokens: the log-prob of an answer is their
sum
- .sum(1) -> .sum(1) / mask.sum(1)
- .sum(1) -> .mean(1)

over_all_tokens: you divide by the number of tokens in the batch: divide by the number of answers
- (surplus * answers).mean() -> (surplus * answers).sum() / mask.sum()
- (surplus * answers).mean() -> (surplus * answers / mask.sum()).mean()

baseline_of_tokens: your baseline counts long answers more than short ones: take the mean over
answers, not over tokens
- rewards.mean() -> (rewards[:, None] * mask).sum() / mask.sum()
- rewards.mean() -> (rewards[:, None] * mask).mean()

summed: you add up the answers: take their mean
- (surplus * answers).mean() -> (surplus * answers).sum()

probability: you use the probabilities of the answers: the policy gradient needs their *log*-probs
- .sum(1) -> .sum(1).exp()
- logps * mask -> logps.exp() * mask

scaled: you divide by the standard deviation: that comes later, with the groups. Here you only
subtract the mean
- rewards - rewards.mean() -> (rewards - rewards.mean()) / rewards.std()
- rewards - rewards.mean() -> (rewards - rewards.mean()) / (rewards.std() + 1e-4)
- rewards - rewards.mean() -> (rewards - rewards.mean()) / rewards.std(correction=0)

means_multiplied: you average before you multiply: multiply each answer's log-prob by its own
reward minus the mean
- (surplus * answers).mean() -> rewards.mean() * answers.mean()

surplus_lost: you multiply two means, or every surplus with all the answers (an axis of size 1
broadcasts, and a sum without dim=1 adds up the whole batch): the surpluses add up to 0, so nothing
is left
- (surplus * answers).mean() -> surplus.mean() * answers.mean()

not_averaged: you return one loss per answer: return their mean
- (surplus * answers).mean() -> (surplus * answers)
""")


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    groups = rewards.view(-1, group_size)
    mean = groups.mean(1, keepdim=True)
    std = groups.std(1, keepdim=True) + 1e-4
    return ((groups - mean) / std).flatten()


GROUP_ADVANTAGES = mistakes("""
whole_batch: you use the mean and the standard deviation of the whole batch, so all the answers to
an easy prompt look good: compare each answer only with its own group
- mean(1, keepdim=True) -> mean()
+ std(1, keepdim=True) -> std()
- mean(1, keepdim=True) -> mean()
+ std(1, keepdim=True) -> std(correction=0)

batch_mean: you subtract the mean of the whole batch: subtract the mean of each group
- mean(1, keepdim=True) -> mean()
- mean(1, keepdim=True) -> mean()
+ / std -> / 1

batch_std: you divide by the standard deviation of the whole batch: divide by that of each group
- std(1, keepdim=True) -> std()

repeat_not_interleave: you lay out the groups' numbers with `repeat`, a b c a b c: the answers of a
group stand next to each other, a a b b c c, which is `repeat_interleave`
- ((groups - mean) / std).flatten() -> (rewards - mean.flatten().repeat(group_size)) / std.flatten().repeat(group_size)
- ((groups - mean) / std).flatten() -> (rewards - mean.flatten().repeat(group_size)) / std.flatten().repeat_interleave(group_size)
- ((groups - mean) / std).flatten() -> rewards - mean.flatten().repeat(group_size)

interleaved: you read the groups down the columns: the G answers to a prompt stand next to each
other, so view(-1, group_size) turns each group into a row
- rewards.view(-1, group_size) -> rewards.view(group_size, -1).T
+ / std).flatten() -> / std).T.flatten()
- rewards.view(-1, group_size) -> rewards.view(group_size, -1)
- rewards.view(-1, group_size) -> rewards.view(group_size, -1).T
- ((groups - mean) / std).flatten() -> ((groups - mean) / std).T.flatten()

across_groups: you average over the prompts (dim=0): each group is a row, so use dim=1
- mean(1, keepdim=True) -> mean(0)
+ std(1, keepdim=True) -> std(0)
- mean(1, keepdim=True) -> mean(0)
- std(1, keepdim=True) -> std(0)

windows: your groups overlap: the first reward of group i is rewards[i * group_size]
- rewards.view(-1, group_size) -> torch.stack([rewards[i:i + group_size] for i in range(len(rewards) // group_size)])

precedence: only the mean is divided, because / binds more strongly than -: put rewards minus mean
in parentheses
- (groups - mean) / std -> groups - mean / std

not_scaled: you don't divide by the standard deviation: that's Dr. GRPO, which has good reasons for
it, but it's another formula
- / std -> / 1

not_centred: you don't subtract the mean of the group: without it, no right answer is ever worse
than another answer in its group
- groups - mean -> groups

median: you subtract the median of the group: subtract its mean
- mean(1, keepdim=True) -> median(1, keepdim=True).values

best_of_group: you subtract the best or the worst reward of the group: subtract its mean
- mean(1, keepdim=True) -> amax(1, keepdim=True)
- mean(1, keepdim=True) -> amin(1, keepdim=True)

range: you divide by the range of the group, or scale its rewards to [0, 1]: divide by the standard
deviation
- std(1, keepdim=True) + 0.0001 -> amax(1, keepdim=True) - groups.amin(1, keepdim=True)
- std(1, keepdim=True) -> amax(1, keepdim=True) - groups.amin(1, keepdim=True)
- std(1, keepdim=True) + 0.0001 -> amax(1, keepdim=True) - groups.amin(1, keepdim=True)
+ mean(1, keepdim=True) -> amin(1, keepdim=True)

norm: you divide by the length of the vector of distances, which is sqrt(n - 1) times too large:
divide by the standard deviation
- groups.std(1, keepdim=True) -> (groups - mean).norm(dim=1, keepdim=True)
- groups.std(1, keepdim=True) + 0.0001 -> (groups - mean).norm(dim=1, keepdim=True)

mean_deviation: you divide by the mean absolute deviation: divide by the standard deviation
- groups.std(1, keepdim=True) -> (groups - mean).abs().mean(1, keepdim=True)

population_std: you divide the squares by n: here, as in TRL, the standard deviation is torch's
own, with n - 1
- std(1, keepdim=True) -> std(1, keepdim=True, correction=0)
- std(1, keepdim=True) + 0.0001 -> std(1, keepdim=True, correction=0)
- std(1, keepdim=True) + 0.0001 -> std(1, keepdim=True, correction=0) + 1e-8
- groups.std(1, keepdim=True) + 0.0001 -> (groups.var(1, keepdim=True, correction=0) + 0.0001).sqrt()
- groups.std(1, keepdim=True) + 0.0001 -> (groups.var(1, keepdim=True, correction=0) + 0.00001).sqrt()

variance: you divide by the variance: divide by its square root, the standard deviation
- std(1, keepdim=True) -> var(1, keepdim=True)

multiplied: you multiply by the standard deviation: divide by it
- / std -> * std

epsilon: your epsilon is missing or has another value: add 1e-4 to the standard deviation, outside
the square root
- + 0.0001 -> + 0
- + 0.0001 -> + 1e-6
- + 0.0001 -> + 1e-5
- + 0.0001 -> + 1e-3
- + 0.0001 -> + 1e4
- groups.std(1, keepdim=True) + 0.0001 -> (groups.var(1, keepdim=True) + 0.0001).sqrt()

epsilon_elsewhere: you add epsilon to the quotient, or to the distance from the mean: add it to the
standard deviation, so that nothing is divided by 0
- + 0.0001 -> + 0
+ ((groups - mean) / std) -> ((groups - mean) / std + 0.0001)
- + 0.0001 -> + 0
+ (groups - mean) -> (groups - mean + 0.0001)
- (groups - mean) -> (groups - mean + 0.0001)

leave_one_out: you compare each answer with the others only: that's the baseline of RLOO. Here an
answer is part of its own group's mean
- groups.mean(1, keepdim=True) -> (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
- groups.mean(1, keepdim=True) -> (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
+ / std -> / 1

turned_round: you subtract the rewards from their mean, so a better answer gets a lower advantage:
subtract the mean from the rewards
- groups - mean -> mean - groups

softmaxed: your advantages are a softmax or ranks of the group's rewards: they should be distances
from the mean, in standard deviations
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
all_tokens_alike: you average over all tokens of the batch, as DAPO does: GRPO first averages over
the tokens of each answer, and then over the answers
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> (loss * mask).sum() / mask.sum()

padding_counts: padding counts in the mean of an answer: multiply by the mask, and divide by the
number of tokens it keeps, not by T
- (loss * mask).sum(1) / mask.sum(1) -> (loss * mask).mean(1)
- (loss * mask).sum(1) / mask.sum(1) -> loss.mean(1)
- (loss * mask).sum(1) / mask.sum(1) -> loss.sum(1) / mask.sum(1)

summed: you add up the tokens of an answer, or the answers: take the mean of the means
- .sum(1) / mask.sum(1) -> .sum(1)
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> (loss * mask).sum()
- mask.sum(1)).mean() -> mask.sum(1)).sum()

wrong_axis: you average over the answers at each position (dim=0): each answer is a row, so use
dim=1
- (loss * mask).sum(1) / mask.sum(1) -> (loss * mask).sum(0) / mask.sum(0)

divided_twice: you divide by the number of answers and also by all the tokens of the batch: divide
the sum of each answer by its own number of tokens, mask.sum(dim=1)
- (loss * mask).sum(1) / mask.sum(1) -> (loss * mask).sum(1) / mask.sum()

mask_too_early: you multiply the log-probs by the mask, so padding still has a loss, because its
ratio is 1: multiply the loss by the mask instead
- ratio = -> logps, old_logps, ref_logps = (x * mask for x in (logps, old_logps, ref_logps)); ratio =
+ (loss * mask).sum(1) -> loss.sum(1)

not_reduced: you return a loss for each token or answer: return one number
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> loss
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> loss * mask
- ((loss * mask).sum(1) / mask.sum(1)).mean() -> (loss * mask).sum(1) / mask.sum(1)

sign: the minus in front of the min is missing: the objective is maximised, and a loss is minimised
- beta * kl - policy -> beta * kl + policy

no_kl: the KL term is missing: add beta times k3 to each token's loss
- beta * kl - policy -> -policy

kl_times_ratio: you multiply k3 by the ratio, which is TRL's default: this loss is the paper's,
without that factor
- beta * kl -> beta * ratio * kl

kl_in_advantage: you subtract the KL from the advantages, as PPO does from its rewards, so the ratio
multiplies it: add beta times k3 to the loss of each token
- policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
    away = ref_logps - logps
    kl = torch.exp(away) - 1 - away -> away = ref_logps - logps
    adv = adv - beta * (torch.exp(away) - 1 - away)
    policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
+ beta * kl - policy -> -policy

kl_averaged_apart: the KL is averaged in another way than the rest: add it to the loss of each token
first, and then take the mean of each answer
- beta * kl - policy -> -policy
+ mask.sum(1)).mean() -> mask.sum(1)).mean() + beta * (kl * mask).sum() / mask.sum()
- beta * kl - policy -> -policy
+ mask.sum(1)).mean() -> mask.sum(1)).mean() + beta * kl.mean()
- beta * kl - policy -> -policy
+ mask.sum(1)).mean() -> mask.sum(1) + beta * (kl * mask).sum(1)).mean()
- beta * kl - policy -> -policy
+ mask.sum(1)).mean() -> mask.sum(1)).mean() + beta * (kl * mask).sum()

kl_subtracted: you subtract the KL: the loss should *grow* with the distance from the reference
- beta * kl - policy -> -beta * kl - policy

all_negated: the sign of your whole loss is wrong: the objective is maximised, so the loss is its
negative
- beta * kl - policy -> policy - beta * kl

kl_k1: your KL is the plain log-ratio (k1): k3 is exp(ref - logps) - 1 - (ref - logps)
- torch.exp(away) - 1 - away -> -away
- torch.exp(away) - 1 - away -> away
- torch.exp(away) - 1 - away -> away.abs()

kl_k2: your KL is half the squared log-ratio (k2): k3 is exp(ref - logps) - 1 - (ref - logps)
- torch.exp(away) - 1 - away -> away ** 2 / 2
- torch.exp(away) - 1 - away -> away ** 2

kl_one_lost: one term of k3 is missing or has the wrong sign: it is exp(ref - logps) - 1 - (ref -
logps)
- torch.exp(away) - 1 - away -> torch.exp(away) - away
- torch.exp(away) - 1 - away -> torch.exp(away) - 1
- torch.exp(away) - 1 - away -> torch.exp(away) - 1 + away

kl_weighted: you multiply the log-ratio by probabilities, as in a sum over the vocabulary: k3 uses
only the sampled token
- torch.exp(away) - 1 - away -> logps.exp() * -away
- torch.exp(away) - 1 - away -> ref_logps.exp() * away

kl_turned: policy and reference are swapped in your KL: take the exp of ref - logps
- away = ref_logps - logps -> away = logps - ref_logps

kl_to_old: your KL compares with the policy that sampled: compare with the reference
- away = ref_logps - logps -> away = old_logps - logps

beta_forgotten: you add the KL without multiplying it by beta
- beta * kl -> kl

ratio_to_ref: your ratio compares with the reference: compare with the policy that sampled,
old_logps
- logps - old_logps -> logps - ref_logps

ratio_not_exp: your ratio is a difference, or a quotient of log-probs: it is exp(logps - old_logps)
- torch.exp(logps - old_logps) -> logps - old_logps
- torch.exp(logps - old_logps) -> logps / old_logps
- torch.exp(logps - old_logps) -> torch.exp(logps) - torch.exp(old_logps)

ratio_upside_down: your ratio is old over new: it is exp(logps - old_logps)
- logps - old_logps -> old_logps - logps

ratio_of_answer: you use one ratio for the whole answer, as GSPO does: GRPO has one for each token
- torch.exp(logps - old_logps) -> torch.exp(((logps - old_logps) * mask).sum(1, True) / mask.sum(1, True)).expand_as(logps)
- torch.exp(logps - old_logps) -> torch.exp(((logps - old_logps) * mask).sum(1, True)).expand_as(logps)

log_prob_weighted: you multiply the log-prob by the clipped ratio, as CISPO does, or by the
advantage alone, as REINFORCE does: here the objective is the ratio times the advantage
- policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> policy = ratio.clamp(1 - clip, 1 + clip) * adv * logps
- policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> policy = ratio.clamp(max=1 + clip) * adv * logps
- policy = torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> policy = adv * logps

never_clipped: you don't clip the ratio
- torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> ratio * adv

one_sided: you clip the ratio on one side only: it has a lower and an upper bound
- clamp(1 - clip, 1 + clip) -> clamp(max=1 + clip)
- clamp(1 - clip, 1 + clip) -> clamp(min=1 - clip)

always_clipped: you use only the clipped product: take the smaller of the two products
- torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> ratio.clamp(1 - clip, 1 + clip) * adv

advantage_forgotten: you multiply only one of the two ratios by the advantage: both need it
- ratio.clamp(1 - clip, 1 + clip) * adv -> ratio.clamp(1 - clip, 1 + clip)
- minimum(ratio * adv -> minimum(ratio

log_ratio_clipped: you clip the log-ratio: take the exp first, and clip the ratio
- ratio.clamp(1 - clip, 1 + clip) -> ratio.log().clamp(-clip, clip).exp()

min_before_product: you take the min of the two ratios and then multiply: with a negative advantage
this gives the larger product
- torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv) -> torch.minimum(ratio, ratio.clamp(1 - clip, 1 + clip)) * adv

bounds_not_around_1: your bounds aren't around 1: they are 1 - clip and 1 + clip
- clamp(1 - clip, 1 + clip) -> clamp(-clip, clip)

product_clipped: you clip the product: clip only the ratio, and then multiply
- ratio.clamp(1 - clip, 1 + clip) * adv -> (ratio * adv).clamp(1 - clip, 1 + clip)

max_not_min: you take the larger of the two products, which the smaller of their negatives is too:
the objective takes the smaller one, before the minus
- torch.minimum -> torch.maximum

advantages_normalised: you normalise the advantages again: use them as they come out of their
groups
- adv = advantages[:, None] -> adv = ((advantages - advantages.mean()) / (advantages.std() + 1e-4))[:, None]
- adv = advantages[:, None] -> adv = ((advantages - advantages.mean()) / (advantages.std() + 1e-8))[:, None]
""")
