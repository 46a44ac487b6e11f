"""Week 4: the reward model's loss, advantages, the clipped policy loss, and DPO."""

from __future__ import annotations

from typing import Any

import torch

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week04 import mistakes_clip, mistakes_gae, mistakes_pairs
from postlab.scratch.losses import bradley_terry_loss, clipped_policy_loss, dpo_loss, gae

LOGSIGMOID = (
    "The loss has to stay exact where a probability is too small for a float: F.logsigmoid does "
    "sigmoid and log in one step, so you don't need a clamp."
)


def _random_rewards(seed: int) -> dict[str, Any]:
    g, n = torch.Generator().manual_seed(seed), (3, 5, 2)[seed % 3]
    chosen, rejected = 2 * torch.randn(2, n, generator=g)
    return {"chosen_rewards": chosen, "rejected_rewards": rejected}


def _random_episodes(seed: int) -> dict[str, Any]:
    """Completions of unequal length, with values other than zero in the padding."""
    g, (b, t) = torch.Generator().manual_seed(seed), ((3, 5), (2, 7), (4, 3))[seed % 3]
    rewards, values = torch.randn(2, b, t, generator=g)
    lengths = torch.randint(1, t + 1, (b, 1), generator=g)
    lengths[0], lengths[1] = t, t - 1 - seed // 6
    mask = (torch.arange(t) < lengths).long()
    draw = torch.rand(2, generator=g)
    gamma, lam = (0.5 + 0.4 * draw).tolist()
    return {"rewards": rewards, "values": values, "mask": mask, "gamma": gamma, "lam": lam}


