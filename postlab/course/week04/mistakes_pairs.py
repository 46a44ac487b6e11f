"""Common mistakes in Bradley-Terry and DPO losses: edits of the right answers below."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._answers import mistakes


def bradley_terry_loss(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Tensor:
    margin = chosen_rewards - rejected_rewards
    loss = -F.logsigmoid(margin)
    return loss


BRADLEY_TERRY_LOSS = mistakes("""
swapped: chosen and rejected are swapped: this loss falls when the rejected reply scores higher
- chosen_rewards - rejected_rewards -> rejected_rewards - chosen_rewards

sign: the minus in front of the logarithm is missing: the loss should fall as the model improves
- loss = - -> loss =

probability: you return the probability that chosen wins: its negative logarithm is the loss
- -F.logsigmoid -> torch.sigmoid

probability_lost: the logarithm is missing: you return minus the probability, or 1 minus it
- F.logsigmoid -> torch.sigmoid
- -F.logsigmoid -> 1 - torch.sigmoid

difference: you return a difference of rewards: sigmoid and logarithm are missing
- F.logsigmoid(margin) -> margin
- -F.logsigmoid(margin) -> margin

log_of_difference: you take the logarithm of the difference: the sigmoid between them is missing
- F.logsigmoid(margin) -> margin.log()

exponential: you return e^-margin: Bradley-Terry's loss is log(1 + e^-margin)
- -F.logsigmoid(margin) -> torch.exp(-margin)

log_base: you take the logarithm to base 2: the loss is in nats, so use the natural logarithm
- return loss -> return loss / math.log(2)

each_alone: each reward goes through its own sigmoid: only their difference means anything
- -F.logsigmoid(margin) -> F.logsigmoid(rejected_rewards) - F.logsigmoid(chosen_rewards)
- -F.logsigmoid(margin) -> -F.logsigmoid(chosen_rewards) - F.logsigmoid(-rejected_rewards)

ratio_of_rewards: you divide the rewards as they are: strengths are e^reward, and rewards may be
negative
- -F.logsigmoid(margin) -> -(chosen_rewards / (chosen_rewards + rejected_rewards)).log()

hinge: this is a hinge loss: it stops caring at a margin of 1, Bradley-Terry never does
- -F.logsigmoid(margin) -> F.relu(1 - margin)

squared: you square how far the margin or the probability is from 1: the loss is the negative
logarithm of the probability
- -F.logsigmoid(margin) -> (1 - margin) ** 2
- -F.logsigmoid(margin) -> (1 - torch.sigmoid(margin)) ** 2

absolute: the sign of the difference is lost: a pair in the wrong order has to cost more than one
in the right order
- margin = chosen_rewards - rejected_rewards -> margin = (chosen_rewards - rejected_rewards).abs()
- margin = chosen_rewards - rejected_rewards -> margin = -(chosen_rewards - rejected_rewards).abs()

negative_margin_cut: a negative difference counts as 0: all pairs in the wrong order cost the same
- margin = chosen_rewards - rejected_rewards -> margin = F.relu(chosen_rewards - rejected_rewards)

added: you add the two rewards: subtract the rejected reply's
- chosen_rewards - rejected_rewards -> chosen_rewards + rejected_rewards

all_pairs: you compare every chosen reply with every rejected one: only the two in the same place
are a pair
- return loss -> return -F.logsigmoid(chosen_rewards[:, None] - rejected_rewards)
- return loss -> return -F.logsigmoid(chosen_rewards - rejected_rewards[:, None])
- return loss -> return -F.logsigmoid(chosen_rewards[:, None] - rejected_rewards).flatten()
- return loss -> return -F.logsigmoid(chosen_rewards[:, None] - rejected_rewards).mean()
- return loss -> return -F.logsigmoid(chosen_rewards[:, None] - rejected_rewards).mean(1)
- return loss -> return -F.logsigmoid(chosen_rewards[:, None] - rejected_rewards).mean(0)
- return loss -> return -F.logsigmoid(chosen_rewards[:, None] - rejected_rewards).sum(1)

mean_of_the_batch: you compare with the mean of the batch: each reply is compared with the other of
its own pair
- chosen_rewards - rejected_rewards -> chosen_rewards - rejected_rewards.mean()
- chosen_rewards - rejected_rewards -> chosen_rewards.mean() - rejected_rewards

reduced: you return one number: return one value per pair, the mean comes later
- return loss -> return loss.mean()
- return loss -> return loss.sum()
""")


def dpo_loss(
    *,
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float = 0.1,
) -> Tensor:
    chosen = policy_chosen - ref_chosen
    rejected = policy_rejected - ref_rejected
    loss = -F.logsigmoid(beta * (chosen - rejected))
    return loss


DPO_LOSS = mistakes("""
swapped: chosen and rejected, or policy and reference, are swapped: the margin is (policy - ref) of
chosen minus (policy - ref) of rejected
- (chosen - rejected) -> (rejected - chosen)

ref_forgotten: the reference is missing: subtract its log-prob from each of the policy's
- policy_chosen - ref_chosen -> policy_chosen
+ policy_rejected - ref_rejected -> policy_rejected

ratio_of_logs: you divide log-probs: they are logarithms already, so the log of the ratio is their
difference
- policy_chosen - ref_chosen -> policy_chosen / ref_chosen
+ policy_rejected - ref_rejected -> policy_rejected / ref_rejected
- policy_chosen - ref_chosen -> (policy_chosen / ref_chosen).log()
+ policy_rejected - ref_rejected -> (policy_rejected / ref_rejected).log()

ratio_not_log: you use the ratio of the probabilities, exp of the difference: use its logarithm,
which is the difference itself
- policy_chosen - ref_chosen -> torch.exp(policy_chosen - ref_chosen)
+ policy_rejected - ref_rejected -> torch.exp(policy_rejected - ref_rejected)

