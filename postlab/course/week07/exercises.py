"""Week 7: the policy gradient, advantages within a group, and GRPO's loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week07 import mistakes_grpo
from postlab.course.week07.exercise_step import GRPO_STEP
from postlab.scratch import policy_gradient
from postlab.scratch.grpo import grpo_loss, reinforce_loss

__all__ = ["GROUP_ADVANTAGES", "GRPO_LOSS", "GRPO_STEP", "REINFORCE_LOSS"]


def group_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """`policy_gradient.group_advantages` with its defaults: each group's own mean and deviation."""
    return policy_gradient.group_advantages(rewards, group_size)


def _lengths(b: int, t: int, g: torch.Generator) -> Tensor:
    """Masks of answers of different lengths; the longest one fills its row."""
    lengths = torch.randint(1, t, (b, 1), generator=g)
    lengths[0] = t
    return (torch.arange(t) < lengths).long()


def _random_answers(seed: int) -> dict[str, Any]:
    """The padding doesn't contain zeros."""
    g, (b, t) = torch.Generator().manual_seed(seed), ((4, 5), (3, 7), (6, 3))[seed % 3]
    rewards = torch.randn(b, generator=g) + torch.arange(b)
    logps = -0.1 - 3 * torch.rand(b, t, generator=g)
    return {"logps": logps, "rewards": rewards, "mask": _lengths(b, t, g)}


def _random_groups(seed: int) -> dict[str, Any]:
    """No group has equal rewards, because that case is an edge."""
    g, (n, size) = torch.Generator().manual_seed(seed), ((3, 4), (4, 3), (2, 5))[seed % 3]
    level = torch.arange(n)[:, None] * (1 + seed // 6)
    spread = 0.05 + torch.rand(n, 1, generator=g)
    rewards = level + spread * (torch.randn(n, size, generator=g) + torch.arange(size))
    return {"rewards": rewards.flatten(), "group_size": size}


def _random_batch(seed: int) -> dict[str, Any]:
    """Ratios inside and outside the bounds, and a reference that isn't the sampling policy."""
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
            "the mean reward is 4, and the log-probs of the answers are -3, -9 and -2: "
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
                "equal answers are neither better nor worse than each other: 0, 0",
            ),
            "If all rewards in a group are equal, the standard deviation is 0, and 0 / 0 is nan. "
            "The small number in the divisor makes it 0.",
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
            "one answer with three tokens and one with two, ratios to old [0.5, 1.5, 1] [1.5, 2], "
            "to ref [2, 2, 1] [1, 2], advantages [2, -2], clip 0.2 and beta 0.1",
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
            "an answer with one token, ratio to old and to ref 0.5, advantage -2, the defaults",
            {
                "logps": torch.tensor([[0.5]]).log() - 3,
                "advantages": torch.tensor([-2.0]),
                "mask": torch.tensor([[1]]),
                "old_logps": torch.tensor([[-3.0]]),
                "ref_logps": torch.tensor([[-3.0]]),
            },
            "the smaller of 0.5 * -2 = -1 and 0.8 * -2 = -1.6; beta is 0, so there is no KL",
        ),
    ),
    random=_random_batch,
    plain=mistakes_grpo.grpo_loss,
    mistakes=mistakes_grpo.GRPO_LOSS,
    axes={"logps": "bt", "advantages": "b", "mask": "bt", "old_logps": "bt", "ref_logps": "bt"},
    gradients=("logps",),
)
