"""Losses for SFT, reward models and DPO, and PPO's parts re-exported; GRPO's loss is in grpo.py.

Each is the formula and its checks, and agrees with TRL's trainers, value and gradient.

Left out: what a trainer does around a loss (batching, accumulation, sums over devices), and the
many relatives of DPO beyond the three that the course compares.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.scratch.policy_gradient import (
    clipped_policy_loss,
    gae,
    group_advantages,
    kl_estimate,
    reduce_token_loss,
)
from postlab.scratch.shapes import check_mask, check_range, check_same, choose
from postlab.scratch.tokens import entropy, masked_mean, masked_sum, token_logps

__all__ = [
    "bradley_terry_loss",
    "clipped_policy_loss",
    "dpo_loss",
    "entropy",
    "gae",
    "group_advantages",
    "kl_estimate",
    "masked_mean",
    "masked_sum",
    "reduce_token_loss",
    "sft_loss",
    "token_logps",
]


def sft_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the trained tokens: the mean over all of them in the batch.

    A long reply counts for more than a short one. With gradient accumulation the mean is over the
    tokens of all micro-batches, which is not the mean of their means.

    Args:
        logits: (B, T, V), already aligned with labels.
        labels: (B, T); anything, such as -100, where mask is 0.
        mask: (B, T), 1 on trained tokens.
    Returns:
        () nats a token.
    Raises:
        ValueError: if the shapes do not fit, or mask selects no token.
    Source: Ouyang et al. 2022, arXiv 2203.02155, section 3.5. Taught in week 1.

    >>> logits = torch.tensor([[[1.0, 1.0], [1.0, 7.0]]]).log()
    >>> loss = sft_loss(logits, torch.tensor([[0, 0]]), torch.ones(1, 2))
    >>> loss / torch.tensor(2.0).log()  # -log 1/2 and -log 1/8: 1 and 3 bits
    tensor(2.)
    """
    check_mask(labels, mask, needed=True)
    # -100 is not a token id; any valid id can replace it, because the mask excludes that position.
    return -masked_mean(token_logps(logits, labels.masked_fill(mask == 0, 0)), mask)


def bradley_terry_loss(
    chosen_rewards: Tensor, rejected_rewards: Tensor, *, margin: Tensor | None = None
) -> Tensor:
    """Reward model's loss, -log P(chosen beats rejected) with P = sigmoid(difference - margin).

    Args:
        chosen_rewards, rejected_rewards: (B,) scores; only their difference counts.
        margin: (B,) by how much chosen should win.
    Returns:
        (B,) nats a pair.
    Raises:
        ValueError: if the shapes differ.
    Source: Ouyang et al. 2022, arXiv 2203.02155, eq. 1; margin: Touvron et al. 2023, arXiv
        2307.09288, eq. 2. Taught in week 4.

    >>> odds = torch.tensor([3.0, 1.0])  # e^difference: 3 to 1 and even
    >>> (-bradley_terry_loss(odds.log(), torch.zeros(2))).exp()
    tensor([0.7500, 0.5000])
    """
    margin = torch.zeros_like(chosen_rewards) if margin is None else margin
    check_same(
        chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards, margin=margin, dims=1
    )
    return -F.logsigmoid(chosen_rewards - rejected_rewards - margin)


def dpo_loss(
    *,
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    kind: str = "sigmoid",
) -> Tensor:
    """A reward model's loss whose reward is beta * log(policy / ref): no reward model, no sampling.

    1. The margin h = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected).
    2. The loss of h: `sigmoid` is -log sigmoid(beta h), `hinge` max(0, 1 - beta h), `ipo`
       (h - 1 / (2 beta))^2.

    Args:
        policy_chosen, policy_rejected, ref_chosen, ref_rejected: (B,) nats, sums over the tokens of
            a completion; for `ipo` their means per token, as TRL does.
        beta: strength of the pull to ref; usually 0.01 to 0.5.
        label_smoothing: share of labels taken to be the wrong way round (cDPO); `sigmoid` only.
        kind: sigmoid, ipo or hinge.
    Returns:
        (B,) a pair.
    Raises:
        ValueError: if shapes differ, or beta, label_smoothing or kind is not one of the above.
    Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7; Azar et al. 2023, arXiv 2310.12036,
        eq. 17 (ipo); Liu et al. 2023, arXiv 2309.06657 (hinge); Mitchell 2023, 'A note on DPO with
        noisy preferences' (label_smoothing). Taught in week 4.

    >>> chosen, rest = torch.tensor([9.0]).log(), torch.zeros(1)
    >>> pairs = dict(policy_rejected=rest, ref_chosen=rest, ref_rejected=rest)
    >>> (-dpo_loss(policy_chosen=chosen, beta=0.5, **pairs)).exp()  # 9^0.5 to 1 are odds of 3 to 1
    tensor([0.7500])
    """
    policy = {"policy_chosen": policy_chosen, "policy_rejected": policy_rejected}
    check_same(**policy, ref_chosen=ref_chosen, ref_rejected=ref_rejected, dims=1)
    check_range("beta", beta, above=0)
    check_range("label_smoothing", label_smoothing, low=0, below=0.5)
    if label_smoothing and kind != "sigmoid":
        raise ValueError(f"label_smoothing is for kind='sigmoid'; with {kind!r} leave it at 0")
    # 1. The margin of the implicit rewards over beta. The partition function of eq. 5 is the same
    #    for both completions of a prompt, so it cancels in their difference.
    h = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)  # (B,)
    # 2. The loss of the margin.
    if kind == "sigmoid":
        flipped = label_smoothing * F.logsigmoid(-beta * h)
        return -(1 - label_smoothing) * F.logsigmoid(beta * h) - flipped
    if kind == "ipo":  # a finite target for h, 1 / (2 beta), instead of a push without end
        return (h - 1 / (2 * beta)) ** 2
    choose("kind", kind, ("sigmoid", "ipo", "hinge"))
    return F.relu(1 - beta * h)
