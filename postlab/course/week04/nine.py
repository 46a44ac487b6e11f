"""The world of nine replies: one prompt, replies of two letters, everything known exactly.

There are few enough replies that an expectation is a sum, so the optimum of the KL-regularised
objective has a value one can compare with. Left out: more than one prompt, and replies that end
early.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from postlab.scratch.ppo import ValueHead
from postlab.scratch.sampling import Rollouts, TableLM, completion_states, pack
from postlab.scratch.tokens import token_logps

BETA = 0.3
LETTERS = "abc"
REWARDS = (0.1, 0.9, 0.3, 0.5, 0.0, 0.7, 0.2, 0.4, 1.0)
LOGITS = ((0.0, 0.6, -0.6), (0.9, 0.0, -0.9), (-0.5, 0.5, 0.0), (0.3, 0.3, -0.3))  # last: the start

RewardStep = Callable[[Tensor, Tensor, Tensor, torch.optim.Optimizer], None]
PolicyStep = Callable[..., None]


@dataclass(frozen=True)
class NineReplies:
    """The world, as a notebook shows it.

    Args:
        replies: aa, ab, ..., cc.
        rewards: (9,), what the judge's choices come from.
        start: the reference policy, a table of logits.
        everything: the nine replies as one batch.
    """

    replies: tuple[str, ...]
    rewards: Tensor
    start: TableLM
    everything: Rollouts


def nine_replies() -> NineReplies:
    """The world of nine replies.

    >>> nine_replies().replies[:4], probabilities(nine_replies().start)[1].round(decimals=2)
    (('aa', 'ab', 'ac', 'ba'), tensor(0.2100))
    """
    replies = tuple(first + second for first in LETTERS for second in LETTERS)
    start = TableLM(len(LETTERS))
    start.table.weight.data = torch.tensor(LOGITS)
    codes = [[LETTERS.index(letter) for letter in reply] for reply in replies]
    everything = pack([[start.start]] * len(replies), codes)
    return NineReplies(replies, torch.tensor(REWARDS), start.requires_grad_(False), everything)


def probabilities(policy: Any) -> Tensor:
    """Of each of the nine replies, (9,), under a policy of this world."""
    codes = [[first, second] for first in range(3) for second in range(3)]
    batch = pack([[len(LETTERS)]] * len(codes), codes)
    with torch.no_grad():
        logits, _ = completion_states(policy, batch)
        return token_logps(logits, batch.completions).sum(dim=1).exp()


def closed_form(rewards: Tensor, ref: Tensor, beta: float) -> Tensor:
    """The policy that maximises E[reward] - beta KL(policy || ref): ref e^(reward / beta) / Z.

    >>> closed_form(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), 1e9)
    tensor([0.5000, 0.5000])
    """
    return (ref.log() + rewards / beta).softmax(-1)


def total_variation(p: Tensor, q: Tensor) -> float:
    """The share of probability in the wrong place: half the sum of the absolute differences."""
    return 0.5 * float((p - q).abs().sum())


def comparisons(
    n: int, generator: torch.Generator, *, rewards: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """n random pairs as a Bradley-Terry judge decides them: winners (n,) and losers (n,).

    Args:
        rewards: (9,), what the judge goes by; by default the world's.
    """
    first = torch.randint(9, (n,), generator=generator)
    second = (first + torch.randint(1, 9, (n,), generator=generator)) % 9
    rewards = torch.tensor(REWARDS) if rewards is None else rewards
    wins = torch.rand(n, generator=generator) < torch.sigmoid(rewards[first] - rewards[second])
    return first.where(wins, second), second.where(wins, first)


def learn_rewards(
    step: RewardStep, *, seed: int = 0, steps: int = 150, batch: int = 8192
) -> Tensor:
    """Train nine rewards with a learner's step, on fresh comparisons each time; (9,), mean 0."""
    generator = torch.Generator().manual_seed(seed)
    rewards = nn.Parameter(torch.zeros(9))
    optimizer = torch.optim.Adam([rewards], lr=0.05)
    for done in range(steps):
        _set_rate(optimizer, 0.05 * (1 - done / steps))
        step(rewards, *comparisons(batch, generator), optimizer)
    return (rewards - rewards.mean()).detach()


def train_policy(
    step: PolicyStep, rewards: Tensor, *, beta: float = BETA, seed: int = 0, steps: int = 120
) -> tuple[TableLM, ValueHead]:
    """Train a policy with a learner's step, on 256 fresh samples each time, scored by `rewards`.

    Returns:
        The policy and its critic after the last step.
    """
    world, generator = nine_replies(), torch.Generator().manual_seed(seed)
    policy, critic = TableLM(3), ValueHead(4)
    policy.load_state_dict(world.start.state_dict())
    optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=0.05)
    for done in range(steps):
        _set_rate(optimizer, 0.05 * (1 - done / steps))
        # Sampling from the nine probabilities is sampling from the policy, without its loop.
        index = torch.multinomial(probabilities(policy), 256, replacement=True, generator=generator)
        step(
            policy, critic, world.everything.rows(index), rewards[index],
            ref=world.start, beta=beta, optimizer=optimizer,
        )  # fmt: skip
    return policy, critic


def _set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """By hand: PyTorch's schedules warn when a learner's step forgets `optimizer.step()`."""
    for group in optimizer.param_groups:
        group["lr"] = lr
