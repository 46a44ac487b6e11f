"""What goes wrong in the clipped loss: each mistake as a function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake


def _clipped(
    *,
    ratio: Callable[[Tensor, Tensor], Tensor] = lambda new, old: (new - old).exp(),
    loss: Callable[[Tensor, Tensor], Tensor] = lambda free, held: -torch.minimum(free, held),
    flag: Callable[..., Any] = lambda free, held, r, near: held < free,
    clamp: Callable[[Tensor, float, float], Tensor] = lambda r, low, high: r.clamp(
        1 - low, 1 + high
    ),
) -> Callable[..., Any]:
    """The right loss, but for what is given."""

    def clipped_policy_loss(
        logps: Tensor,
        old_logps: Tensor,
        advantages: Tensor,
        *,
        clip_low: float = 0.2,
        clip_high: float = 0.2,
    ) -> Any:
        r = ratio(logps, old_logps)
        near = clamp(r, clip_low, clip_high)
        free, held = r * advantages, near * advantages
        return loss(free, held), flag(free, held, r, near)

    return clipped_policy_loss


def _product_clipped(logps: Tensor, old_logps: Tensor, advantages: Tensor, **bounds: float) -> Any:
    low, high = bounds.get("clip_low", 0.2), bounds.get("clip_high", 0.2)
    free = (logps - old_logps).exp() * advantages
    held = free.clamp(1 - low, 1 + high)
    return -torch.minimum(free, held), held < free


def _min_before_product(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, **bounds: float
) -> Any:
    r = (logps - old_logps).exp()
    near = r.clamp(1 - bounds.get("clip_low", 0.2), 1 + bounds.get("clip_high", 0.2))
    return -torch.minimum(r, near) * advantages, near < r


CLIPPED_POLICY_LOSS = (
    Mistake(
        "max_not_min",
        "you take the larger of the two products: the objective takes the smaller one, the "
        "cautious one (its negative, the loss, takes the larger loss)",
        _clipped(loss=lambda free, held: -torch.maximum(free, held)),
    ),
    Mistake(
        "sign",
        "the minus is missing: the objective is maximised, a loss is minimised",
        _clipped(loss=torch.minimum),
    ),
    Mistake(
        "always_clipped",
        "only the clipped product is left: without the min, a token that moved the wrong way gets "
        "no gradient to come back",
        _clipped(loss=lambda free, held: -held),
    ),
    Mistake(
        "never_clipped",
        "the loss is not clipped at all",
        _clipped(loss=lambda free, held: -free),
    ),
    Mistake(
        "flag_ignores_sign",
        "you flag every ratio outside the bounds: clipped is a token only where the clip makes a "
        "difference, which depends on the sign of its advantage",
        _clipped(flag=lambda free, held, r, near: r != near),
    ),
    Mistake(
        "flag_inverted",
        "the flags are turned round: True is for the tokens whose loss the clip changed",
        _clipped(flag=lambda free, held, r, near: held >= free),
    ),
    Mistake(
        "flag_turned",
        "you flag where the clipped product is the larger one: there the min takes the other",
        _clipped(flag=lambda free, held, r, near: held > free),
    ),
    Mistake(
        "ratio_not_exp",
        "your ratio is a difference of log-probs: exp makes it a ratio of probabilities",
        _clipped(ratio=lambda new, old: new - old),
    ),
    Mistake(
        "ratio_of_logs",
        "you divide log-probs: the ratio of probabilities is exp(logps - old_logps)",
        _clipped(ratio=lambda new, old: new / old),
    ),
    Mistake(
        "ratio_upside_down",
        "the ratio is old to new: it is exp(logps - old_logps)",
        _clipped(ratio=lambda new, old: (old - new).exp()),
    ),
    Mistake(
        "ratio_difference",
        "you subtract the probabilities: their ratio is exp(logps - old_logps)",
        _clipped(ratio=lambda new, old: new.exp() - old.exp()),
    ),
    Mistake(
        "min_before_product",
        "you take the min of the two ratios and then multiply: for a negative advantage that is "
        "the larger product. Multiply both first",
        _min_before_product,
    ),
    Mistake(
        "product_clipped",
        "you multiply first and clip the product: the ratio alone is clipped, then multiplied",
        _product_clipped,
    ),
    Mistake(
        "one_bound",
        "one number serves for both bounds: they are 1 - clip_low and 1 + clip_high",
        _clipped(clamp=lambda r, low, high: r.clamp(1 - low, 1 + low)),
        _clipped(clamp=lambda r, low, high: r.clamp(1 - high, 1 + high)),
    ),
    Mistake(
        "bounds_swapped",
        "the bounds have changed places: 1 - clip_low and 1 + clip_high",
        _clipped(clamp=lambda r, low, high: r.clamp(1 - high, 1 + low)),
    ),
    Mistake(
        "bounds_not_around_1",
        "you clip to clip_low and clip_high themselves: the bounds are 1 - clip_low and "
        "1 + clip_high",
        _clipped(clamp=lambda r, low, high: r.clamp(-low, high)),
    ),
    Mistake(
        "bounds_fixed",
        "the bounds are 0.8 and 1.2 whatever clip_low and clip_high say",
        _clipped(clamp=lambda r, low, high: r.clamp(0.8, 1.2)),
    ),
    Mistake(
        "reduced",
        "you average the loss: one value for each token is wanted, the mask comes later",
        _clipped(loss=lambda free, held: -torch.minimum(free, held).mean()),
    ),
)
