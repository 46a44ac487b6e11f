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
mask_forgotten: the mask is not used: what stands on padding and prompt is counted
- ((policy_logps - ref_logps) * mask) -> (policy_logps - ref_logps)

mask_on_policy_only: the mask is on one of the two only: neither's padding counts
- (policy_logps - ref_logps) * mask -> policy_logps * mask - ref_logps
- (policy_logps - ref_logps) * mask -> policy_logps - ref_logps * mask

interleaved: you take chosen and rejected in turn: here all chosen replies come first, then all
rejected ones, as TRL's `chunk(2)` expects
- rewards.chunk(2) -> (rewards[0::2], rewards[1::2])

neighbours: each reply is compared with the one behind it: the rejected reply of row i is half a
batch further on
- chosen - rejected -> (rewards - rewards.roll(-1))[:len(chosen)]

swapped: the sign is turned round: policy less reference, and chosen less rejected
- chosen - rejected -> rejected - chosen

ref_forgotten: the reference is left out: a reward is how far the policy went from it
- policy_logps - ref_logps -> policy_logps

ref_added: the reference is added: a reward is how far the policy went from it
- policy_logps - ref_logps -> policy_logps + ref_logps

mask_inverted: the mask is the wrong way round: 1 is for the tokens of the reply
- * mask).sum(1) -> * (1 - mask)).sum(1)

beta_on_one: beta multiplies one of the two rewards only: both are beta times a log-ratio
- chosen - rejected -> chosen - rejected / beta
- chosen - rejected -> chosen / beta - rejected

beta_forgotten: beta is not used
- beta * (( -> 1.0 * ((

beta_divides: you divide by beta: a reward is beta times the log-ratio
- beta * (( -> 1 / beta * ((

mean_of_tokens: you take the mean over tokens: a reply's log-prob is their sum (TRL's `sigmoid_norm`
is the one that divides by the length)
- .sum(1) -> .sum(1) / mask.sum(1)
- .sum(1) -> .mean(1)

ratio_of_logs: you divide log-probs: the log of a ratio is their difference
- policy_logps - ref_logps -> policy_logps / ref_logps
- ((policy_logps - ref_logps) * mask).sum(1) -> (policy_logps * mask).sum(1) / (ref_logps * mask).sum(1)

ratio_not_log: you take ratios of probabilities: their logarithm, the difference of log-probs, is
what is summed
- policy_logps - ref_logps -> (policy_logps - ref_logps).exp()
- (policy_logps - ref_logps) * mask -> policy_logps.exp() * mask - ref_logps.exp() * mask

log_of_sum: you add ratios up and take the logarithm of the sum: the log of a product is the sum of
the logs
- ((policy_logps - ref_logps) * mask).sum(1) -> ((policy_logps - ref_logps).exp() * mask).sum(1).log()

shifted: you shift the mask by one position: here log-probs and mask are aligned already
- (policy_logps - ref_logps) * mask -> (policy_logps - ref_logps)[:, :-1] * mask[:, 1:]
- (policy_logps - ref_logps) * mask -> (policy_logps - ref_logps)[:, 1:] * mask[:, :-1]
- (policy_logps - ref_logps) * mask -> (policy_logps - ref_logps)[:, 1:] * mask[:, 1:]

rejected_added: the rejected reply's reward is added: it is subtracted
- chosen - rejected -> chosen + rejected

chosen_only: you return the reward of the chosen replies: subtract that of the rejected ones
- return margins -> return chosen

rewards_not_margins: you return a reward for each reply: subtract that of the rejected half from the
chosen's
- return margins -> return rewards

the_loss: you went on to the loss or to a probability: the margin itself is wanted
- return margins -> return -torch.nn.functional.logsigmoid(margins)
- return margins -> return margins.sigmoid()

added_over_rows: you add up the rows, dim=0, where the tokens of each reply are wanted: dim=1
- .sum(1) -> .sum(0)

per_token: the tokens are not added up: a reply's reward is the sum over them
- .sum(1) -> .clone()

reduced: you return one number: a margin for each pair is wanted
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
order: slope and intercept have changed places: the slope comes first
- return (slope, intercept) -> return (intercept, slope)

axes_swapped: you fit lengths over margins: the slope is margin a token, so divide by the variance
of the lengths
- x, y = (extra_tokens.to(margins.dtype), margins) -> y, x = (extra_tokens.to(margins.dtype), margins)
- (dx ** 2).sum() -> (dy ** 2).sum()

correlation: you return the correlation: the slope has a unit, margin a token
- (dx ** 2).sum() -> ((dx ** 2).sum() * (dy ** 2).sum()).sqrt()

root: you divide by a root, as the standard deviation is: the slope is covariance over variance
- (dx ** 2).sum() -> (dx ** 2).sum().sqrt()
- (dx * dy).sum() / (dx ** 2).sum() -> (dx * dy).mean() / x.std(correction=0)
- (dx * dy).sum() / (dx ** 2).sum() -> (dx * dy).sum() / (len(x) - 1) / x.std()
- (dx * dy).sum() / (dx ** 2).sum() -> (dx * dy).mean() / x.std()

through_the_origin: your line goes through 0, or the means are not taken off before multiplying
- dx, dy = (x - x.mean(), y - y.mean()) -> dx, dy = (x, y)
+ y.mean() - slope * x.mean() -> torch.tensor(0.0)
- dx, dy = (x - x.mean(), y - y.mean()) -> dx, dy = (x, y)

intercept_is_the_mean: the intercept is the mean margin: take off what the mean extra length
explains
- y.mean() - slope * x.mean() -> y.mean()

intercept_sign: the slope is right, but what length explains is added to the mean margin: subtract
it
- y.mean() - slope * -> y.mean() + slope *

intercept_turned: the intercept has the wrong sign: it is the mean margin less slope times the mean
extra length
- y.mean() - slope * x.mean() -> slope * x.mean() - y.mean()

intercept_of_first: the intercept is taken from the first pair: the line goes through the means
- y.mean() - slope * x.mean() -> y[0] - slope * x[0]

ratio_of_means: you divide margins by lengths: a line has a slope and an intercept, and length may
be 0
- (dx * dy).sum() / (dx ** 2).sum() -> y.mean() / x.mean()
- (dx * dy).sum() / (dx ** 2).sum() -> (y / x).mean()

mixed_denominators: covariance and variance are divided by different counts, n and n - 1: take one
for both
- (dx ** 2).sum() -> (len(x) * x.var())
- (dx ** 2).sum() -> ((len(x) - 1) * x.var(correction=0))

not_divided: you return the covariance: divide it by the variance of the lengths
- / (dx ** 2).sum() -> / len(x)
- / (dx ** 2).sum() -> / (len(x) - 1)
- / (dx ** 2).sum() -> / 1

residuals: you return what length leaves of each margin, or what the line predicts: slope and
intercept are wanted
- return (slope, intercept) -> return (slope, y - slope * x)
- return (slope, intercept) -> return (slope, slope * x + intercept)
""")
