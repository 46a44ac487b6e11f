"""Common mistakes in GAE: edits of the right answer below."""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.course.check._answers import mistakes


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> Tensor:
    advantages = torch.zeros_like(values)
    next_value, carried = torch.zeros(len(values)), torch.zeros(len(values))
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        carried = (delta + gamma * lam * carried) * mask[:, t]
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = carried
    return advantages


GAE = mistakes("""
padding_leaks: values from the padding leak into the completion: nothing follows its last token, so
the next value and the advantage that is carried back must be 0 there
- next_value = values[:, t] * mask[:, t] -> next_value = values[:, t]
- next_value = values[:, t] * mask[:, t] -> next_value = values[:, t]
+ (delta + gamma * lam * carried) * mask[:, t] -> delta + gamma * lam * carried
+ return advantages -> return advantages * mask
- (delta + gamma * lam * carried) * mask[:, t] -> delta + gamma * lam * carried
+ return advantages -> return advantages * mask

mask_one_early: you mask what follows a token with the token's own mask: use the mask of the next
token, mask[:, t + 1]
- (delta + gamma * lam * carried) * mask[:, t] -> delta + gamma * lam * carried * mask[:, t]
+ values[:, t] * mask[:, t] -> values[:, t]
+ gamma * next_value -> gamma * next_value * mask[:, t]
- (delta + gamma * lam * carried) * mask[:, t] -> delta + gamma * lam * carried * mask[:, t]
+ values[:, t] * mask[:, t] -> values[:, t]
+ gamma * next_value -> gamma * next_value * mask[:, t]
+ return advantages -> return advantages * mask

mask_ignored: the mask has no effect: padding gets an advantage and passes it on
- next_value = values[:, t] * mask[:, t] -> next_value = values[:, t]
+ (delta + gamma * lam * carried) * mask[:, t] -> delta + gamma * lam * carried

padding_not_zero: the completion is right, but padding still gets an advantage: multiply by the mask
at the end
- (delta + gamma * lam * carried) * mask[:, t] -> delta + gamma * lam * carried
+ advantages[:, t] = carried -> advantages[:, t] = carried; carried = carried * mask[:, t]

no_end: you use a value after the last token: the completion is over, so the next value is 0
- next_value, carried = (torch.zeros(len(values)), -> next_value, carried = (values[:, -1],
- next_value, carried = (torch.zeros(len(values)), -> next_value, carried = (values[:, -1],
+ next_value = values[:, t] * mask[:, t] -> next_value = values[:, t]

wraps_around: the value after the last token is the first one again, because torch.roll wraps
around: use 0 there
- next_value, carried = (torch.zeros(len(values)), -> next_value, carried = (values[:, 0],
- next_value, carried = (torch.zeros(len(values)), -> next_value, carried = (values[:, 0],
+ next_value = values[:, t] * mask[:, t] -> next_value = values[:, t]

forwards: the recursion runs from the first token to the last: credit flows back, so start at the
end
- reversed(range(values.shape[1])) -> range(values.shape[1])
- reversed(range(values.shape[1])) -> range(values.shape[1])
+ * next_value - -> * F.pad(values * mask, (0, 1))[:, t + 1] -

weights_from_the_start: the powers of gamma * lam are counted from the first token: for token t,
count from t
- delta + gamma * lam * carried -> (gamma * lam) ** t * delta + carried

one_step: you return only each token's own surprise: nothing is carried back from later tokens
- delta + gamma * lam * carried -> delta

lam_forgotten: lam is not used: what is carried back is multiplied by gamma * lam
- gamma * lam * carried -> gamma * carried

gamma_forgotten_in_trace: gamma is missing where advantages are carried back: that factor is
gamma * lam
- gamma * lam * carried -> lam * carried

gamma_forgotten_in_surprise: gamma is missing in front of the next value
- gamma * next_value -> next_value

gamma_ignored: gamma is not used
- gamma * next_value -> next_value
+ gamma * lam * carried -> lam * carried

trace_not_weighted: what is carried back has no weight: it is multiplied by gamma * lam
- gamma * lam * carried -> carried

rewards_forgotten: the rewards are not used: the surprise begins with the token's own reward
- rewards[:, t] + gamma -> gamma

reward_of_another_token: you take the reward of the token before or after: the surprise of token t
has its own, rewards[:, t]
- rewards[:, t] -> F.pad(rewards * mask, (0, 1))[:, t + 1]
- rewards[:, t] -> F.pad(rewards, (0, 1))[:, t + 1]
- rewards[:, t] -> rewards[:, t - 1]
- rewards[:, t] -> F.pad(rewards, (1, 0))[:, t]

own_value_for_the_next: you take the token's own value where the next token's belongs: the surprise
is r_t + gamma * V_{t + 1} - V_t
- gamma * next_value -> gamma * values[:, t]

next_value_for_own: you subtract the next token's value: the baseline is the token's own, the
surprise is r_t + gamma * V_{t + 1} - V_t
- next_value - values[:, t] -> next_value - next_value

values_swapped: the two values have changed places: the surprise is r_t + gamma * V_{t + 1} - V_t
- gamma * next_value - values[:, t] -> gamma * values[:, t] - next_value

previous_value: you take the value of the token before where the next token's belongs: the surprise
is r_t + gamma * V_{t + 1} - V_t
- gamma * next_value -> gamma * values[:, t - 1]
- gamma * next_value -> gamma * F.pad(values, (1, 0))[:, t]

gamma_on_more: gamma multiplies more than the next value: the surprise is r_t + gamma * V_{t + 1} -
V_t
- gamma * next_value - values[:, t] -> gamma * (next_value - values[:, t])
- rewards[:, t] + gamma * next_value -> gamma * (rewards[:, t] + next_value)
- rewards[:, t] + gamma * next_value - values[:, t] -> gamma * (rewards[:, t] + next_value - values[:, t])

one_surprise_carried: you carry back the next token's surprise alone: carry the whole sum, its
advantage
- carried = (delta + gamma * lam * carried) * mask[:, t] -> whole, carried = (delta + gamma * lam * carried) * mask[:, t], delta * mask[:, t]
+ advantages[:, t] = carried -> advantages[:, t] = whole

lam_on_value: lam multiplies the next value too: there it is gamma alone
- gamma * next_value -> gamma * lam * next_value

trace_of_lam_complement: what is carried back is multiplied by gamma * (1 - lam): it is gamma * lam
- gamma * lam * carried -> gamma * (1 - lam) * carried

value_not_subtracted: the token's own value is not subtracted: an advantage says how much better
things went than expected
- next_value - values[:, t] -> next_value

next_value_forgotten: the value of the next token is missing from the surprise
- + gamma * next_value - -> -

sign: the sign is flipped: positive means better than expected
- return advantages -> return -advantages

returns: you return the returns, advantages plus values
- return advantages -> return (advantages + values) * mask
- return advantages -> return advantages + values

standardised: you standardise the advantages: PPO does that in a later step, so return them as they
are
- return advantages -> return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
- return advantages -> return (advantages - advantages.mean()) / advantages.std()
- return advantages -> return (advantages - advantages[mask.bool()].mean()) / (advantages[mask.bool()].std() + 1e-8) * mask

reward_to_go: you return the discounted sum of future rewards: the values are not used
- rewards[:, t] + gamma * next_value - values[:, t] -> rewards[:, t]
- rewards[:, t] + gamma * next_value - values[:, t] -> rewards[:, t]
+ gamma * lam * carried -> gamma * carried

last_token_skipped: the last column stays 0: your loop starts one token too early; range(T) already
ends at T - 1
- reversed(range(values.shape[1])) -> reversed(range(values.shape[1] - 1))
- reversed(range(values.shape[1])) -> reversed(range(values.shape[1] - 1))
+ gamma * next_value -> gamma * (values * mask)[:, t + 1]

reversed: the advantages come out in reverse order: you collected them from the end, so flip them
- return advantages -> return advantages.flip(1)
""")