def _random_ratios(seed: int) -> dict[str, Any]:
    g, (b, t) = torch.Generator().manual_seed(seed), ((3, 5), (2, 7), (4, 3))[seed % 3]
    old_logps = -3 * torch.rand(b, t, generator=g)
    logps = old_logps + 0.5 * torch.randn(b, t, generator=g)
    advantages = torch.randn(b, t, generator=g)
    bounds = {"clip_low": 0.1 + 0.1 * (seed // 6), "clip_high": 0.3 + 0.1 * (seed // 6)}
    return {"logps": logps, "old_logps": old_logps, "advantages": advantages} | bounds


def _random_pairs(seed: int) -> dict[str, Any]:
    g, n = torch.Generator().manual_seed(seed), (3, 5, 2)[seed % 3]
    policy = -20 * torch.rand(2, n, generator=g)
    ref = policy + 3 * torch.randn(2, n, generator=g)
    return {
        "policy_chosen": policy[0],
        "policy_rejected": policy[1],
        "ref_chosen": ref[0],
        "ref_rejected": ref[1],
        "beta": (0.1, 0.5, 0.25)[seed % 3] * (1 + seed // 6),
    }


def _pairs(*rows: list[float], **beta: float) -> dict[str, Any]:
    names = ("policy_chosen", "ref_chosen", "policy_rejected", "ref_rejected")
    return {name: torch.tensor(row) for name, row in zip(names, rows, strict=True)} | beta


BRADLEY_TERRY_LOSS = Exercise(
    name="bradley_terry_loss",
    reference=bradley_terry_loss,
    positional=("chosen_rewards", "rejected_rewards"),
    cases=(
        Case(
            "chosen rewards log 3, 2, 0 against rejected rewards 0, 2, log 3",
            {
                "chosen_rewards": torch.tensor([3.0, 1, 1]).log() + torch.tensor([0.0, 2, 0]),
                "rejected_rewards": torch.tensor([1.0, 1, 3]).log() + torch.tensor([0.0, 2, 0]),
            },
            "-log of 3/4, 1/2, 1/4",
        ),
    ),
    random=_random_rewards,
    plain=mistakes_pairs.bradley_terry_loss,
    mistakes=mistakes_pairs.BRADLEY_TERRY_LOSS,
    axes={"chosen_rewards": "b", "rejected_rewards": "b"},
    edges=(
        Edge(
            "overflow",
            Case(
                "a chosen reward of -200 against 0",
                {
                    "chosen_rewards": torch.tensor([-200.0]),
                    "rejected_rewards": torch.tensor([0.0]),
                },
                "log(1 + e^200)",
            ),
            LOGSIGMOID,
            (
                "F.logsigmoid(margin) -> torch.sigmoid(margin).log()",
                "F.logsigmoid(margin) -> (torch.sigmoid(margin) + 1e-12).log()",
            ),
        ),
    ),
    gradients=("chosen_rewards", "rejected_rewards"),
)
GAE = Exercise(
    name="gae",
    reference=gae,
    positional=("rewards", "values", "mask"),
    cases=(
        Case(
            "rewards [0, 0, 1] [1, 7, 3], values [.5, .5, .5] [.5, 9, 4], mask [1, 1, 1] "
            "[1, 0, 0], gamma 1 and lam .5",
            {
                "rewards": torch.tensor([[0.0, 0, 1], [1, 7, 3]]),
                "values": torch.tensor([[0.5, 0.5, 0.5], [0.5, 9, 4]]),
                "mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
                "gamma": 1.0,
                "lam": 0.5,
            },
            "the last token did 1 - .5 better than its value; half of that goes to the one before, "
            "a quarter to the one before that",
        ),
        Case(
            "rewards [0, 1, 1], values [0, .5, .5], mask [1, 1, 1], gamma .5 and lam 1",
            {
                "rewards": torch.tensor([[0.0, 1, 1]]),
                "values": torch.tensor([[0.0, 0.5, 0.5]]),
                "mask": torch.tensor([[1, 1, 1]]),
                "gamma": 0.5,
                "lam": 1.0,
            },
            "0 + .5 * .5 - 0, 1 + .5 * .5 - .5 and 1 - .5, summed from the end with weight .5 * 1",
        ),
    ),
    random=_random_episodes,
    plain=mistakes_gae.gae,
    mistakes=mistakes_gae.GAE,
    axes={"rewards": "bt", "values": "bt", "mask": "bt"},
)
CLIPPED_POLICY_LOSS = Exercise(
    name="clipped_policy_loss",
    reference=clipped_policy_loss,
    positional=("logps", "old_logps", "advantages"),
    cases=(
        Case(
            "probability ratios [1.5, 1.5, 0.5, 0.5, 1.1] and advantages [1, -1, 1, -1, 2], bounds "
            "left out",
            {
                "logps": torch.tensor([[1.5, 1.5, 0.5, 0.5, 1.1]]).log() - 1,
                "old_logps": torch.tensor([[-1.0, -1, -1, -1, -1]]),
                "advantages": torch.tensor([[1.0, -1, 1, -1, 2]]),
            },
            "clipped to 1.2 where the advantage is positive, to 0.8 where it is negative",
        ),
        Case(
            "probability ratios [1.5, 0.5], advantages [1, -1], clip_low 0.1 and clip_high 0.4",
            {
                "logps": torch.tensor([[1.5, 0.5]]).log() - 1,
                "old_logps": torch.tensor([[-1.0, -1]]),
                "advantages": torch.tensor([[1.0, -1]]),
                "clip_low": 0.1,
                "clip_high": 0.4,
            },
            "clipped to 1.4 and 0.9",
        ),
    ),
    random=_random_ratios,
    plain=mistakes_clip.clipped_policy_loss,
    mistakes=mistakes_clip.CLIPPED_POLICY_LOSS,
    axes={"logps": "bt", "old_logps": "bt", "advantages": "bt"},
    outputs=("loss", "clipped"),
    gradients=("logps",),
)
DPO_LOSS = Exercise(
    name="dpo_loss",
    reference=dpo_loss,
    positional=(),
    cases=(
        Case(
            "policy_chosen [-10, -9], ref_chosen [-12, -8], policy_rejected [-12, -7], "
            "ref_rejected [-11, -7], beta left out",
            _pairs([-10.0, -9], [-12.0, -8], [-12.0, -7], [-11.0, -7]),
            "margins 2 - (-1) = 3 and -1 - 0 = -1; -log sigmoid of 0.3 and of -0.1",
        ),
        Case(
            "policy_chosen [-10, -9], ref_chosen [-12, -8], policy_rejected [-12, -7], "
            "ref_rejected [-11, -7], beta 0.5",
            _pairs([-10.0, -9], [-12.0, -8], [-12.0, -7], [-11.0, -7], beta=0.5),
            "-log sigmoid of 1.5 and of -0.5",
        ),
    ),
    random=_random_pairs,
    plain=mistakes_pairs.dpo_loss,
    mistakes=mistakes_pairs.DPO_LOSS,
    axes=dict.fromkeys(("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected"), "b"),
    edges=(
        Edge(
            "overflow",
            Case(
                "policy_chosen -2000 and the other log-probs 0, beta 0.1",
                _pairs([-2000.0], [0.0], [0.0], [0.0], beta=0.1),
                "log(1 + e^200)",
            ),
            LOGSIGMOID,
            (
                "loss = -F.logsigmoid(beta * (chosen - rejected)) -> "
                "loss = -torch.sigmoid(beta * (chosen - rejected)).log()",
            ),
        ),
    ),
    gradients=("policy_chosen", "policy_rejected"),
)
