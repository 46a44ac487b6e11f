"""What goes wrong with labels: agreement that is chance, and noise put into the loss badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._parts import Mistake


def _kappa(
    chance: Callable[[list[Tensor], list[Tensor]], Any],
    of: Callable[[Any, Any], Any] = lambda agreed, chance: (agreed - chance) / (1 - chance),
) -> Callable[..., Tensor]:
    """Kappa from the agreement and some idea of chance."""

    def kappa(labels: Tensor, truth: Tensor) -> Tensor:
        agreed = (labels == truth).float().mean()
        a, b = ([(x == k).float().mean() for k in range(3)] for x in (labels, truth))
        return torch.as_tensor(of(agreed, chance(a, b)), dtype=torch.float32)

    return kappa


def _by_shares(a: list[Tensor], b: list[Tensor]) -> Any:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _robust(of: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    """A loss of the label's term and the turned one's."""

    def robust_dpo_loss(margins: Tensor, noise: float) -> Tensor:
        return of(-F.logsigmoid(margins), -F.logsigmoid(-margins), noise)

    return robust_dpo_loss


KAPPA = (
    Mistake(
        "chance_forgotten",
        "you return the share agreed on: two raters who both say 0 most of the time agree often "
        "without looking",
        _kappa(lambda a, b: 0.0),
    ),
    Mistake(
        "uniform_chance",
        "you take chance for 1/3: it depends on how often each rater uses each label",
        _kappa(lambda a, b: 1 / 3),
        _kappa(lambda a, b: 1 / 2),
    ),
    Mistake(
        "not_rescaled",
        "you subtract chance and stop: divide by what is left above chance, so that full "
        "agreement is 1",
        _kappa(_by_shares, lambda agreed, chance: agreed - chance),
    ),
    Mistake(
        "divided_by_chance",
        "you divide by chance: divide by 1 minus chance, the most that can be had above it",
        _kappa(_by_shares, lambda agreed, chance: (agreed - chance) / chance),
        _kappa(_by_shares, lambda agreed, chance: agreed / chance),
    ),
    Mistake(
        "one_rater",
        "you take both shares from one rater: chance is one's share times the other's, a label",
        _kappa(lambda a, b: _by_shares(a, a)),
        _kappa(lambda a, b: _by_shares(b, b)),
    ),
    Mistake(
        "pooled",
        "you pool both raters' labels, which is Scott's pi: Cohen's kappa lets each have habits "
        "of their own",
        _kappa(lambda a, b: sum(((x + y) / 2) ** 2 for x, y in zip(a, b, strict=True))),
    ),
    Mistake(
        "ties_left_out",
        "you leave one of the labels out of chance: a tie agreed on is an agreement too",
        _kappa(lambda a, b: _by_shares(a[:2], b[:2])),
        _kappa(lambda a, b: _by_shares(a[1:], b[1:])),
    ),
    Mistake(
        "chance_only",
        "you return the agreement by chance, not what is above it",
        _kappa(_by_shares, lambda agreed, chance: chance),
    ),
    Mistake(
        "negative_lost",
        "you let nothing below 0 through: two raters who agree less often than by chance have a "
        "kappa below 0, down to -1",
        _kappa(_by_shares, lambda agreed, chance: ((agreed - chance) / (1 - chance)).clamp(min=0)),
        _kappa(_by_shares, lambda agreed, chance: ((agreed - chance) / (1 - chance)).abs()),
    ),
)
ROBUST_DPO_LOSS = (
    Mistake(
        "smoothed",
        "you add the turned term: that is label smoothing (cDPO), which draws every margin to a "
        "finite one. Here the turned term is subtracted",
        _robust(lambda x, y, e: (1 - e) * x + e * y),
        _robust(lambda x, y, e: ((1 - e) * x + e * y) / (1 - 2 * e)),
    ),
    Mistake(
        "not_rescaled",
        "you do not divide by 1 - 2 noise: the mean over the noise is then a part of the clean "
        "loss, and at 50% nothing is left of it",
        _robust(lambda x, y, e: (1 - e) * x - e * y),
    ),
    Mistake(
        "wrong_divisor",
        "you divide by another number than 1 - 2 noise, which is (1 - noise) less noise",
        _robust(lambda x, y, e: ((1 - e) * x - e * y) / (1 - e)),
        _robust(lambda x, y, e: ((1 - e) * x - e * y) / (1 + 2 * e)),
        _robust(lambda x, y, e: ((1 - e) * x - e * y) / (1 - 2 * e) ** 2),
    ),
    Mistake(
        "noise_ignored",
        "the noise is not used: that is DPO's own loss",
        _robust(lambda x, y, e: x),
    ),
    Mistake(
        "exchanged",
        "the two weights have changed places: the label is right with 1 - noise",
        _robust(lambda x, y, e: (e * x - (1 - e) * y) / (1 - 2 * e)),
        _robust(lambda x, y, e: ((1 - e) * y - e * x) / (1 - 2 * e)),
    ),
    Mistake(
        "sign",
        "the sign is turned round: a loss is minus the log-likelihood",
        _robust(lambda x, y, e: -((1 - e) * x - e * y) / (1 - 2 * e)),
    ),
    Mistake(
        "reduced",
        "you take the mean over pairs: return a loss a pair, (B,)",
        _robust(lambda x, y, e: (((1 - e) * x - e * y) / (1 - 2 * e)).mean()),
        _robust(lambda x, y, e: (((1 - e) * x - e * y) / (1 - 2 * e)).sum()),
    ),
    Mistake(
        "no_logarithm",
        "you leave the logarithm out: the terms are -log sigmoid, not sigmoid",
        lambda margins, noise: (
            ((1 - noise) * margins.sigmoid() - noise * (-margins).sigmoid()) / (1 - 2 * noise)
        ),
        lambda margins, noise: (
            -((1 - noise) * margins.sigmoid() - noise * (-margins).sigmoid()) / (1 - 2 * noise)
        ),
    ),
)
