"""What goes wrong in implicit margins and in a length-bias line: edits of the right answers."""

from __future__ import annotations

from torch import Tensor

from postlab.course.check._answers import mistakes


def implicit_margins(
    policy_logps: Tensor, ref_logps: Tensor, mask: Tensor, *, beta: float
) -> Tensor:
    rewards = beta * ((policy_logps - ref_logps) * mask).sum(1)
    chosen, rejected = rewards.chunk(2)
    margins = chosen - rejected
    return margins


IMPLICIT_MARGINS = mistakes("""
mask_forgotten: you don't use the mask, so prompt and padding tokens are counted too
- ((policy_logps - ref_logps) * mask) -> (policy_logps - ref_logps)

mask_on_policy_only: you apply the mask to only one of the two log-probs: padding must count in
neither
- (policy_logps - ref_logps) * mask -> policy_logps * mask - ref_logps
- (policy_logps - ref_logps) * mask -> policy_logps - ref_logps * mask

interleaved: you take chosen and rejected replies in turn, but the batch has all chosen replies
first and then all rejected ones: use `chunk(2)`, as TRL does
- rewards.chunk(2) -> (rewards[0::2], rewards[1::2])

neighbours: you compare each reply with the next one in the batch, but the rejected reply of row i
is half a batch further on
- chosen - rejected -> (rewards - rewards.roll(-1))[:len(chosen)]

swapped: the sign is wrong: subtract the reference from the policy, and rejected from chosen
- chosen - rejected -> rejected - chosen

ref_forgotten: the reference is missing: a reward measures how far the policy has moved from it
- policy_logps - ref_logps -> policy_logps

ref_added: you add the reference; subtract it, because a reward measures how far the policy has
moved from it
- policy_logps - ref_logps -> policy_logps + ref_logps

mask_inverted: the mask is inverted: 1 marks the tokens of the reply
- * mask).sum(1) -> * (1 - mask)).sum(1)

beta_on_one: beta multiplies only one of the two rewards: each of them is beta times a log-ratio
- chosen - rejected -> chosen - rejected / beta
- chosen - rejected -> chosen / beta - rejected

beta_forgotten: you don't use beta
- beta * (( -> 1.0 * ((

beta_divides: you divide by beta: a reward is beta times the log-ratio
- beta * (( -> 1 / beta * ((

mean_of_tokens: you average over tokens, but the log-prob of a reply is their sum (TRL's
`sigmoid_norm` is the loss that divides by the length)
- .sum(1) -> .sum(1) / mask.sum(1)
- .sum(1) -> .mean(1)

ratio_of_logs: you divide log-probs, but the log of a ratio is the difference of the logs
- policy_logps - ref_logps -> policy_logps / ref_logps
- ((policy_logps - ref_logps) * mask).sum(1) -> (policy_logps * mask).sum(1) / (ref_logps * mask).sum(1)

ratio_not_log: you use ratios of probabilities: take their logarithm, the difference of log-probs,
and sum that
- policy_logps - ref_logps -> (policy_logps - ref_logps).exp()
- (policy_logps - ref_logps) * mask -> policy_logps.exp() * mask - ref_logps.exp() * mask

log_of_sum: you sum the ratios and then take the logarithm, but the log of a product is the sum of
the logs
- ((policy_logps - ref_logps) * mask).sum(1) -> ((policy_logps - ref_logps).exp() * mask).sum(1).log()

shifted: you shift the mask by one position, or leave the first or last position out, but here
log-probs and mask are already aligned
- (policy_logps - ref_logps) * mask -> (policy_logps - ref_logps)[:, :-1] * mask[:, 1:]
- (policy_logps - ref_logps) * mask -> (policy_logps - ref_logps)[:, 1:] * mask[:, :-1]
- (policy_logps - ref_logps) * mask -> (policy_logps - ref_logps)[:, 1:] * mask[:, 1:]
- (policy_logps - ref_logps) * mask -> (policy_logps - ref_logps)[:, :-1] * mask[:, :-1]

mask_of_chosen: you use the masks of the chosen replies for the rejected ones too: each reply has a
mask of its own
- * mask).sum(1) -> * mask.chunk(2)[0].repeat(2, 1)).sum(1)

absolute: you drop the sign of the margin, but a margin can be negative
- return margins -> return margins.abs()
- return margins -> return margins.clamp(min=0)

rejected_added: you add the reward of the rejected reply: subtract it
- chosen - rejected -> chosen + rejected

chosen_only: you return the reward of the chosen replies: subtract the reward of the rejected ones
- return margins -> return chosen

rewards_not_margins: you return a reward for each reply: subtract those of the rejected half from
those of the chosen half
- return margins -> return rewards

the_loss: you went on to the loss or to a probability: return the margin itself
- return margins -> return -torch.nn.functional.logsigmoid(margins)
- return margins -> return margins.sigmoid()

added_over_rows: you sum over the rows (dim=0): sum over the tokens of each reply (dim=1)
- .sum(1) -> .sum(0)

per_token: you don't sum over tokens: the reward of a reply is the sum over its tokens
- .sum(1) -> .clone()

reduced: you return a single number: return a margin for each pair
- return margins -> return margins.mean()
- return margins -> return margins.sum()
""")