ref_added: you add the reference's margin: subtract it from the policy's
- policy_chosen - ref_chosen -> policy_chosen + ref_chosen
+ policy_rejected - ref_rejected -> policy_rejected + ref_rejected

policy_swapped: chosen and rejected are swapped for the policy but not for the reference
- policy_chosen - ref_chosen -> policy_rejected - ref_chosen
+ policy_rejected - ref_rejected -> policy_chosen - ref_rejected

ref_of_chosen_only: the reference is subtracted from one of the two only: each reply has its own
- policy_rejected - ref_rejected -> policy_rejected
- policy_chosen - ref_chosen -> policy_chosen

rejected_added: you add the rejected reply's log-ratio: subtract it
- (chosen - rejected) -> (chosen + rejected)

chosen_only: the rejected reply is missing
- (chosen - rejected) -> chosen

beta_forgotten: beta is not used: the margin is multiplied by it inside the sigmoid
- beta * (chosen - rejected) -> chosen - rejected

brackets: beta multiplies only a part of the margin, or a minus only a part of a difference:
brackets are missing in beta * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))
- beta * (chosen - rejected) -> beta * policy_chosen - ref_chosen - rejected
- beta * (chosen - rejected) -> beta * policy_chosen - ref_chosen - policy_rejected - ref_rejected
- beta * (chosen - rejected) -> beta * policy_chosen - ref_chosen - beta * policy_rejected - ref_rejected
- beta * (chosen - rejected) -> beta * chosen - policy_rejected - ref_rejected
- beta * (chosen - rejected) -> beta * (policy_chosen - policy_rejected) - ref_chosen - ref_rejected
- beta * (chosen - rejected) -> beta * (chosen - policy_rejected - ref_rejected)
- beta * (chosen - rejected) -> chosen - beta * rejected
- beta * (chosen - rejected) -> (policy_chosen - policy_rejected) - beta * (ref_chosen - ref_rejected)
- beta * (chosen - rejected) -> beta * policy_chosen - ref_chosen - beta * policy_rejected + ref_rejected
- beta * (chosen - rejected) -> beta * chosen - rejected
- beta * (chosen - rejected) -> beta * (policy_chosen - policy_rejected) - (ref_chosen - ref_rejected)

another_loss: this is a relative of DPO (hinge or IPO): DPO's loss is -log sigmoid of the margin
- -F.logsigmoid(beta * (chosen - rejected)) -> F.relu(1 - beta * (chosen - rejected))
- -F.logsigmoid(beta * (chosen - rejected)) -> (chosen - rejected - 1 / (2 * beta)) ** 2

ref_outside: you subtract the reference's loss from the policy's: subtract the margins first, and
put their difference through one sigmoid
- return loss -> return -F.logsigmoid(beta * (policy_chosen - policy_rejected)) + F.logsigmoid(beta * (ref_chosen - ref_rejected))

beta_outside: beta is outside the logarithm: it multiplies the margin, inside the sigmoid
- -F.logsigmoid(beta * (chosen - rejected)) -> -beta * F.logsigmoid(chosen - rejected)
- -F.logsigmoid(beta * (chosen - rejected)) -> -F.logsigmoid(chosen - rejected) / beta
- return loss -> return loss / beta
- return loss -> return beta * loss

beta_twice: you multiply by beta twice
- beta * (chosen -> beta ** 2 * (chosen

beta_divides: you divide by beta: the margin is multiplied by it
- beta * (chosen - rejected) -> (chosen - rejected) / beta

sign: the minus in front of the logarithm is missing
- loss = - -> loss =

probability: the logarithm is missing: you return the sigmoid itself
- -F.logsigmoid -> torch.sigmoid
- F.logsigmoid -> torch.sigmoid
- -F.logsigmoid -> 1 - torch.sigmoid

margin: you return the margin times beta: the loss is -log sigmoid of that
- -F.logsigmoid(beta * (chosen - rejected)) -> beta * (chosen - rejected)
- F.logsigmoid(beta * (chosen - rejected)) -> beta * (chosen - rejected)

each_alone: chosen and rejected each go through their own sigmoid: put their difference through one
- return loss -> return F.logsigmoid(beta * rejected) - F.logsigmoid(beta * chosen)
- return loss -> return F.logsigmoid(-beta * rejected) - F.logsigmoid(beta * chosen)
- return loss -> return -F.logsigmoid(-beta * rejected) - F.logsigmoid(beta * chosen)

absolute: the sign of the margin is lost: a pair in the wrong order has to cost more than one in the
right order
- beta * (chosen - rejected) -> beta * (chosen - rejected).abs()

negative_margin_cut: a negative margin counts as 0: all pairs in the wrong order cost the same
- beta * (chosen - rejected) -> beta * F.relu(chosen - rejected)

all_pairs: you compare every chosen reply with every rejected one: only the two in the same place
are a pair
- return loss -> return -F.logsigmoid(beta * (chosen[:, None] - rejected))
- return loss -> return -F.logsigmoid(beta * (chosen - rejected[:, None]))
- return loss -> return -F.logsigmoid(beta * (chosen[:, None] - rejected)).mean(1)
- return loss -> return -F.logsigmoid(beta * (chosen[:, None] - rejected)).mean(0)

mean_of_the_batch: you compare with the mean of the batch: each reply is compared with the other of
its own pair
- (chosen - rejected) -> (chosen - rejected.mean())
- (chosen - rejected) -> (chosen.mean() - rejected)

reduced: you return one number: return one value per pair, the mean comes later
- return loss -> return loss.mean()
- return loss -> return loss.sum()
""")
