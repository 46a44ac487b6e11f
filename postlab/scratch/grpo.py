"""GRPO's loss, and the one it comes from: REINFORCE with a baseline.

What GRPO keeps of PPO is the ratio, the clip and the pull to a reference; what it drops is the
critic, and with it `gae`: an answer's credit is `group_advantages`, the same for all its tokens.

Left out: the loop; other ways to weigh long answers
(`policy_gradient.reduce_token_loss`), ratios of whole sequences, and an inference engine's own
log-probs. The KL term is the paper's, k3 without a ratio; TRL 1.14's default multiplies it by the
ratio policy / sampler, so that its gradient is the KL's own.
"""

from __future__ import annotations

from torch import Tensor

from postlab.scratch.policy_gradient import clipped_policy_loss, kl_estimate
from postlab.scratch.shapes import check_mask, check_range, check_same
from postlab.scratch.tokens import masked_mean


def reinforce_loss(logps: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
    """A loss whose gradient is the policy gradient: log-prob of each answer times its surplus.

    The mean reward of the batch is the baseline: it changes no expected gradient (by the factor
    1 - 1/B, as an answer's own reward is in it) and takes away noise.

    Args:
        logps: (B, T) nats of the sampled tokens, under the policy that sampled them.
        rewards: (B,).
        mask: (B, T), 1 on completion tokens.
    Returns:
        (), the mean over answers of -(reward - mean reward) * log-prob of the answer. Its value
        says nothing; its gradient does.
    Raises:
        ValueError: if the shapes do not fit.
    Source: Williams 1992, 'Simple statistical gradient-following algorithms for connectionist
        reinforcement learning'. Taught in week 7.

    >>> import torch
    >>> logps, mask = torch.tensor([[-1.0, -2.0], [-4.0, 0.0]]), torch.tensor([[1, 1], [1, 0]])
    >>> reinforce_loss(logps, torch.tensor([1.0, 0.0]), mask)  # (1/2 * 3 - 1/2 * 4) / 2
    tensor(-0.2500)
    """
    check_mask(logps, mask, needed=True)
    check_same(rewards=rewards, answers=logps[:, 0], dims=1)
    # 1. The reward minus the baseline is a weight: no gradient flows through it.
    surplus = (rewards - rewards.mean()).detach()  # (B,)
    # 2. The log-probability of an answer is the sum over its tokens.
    answer_logps = (logps * mask).sum(dim=1)  # (B,)
    # 3. The minus sign, because optimizers minimize.
    return -(surplus * answer_logps).mean()


def grpo_loss(
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old_logps: Tensor,
    ref_logps: Tensor,
    clip: float = 0.2,
    beta: float = 0.0,
) -> Tensor:
    """GRPO's loss for a batch: clipped, with a KL penalty, averaged per answer first.

    1. The clipped policy loss of each token.
    2. Plus beta times the estimate k3 of KL(policy || ref).
    3. The mean over each answer's tokens, then over the answers.

    Args:
        logps: (B, T) nats, under the policy.
        advantages: (B,), one an answer: `group_advantages`.
        mask: (B, T), 1 on completion tokens.
        old_logps: (B, T) nats, under the policy that sampled.
        ref_logps: (B, T) nats, under the reference.
        clip: the ratio policy / old counts from 1 - clip to 1 + clip.
        beta: weight of k3, an estimate of KL(policy || ref) in nats a token.
    Returns:
        (), the mean over answers of the mean over their tokens.
    Raises:
        ValueError: if the shapes do not fit, mask selects no token in some row, or beta is below 0.
    Source: Shao et al. 2024, arXiv 2402.03300, eq. 3 and 4. Taught in week 7.

    >>> import torch
    >>> logps, mask = torch.zeros(2, 2), torch.tensor([[1, 1], [1, 0]])
    >>> advantages, still = torch.tensor([1.5, -0.5]), dict(old_logps=logps, ref_logps=logps)
    >>> grpo_loss(logps, advantages, mask, **still)  # ratio 1: -(1.5 - 0.5) / 2
    tensor(-0.5000)
    """
    check_same(logps=logps, old_logps=old_logps, ref_logps=ref_logps, dims=2)
    check_mask(logps, mask, dim=1, needed=True)
    check_range("beta", beta, low=0)
    # 1. PPO's clipped loss, with one advantage for all the tokens of an answer.
    loss, _ = clipped_policy_loss(logps, old_logps, advantages, clip_low=clip, clip_high=clip)
    # 2. The KL penalty (eq. 4) is part of the loss; PPO puts it into the reward.
    loss = loss + beta * kl_estimate(logps, ref_logps, kind="k3")  # (B, T)
    # 3. 1/|o_i| within each answer, then 1/G over answers: a token in a long answer counts less.
    return masked_mean(loss, mask, dim=1).mean()
