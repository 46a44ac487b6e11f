"""PPO with a KL penalty, as InstructGPT used it: score, spread the credit, clipped steps, repeat.

What is simpler here than in Ouyang et al. 2022 (arXiv 2203.02155): the critic is a linear head on
the policy's own hidden states, through which it sends no gradient, instead of a second model that
starts from the reward model; beta stays fixed; there is no pretraining term (their PPO-ptx) and no
normalising of scores; one device. A reply cut off by the length limit counts as finished.

Keep policy and reference in eval mode: with dropout the ratio of new to old probability is not 1
before the first update. Models and batches are those of `scratch.sampling`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from postlab.scratch.losses import (
    clipped_policy_loss,
    entropy,
    gae,
    kl_estimate,
    masked_mean,
    token_logps,
)
from postlab.scratch.sampling import Rollouts, completion_states, sample


def token_rewards(
    scores: Tensor, mask: Tensor, *, logps: Tensor, ref_logps: Tensor, beta: float
) -> Tensor:
    """What each token earns: -beta * (log policy - log ref), and the last one the score as well.

    The sum over a completion is score - beta * k1, with k1 the estimate of KL(policy || ref) in
    nats which has no bias on the policy's own samples.

    Args:
        scores: (B,) of the reward model.
        mask: (B, T), 1 on completion tokens.
        logps, ref_logps: (B, T) nats of the sampled tokens, as they were when sampled.
    Returns:
        (B, T), 0 where mask is 0.
    Raises:
        ValueError: if scores are not one finite number a completion.
    Source: Ouyang et al. 2022, arXiv 2203.02155, eq. 2. Taught in week 4.

    >>> logps, ref_logps = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-2.0, -1.0]])
    >>> mask, scores = torch.ones(1, 2), torch.tensor([1.0])
    >>> token_rewards(scores, mask, logps=logps, ref_logps=ref_logps, beta=0.1)
    tensor([[-0.1000,  1.1000]])
    """
    if scores.shape != mask.shape[:1] or not scores.isfinite().all():
        raise ValueError(
            f"scores has shape {tuple(scores.shape)} and {int((~scores.isfinite()).sum())} values "
            f"that are not finite; expected one finite number for each of {len(mask)} completions"
        )
    # 1. The KL penalty applies token by token, where the divergence arises.
    rewards = -beta * kl_estimate(logps, ref_logps, kind="k1") * mask  # (B, T)
    # 2. The reward model scores the whole completion, so its score comes with the last token.
    last = mask.sum(dim=1, keepdim=True).long() - 1  # (B, 1)
    return rewards.scatter_add(1, last, scores[:, None].to(rewards.dtype))


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over the masked tokens of the batch; 0 elsewhere.

    Equal values become 0. The variance is the population's (divided by n, not n - 1).

    >>> whiten(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[1, 1, 0]])).tolist()
    [[-1.0, 1.0, 0.0]]
    """
    centred = x - masked_mean(x, mask)
    return centred * torch.rsqrt(masked_mean(centred**2, mask) + 1e-8) * mask


def clipped_value_loss(
    values: Tensor, returns: Tensor, *, old_values: Tensor, clip: float = 0.2
) -> Tensor:
    """Half the squared error of the critic, (B, T); moving it by more than clip earns nothing.

    Source: the code of Schulman et al. 2017, arXiv 1707.06347; it is not in the paper.

    >>> one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    >>> clipped_value_loss(one, one, old_values=zero)  # counts as 0.2: (0.2 - 1)**2 / 2
    tensor([[0.3200]])
    """
    # The maximum is pessimistic, like the policy's minimum: the clip can only raise the loss.
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Share of the returns' variance that the critic foresaw: 1 all of it, 0 what a constant would.

    >>> mask, returns = torch.ones(1, 2), torch.tensor([[0.0, 2.0]])
    >>> float(explained_variance(torch.tensor([[0.5, 1.5]]), returns, mask))  # 1 - 0.25 / 1
    0.75
    """
    errors, returns = (x - masked_mean(x, mask) for x in (returns - values, returns))
    return 1 - masked_mean(errors**2, mask) / masked_mean(returns**2, mask)


class ValueHead(nn.Module):
    """The critic: what return to expect from here on, (B, T, H) -> (B, T); 0 before training."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden.detach()).squeeze(-1)  # detached: its errors leave the policy be


