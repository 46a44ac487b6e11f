"""The build's two steps, assembled: what the notebook uses where the learner's are wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from postlab.scratch.losses import (
    bradley_terry_loss,
    clipped_policy_loss,
    gae,
    masked_mean,
    token_logps,
)
from postlab.scratch.ppo import token_rewards
from postlab.scratch.sampling import Rollouts, completion_states


def reward_model_step(
    rewards: Tensor, won: Tensor, lost: Tensor, optimizer: torch.optim.Optimizer
) -> None:
    """One update of the reward model on a batch of comparisons.

    Args:
        rewards: (9,), one trainable number for each reply.
        won, lost: (B,) indices: reply won[i] was preferred to reply lost[i].
    """
    loss = bradley_terry_loss(rewards[won], rewards[lost]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def ppo_step(
    policy: Any,
    critic: Any,
    batch: Rollouts,
    scores: Tensor,
    *,
    ref: Any,
    beta: float,
    optimizer: torch.optim.Optimizer,
) -> None:
    """One PPO step of policy and critic on replies that the policy has just sampled.

    Args:
        scores: (B,) of the reward model.
        optimizer: holds the parameters of policy and critic.
    """
    # 1. What the three models say of the samples before anything moves.
    with torch.no_grad():
        logits, hidden = completion_states(policy, batch)
        old_logps, values = token_logps(logits, batch.completions), critic(hidden)
        ref_logps = token_logps(completion_states(ref, batch)[0], batch.completions)
    # 2. Rewards of the tokens, then credit.
    rewards = token_rewards(scores, batch.mask, logps=old_logps, ref_logps=ref_logps, beta=beta)
    advantages = gae(rewards, values, batch.mask, gamma=1.0, lam=0.95)
    returns = advantages + values
    # 3. Two updates on the same samples.
    for _ in range(2):
        logits, hidden = completion_states(policy, batch)
        logps = token_logps(logits, batch.completions)
        loss, _ = clipped_policy_loss(logps, old_logps, advantages)
        errors = (critic(hidden) - returns) ** 2 / 2
        optimizer.zero_grad()
        masked_mean(loss + errors, batch.mask).backward()
        optimizer.step()
