"""The same training steps in plain PyTorch: what they cost without a trainer around them.

The batches are those of TRL's own data loader, padding and all, and the losses those of
`postlab.scratch`, so that a loop and its trainer differ in nothing but what the trainer adds. GRPO
samples by plain forward passes, as week 7's own loop does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from postlab.rewards import math_reward
from postlab.sampling import render
from postlab.scratch.grpo import grpo_loss
from postlab.scratch.losses import dpo_loss, masked_mean, sft_loss, token_logps
from postlab.scratch.policy_gradient import group_advantages
from postlab.scratch.sampling import completion_states, sample


def train(
    stage: str, trainer: Any, steps: int, clock: Callable[[], float]
) -> tuple[list[float], list[float], int]:
    """Train `trainer.model` for `steps` steps without `trainer`.

    Returns:
        seconds and loss of each step, and the real tokens that were trained on.
    """
    args, model = trainer.args, trainer.model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.learning_rate, weight_decay=args.weight_decay)
    schedule = trainer.create_scheduler(steps, optimizer)
    seconds, losses, tokens = [], [], 0
    torch.manual_seed(args.seed)
    batches: Iterator[Any] = iter(trainer.get_train_dataloader())
    begun = clock()
    for _ in range(steps):
        loss, seen = {"sft": _sft, "dpo": _dpo, "grpo": _grpo}[stage](trainer, model, next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, args.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        tokens += seen
        seconds.append(clock() - begun)
        begun = clock()
    return seconds, losses, tokens


def _sft(trainer: Any, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    ids, real, labels = (batch[name] for name in ("input_ids", "attention_mask", "labels"))
    logits = model(input_ids=ids, attention_mask=real, use_cache=False).logits
    trained = (labels[:, 1:] != -100).float()
    return sft_loss(logits[:, :-1], labels[:, 1:].clamp_min(0), trained), int(real.sum())


def _dpo(trainer: Any, model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    ids, real = batch["input_ids"], batch["attention_mask"]
    said = batch["completion_mask"][:, 1:].float()

    def logps() -> Tensor:
        logits = model(input_ids=ids, attention_mask=real, use_cache=False).logits
        return token_logps(logits[:, :-1], ids[:, 1:]) * said

    own = logps()
    with torch.no_grad(), model.disable_adapter():  # the adapters are fresh: the base is the start
        reference = logps().sum(1).chunk(2)
    chosen, rejected = own.sum(1).chunk(2)
    preference = dpo_loss(
        policy_chosen=chosen, policy_rejected=rejected, ref_chosen=reference[0],
        ref_rejected=reference[1], beta=trainer.beta,
    ).mean()  # fmt: skip
    likelihood = -masked_mean(own.chunk(2)[0], said.chunk(2)[0])
    weights = dict(zip(trainer.loss_types, trainer.loss_weights, strict=True))
    return weights["sigmoid"] * preference + weights["sft"] * likelihood, int(real.sum())


def _grpo(trainer: Any, model: Any, rows: list[dict[str, Any]]) -> tuple[Tensor, int]:
    tokenizer, args = trainer.processing_class, trainer.args
    asked = [
        tokenizer(render(tokenizer, row["prompt"]), add_special_tokens=False)["input_ids"]
        for row in rows
    ]
    limit = args.max_completion_length
    drawn = sample(model, asked, eos=tokenizer.eos_token_id, max_new_tokens=limit)
    words = [
        ids[: int(n)].tolist() for ids, n in zip(drawn.completions, drawn.mask.sum(1), strict=True)
    ]
    said = tokenizer.batch_decode(words, skip_special_tokens=True)
    rewards = torch.tensor(math_reward(said, answer=[row["answer"] for row in rows]))
    advantages = group_advantages(rewards, args.num_generations)
    logps = token_logps(completion_states(model, drawn)[0], drawn.completions)
    now = logps.detach()
    loss = grpo_loss(logps, advantages, drawn.mask, old_logps=now, ref_logps=now)
    return loss, int(drawn.attention.sum())
