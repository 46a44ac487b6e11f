"""Common mistakes in the clipped loss: edits of the right answer below."""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.course.check._answers import mistakes


def clipped_policy_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> tuple[Tensor, Tensor]:
    ratio = torch.exp(logps - old_logps)
    near = ratio.clamp(1 - clip_low, 1 + clip_high)
    free, held = ratio * advantages, near * advantages
    loss, clipped = -torch.minimum(free, held), held < free
    return loss, clipped


CLIPPED_POLICY_LOSS = mistakes("""
max_not_min: you take the larger of the two products: the objective takes the smaller one, the
cautious one (its negative, the loss, takes the larger loss)
- torch.minimum -> torch.maximum

sign: the minus is missing: the objective is maximised, a loss is minimised
- -torch.minimum -> torch.minimum

always_clipped: only the clipped product is left: without the min, a token that moved the wrong way
gets no gradient to come back
- torch.minimum(free, held) -> held

never_clipped: the loss is not clipped at all
- torch.minimum(free, held) -> free

flag_ignores_sign: you flag every ratio outside the bounds: a token counts as clipped only if the
clip makes a difference, which depends on the sign of its advantage
- held < free -> ratio != near

flag_inverted: the flags are inverted: True is for tokens whose loss the clip changed
- held < free -> held >= free

flag_on_ties: you flag the tokens within the bounds too, where both products are the same: the
clipped one has to be smaller
- held < free -> held <= free

flag_turned: you flag tokens whose clipped product is the larger one, but there the min takes the
other one
- held < free -> held > free

flag_one_side: you flag only the ratios above the upper bound, or only those below the lower one:
both can be clipped
- held < free -> ratio > 1 + clip_high
- held < free -> ratio < 1 - clip_low
- held < free -> (ratio > 1 + clip_high) & (advantages > 0)

ratio_not_exp: your ratio is a difference of log-probs: exp makes it a ratio of probabilities
- torch.exp(logps - old_logps) -> logps - old_logps

ratio_of_logs: you divide log-probs: the ratio of probabilities is exp(logps - old_logps)
- torch.exp(logps - old_logps) -> logps / old_logps

ratio_upside_down: your ratio is old to new: it should be exp(logps - old_logps)
- logps - old_logps -> old_logps - logps

ratio_difference: you subtract the probabilities: their ratio is exp(logps - old_logps)
- torch.exp(logps - old_logps) -> torch.exp(logps) - torch.exp(old_logps)

ratio_to_itself: you divide by the same probabilities without gradient, so the ratio is always 1:
use old_logps, from the policy that sampled the tokens
- logps - old_logps -> logps - logps.detach()

log_prob_weighted: you multiply the advantage by the log-prob, as REINFORCE does: PPO multiplies it
by the ratio
- free, held = (ratio * advantages, near * advantages) -> free, held = (logps * advantages, near * advantages)
- torch.minimum(free, held) -> logps * advantages

min_before_product: you take the min of the two ratios and then multiply: with a negative advantage
this gives the larger product. Multiply first
- torch.minimum(free, held) -> torch.minimum(ratio, near) * advantages

product_clipped: you clip the product: clip the ratio first, then multiply
- near * advantages -> (ratio * advantages).clamp(1 - clip_low, 1 + clip_high)

one_bound: you use one number for both bounds: they are 1 - clip_low and 1 + clip_high
- 1 + clip_high -> 1 + clip_low
- 1 - clip_low -> 1 - clip_high

bounds_swapped: clip_low and clip_high are swapped: the bounds are 1 - clip_low and 1 + clip_high
- clamp(1 - clip_low, 1 + clip_high) -> clamp(1 - clip_high, 1 + clip_low)

bounds_not_around_1: you clip to clip_low and clip_high themselves: the bounds are 1 - clip_low and
1 + clip_high
- clamp(1 - clip_low, 1 + clip_high) -> clamp(-clip_low, clip_high)
- clamp(1 - clip_low, 1 + clip_high) -> clamp(clip_low, clip_high)

bounds_of_log: you clip the log-ratio: the ratio itself is clipped to between 1 - clip_low and
1 + clip_high
- ratio.clamp(1 - clip_low, 1 + clip_high) -> torch.exp((logps - old_logps).clamp(-clip_low, clip_high))

advantage_unsigned: the sign of the advantages is lost: a negative one makes its token less likely
- free, held = -> advantages = advantages.abs(); free, held =

one_sided: the ratio is clipped on one side only: it has a lower and an upper bound
- clamp(1 - clip_low, 1 + clip_high) -> clamp(max=1 + clip_high)
- clamp(1 - clip_low, 1 + clip_high) -> clamp(min=1 - clip_low)

bounds_fixed: the bounds are always 0.8 and 1.2: use clip_low and clip_high
- clamp(1 - clip_low, 1 + clip_high) -> clamp(0.8, 1.2)

reduced: you reduce the loss to one number: return one value per token, the mask comes later
- -torch.minimum(free, held) -> -torch.minimum(free, held).mean()
- -torch.minimum(free, held) -> -torch.minimum(free, held).sum()
""")