def ppo_step(
    policy: Any,
    rollouts: Rollouts,
    scores: Tensor,
    *,
    ref: Any,
    value_head: nn.Module,
    optimizer: torch.optim.Optimizer,
    beta: float,
    gamma: float = 1.0,
    lam: float = 0.95,
    clip: float = 0.2,
    epochs: int = 2,
    minibatches: int = 4,
    max_grad_norm: float = 1.0,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Learn from one batch of the policy's own samples.

    1. Log-probs and values of the samples, before any update.
    2. A reward for each token: the KL penalty, plus the score at the last token.
    3. Credit: advantages and returns.
    4. A few clipped updates on the same samples.

    Losses are means over the tokens of a minibatch. The critic's has a weight of 1: it shares no
    parameter with the policy's.

    Args:
        rollouts: B completions that `policy` has just sampled.
        scores: (B,) of the reward model.
        ref: the policy's start, frozen; beta holds KL(policy || ref) down.
        optimizer: a parameter group for the policy and one for the critic.
        clip: of the ratio, and of the critic's move.
        epochs, minibatches: passes over the batch, and updates in each.
    Returns:
        reward (mean score), kl (nats a completion, k1), entropy (nats a token), length (tokens) and
        explained_variance, all before the updates; clip_fraction, policy_loss and value_loss, means
        over the updates.
    Raises:
        ValueError: if scores are not one finite number a completion.
    Source: Schulman et al. 2017, arXiv 1707.06347; Ouyang et al. 2022, arXiv 2203.02155.
    """
    mask = rollouts.mask
    # 1. What policy, critic and reference say of the batch before anything moves.
    with torch.no_grad():
        logits, hidden = completion_states(policy, rollouts)
        logps, values = token_logps(logits, rollouts.completions), value_head(hidden)
        ref_logps = token_logps(completion_states(ref, rollouts)[0], rollouts.completions)
    # 2. The KL penalty at every token, the score at the last.
    rewards = token_rewards(scores, mask, logps=logps, ref_logps=ref_logps, beta=beta)
    # 3. Credit: which token did better than the critic expected?
    advantages = gae(rewards, values, mask, gamma=gamma, lam=lam)
    returns = advantages + values
    old = {"logps": logps, "values": values, "returns": returns}
    old["advantages"] = whiten(advantages, mask)
    # 4. A few clipped steps on the same samples.
    updates = []
    for _ in range(epochs):
        for index in torch.randperm(len(mask), generator=generator).chunk(minibatches):
            batch = {name: value[index] for name, value in old.items()}
            losses = _losses(policy, value_head, rollouts.rows(index), batch, clip)
            optimizer.zero_grad()
            (losses[0] + losses[1]).backward()
            for group in optimizer.param_groups:  # so that the critic's errors brake it alone
                nn.utils.clip_grad_norm_(group["params"], max_grad_norm)
            optimizer.step()
            updates.append(losses.detach())
    names = ("policy_loss", "value_loss", "clip_fraction")
    return {
        "reward": float(scores.mean()),
        "kl": float(((logps - ref_logps) * mask).sum(dim=1).mean()),
        "entropy": float(masked_mean(entropy(logits), mask)),
        "length": float(mask.sum(dim=1).float().mean()),
        "explained_variance": float(explained_variance(values, returns, mask)),
    } | dict(zip(names, torch.stack(updates).mean(dim=0).tolist(), strict=True))


def _losses(
    policy: Any, value_head: nn.Module, now: Rollouts, old: dict[str, Tensor], clip: float
) -> Tensor:
    """Policy loss, value loss and clip fraction of a minibatch, stacked."""
    logits, hidden = completion_states(policy, now)
    logps = token_logps(logits, now.completions)
    policy_loss, clipped = clipped_policy_loss(
        logps, old["logps"], old["advantages"], clip_low=clip, clip_high=clip
    )
    values, returns = value_head(hidden), old["returns"]
    value_loss = clipped_value_loss(values, returns, old_values=old["values"], clip=clip)
    clipped = clipped.to(policy_loss.dtype)
    return torch.stack([masked_mean(x, now.mask) for x in (policy_loss, value_loss, clipped)])


def train(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    reward: Callable[[Rollouts], Tensor],
    *,
    ref: Any,
    value_head: nn.Module,
    eos: int | None,
    steps: int,
    beta: float,
    lr: float,
    value_lr: float = 1e-2,
    batch_size: int = 64,
    max_new_tokens: int = 64,
    seed: int = 0,
    watch: Callable[[int], None] | None = None,
) -> list[dict[str, float]]:
    """The loop: draw prompts, sample, score, `ppo_step`; learning rates fall linearly to 0.

    Args:
        prompts: token ids; each batch draws batch_size of them, with replacement.
        reward: gives the (B,) scores of a batch of completions.
        lr, value_lr: Adam's, for the policy and for the critic.
        watch: called with the number of steps done after each of them, to measure on the way.
    Returns:
        What `ppo_step` returned, a dict a step.
    """
    trained = [p for p in policy.parameters() if p.requires_grad]
    groups = [{"params": trained, "lr": lr}]
    groups += [{"params": list(value_head.parameters()), "lr": value_lr}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    generator = torch.Generator().manual_seed(seed)
    log: list[dict[str, float]] = []
    for step in range(1, steps + 1):
        # 1. Draw prompts.
        index = torch.randint(len(prompts), (batch_size,), generator=generator).tolist()
        batch = [prompts[i] for i in index]
        # 2. Sample a completion for each from the current policy: PPO is on-policy.
        rollouts = sample(
            policy, batch, eos=eos, max_new_tokens=max_new_tokens, generator=generator
        )
        # 3. Score the completions.
        scores = reward(rollouts)
        # 4. Learn from them; the next batch is sampled from the updated policy.
        models = {"ref": ref, "value_head": value_head, "optimizer": optimizer}
        log.append(ppo_step(policy, rollouts, scores, beta=beta, generator=generator, **models))
        schedule.step()
        if watch:
            watch(step)
    return log
