"""Week 7: the policy gradient, advantages inside a group, and GRPO's loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week07 import mistakes_grpo
from postlab.scratch import policy_gradient
from postlab.scratch.grpo import grpo_loss, reinforce_loss


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """`policy_gradient.group_advantages` with its defaults: by the group's own mean and spread."""
    return policy_gradient.group_advantages(rewards, group_size)


def _lengths(b: int, t: int, g: torch.Generator) -> Tensor:
    """Masks of unequal answers; the longest fills its row."""
    lengths = torch.randint(1, t, (b, 1), generator=g)
    lengths[0] = t
    return (torch.arange(t) < lengths).long()


def _random_answers(seed: int) -> dict[str, Any]:
    """What stands in the padding is no nought."""
    g, (b, t) = torch.Generator().manual_seed(seed), ((4, 5), (3, 7), (6, 3))[seed % 3]
    rewards = torch.randn(b, generator=g) + torch.arange(b)
    logps = -0.1 - 3 * torch.rand(b, t, generator=g)
    return {"logps": logps, "rewards": rewards, "mask": _lengths(b, t, g)}


def _random_groups(seed: int) -> dict[str, Any]:
    """No group of equal rewards: that is an edge."""
    g, (n, size) = torch.Generator().manual_seed(seed), ((3, 4), (4, 3), (2, 5))[seed % 3]
    level = torch.arange(n)[:, None] * (1 + seed // 6)
    spread = 0.05 + torch.rand(n, 1, generator=g)
    rewards = level + spread * (torch.randn(n, size, generator=g) + torch.arange(size))
    return {"rewards": rewards.flatten(), "group_size": size}


def _random_batch(seed: int) -> dict[str, Any]:
    """Ratios inside and outside of the bounds, a reference that is not the sampler."""
    g, (b, t) = torch.Generator().manual_seed(seed), ((4, 6), (3, 5), (2, 7))[seed % 3]
    old = -0.3 - 2 * torch.rand(b, t, generator=g)
    logps = old + 0.4 * torch.randn(b, t, generator=g)
    ref = old + 0.5 * torch.randn(b, t, generator=g)
    advantages = torch.randn(b, generator=g)
    advantages[:2] = torch.tensor([1.3, -0.8])
    later = seed // 6
    options = {"clip": (0.2, 0.1, 0.3)[seed % 3] * (1 + later), "beta": 0.3 + 0.2 * later}
    tensors = {"logps": logps, "advantages": advantages, "mask": _lengths(b, t, g)}
    return tensors | {"old_logps": old, "ref_logps": ref} | options


REINFORCE_LOSS = Exercise(
    name="reinforce_loss",
    reference=reinforce_loss,
    positional=("logps", "rewards", "mask"),
    cases=(
        Case(
            "logps [-1, -2, -3] [-1, -4, -4] [-2, -1, -4], rewards [5, 2, 5] and mask [1, 1, 0] "
            "[1, 1, 1] [1, 0, 0]",
            {
                "logps": torch.tensor([[-1.0, -2, -3], [-1, -4, -4], [-2, -1, -4]]),
                "rewards": torch.tensor([5.0, 2, 5]),
                "mask": torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]]),
            },
            "the rewards' mean is 4, the answers' log-probs are -3, -9 and -2: "
            "-(1 * -3 - 2 * -9 + 1 * -2) / 3",
        ),
    ),
    random=_random_answers,
    plain=mistakes_grpo.reinforce_loss,
    mistakes=mistakes_grpo.REINFORCE_LOSS,
    axes={"logps": "bt", "rewards": "b", "mask": "bt"},
    gradients=("logps",),
)
GROUP_ADVANTAGES = Exercise(
    name="group_advantages",
    reference=group_advantages,
    positional=("rewards", "group_size"),
    cases=(
        Case(
            "rewards 1 0 0 0 | 3 1 1 3 | .1 .2 .2 .2 and group_size 4",
            {
                "rewards": torch.tensor([1.0, 0, 0, 0, 3, 1, 1, 3, 0.1, 0.2, 0.2, 0.2]),
                "group_size": 4,
            },
            "first group: mean 1/4, standard deviation 1/2; second: mean 2, deviation 1.155",
        ),
    ),
    random=_random_groups,
    plain=mistakes_grpo.group_advantages,
    mistakes=mistakes_grpo.GROUP_ADVANTAGES,
    edges=(
        Edge(
            "silent_group",
            Case(
                "rewards 1 1 | 1 0 and group_size 2",
                {"rewards": torch.tensor([1.0, 1, 1, 0]), "group_size": 2},
                "equal answers are no better or worse than one another: 0, 0",
            ),
            "A group of equal rewards has a standard deviation of 0, and 0 / 0 is nan: the small "
            "number in the divisor keeps it 0.",
            ("+ 0.0001 -> + 0.0001 * (groups.std(1, keepdim=True) > 0)",),
        ),
    ),
)
GRPO_LOSS = Exercise(
    name="grpo_loss",
    reference=grpo_loss,
    positional=("logps", "advantages", "mask"),
    cases=(
        Case(
            "an answer of three tokens and one of two, ratios to old [0.5, 1.5, 1] [1.5, 2], to "
            "ref [2, 2, 1] [1, 2], advantages [2, -2], clip 0.2 and beta 0.1",
            {
                "logps": torch.tensor([[0.5, 1.5, 1.0], [1.5, 2.0, 2.0]]).log() - 3,
                "advantages": torch.tensor([2.0, -2.0]),
                "mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
                "old_logps": torch.full((2, 3), -3.0),
                "ref_logps": torch.tensor([[0.25, 0.75, 1.0], [1.5, 1.0, 2.0]]).log() - 3,
                "clip": 0.2,
                "beta": 0.1,
            },
            "k3 is 0.1931 where the ratio to ref is 2; tokens -1 + 0.0193, -2.4 + 0.0193, -2 and "
            "3, 4 + 0.0193; means -1.7871 and 3.5097",
        ),
        Case(
            "an answer of one token, ratio to old and to ref 0.5, advantage -2, the rest left out",
            {
                "logps": torch.tensor([[0.5]]).log() - 3,
                "advantages": torch.tensor([-2.0]),
                "mask": torch.tensor([[1]]),
                "old_logps": torch.tensor([[-3.0]]),
                "ref_logps": torch.tensor([[-3.0]]),
            },
            "0.5 * -2 = -1 against 0.8 * -2 = -1.6, the smaller one; without beta no KL",
        ),
    ),
    random=_random_batch,
    plain=mistakes_grpo.grpo_loss,
    mistakes=mistakes_grpo.GRPO_LOSS,
    axes={"logps": "bt", "advantages": "b", "mask": "bt", "old_logps": "bt", "ref_logps": "bt"},
    gradients=("logps",),
)
