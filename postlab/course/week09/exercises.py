"""Week 9: a labeller's agreement beyond chance, and a DPO loss that is told of wrong labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week09 import mistakes_labels


def kappa(labels: Tensor, truth: Tensor) -> Tensor:
    """Cohen's kappa of two raters: agreement over what chance alone would bring.

    Args:
        labels: (n,) 0, 1 or 2, one rater's label of each pair.
        truth: (n,) the other's, of the same pairs.
    Returns:
        A scalar, at most 1; 0 where they agree as often as by chance.
    Source: Cohen 1960. Taught in week 9.

    >>> kappa(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]))  # agreed 3/4, by chance 1/2
    tensor(0.5000)
    """
    agreed = (labels == truth).float().mean()
    shares = [[(x == k).float().mean() for k in range(3)] for x in (labels, truth)]
    chance = sum(a * b for a, b in zip(*shares, strict=True))
    return (agreed - chance) / (1 - chance)


def robust_dpo_loss(margins: Tensor, noise: float) -> Tensor:
    """DPO's loss where a known share of the labels is turned round: its mean is the clean loss.

    Args:
        margins: (B,) beta times the difference of log-ratios, chosen less rejected as labelled.
        noise: share of labels that are wrong, from 0 to below 0.5.
    Returns:
        (B,), which may be negative: only its mean over the noise means anything.
    Source: Chowdhury et al. 2024, arXiv 2403.00409, eq. 12; TRL's `loss_type="robust"`.
        Taught in week 9.

    >>> robust_dpo_loss(torch.tensor([0.0, 0.0]), 0.2)  # log 2, whatever the noise
    tensor([0.6931, 0.6931])
    """
    as_labelled, turned = -logsigmoid(margins), -logsigmoid(-margins)
    return ((1 - noise) * as_labelled - noise * turned) / (1 - 2 * noise)


def _raters(seed: int) -> dict[str, Any]:
    """Labels that follow the truth two times in three; no rater uses one label only."""
    g, n = torch.Generator().manual_seed(seed), (12, 20, 9)[seed % 3]
    truth = torch.randint(0, 3, (n,), generator=g)
    truth[:4] = torch.tensor([0, 0, 1, 2])
    follow = torch.rand(n, generator=g) < 0.67
    labels = torch.where(follow, truth, torch.randint(0, 3, (n,), generator=g))
    labels[:5] = torch.tensor([0, 1, 1, 2, 1])
    return {"labels": labels, "truth": truth}


def _noisy(seed: int) -> dict[str, Any]:
    g, n = torch.Generator().manual_seed(seed), (4, 6, 3)[seed % 3]
    margins = 2 * torch.randn(n, generator=g) + 0.3
    return {"margins": margins, "noise": (0.1, 0.25, 0.4)[seed % 3] + 0.01 * (seed // 3)}


KAPPA = Exercise(
    name="kappa",
    reference=kappa,
    positional=("labels", "truth"),
    cases=(
        Case(
            "labels [0, 0, 1, 1] and truth [0, 0, 1, 0]",
            {"labels": torch.tensor([0, 0, 1, 1]), "truth": torch.tensor([0, 0, 1, 0])},
            "agreed 3/4; by chance 2/4 * 3/4 + 2/4 * 1/4 = 1/2; (3/4 - 1/2) / (1 - 1/2)",
        ),
        Case(
            "labels [0, 1, 2, 2, 2] and truth [0, 1, 1, 2, 0]",
            {"labels": torch.tensor([0, 1, 2, 2, 2]), "truth": torch.tensor([0, 1, 1, 2, 0])},
            "agreed 3/5; by chance 1/5 * 2/5 + 1/5 * 2/5 + 3/5 * 1/5 = 7/25; (15 - 7) / (25 - 7)",
        ),
        Case(
            "labels [0, 1, 0, 1] and truth [1, 0, 1, 0]",
            {"labels": torch.tensor([0, 1, 0, 1]), "truth": torch.tensor([1, 0, 1, 0])},
            "agreed 0; by chance 1/2 * 1/2 + 1/2 * 1/2 = 1/2; (0 - 1/2) / (1 - 1/2) = -1",
        ),
    ),
    random=_raters,
    plain=mistakes_labels.kappa,
    mistakes=mistakes_labels.KAPPA,
    axes={"labels": "b", "truth": "b"},
)
ROBUST_DPO_LOSS = Exercise(
    name="robust_dpo_loss",
    reference=robust_dpo_loss,
    positional=("margins", "noise"),
    cases=(
        Case(
            "margins [log 3, 0, -log 3] and noise 0.2",
            {"margins": torch.tensor([3.0, 1, 1 / 3]).log(), "noise": 0.2},
            "sigmoid is 3/4, 1/2, 1/4; the first is (-0.8 log 3/4 + 0.2 log 1/4) / 0.6",
        ),
    ),
    random=_noisy,
    plain=mistakes_labels.robust_dpo_loss,
    mistakes=mistakes_labels.ROBUST_DPO_LOSS,
    axes={"margins": "b"},
    edges=(
        Edge(
            "no_noise",
            Case(
                "margins [1, -1] and noise 0",
                {"margins": torch.tensor([1.0, -1.0]), "noise": 0.0},
                "without noise it is DPO's own loss",
            ),
            "At noise 0 nothing may be divided by the noise, nor its logarithm taken.",
            ("return loss -> return loss * noise / noise",),
        ),
        Edge(
            "overflow",
            Case(
                "a margin of -200 and noise 0.25",
                {"margins": torch.tensor([-200.0]), "noise": 0.25},
                "0.75 * 200 / 0.5",
            ),
            "Take `logsigmoid`: the logarithm of a sigmoid that has become 0 is minus infinity.",
            ("F.logsigmoid(margins) -> torch.sigmoid(margins).log()",),
        ),
        Edge(
            "overflow_turned",
            Case(
                "a margin of 200 and noise 0.25",
                {"margins": torch.tensor([200.0]), "noise": 0.25},
                "-0.25 * 200 / 0.5",
            ),
            "Take `logsigmoid` of the margin turned round: 1 less a sigmoid that has become 1 is 0,"
            " and its logarithm minus infinity.",
            ("F.logsigmoid(-margins) -> (1 - torch.sigmoid(margins)).log()",),
        ),
    ),
    gradients=("margins",),
)
