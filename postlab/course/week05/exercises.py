"""Week 5: implicit margins in TRL's batch layout, and how much of them is due to length."""

from __future__ import annotations

from typing import Any

import torch

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week05 import mistakes_margins
from postlab.scratch.preferences import implicit_margins, length_bias


def _random_batch(seed: int) -> dict[str, Any]:
    """Replies of unequal length; the padding isn't filled with zeros."""
    g, (b, t) = torch.Generator().manual_seed(seed), ((2, 5), (3, 7), (4, 3))[seed % 3]
    ref = -0.1 - 3 * torch.rand(2 * b, t, generator=g)
    policy = (ref + torch.randn(2 * b, t, generator=g)).clamp(max=-0.05)
    lengths = torch.randint(1, t + 1, (2 * b, 1), generator=g)
    lengths[0], lengths[1] = t, t - 1 - seed // 6
    beta = (0.1, 0.5, 0.25)[seed % 3] * (1 + seed // 6)
    mask = (torch.arange(t) < lengths).long()
    return {"policy_logps": policy, "ref_logps": ref, "mask": mask, "beta": beta}


def _random_pairs(seed: int) -> dict[str, Any]:
    g, n = torch.Generator().manual_seed(seed), (4, 7, 5)[seed % 3]
    extra = torch.randint(1, 9, (n,), generator=g) + torch.arange(n)
    margins = 0.3 * extra + 1 + torch.randn(n, generator=g)
    return {"margins": margins, "extra_tokens": extra}


IMPLICIT_MARGINS = Exercise(
    name="implicit_margins",
    reference=implicit_margins,
    positional=("policy_logps", "ref_logps", "mask"),
    cases=(
        Case(
            "policy_logps [-2, -1, -3] [-1, -4, -4] [-4, -4, -2] [-1, -4, -1], ref_logps "
            "[-4, -4, -1] [-4, -3, -2] [-1, -3, -1] [-1, -1, -1], mask [0, 1, 1] [1, 1, 0] "
            "[1, 1, 1] [0, 1, 0] and beta 0.5 (two pairs: rows 0 and 2, rows 1 and 3)",
            {
                "policy_logps": torch.tensor(
                    [[-2.0, -1, -3], [-1, -4, -4], [-4, -4, -2], [-1, -4, -1]]
                ),
                "ref_logps": torch.tensor(
                    [[-4.0, -4, -1], [-4, -3, -2], [-1, -3, -1], [-1, -1, -1]]
                ),
                "mask": torch.tensor([[0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 1, 0]]),
                "beta": 0.5,
            },
            "the sums of policy - ref are 1, 2, -5, -3: 0.5 * (1 - -5) and 0.5 * (2 - -3)",
        ),
        Case(
            "policy_logps [-3, -1] [-1, -2], ref_logps [-1, -3] [-2, -2], mask [1, 0] [1, 1] and "
            "beta 0.5 (one pair)",
            {
                "policy_logps": torch.tensor([[-3.0, -1], [-1, -2]]),
                "ref_logps": torch.tensor([[-1.0, -3], [-2, -2]]),
                "mask": torch.tensor([[1, 0], [1, 1]]),
                "beta": 0.5,
            },
            "the sums of policy - ref are -2 and 1: 0.5 * (-2 - 1)",
        ),
    ),
    random=_random_batch,
    plain=mistakes_margins.implicit_margins,
    mistakes=mistakes_margins.IMPLICIT_MARGINS,
    axes={"policy_logps": ".t", "ref_logps": ".t", "mask": ".t"},
    gradients=("policy_logps",),
)
LENGTH_BIAS = Exercise(
    name="length_bias",
    reference=length_bias,
    positional=("margins", "extra_tokens"),
    cases=(
        Case(
            "margins [2, 3, 10] and extra_tokens [0, 2, 4]",
            {"margins": torch.tensor([2.0, 3, 10]), "extra_tokens": torch.tensor([0, 2, 4])},
            "means 5 and 2; slope (-2 * -3 + 0 * -2 + 2 * 5) / (4 + 0 + 4), intercept 5 - 2 * 2",
        ),
        Case(
            "margins [1, 7, 10] and extra_tokens [-6, -1, -2]",
            {"margins": torch.tensor([1.0, 7, 10]), "extra_tokens": torch.tensor([-6, -1, -2])},
            "means 6 and -3; slope (-3 * -5 + 2 * 1 + 1 * 4) / (9 + 4 + 1), intercept 6 - 1.5 * -3",
        ),
    ),
    random=_random_pairs,
    plain=mistakes_margins.length_bias,
    mistakes=mistakes_margins.LENGTH_BIAS,
    axes={"margins": "b", "extra_tokens": "b"},
    edges=(
        Edge(
            "mean_length_zero",
            Case(
                "margins [1, 2, 6] and extra_tokens [-1, 0, 1]",
                {"margins": torch.tensor([1.0, 2, 6]), "extra_tokens": torch.tensor([-1, 0, 1])},
                "slope 2.5, intercept 3",
            ),
            "Extra tokens can be negative, and here their mean is 0: don't divide by it.",
            ("y.mean() - slope * x.mean() -> (y.mean() / x.mean() - slope) * x.mean()",),
        ),
    ),
    outputs=("slope", "intercept"),
)
