"""What goes wrong in GAE: each mistake as a function that makes it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._parts import Mistake
from postlab.scratch.losses import gae


def _gae(
    *,
    surprise: Callable[..., Tensor] = lambda r, v, after, gamma: r + gamma * after - v,
    weight: Callable[[float, float], float] = lambda gamma, lam: gamma * lam,
    after: Callable[[Tensor], Tensor] = lambda v: F.pad(v[:, 1:], (0, 1)),
    next_masked: bool = True,
    trace_masked: bool = True,
    backwards: bool = True,
    out: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda adv, v, mask: adv * mask,
) -> Callable[..., Tensor]:
    """The right recursion, but for what is given."""

    def advantages(
        rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
    ) -> Tensor:
        following = after(values) * (after(mask) if next_masked else 1)
        delta = surprise(rewards, values, following, gamma)
        adv, carried = torch.zeros_like(rewards), torch.zeros(len(rewards))
        steps = range(rewards.shape[1])
        for t in reversed(steps) if backwards else steps:
            carried = delta[:, t] + weight(gamma, lam) * carried
            carried = carried * mask[:, t] if trace_masked else carried
            adv[:, t] = carried
        return out(adv, values, mask)

    return advantages


def _last_again(v: Tensor) -> Tensor:
    return torch.cat([v[:, 1:], v[:, -1:]], dim=1)


def _mask_of_this_token(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> Tensor:
    adv, carried = torch.zeros_like(rewards), torch.zeros(len(rewards))
    following = F.pad(values[:, 1:], (0, 1))
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * following[:, t] * mask[:, t] - values[:, t]
        adv[:, t] = carried = delta + gamma * lam * carried * mask[:, t]
    return adv


def _weights_from_the_start(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> Tensor:
    surprises = gae(rewards, values, mask, gamma=gamma, lam=0)
    weights = (gamma * lam) ** torch.arange(rewards.shape[1])
    return (surprises * weights).flip(1).cumsum(1).flip(1) * mask


LEAK = (
    "what stands in the padding reaches the completion: after its last token there is nothing to "
    "come, so the next value, and what is carried back, must be 0 there"
)
GAE = (
    Mistake(
        "padding_leaks",
        LEAK,
        _gae(next_masked=False),
        _gae(next_masked=False, trace_masked=False),
        _gae(trace_masked=False),
    ),
    Mistake(
        "mask_one_early",
        "the mask of a token decides on what follows it: ask the mask of the next token, "
        "mask[:, t + 1]",
        _mask_of_this_token,
        lambda rewards, values, mask, **given: (
            _mask_of_this_token(rewards, values, mask, **given) * mask
        ),
    ),
    Mistake(
        "mask_ignored",
        "the mask has no effect: padding gets an advantage, and hands it on",
        _gae(next_masked=False, trace_masked=False, out=lambda adv, v, mask: adv),
    ),
    Mistake(
        "padding_not_zero",
        "the completion is right, and padding still gets an advantage: multiply by the mask at the "
        "end",
        lambda rewards, values, mask, **given: (
            gae(rewards, values, mask, **given)
            + gae(rewards, values, torch.ones_like(mask), **given) * (1 - mask)
        ),
    ),
    Mistake(
        "no_end",
        "the last token is followed by a value: the completion is over, so 0 comes after it",
        _gae(after=_last_again, next_masked=False),
        _gae(after=_last_again),
    ),
    Mistake(
        "wraps_around",
        "the value after the last token is the first one again: torch.roll goes round, put 0 there",
        _gae(after=lambda v: v.roll(-1, 1), next_masked=False),
        _gae(after=lambda v: v.roll(-1, 1)),
    ),
    Mistake(
        "forwards",
        "the recursion runs from the first token to the last: credit flows back, start at the end",
        _gae(backwards=False),
    ),
    Mistake(
        "weights_from_the_start",
        "the weights gamma * lam count from the first token: for token t they count from t",
        _weights_from_the_start,
    ),
    Mistake(
        "one_step",
        "you return the surprise of each token alone: nothing is carried back from later ones",
        _gae(weight=lambda gamma, lam: 0.0),
    ),
    Mistake(
        "lam_forgotten",
        "lam is not used: what is carried back is multiplied by gamma * lam",
        _gae(weight=lambda gamma, lam: gamma),
    ),
    Mistake(
        "gamma_forgotten_in_trace",
        "gamma is missing where advantages are carried back: that factor is gamma * lam",
        _gae(weight=lambda gamma, lam: lam),
    ),
    Mistake(
        "gamma_forgotten_in_surprise",
        "gamma is missing in front of the next value",
        _gae(surprise=lambda r, v, after, gamma: r + after - v),
    ),
    Mistake(
        "gamma_ignored",
        "gamma is not used",
        _gae(surprise=lambda r, v, after, gamma: r + after - v, weight=lambda gamma, lam: lam),
    ),
    Mistake(
        "value_not_subtracted",
        "the token's own value is not subtracted: an advantage is what was better than foreseen",
        _gae(surprise=lambda r, v, after, gamma: r + gamma * after),
    ),
    Mistake(
        "next_value_forgotten",
        "the value of the next token is missing from the surprise",
        _gae(surprise=lambda r, v, after, gamma: r - v),
    ),
    Mistake(
        "sign",
        "the sign is turned round: positive means better than foreseen",
        lambda *batch, **given: -gae(*batch, **given),
    ),
    Mistake(
        "returns",
        "you return the returns, advantages plus values",
        _gae(out=lambda adv, v, mask: (adv + v) * mask),
    ),
    Mistake(
        "reversed",
        "the advantages come out in reverse order: those collected from the end have to be turned "
        "round",
        lambda *batch, **given: gae(*batch, **given).flip(1),
    ),
)
