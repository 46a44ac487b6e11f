"""What goes wrong in implicit margins and in a length-bias line: mistakes as functions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._parts import Mistake


def _margins(
    reward: Callable[..., Tensor] = lambda p, r, m, beta: beta * ((p - r) * m).sum(1),
    pair: Callable[[Tensor], Tensor] = lambda x: x.chunk(2)[0] - x.chunk(2)[1],
) -> Callable[..., Tensor]:
    """The right margins, but for what is given."""

    def implicit_margins(
        policy_logps: Tensor, ref_logps: Tensor, mask: Tensor, *, beta: float
    ) -> Tensor:
        return pair(reward(policy_logps, ref_logps, mask, beta))

    return implicit_margins


IMPLICIT_MARGINS = (
    Mistake(
        "mask_forgotten",
        "the mask is not used: what stands on padding and prompt is counted",
        _margins(lambda p, r, m, beta: beta * (p - r).sum(1)),
    ),
    Mistake(
        "interleaved",
        "you take chosen and rejected in turn: here all chosen replies come first, then all "
        "rejected ones, as TRL's `chunk(2)` expects",
        _margins(pair=lambda x: x[0::2] - x[1::2]),
    ),
    Mistake(
        "swapped",
        "the sign is turned round: policy less reference, and chosen less rejected",
        _margins(pair=lambda x: x.chunk(2)[1] - x.chunk(2)[0]),
    ),
    Mistake(
        "ref_forgotten",
        "the reference is left out: a reward is how far the policy went from it",
        _margins(lambda p, r, m, beta: beta * (p * m).sum(1)),
    ),
    Mistake(
        "beta_forgotten",
        "beta is not used",
        _margins(lambda p, r, m, beta: ((p - r) * m).sum(1)),
    ),
    Mistake(
        "mean_of_tokens",
        "you take the mean over tokens: a reply's log-prob is their sum (TRL's `sigmoid_norm` is "
        "the one that divides by the length)",
        _margins(lambda p, r, m, beta: beta * ((p - r) * m).sum(1) / m.sum(1)),
        _margins(lambda p, r, m, beta: beta * ((p - r) * m).mean(1)),
    ),
    Mistake(
        "ratio_of_logs",
        "you divide log-probs: the log of a ratio is their difference",
        _margins(lambda p, r, m, beta: beta * ((p / r) * m).sum(1)),
        _margins(lambda p, r, m, beta: beta * ((p * m).sum(1) / (r * m).sum(1))),
    ),
    Mistake(
        "rejected_added",
        "the rejected reply's reward is added: it is subtracted",
        _margins(pair=lambda x: x.chunk(2)[0] + x.chunk(2)[1]),
    ),
    Mistake(
        "rewards_not_margins",
        "you return a reward for each reply: subtract that of the rejected half from the chosen's",
        _margins(pair=lambda x: x),
    ),
    Mistake(
        "the_loss",
        "you went on to the loss or to a probability: the margin itself is wanted",
        _margins(pair=lambda x: -F.logsigmoid(x.chunk(2)[0] - x.chunk(2)[1])),
        _margins(pair=lambda x: torch.sigmoid(x.chunk(2)[0] - x.chunk(2)[1])),
    ),
    Mistake(
        "reduced",
        "you return one number: a margin for each pair is wanted",
        _margins(pair=lambda x: (x.chunk(2)[0] - x.chunk(2)[1]).mean()),
        _margins(pair=lambda x: (x.chunk(2)[0] - x.chunk(2)[1]).sum()),
    ),
)


def _line(slope: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A line through the means with the slope given."""

    def length_bias(margins: Tensor, extra_tokens: Tensor) -> tuple[Tensor, Tensor]:
        extra = extra_tokens.to(margins.dtype)
        found = slope(margins, extra)
        return found, margins.mean() - found * extra.mean()

    return length_bias


def _right(margins: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
    return _line(lambda m, x: _cov(m, x) / _cov(x, x))(margins, extra)


def _cov(a: Tensor, b: Tensor) -> Tensor:
    return ((a - a.mean()) * (b - b.mean())).sum()


def _through_origin(margins: Tensor, extra: Tensor) -> Tensor:
    return (margins * extra).sum() / (extra * extra).sum()


LENGTH_BIAS = (
    Mistake(
        "order",
        "slope and intercept have changed places: the slope comes first",
        lambda margins, extra: _right(margins, extra)[::-1],
    ),
    Mistake(
        "axes_swapped",
        "you fit lengths over margins: the slope is margin a token, so divide by the variance of "
        "the lengths",
        lambda margins, extra: _right(extra.to(margins.dtype), margins),
        _line(lambda m, x: _cov(m, x) / _cov(m, m)),
    ),
    Mistake(
        "correlation",
        "you return the correlation: the slope has a unit, margin a token",
        _line(lambda m, x: _cov(m, x) / (_cov(m, m) * _cov(x, x)).sqrt()),
    ),
    Mistake(
        "through_the_origin",
        "your line goes through 0, or the means are not taken off before multiplying",
        lambda margins, extra: (_through_origin(margins, extra), torch.zeros(())),
        _line(_through_origin),
    ),
    Mistake(
        "intercept_is_the_mean",
        "the intercept is the mean margin: take off what the mean extra length explains",
        lambda margins, extra: (_right(margins, extra)[0], margins.mean()),
    ),
    Mistake(
        "intercept_sign",
        "the slope is right, but what length explains is added to the mean margin: subtract it",
        lambda margins, extra: (
            _right(margins, extra)[0],
            margins.mean() + _right(margins, extra)[0] * extra.to(margins.dtype).mean(),
        ),
    ),
    Mistake(
        "ratio_of_means",
        "you divide margins by lengths: a line has a slope and an intercept, and length may be 0",
        _line(lambda m, x: m.mean() / x.mean()),
        _line(lambda m, x: (m / x).mean()),
    ),
    Mistake(
        "mixed_denominators",
        "covariance and variance are divided by different counts, n and n - 1: take one for both",
        _line(lambda m, x: _cov(m, x) / len(x) / x.var()),
        _line(lambda m, x: _cov(m, x) / (len(x) - 1) / x.var(correction=0)),
    ),
    Mistake(
        "not_divided",
        "you return the covariance: divide it by the variance of the lengths",
        _line(lambda m, x: _cov(m, x) / len(x)),
        _line(lambda m, x: _cov(m, x) / (len(x) - 1)),
        _line(_cov),
    ),
)