def length_bias(margins: Tensor, extra_tokens: Tensor) -> tuple[Tensor, Tensor]:
    x, y = extra_tokens.to(margins.dtype), margins
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx * dy).sum() / (dx**2).sum()
    intercept = y.mean() - slope * x.mean()
    return slope, intercept


LENGTH_BIAS = mistakes("""
order: slope and intercept are in the wrong order: return the slope first
- return (slope, intercept) -> return (intercept, slope)

axes_swapped: you predict lengths from margins: the slope is margin per token, so divide by the
variance of the lengths
- x, y = (extra_tokens.to(margins.dtype), margins) -> y, x = (extra_tokens.to(margins.dtype), margins)
- (dx ** 2).sum() -> (dy ** 2).sum()

correlation: you return the correlation, but the slope has a unit: margin per token
- (dx ** 2).sum() -> ((dx ** 2).sum() * (dy ** 2).sum()).sqrt()

root: you divide by a standard deviation (a root): the slope is the covariance divided by the
variance
- (dx ** 2).sum() -> (dx ** 2).sum().sqrt()
- (dx * dy).sum() / (dx ** 2).sum() -> (dx * dy).mean() / x.std(correction=0)
- (dx * dy).sum() / (dx ** 2).sum() -> (dx * dy).sum() / (len(x) - 1) / x.std()
- (dx * dy).sum() / (dx ** 2).sum() -> (dx * dy).mean() / x.std()

through_the_origin: your line goes through the origin, or you didn't subtract the means before
multiplying
- dx, dy = (x - x.mean(), y - y.mean()) -> dx, dy = (x, y)
+ y.mean() - slope * x.mean() -> torch.tensor(0.0)
- dx, dy = (x - x.mean(), y - y.mean()) -> dx, dy = (x, y)

intercept_is_the_mean: you return the mean margin as the intercept: subtract what the mean extra
length explains
- y.mean() - slope * x.mean() -> y.mean()

intercept_sign: the slope is right, but you add what length explains to the mean margin: subtract it
- y.mean() - slope * -> y.mean() + slope *

intercept_turned: the intercept has the wrong sign: it is the mean margin minus the slope times the
mean extra length
- y.mean() - slope * x.mean() -> slope * x.mean() - y.mean()

intercept_of_first: you compute the intercept from the first pair, but the line goes through the
means
- y.mean() - slope * x.mean() -> y[0] - slope * x[0]

ratio_of_means: you divide margins by lengths, but a line has a slope and an intercept, and a length
difference can be 0
- (dx * dy).sum() / (dx ** 2).sum() -> y.mean() / x.mean()
- (dx * dy).sum() / (dx ** 2).sum() -> (y / x).mean()

mixed_denominators: covariance and variance are divided by different counts, n and n - 1: use the
same for both
- (dx ** 2).sum() -> (len(x) * x.var())
- (dx ** 2).sum() -> ((len(x) - 1) * x.var(correction=0))

sum_over_mean: you divide a sum by a mean, or a mean by a sum: the variance is a mean of squares, so
take sums in both places, or means
- (dx ** 2).sum() -> x.var()
- (dx ** 2).sum() -> x.var(correction=0)
- (dx * dy).sum() -> (dx * dy).mean()

half_centred: you subtract the means above or below the fraction line only: subtract them in both
- (dx ** 2).sum() -> (x ** 2).sum()
- (dx * dy).sum() -> (x * y).sum()

slope_sign: the slope has the wrong sign: it is positive if the margins grow with the extra tokens
- slope = (dx * dy).sum() -> slope = -(dx * dy).sum()
- return (slope, intercept) -> return (-slope, intercept)

absolute_lengths: you drop the sign of the extra tokens: they are negative where the rejected reply
is longer
- extra_tokens.to(margins.dtype) -> extra_tokens.to(margins.dtype).abs()

two_points: you draw the line through the first pair and the last one: use all of them
- slope = (dx * dy).sum() / (dx ** 2).sum() -> slope = (y[-1] - y[0]) / (x[-1] - x[0])
- slope = (dx * dy).sum() / (dx ** 2).sum() -> slope = (y[-1] - y[0]) / (x[-1] - x[0])
+ y.mean() - slope * x.mean() -> y[0] - slope * x[0]

intercept_axes_swapped: the slope is right, but margins and lengths have changed places in the
intercept
- y.mean() - slope * x.mean() -> x.mean() - slope * y.mean()

not_divided: you return the covariance: divide it by the variance of the lengths
- / (dx ** 2).sum() -> / len(x)
- / (dx ** 2).sum() -> / (len(x) - 1)
- / (dx ** 2).sum() -> / 1

residuals: you return a number per pair, such as the line's residuals or predictions: return one
slope and one intercept
- return (slope, intercept) -> return (slope, y - slope * x)
- return (slope, intercept) -> return (slope, slope * x + intercept)
""")
