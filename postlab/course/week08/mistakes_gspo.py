"""Usual mistakes in GSPO's loss, as edits of a plain solution."""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.course.check._answers import mistakes


def gspo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    change = (logps - old_logps) * mask
    ratio = torch.exp(change.sum(1) / mask.sum(1))
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, bounded * advantages).mean()


GSPO_LOSS = mistakes("""
arithmetic: you average the ratios of an answer's tokens: first average their logs, and then take
the exp, which gives the geometric mean
- ratio = torch.exp(change.sum(1) / mask.sum(1)) -> ratio = (change.exp() * mask).sum(1) / mask.sum(1)

token_ratios: you have one ratio per token, as GRPO does: first average the log-ratios over the
tokens of an answer, and then take the exp
- ratio = torch.exp(change.sum(1) / mask.sum(1)) -> ratio = change.exp(); advantages = advantages[:, None]
+ .mean() -> .mul(mask).sum(1).div(mask.sum(1)).mean()

not_averaged: your ratio is that of the whole answer's probability, which is the exp of a sum: in
GSPO the exponent is divided by the number of tokens
- change.sum(1) / mask.sum(1) -> change.sum(1)

padding_counts: padding counts as tokens of the answer: divide by the number of tokens that the mask
keeps, not by T
- change.sum(1) / mask.sum(1) -> change.mean(1)

mask_ignored: the log-probs of padding are part of your ratio: multiply by the mask first
- (logps - old_logps) * mask -> logps - old_logps

upside_down: your ratio is old over new: it is exp(logps - old_logps)
- logps - old_logps -> old_logps - logps

not_exp: your ratio is a mean log-ratio: take its exp
- torch.exp(change.sum(1) / mask.sum(1)) -> change.sum(1) / mask.sum(1)

sign: the minus is missing: the objective is maximised, and a loss is minimised
- return - -> return

never_clipped: you don't clip the ratio
- torch.minimum(ratio * advantages, bounded * advantages) -> (ratio * advantages)

always_clipped: you use only the clipped product: take the smaller of the two products
- torch.minimum(ratio * advantages, bounded * advantages) -> (bounded * advantages)

max_not_min: you take the larger of the two products: the objective takes the smaller one
- torch.minimum -> torch.maximum

min_before_product: you take the smaller ratio and then multiply: with a negative advantage this
gives the larger product
- torch.minimum(ratio * advantages, bounded * advantages) -> (torch.minimum(ratio, bounded) * advantages)

bounds_swapped: your bounds are swapped: clip_low belongs to the lower one, clip_high to the upper
one
- clamp(1 - clip_low, 1 + clip_high) -> clamp(1 - clip_high, 1 + clip_low)

log_clipped: you clip the mean log-ratio, before the exp: clip the ratio
- bounded = ratio.clamp(1 - clip_low, 1 + clip_high) -> bounded = ratio.log().clamp(-clip_low, clip_high).exp()

over_tokens: answers count by their length: every answer has the same weight here
- .mean() -> .mul(mask.sum(1)).sum() / mask.sum()

summed: you add up the answers: take their mean
- .mean() -> .sum()

not_reduced: you return one loss per answer: return their mean
- .mean() -> .mul(1)
""")
