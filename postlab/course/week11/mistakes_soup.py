"""What goes wrong with soups of adapters and with multipliers: edits of `exercises.py`."""

from __future__ import annotations

from torch import Tensor

from postlab.course.check._answers import mistakes


def lora_soup(a: Tensor, b: Tensor, weights: Tensor, *, scaling: float) -> Tensor:
    w = weights[:, None, None]
    return scaling * (w * (b @ a)).sum(0)


LORA_SOUP = mistakes("""
factors_averaged: you average the A's and the B's and then multiply: that multiplies the B of one
adapter by the A of another. Multiply first, then average
- (w * (b @ a)).sum(0) -> (w * b).sum(0) @ (w * a).sum(0)

means_of_factors: you take plain means of the A's and the B's and then multiply: multiply first, and
use the weights
- (w * (b @ a)).sum(0) -> b.mean(0) @ a.mean(0)

roots: you put the root of a weight on A and on B before adding them up, which is PEFT's 'linear':
right for one adapter, and for several B of one still meets A of another
- (w * (b @ a)).sum(0) -> (w.sqrt() * b).sum(0) @ (w.sqrt() * a).sum(0)

one_side: you weigh one factor and add up or average the other as it is, before they meet: take each
adapter's own product
- (w * (b @ a)).sum(0) -> b.sum(0) @ (w * a).sum(0)
- (w * (b @ a)).sum(0) -> (w * b).sum(0) @ a.sum(0)
- (w * (b @ a)).sum(0) -> (w * b).sum(0) @ a.mean(0)
- (w * (b @ a)).sum(0) -> b.mean(0) @ (w * a).sum(0)

scaling_forgotten: alpha / r is missing: an adapter adds scaling times BA
- scaling * (w -> 1 * (w

scaling_twice: the scaling is in it twice: it belongs to BA, not to A and to B
- scaling * -> scaling ** 2 *

scaling_divides: you divide by the scaling: an adapter adds scaling times BA
- scaling * (w * (b @ a)).sum(0) -> (w * (b @ a)).sum(0) / scaling

weights_ignored: you take the plain mean: the weights are not used
- (w * (b @ a)).sum(0) -> (b @ a).mean(0)

added_up: you add the adapters up without weights: each would be there in full
- w * (b -> 1 * (b

weights_twice: the weight is on A and on B, so that its square counts
- w * (b -> w * w * (b

weights_softmaxed: you put the weights through a softmax: they add up to 1 already
- weights[:, None, None] -> weights.softmax(0)[:, None, None]

weights_of_root: the root of the weight counts: the weight itself multiplies the product BA
- w * (b -> w.sqrt() * (b

weights_reversed: the weights go to the adapters in reverse order
- weights[:, None, None] -> weights.flip(0)[:, None, None]

not_all: an adapter or more is left out: go through all of them, and add each to the others, += and
not =
- (w * (b @ a)).sum(0) -> (w * (b @ a))[-1]
- (w * (b @ a)).sum(0) -> (w * (b @ a))[0]
- (w * (b @ a)).sum(0) -> (w * (b @ a))[:-1].sum(0)
- (w * (b @ a)).sum(0) -> (w * (b @ a))[1:].sum(0)

not_added: you return a matrix per adapter: add them up over the first axis, sum(0)
- .sum(0) -> .clone()

weights_on_rows: the weights meet the rows of the matrices: weights[:, None, None] meets the adapters
- w * (b -> weights[:, None] * (b

weights_on_columns: the weights meet the last axis, the columns of the matrices: weights[:, None,
None] meets the adapters
- w * (b -> weights * (b

averaged_again: you divide by the number of adapters as well, or divide alpha / r by it: the weights
add up to 1 already, and each adapter keeps its own alpha / r
- .sum(0) -> .mean(0)

heaviest_only: you take the adapter with the largest weight alone
- (w * (b @ a)).sum(0) -> (b @ a)[weights.argmax()]

transposed: your matrix is (in, out): B stands on the left, b @ a, which gives (out, in)
- .sum(0) -> .sum(0).T
""")
DUAL_STEP = mistakes("""
sign: the sign is reversed: the multiplier has to grow while the measured value is below its level
- levels - measured -> measured - levels

negative: the multiplier can become negative, which would reward breaking the constraint. Clamp it
at 0
- .clamp(min=0) -> .clone()

never_shrinks: your step is never negative: the multiplier never shrinks again, and the constraint
is bought at any price. Clamp the new multiplier, not the step
- (multipliers + rate * (levels - measured)).clamp(min=0) -> multipliers + rate * (levels - measured).clamp(min=0)
- (levels - measured) -> (levels - measured).abs()
- (levels - measured) -> (levels - measured) ** 2

pooled: you add up or average the gaps of all constraints: each multiplier moves by its own gap
- (levels - measured) -> (levels - measured).sum()
- (levels - measured) -> (levels - measured).mean()

kept: a multiplier that would become negative stays as it was: it becomes 0
- return (multipliers + rate * (levels - measured)).clamp(min=0) -> new = multipliers + rate * (levels - measured); return torch.where(new < 0, multipliers, new)

rate_on_all: the rate multiplies the old multiplier too: only the gap is multiplied by it
- multipliers + rate * (levels - measured) -> rate * (multipliers + levels - measured)

only_when_broken: a constraint that is kept sets its multiplier to 0 at once: it shrinks step by
step
- return (multipliers + rate * (levels - measured)).clamp(min=0) -> return torch.where(measured < levels, multipliers + rate * (levels - measured), 0)

forgetful: the old multiplier is lost: add the step to it
- multipliers + rate -> rate

logarithmic: you multiply the multiplier, as a step in its logarithm does (Safe RLHF): here the step
is added
- (multipliers + rate * (levels - measured)).clamp(min=0) -> multipliers * torch.exp(rate * (levels - measured))
- (multipliers + rate * (levels - measured)).clamp(min=0) -> multipliers * torch.exp(rate * multipliers * (levels - measured))
- multipliers + rate * (levels - measured) -> multipliers * (1 + rate * (levels - measured))

rate_ignored: the rate is not used
- rate * (levels -> 1 * (levels

rate_divides: you divide by the rate: the gap is multiplied by it
- rate * (levels - measured) -> (levels - measured) / rate

decayed: the old multiplier is averaged with the new one, or shrinks by the rate: the step is added to
all of it
- multipliers + rate * (levels - measured) -> (1 - rate) * multipliers + rate * (levels - measured)

relative: you divide the gap by the level: the gap itself is the step
- (levels - measured) -> (levels - measured) / levels
- (levels - measured) -> (1 - measured / levels)

level_ignored: the level is not used, or taken alone: the gap between them is what counts
- (levels - measured) -> (1 - measured)
- (levels - measured) -> levels
- (levels - measured) -> -measured

clamped_at_one: you hold the multiplier between 0 and 1: it is a price, not a share, and may be
larger
- .clamp(min=0) -> .clamp(0, 1)

clamped_above: you hold the multiplier at 0 from above, clamp(max=0): it is clamp(min=0)
- clamp(min=0) -> clamp(max=0)

absolute: you take the absolute value of the multiplier: where it would be negative it is 0
- .clamp(min=0) -> .abs()

softplus: you put the multiplier through softplus or exp: where it would be negative it is 0, and
elsewhere it stays as it is
- (multipliers + rate * (levels - measured)).clamp(min=0) -> torch.nn.functional.softplus(multipliers + rate * (levels - measured))
- (multipliers + rate * (levels - measured)).clamp(min=0) -> torch.exp(multipliers + rate * (levels - measured))

normalised: you make the multipliers add up to 1: they are prices, each for its own constraint
- return (multipliers + rate * (levels - measured)).clamp(min=0) -> new = (multipliers + rate * (levels - measured)).clamp(min=0); return new / new.sum()

sign_of_the_gap: you step by the sign of the gap alone: how far the level was missed does not count
- (levels - measured) -> (levels - measured).sign()
""")
