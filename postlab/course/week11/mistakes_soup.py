"""What goes wrong with soups of adapters and with multipliers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake


def _soup(of: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    def lora_soup(a: Tensor, b: Tensor, weights: Tensor, *, scaling: float) -> Tensor:
        return of(a, b, weights[:, None, None], scaling)

    return lora_soup


LORA_SOUP = (
    Mistake(
        "factors_averaged",
        "you average the A's and the B's and multiply then: that brings in B of one with A of the "
        "other. Multiply first, average then",
        _soup(lambda a, b, w, s: s * (w * b).sum(0) @ (w * a).sum(0)),
    ),
    Mistake(
        "roots",
        "you put the root of a weight on A and on B before adding them up, which is PEFT's "
        "'linear': right for one adapter, and for several B of one still meets A of another",
        _soup(lambda a, b, w, s: s * (w.sqrt() * b).sum(0) @ (w.sqrt() * a).sum(0)),
    ),
    Mistake(
        "one_side",
        "you weigh one factor and add up the other as it is, before they meet: take each "
        "adapter's own product",
        _soup(lambda a, b, w, s: s * b.sum(0) @ (w * a).sum(0)),
        _soup(lambda a, b, w, s: s * (w * b).sum(0) @ a.sum(0)),
    ),
    Mistake(
        "scaling_forgotten",
        "alpha / r is missing: an adapter adds scaling times BA",
        _soup(lambda a, b, w, s: (w * (b @ a)).sum(0)),
    ),
    Mistake(
        "scaling_twice",
        "the scaling is in it twice: it belongs to BA, not to A and to B",
        _soup(lambda a, b, w, s: s * s * (w * (b @ a)).sum(0)),
    ),
    Mistake(
        "weights_ignored",
        "you take the plain mean: the weights are not used",
        _soup(lambda a, b, w, s: s * (b @ a).mean(0)),
    ),
    Mistake(
        "added_up",
        "you add the adapters up without weights: each would be there in full",
        _soup(lambda a, b, w, s: s * (b @ a).sum(0)),
    ),
    Mistake(
        "weights_twice",
        "the weight is on A and on B, so that its square counts",
        _soup(lambda a, b, w, s: s * (w * w * (b @ a)).sum(0)),
    ),
    Mistake(
        "averaged_again",
        "the weights add up to 1 already: do not divide by the number of adapters as well",
        _soup(lambda a, b, w, s: s * (w * (b @ a)).mean(0)),
    ),
)


def _dual(of: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """From the multipliers, by how much the constraint is broken, and the rate."""

    def dual_step(multipliers: Tensor, measured: Tensor, levels: Tensor, rate: float) -> Tensor:
        return of(multipliers, levels - measured, rate)

    return dual_step


DUAL_STEP = (
    Mistake(
        "sign",
        "the sign is turned round: the multiplier has to grow while too little is measured",
        _dual(lambda m, gap, rate: (m - rate * gap).clamp(min=0)),
    ),
    Mistake(
        "negative",
        "the multiplier may become negative: then breaking the constraint would be paid for. "
        "Clamp it at 0",
        _dual(lambda m, gap, rate: m + rate * gap),
    ),
    Mistake(
        "never_shrinks",
        "you clamp the step and not the multiplier: it never shrinks again, and the constraint is "
        "bought at any price",
        _dual(lambda m, gap, rate: m + rate * gap.clamp(min=0)),
    ),
    Mistake(
        "forgetful",
        "the old multiplier is gone: the step is added to it",
        _dual(lambda m, gap, rate: (rate * gap).clamp(min=0)),
    ),
    Mistake(
        "logarithmic",
        "you step in the logarithm, as Safe RLHF does: it never reaches 0. Here the step is added",
        _dual(lambda m, gap, rate: m * torch.exp(rate * gap)),
        _dual(lambda m, gap, rate: m * torch.exp(rate * m * gap)),
        _dual(lambda m, gap, rate: (m * (1 + rate * gap)).clamp(min=0)),
    ),
    Mistake(
        "rate_ignored",
        "the rate is not used",
        _dual(lambda m, gap, rate: (m + gap).clamp(min=0)),
    ),
    Mistake(
        "clamped_at_one",
        "you hold the multiplier between 0 and 1: it is a price, not a share, and may be larger",
        _dual(lambda m, gap, rate: (m + rate * gap).clamp(0, 1)),
    ),
    Mistake(
        "sign_of_the_gap",
        "you step by the sign of the gap alone: how far the level was missed does not count",
        _dual(lambda m, gap, rate: (m + rate * gap.sign()).clamp(min=0)),
    ),
)
