"""Five steps without TRL, PEFT or bitsandbytes: plain torch and the losses of `postlab.scratch`.

So that a machine with torch and transformers alone can show what it can: its precision, its memory
and its speed. Simplified: one micro-batch a step, a constant learning rate, nothing is saved, so
nothing can be resumed. GRPO samples and learns in the same step, on-policy and without a KL term.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import smoke_sections as sections
from smoke_sections import STEPS, Report, Setup

MOST_ROWS = 2  # full logits of a large vocabulary are what fills the memory here


def train(setup: Setup, report: Report, stage: str) -> tuple[Any, Any]:
    """Five steps with hand-written losses, and the checks of `smoke_sections`."""
    import torch
    from transformers import set_seed

    from postlab.scratch.lora import LoRALinear

    how = sections.settings(setup, stage)
    if stage != "grpo":
        how["per_device_train_batch_size"] = min(MOST_ROWS, how["per_device_train_batch_size"])
    how |= {"gradient_accumulation_steps": 1, "optim": "adamw_torch"}
    set_seed(0)
    model, tokenizer = load(setup, how)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=how["learning_rate"], weight_decay=0.0)
    kind = setup.device.partition(":")[0]
    scaler = torch.amp.GradScaler(kind, enabled=how["fp16"])
    drawn = sections.rows(stage, how, tokenizer)
    before, base = sections.adapters(model), sections.base_sum(model)
    sections.reset_peak(setup)
    log: list[dict[str, Any]] = []
    skipped: list[int] = []
    times: list[float] = []
    started = time.monotonic()
    for step in range(1, STEPS + 1):
        size = how["per_device_train_batch_size"]
        if stage == "grpo":
            size //= how["num_generations"]
        batch = drawn[(step - 1) * size : step * size]
        with torch.autocast(kind, half(how), enabled=how["fp16"] or how["bf16"]):
            loss, numbers = LOSSES[stage](model, tokenizer, batch, how)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(trained, how["max_grad_norm"])
        scale = scaler.get_scale()
        scaler.step(optimizer)  # not taken if a gradient overflowed, and then the scale is halved
        scaler.update()
        if scaler.get_scale() < scale:
            skipped.append(step)
        optimizer.zero_grad()
        sections.synchronize(setup)
        times.append(time.monotonic())
        log.append({"step": step, "loss": float(loss), "grad_norm": float(norm)} | numbers)
    prompt = max(len(tokenizer(text)["input_ids"]) for text in prompts(tokenizer, drawn))
    sections.conclude(
        setup, report, stage, log=log, how=how, skipped=skipped, times=[started, *times],
        peak=sections.peak_gib(setup), prompt=prompt, model=model, before=before, base=base,
    )  # fmt: skip
    for module in model.modules():  # `generate` runs without autocast
        if isinstance(module, LoRALinear):
            module.to(module.linear.weight.dtype)
    return model, tokenizer


def load(setup: Setup, how: Mapping[str, Any]) -> tuple[Any, Any]:
    """The base, frozen, with our LoRA around its projections; adapters are float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from postlab.profile import PROJECTIONS, get_profile
    from postlab.scratch.lora import LoRALinear

    folder, lora = setup.model_dir("sft"), get_profile(setup.profile).lora
    dtype = half(how) if how["fp16"] or how["bf16"] else None
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(setup.device)
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if name in PROJECTIONS:
                wrapped = LoRALinear(layer, r=lora["r"], alpha=lora["lora_alpha"])
                for matrix in (wrapped.a, wrapped.b):
                    matrix.data = matrix.data.float()
                setattr(module, name, wrapped)
    if how["gradient_checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train(), AutoTokenizer.from_pretrained(folder, padding_side="left")


def half(how: Mapping[str, Any]) -> Any:
    import torch

    return torch.float16 if how["fp16"] else torch.bfloat16


def sft_step(model: Any, tokenizer: Any, batch: list, how: Mapping[str, Any]) -> tuple[Any, dict]:
    from postlab.scratch.losses import sft_loss

    tokens = encoded(batch, tokenizer, how["max_length"], model.device)
    logits = model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    return sft_loss(
        logits[:, :-1].float(), tokens["input_ids"][:, 1:], tokens["loss_mask"][:, 1:]
    ), {}


def dpo_step(model: Any, tokenizer: Any, batch: list, how: Mapping[str, Any]) -> tuple[Any, dict]:
    """The reference is the base: the policy with its adapters off."""
    import torch

    from postlab.scratch.losses import dpo_loss, masked_sum, token_logps

    pairs = [
        {"prompt": row["prompt"], "completion": row[side]}
        for side in ("chosen", "rejected")
        for row in batch
    ]
    tokens = encoded(pairs, tokenizer, how["max_length"], model.device)
    ids, mask = tokens["input_ids"], tokens["loss_mask"][:, 1:]

    def logps() -> Any:  # (2B,) nats a reply, the chosen ones first
        logits = model(ids, attention_mask=tokens["attention_mask"]).logits
        return masked_sum(token_logps(logits[:, :-1].float(), ids[:, 1:]), mask, dim=1)

    with torch.no_grad(), without_adapters(model):
        ref_chosen, ref_rejected = logps().chunk(2)
    chosen, rejected = logps().chunk(2)
    loss = dpo_loss(
        policy_chosen=chosen, policy_rejected=rejected, ref_chosen=ref_chosen,
        ref_rejected=ref_rejected, beta=how["beta"],
    )  # fmt: skip
    return loss.mean(), {}


def grpo_step(model: Any, tokenizer: Any, batch: list, how: Mapping[str, Any]) -> tuple[Any, dict]:
    import torch

    from postlab.rewards import math_reward
    from postlab.scratch.losses import (
        clipped_policy_loss,
        group_advantages,
        reduce_token_loss,
        token_logps,
    )

    group, end = how["num_generations"], tokenizer.eos_token_id
    # 1. Each prompt once for every completion of its group, padded on the left.
    texts = [text for text in prompts(tokenizer, batch) for _ in range(group)]
    inputs = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
    width = inputs["input_ids"].shape[1]
    # 2. The completions, up to the token that ends them.
    model.eval()
    with torch.no_grad():
        ids = model.generate(
            **inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=end,
            max_new_tokens=how["max_completion_length"], pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    model.train()
    completions = ids[:, width:]
    ended = (completions == end).cumsum(dim=1)
    mask = ((ended == 0) | ((completions == end) & (ended == 1))).long()  # (B, T)
    # 3. Rewards, and how each compares with its group's.
    sampled = [row[keep.bool()].tolist() for row, keep in zip(completions, mask, strict=True)]
    replies = tokenizer.batch_decode(sampled, skip_special_tokens=True)
    answers = [row["answer"] for row in batch for _ in range(group)]
    sums = zip(math_reward(replies, answers), sections.even_tokens(sampled), strict=True)
    rewards = torch.tensor([(right or 0.0) + even for right, even in sums], device=model.device)
    # 4. The policy-gradient loss of what was just sampled: the ratio is 1.
    attention = torch.cat([inputs["attention_mask"], mask], dim=1)
    logits = model(ids, attention_mask=attention).logits[:, width - 1 : -1].float()
    logps = token_logps(logits, completions)
    losses, _ = clipped_policy_loss(logps, logps.detach(), group_advantages(rewards, group))
    spread = rewards.view(-1, group).std(dim=1).mean()
    loss = reduce_token_loss(losses, mask, how="dapo", num_tokens=int(mask.sum()))
    return loss, {"reward_std": float(spread)}


LOSSES: dict[str, Callable[..., tuple[Any, dict]]] = {
    "sft": sft_step, "dpo": dpo_step, "grpo": grpo_step,
}  # fmt: skip


def encoded(rows: list, tokenizer: Any, length: int, device: Any) -> dict[str, Any]:
    import warnings

    from postlab.chat import encode

    with warnings.catch_warnings():  # rows are longer than `length` on purpose
        warnings.simplefilter("ignore")
        tokens = encode(rows, tokenizer, max_length=length)
    return {name: tensor.to(device) for name, tensor in tokens.items()}


def prompts(tokenizer: Any, rows: list) -> list[str]:
    render = tokenizer.apply_chat_template
    return [render(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows]


@contextmanager
def without_adapters(model: Any) -> Any:
    from postlab.scratch.lora import LoRALinear

    layers = [layer for layer in model.modules() if isinstance(layer, LoRALinear)]
    before = [layer.scaling for layer in layers]
    for layer in layers:
        layer.scaling = 0.0
    try:
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling = scaling
