"""Losses for policies that learn from their own samples: the parts of PPO and GRPO.

Credit (`gae`, `group_advantages`), the clipped loss of a token, what a batch makes of it, and the
pull to the reference (`kl_estimate`). `scratch.losses` hands these on with the other losses.

Left out: sequence-level ratios (GSPO), two-sided clipping, correction for an inference engine's own
log-probs, and groups in which some answer could not be scored.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.scratch.shapes import check_mask, check_range, check_same, choose
from postlab.scratch.tokens import masked_mean, masked_sum


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> Tensor:
    """How much better each token did than the critic expected, looking ahead through lam.

    1. The surprise at t is delta_t = r_t + gamma V_{t+1} - V_t. After a completion's last token the
       value is 0.
    2. The advantage is the sum of the surprises from t on, each weighted by another factor
       gamma * lam for every step ahead: A_t = delta_t + gamma lam A_{t+1}.

    lam = 0 trusts the critic (one surprise), 1 the rewards (return less V_t).

    Args:
        rewards, values: (B, T).
        mask: (B, T), 1 on completion tokens.
        gamma, lam: 0 to 1.
    Returns:
        (B, T), 0 where mask is 0. Add values for what the critic should have said.
    Raises:
        ValueError: if shapes differ, mask selects no token, or gamma or lam is out of range.
    Source: Schulman et al. 2015, arXiv 1506.02438, eq. 16. Taught in week 4.

    >>> rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.full((1, 3), 0.5)
    >>> gae(rewards, values, torch.ones(1, 3), gamma=1.0, lam=0.5)  # 1 - 0.5, then halved
    tensor([[0.1250, 0.2500, 0.5000]])
    """
    check_same(rewards=rewards, values=values, mask=mask, dims=2)
    check_mask(values, mask, needed=True)
    check_range("gamma", gamma, low=0, high=1)
    check_range("lam", lam, low=0, high=1)
    # Padding earns nothing and is worth nothing, so the value after the last token is 0.
    rewards, values = (x.masked_fill(mask == 0, 0) for x in (rewards, values))
    # 1. The surprise at each token: delta_t = r_t + gamma V_{t+1} - V_t.
    delta = rewards + gamma * F.pad(values[:, 1:], (0, 1)) - values  # (B, T)
    # 2. The sum of eq. 16, from the last token back: A_t = delta_t + gamma lam A_{t+1}.
    advantage = torch.zeros_like(values[:, 0])  # (B,), of the token after t
    advantages = []
    for t in reversed(range(values.shape[1])):
        advantage = (delta[:, t] + gamma * lam * advantage) * mask[:, t]
        advantages.append(advantage)
    return torch.stack(advantages[::-1], dim=1)


def group_advantages(
    rewards: Tensor, group_size: int, *, scale: str = "group", eps: float = 1e-4
) -> Tensor:
    """GRPO's credit: how much better than its siblings, the answers to the same prompt, one did.

    Args:
        rewards: (B,), the groups one after another.
        group_size: G answers to each prompt.
        scale: divide by the standard deviation (n - 1) of the group, of the batch, or by nothing
            (`none`, Dr. GRPO).
        eps: added to the standard deviation, so that equal rewards give 0.
    Returns:
        (B,), of mean 0 in each group.
    Raises:
        ValueError: if groups do not divide B, rewards are not finite, or scale is unknown.
    Source: Shao et al. 2024, arXiv 2402.03300, section 4.1; `none`: Liu et al. 2025, arXiv
        2503.20783; `batch`: Liu et al. 2025, arXiv 2508.08221. Taught in week 7.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), 4)  # (1 - 1/4) / 1/2 and -1/4 / 1/2
    tensor([ 1.4997, -0.4999, -0.4999, -0.4999])
    """
    if rewards.ndim != 1 or group_size < 2 or not len(rewards) or len(rewards) % group_size:
        raise ValueError(
            f"rewards have shape {tuple(rewards.shape)} and group_size is {group_size}; expected"
            " (B,) with B a multiple of group_size, and groups of two or more"
        )
    if not rewards.isfinite().all():
        raise ValueError("rewards hold NaN or infinity; leave out groups that cannot be scored")
    groups = rewards.view(-1, group_size)  # (B / G, G)
    # 1. The baseline is the group's mean, which takes the place of PPO's critic.
    centred = groups - groups.mean(dim=1, keepdim=True)
    # 2. The scale. Dr. GRPO leaves it out, because dividing by the group's own deviation gives
    #    groups with nearly equal rewards (very easy or very hard prompts) more weight.
    if choose("scale", scale, ("group", "batch", "none")) == "group":
        centred = centred / (groups.std(dim=1, keepdim=True) + eps)
    elif scale == "batch":
        centred = centred / (rewards.std() + eps)
    return centred.flatten()


def clipped_policy_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> tuple[Tensor, Tensor]:
    """PPO's and GRPO's loss of each token, -min(ratio A, clip(ratio) A), ratio = policy / old.

    1. The ratio policy / old, per token.
    2. The same ratio, clipped to 1 - clip_low to 1 + clip_high.
    3. Minus the smaller of the two products with the advantage A.

    Where it is clipped it has no gradient: the policy has gone as far in the advantage's direction
    as these samples allow. No gradient flows to old_logps or advantages, so the first step may pass
    the same log-probs twice.

    Args:
        logps: (B, T) nats, under the policy.
        old_logps: (B, T) nats, under the policy that sampled.
        advantages: (B, T), or (B,) for one a sequence.
        clip_low, clip_high: the ratio counts from 1 - clip_low to 1 + clip_high.
    Returns:
        loss (B, T) and clipped (B, T) bool, for `masked_mean` or `reduce_token_loss`.
    Raises:
        ValueError: if the shapes do not fit, or a bound is out of range.
    Source: Schulman et al. 2017, arXiv 1707.06347, eq. 7; clip_high > clip_low: Yu et al. 2025,
        arXiv 2503.14476, eq. 10. Taught in weeks 4 and 7.

    >>> ratio = torch.tensor([[1.5, 1.5]])
    >>> clipped_policy_loss(ratio.log(), torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]))
    (tensor([[-1.2000,  1.5000]]), tensor([[ True, False]]))
    """
    check_same(logps=logps, old_logps=old_logps)
    if advantages.shape not in (logps.shape, logps.shape[:1]):
        raise ValueError(
            f"advantages have shape {tuple(advantages.shape)}, logps {tuple(logps.shape)};"
            " expected the same (B, T), or (B,) for one a sequence"
        )
    check_range("clip_low", clip_low, above=0, below=1)
    check_range("clip_high", clip_high, above=0)
    # (B, T), or (B, 1) if there is one per sequence
    adv = (advantages if advantages.shape == logps.shape else advantages[:, None]).detach()
    # 1. The ratio of new to old probability corrects for samples that come from an older policy.
    ratio = (logps - old_logps.detach()).exp()  # (B, T)
    # 2. The clip limits how far these samples can move the policy.
    near = ratio.clamp(1 - clip_low, 1 + clip_high)
    # 3. The minimum is pessimistic: the clip can take a gain away, but it never hides a loss.
    loss = -torch.minimum(ratio * adv, near * adv)
    # A token loses its gradient only if its ratio went too far in its advantage's direction.
    clipped = torch.where(adv > 0, ratio > 1 + clip_high, (adv < 0) & (ratio < 1 - clip_low))
    return loss, clipped


def reduce_token_loss(
    loss: Tensor,
    mask: Tensor,
    *,
    how: str,
    max_length: int | None = None,
    num_tokens: int | Tensor | None = None,
) -> Tensor:
    """From a loss a token to the batch's: how much should a token of a long answer weigh?

    `grpo` takes the mean of each answer, then of the answers: in a long one a token weighs less.
    `bnpo` is the mean over the tokens of this batch, `dapo` divides their sum by the tokens of the
    whole generation batch, so that micro-batches add up, and `dr_grpo` by B * max_length.

    Args:
        loss, mask: (B, T).
        how: grpo, bnpo, dapo or dr_grpo.
        max_length: the most tokens a completion may have; for dr_grpo.
        num_tokens: completion tokens in the whole generation batch; for dapo.
    Returns:
        ().
    Raises:
        ValueError: if the shapes differ, mask selects no token (for grpo: in some row), how is
            unknown, or what it divides by was not given.
    Source: Shao et al. 2024, arXiv 2402.03300, eq. 3; Yu et al. 2025, arXiv 2503.14476, eq. 12;
        Liu et al. 2025, arXiv 2503.20783. Taught in weeks 7 and 8.

    >>> loss = torch.tensor([[1.0, 1.0, 1.0], [5.0, 0.0, 0.0]])
    >>> mask, limits = torch.tensor([[1, 1, 1], [1, 0, 0]]), dict(max_length=8, num_tokens=16)
    >>> [float(reduce_token_loss(loss, mask, how=how, **limits)) for how in ("grpo", "bnpo")]
    [3.0, 2.0]
    >>> [float(reduce_token_loss(loss, mask, how=how, **limits)) for how in ("dapo", "dr_grpo")]
    [0.5, 0.5]
    """
    check_mask(loss, mask, dim=1 if how == "grpo" else None, needed=True)
    if choose("how", how, ("grpo", "bnpo", "dapo", "dr_grpo")) == "grpo":
        return masked_mean(loss, mask, dim=1).mean()
    if how == "bnpo":
        return masked_mean(loss, mask)
    if how == "dapo":
        if num_tokens is None or num_tokens <= 0:
            raise ValueError(
                f"num_tokens is {num_tokens}; dapo needs the completion tokens of the whole"
                " generation batch: int(mask.sum()) if that is all of it"
            )
        return masked_sum(loss, mask, divisor=num_tokens)
    longest = int(mask.sum(dim=1).max())
    if max_length is None or max_length < longest:
        raise ValueError(
            f"max_length is {max_length} and the longest completion has {longest} tokens; dr_grpo"
            " needs the limit that completions were sampled with"
        )
    return masked_sum(loss, mask, divisor=len(loss) * max_length)


def kl_estimate(logps: Tensor, ref_logps: Tensor, *, kind: str = "k3") -> Tensor:
    """Estimate KL(policy || ref) token by token, on tokens sampled from the policy.

    With d = logps - ref_logps: k1 = d has no bias, but many values below 0; k2 = d^2 / 2 is biased
    and never negative; k3 = e^-d - 1 + d has no bias and is never negative. As a loss the tables
    turn: the gradient of k2 is on average that of the token's KL, k1's is 0, and k3's that of the
    other direction, KL(ref || policy), unless it is multiplied by the ratio policy / sampler with
    its gradient (TRL's default). k1 in the reward is right too, and unlike any of them as a loss it
    also counts what a token does to the KL of later ones.

    Args:
        logps, ref_logps: one shape, nats, of the same sampled tokens.
        kind: k1, k2 or k3.
    Returns:
        As logps, nats.
    Raises:
        ValueError: if the shapes differ or kind is unknown.
    Source: Schulman 2020, joschu.net/blog/kl-approx.html; as a loss: Liu et al. 2025, arXiv
        2510.01555; times the ratio: DeepSeek-AI 2025, arXiv 2512.02556. Taught in weeks 4 and 7.

    >>> logps, ref_logps = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()  # d = log 2
    >>> [round(float(kl_estimate(logps, ref_logps, kind=k)), 4) for k in ("k1", "k2", "k3")]
    [0.6931, 0.2402, 0.1931]
    """
    check_same(logps=logps, ref_logps=ref_logps)
    # The ratio ref / policy of the sampled token is e^-d.
    d = logps - ref_logps
    if kind == "k1":
        return d
    if kind == "k2":
        return d**2 / 2
    choose("kind", kind, ("k1", "k2", "k3"))
    return torch.expm1(-d) + d  # e^-d - 1 + d; expm1 is exact where d is close to 0
