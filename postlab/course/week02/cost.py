"""What a training step of SmolLM2-135M costs under full fine-tuning, LoRA and QLoRA.

The memory that is there all the time is counted tensor by tensor; what one forward and backward
pass allocates besides comes from torch's own allocation events, at its peak. Left out: a GPU's
fragmentation and workspace, for which `postlab.preflight` has an allowance, and quality.
"""

from __future__ import annotations

import time
from itertools import accumulate
from statistics import median
from typing import Any

from postlab.chat import encode
from postlab.datasets import instruction_rows
from postlab.models import load_policy
from postlab.profile import PROJECTIONS

RANK, BATCH, LENGTH = 16, 4, 192
RATES = {"full": 2e-5, "lora": 4e-4, "qlora": 4e-4}


def smol_step(method: str, *, steps: int = 2, seed: int = 0) -> dict[str, float]:
    """Train SmolLM2-135M-Instruct for a few steps on rows of `everyday`, and measure the steps.

    Args:
        method: "full", "lora" or "qlora" (both of rank 16 on all projections).
        steps: timed ones; one more before them warms up, and one after them is traced.
    Returns:
        `trained` parameters; MiB of `weights`, `gradients`, `optimizer` and `activations` (all that
        a step allocates besides, at its peak); `seconds` per step, the median, and `cpu_seconds` of
        processor time, which other programs don't lengthen; `loss` of the first and `loss_after`
        of the last step, nats per token.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.profiler import ProfilerActivity, profile

    from postlab.scratch.losses import sft_loss

    policy, tokenizer = load_policy("smol", profile="smol", bits=4 if method == "qlora" else 32)
    if method == "full":
        policy.requires_grad_(True)
    else:
        torch.manual_seed(seed)
        lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(PROJECTIONS))
        policy = get_peft_model(policy, lora)
    rows = instruction_rows("everyday", split="train", n=BATCH * (steps + 2), seed=seed)
    batches = [
        encode(rows[i : i + BATCH], tokenizer, max_length=LENGTH)
        for i in range(0, len(rows), BATCH)
    ]
    trained = [p for p in policy.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATES[method], weight_decay=0.0)

    def loss_of(batch: dict[str, Any]) -> Any:
        logits = policy(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return sft_loss(logits[:, :-1], batch["input_ids"][:, 1:], batch["loss_mask"][:, 1:])

    seconds, busy, losses = [], [], []
    for batch in batches[:-1]:
        begun, busy_before = time.perf_counter(), time.process_time()
        loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # the gradients stay where they are
        seconds.append(time.perf_counter() - begun)
        busy.append(time.process_time() - busy_before)
        losses.append(loss.item())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss_of(batches[-1]).backward()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    moments = [t for state in optimizer.state.values() for t in state.values()]
    memory = {
        "weights": sum(map(_size, policy.parameters())),
        "gradients": sum(map(_size, trained)),
        "optimizer": sum(map(_size, moments)),
        "activations": max(accumulate(changes)),
    }
    return {
        "trained": sum(p.numel() for p in trained),
        **{name: round(size / 2**20, 1) for name, size in memory.items()},
        "seconds": round(median(seconds[1:]), 2),
        "cpu_seconds": round(median(busy[1:]), 2),
        "loss": round(losses[0], 3),
        "loss_after": round(losses[-1], 3),
    }


def _size(tensor: Any) -> int:
    """Bytes of a tensor; of a 4-bit weight, with the constants of its blocks."""
    state = getattr(tensor, "quant_state", None)
    constants = (state.absmax, state.state2.absmax, state.offset) if state is not None else ()
    return sum(t.numel() * t.element_size() for t in (tensor, *constants))
