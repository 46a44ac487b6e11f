"""DPO on labels that may be soft: a bare loop, since TRL takes one label smoothing for all rows.

The loss of a pair is the mean of the hard loss over labels drawn from its probability p:

    p * loss(a preferred) + (1 - p) * loss(b preferred)

where the hard loss is the tiny profile's: -log sigmoid(beta * margin) plus 2 times the negative
log-likelihood per token of the preferred reply. With p = 1 or 0 it is ordinary DPO. Week 9's second
experiment and Build 9.1 train with it. Left out: everything that TRL does for larger models
(gradient accumulation, mixed precision, checkpoints).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from postlab.constitution import Pair

STEPS, BATCH, RATE, WARMUP, BETA, SFT = 30, 16, 2e-4, 4, 0.5, 2.0


def both_sides(tokenizer: Any, pairs: Sequence[Pair]) -> tuple[Any, Any]:
    """The replies a and the replies b of some pairs, as two packed batches with their ends."""
    from postlab.sampling import end_of_turn, render
    from postlab.scratch.sampling import pack

    end = end_of_turn(tokenizer)

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    asked = [ids(render(tokenizer, list(prompt))) for prompt, *_ in pairs]
    first = pack(asked, [[*ids(a), end] for _, a, _ in pairs])
    second = pack(asked, [[*ids(b), end] for _, _, b in pairs])
    return first, second


def reply_logps(model: Any, batch: Any) -> torch.Tensor:
    """(B,) the log-probability of each reply, in nats."""
    from postlab.scratch.tokens import token_logps

    logits = model(input_ids=batch.ids, attention_mask=batch.attention).logits
    width = batch.mask.shape[1]
    return (token_logps(logits[:, -width - 1 : -1], batch.completions) * batch.mask).sum(1)


def batches(n: int, *, steps: int, batch: int, seed: int) -> list[list[int]]:
    """Which of n pairs each step trains on: epoch after epoch, each in a new order.

    >>> [sorted(one) for one in batches(2, steps=2, batch=2, seed=0)]
    [[0, 1], [0, 1]]
    """
    rng, taken = random.Random(f"order {seed}"), []
    queue: list[int] = []
    for _ in range(steps):
        while len(queue) < batch:
            queue += rng.sample(range(n), n)
        taken.append(queue[:batch])
        queue = queue[batch:]
    return taken


def descend(
    parameters: Iterable[Any],
    loss_of: Callable[[int], torch.Tensor],
    *,
    steps: int,
    lr: float,
    warmup: int = WARMUP,
) -> list[float]:
    """AdamW with a linear schedule and clipped gradients; the loss of each step."""
    import torch

    trained, losses = [p for p in parameters if p.requires_grad], []
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    for step in range(steps):
        share = min((step + 1) / warmup, (steps - step) / max(1, steps - warmup), 1.0)
        optimizer.param_groups[0]["lr"] = lr * share
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def train_soft_dpo(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    chances: Sequence[float],
    *,
    seed: int = 0,
    steps: int = STEPS,
) -> list[float]:
    """Train a policy in place; its weights at the start are the reference.

    Args:
        model: a policy with a trainable adapter. It has no dropout, so its mode doesn't matter.
        pairs: (n,) what was asked, as messages, reply a and reply b.
        chances: (n,) the probability that a is better; 1 and 0 are hard labels.
    Returns:
        The loss of each step.
    Raises:
        ValueError: if there are no pairs, or their number isn't that of the chances.
    """
    import torch
    from torch.nn.functional import logsigmoid

    if not pairs or len(pairs) != len(chances):
        raise ValueError(f"{len(pairs)} pairs, {len(chances)} chances; expected as many, not none")
    torch.manual_seed(seed)
    # 1. The reference's log-probs, once: those of the policy before its first update.
    ref_parts = []
    with torch.no_grad():
        for i in range(0, len(pairs), 32):
            sides = both_sides(tokenizer, pairs[i : i + 32])
            ref_parts.append(torch.stack([reply_logps(model, side) for side in sides], dim=1))
    ref, p = torch.cat(ref_parts), torch.tensor(list(chances))
    order = batches(len(pairs), steps=steps, batch=BATCH, seed=seed)

    def loss_of(step: int) -> torch.Tensor:
        index = order[step]
        sides = both_sides(tokenizer, [pairs[i] for i in index])
        logps = torch.stack([reply_logps(model, side) for side in sides], dim=1)  # (B, 2)
        weight = torch.stack([p[index], 1 - p[index]], dim=1)  # (B, 2): of each label
        # 2. DPO's loss for either label, weighted by its probability.
        gain = logps - ref[index]
        margin = BETA * (gain[:, 0] - gain[:, 1])
        dpo = -(weight * torch.stack([logsigmoid(margin), logsigmoid(-margin)], dim=1)).sum(1)
        # 3. The likelihood term of either label, per token.
        lengths = torch.stack([side.mask.sum(1) for side in sides], dim=1)
        nll = -(weight * logps).sum() / (weight * lengths).sum()
        return dpo.mean() + SFT * nll

    return descend(model.parameters(), loss_of, steps=steps, lr=RATE)
