"""Whether a plan fits a device, and if not, the nearest change that does.

Left out: offloading to the CPU, sequence packing, tensor and pipeline parallelism.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TypedDict

from postlab.doctor import Finding
from postlab.preflight.devices import GPUS, Device
from postlab.preflight.memory import GIB, NCCL, PAIRED, Memory, Plan


class Fields(TypedDict, total=False):
    """The fields of a plan that a change may set."""

    checkpointing: bool
    batch: int
    accumulation: int
    optimizer: str
    parallel: str
    in_backward: bool
    lora_rank: int
    bits: int
    length: int
    new_tokens: int


Change = tuple[str, Fields]  # words for a reader, and what to set


def placed(plan: Plan, on: Device) -> Plan:
    """The plan on another device."""
    return replace(plan, on_cpu=on.is_cpu, room=(on.memory_gib - on.taken_gib) * GIB)


def reserved_gib(plan: Plan, on: Device) -> float:
    """Peak allocated, what the allocator may hold besides, and what is taken before: the CUDA
    context, or the imports of a process on a CPU."""
    memory = Memory(placed(plan, on))
    links = NCCL if plan.devices > 1 else 0
    return (memory.total + memory.held) / GIB + on.taken_gib + links


# How far a run of the same settings may be off an estimate, as factors. They were chosen on one
# half of the published peaks; of the other half, which had been seen by then, nine in ten lie in
# between. For shapes that are only roughly known, and for experts, which implementations treat very
# differently, it is a guess.
USUAL, ROUGH = (0.80, 1.25), (0.65, 1.50)


def spread(plan: Plan, gib: float) -> tuple[float, float]:
    """The range of what such a run would be measured at."""
    low, high = USUAL if plan.shape.exact and not plan.shape.experts else ROUGH
    return low * gib, high * gib


def fits(plan: Plan, on: Device) -> bool:
    """Whether all of that is no more than the device has."""
    return reserved_gib(plan, on) <= on.memory_gib


def find_faults(plan: Plan, on: Device) -> Iterator[Finding]:
    """What speaks against a plan on a device."""
    needs = reserved_gib(plan, on)
    high = spread(plan, needs)[1]
    where = on.name if plan.devices == 1 else f"each of {plan.devices} x {on.name}"
    evidence = f"{needs:.1f} GiB of {on.memory_gib:.1f} on {where}"
    if not fits(plan, on):
        why, fix = "the run would end out of memory", nearest_change(plan, on)
        yield Finding("does_not_fit", "error", evidence, why, fix)
    elif high > on.memory_gib:
        why, fix = "such runs have been measured higher", "leave a fifth free: halve the batch"
        yield Finding("tight", "warning", f"{evidence}, up to {high:.1f}", why, fix)
    if not on.bf16:
        why, fix = "bf16 is emulated there, and slow", "fp16=True, bf16=False"
        yield Finding("emulated_bf16", "info", on.name, why, fix)
    if not plan.shape.exact:
        why = "this family is counted as if it were a Llama"
        fix = "compare `parameters` with the model's card"
        yield Finding("rough_shape", "info", f"model_type {plan.shape.family!r}", why, fix)


def nearest_change(plan: Plan, on: Device) -> str:
    """What to change so that a plan fits, in words: one change if one is enough.

    Tried in the order of what they cost: checkpointing (time), a smaller batch (none, if gradients
    are accumulated), shards instead of copies on several devices, 8-bit AdamW, adapters, 4 bits,
    shorter sequences (data); then all that are needed together; then the smallest larger GPU; then
    as many of the largest as it takes.
    """
    kinds = [kind for kind in _changes(plan) if kind]
    for kind in kinds:
        for words, fields in kind:
            if fits(replace(plan, **fields), on):
                return words
    together = [kind[-1] for kind in kinds]
    if fits(_with(plan, together), on):
        unchanged: Change = ("", {})
        for n in reversed(range(len(kinds))):  # the dearest first, each only as far as it must go
            tried = (together[:n] + [c] + together[n + 1 :] for c in [unchanged, *kinds[n]])
            together = next(changes for changes in tried if fits(_with(plan, changes), on))
        return ", ".join(words for words, _ in together if words)
    for gpu in sorted(GPUS.values(), key=lambda gpu: gpu.memory_gib):
        if gpu.memory_gib > on.memory_gib and fits(plan, gpu):
            return f"{'a device' if plan.devices == 1 else 'devices'} with more memory: {gpu.name}"
    largest = max(GPUS.values(), key=lambda gpu: gpu.memory_gib)
    whole = replace(placed(plan, largest), parallel="fsdp")
    counts = (2**n for n in range(1, 8) if 2**n > plan.devices)
    devices = next((n for n in counts if fits(replace(whole, devices=n), largest)), None)
    if devices is None:
        needs = Memory(replace(whole, devices=1)).total / GIB
        return f"no device of those known: {needs:.0f} GiB, too much for 128 x {largest.name}"
    return f"no one device of those known: devices={devices}, parallel='fsdp' on {largest.name}"


def _with(plan: Plan, changes: list[Change]) -> Plan:
    fields: Fields = {}
    for _, change in changes:
        fields |= change
    return replace(plan, **fields)


def _changes(plan: Plan) -> Iterator[list[Change]]:
    """Kinds of changes in the order of what they cost, each from the mildest to the strongest."""
    yield [] if plan.checkpointing else [("checkpointing=True", {"checkpointing": True})]
    least = 2 if plan.stage in PAIRED else 1
    units = plan.batch // least
    batches = [(units >> n) * least for n in range(1, 16) if units >> n]
    if plan.in_backward:  # which leaves no gradients to accumulate
        yield [(f"batch {plan.batch} → {b}", {"batch": b}) for b in batches]
    else:
        yield [
            (f"batch {plan.batch} → {b}, accumulation {plan.accumulation} → {a}",
             {"batch": b, "accumulation": a})
            for b in batches
            for a in [math.ceil(plan.batch * plan.accumulation / b)]
        ]  # fmt: skip
    split = plan.devices > 1 and plan.parallel == "ddp"
    yield [("parallel='fsdp'", {"parallel": "fsdp"})] if split else []
    if plan.full:
        smaller: Fields = {"optimizer": "adamw_8bit"}
        yield [("optimizer='adamw_8bit'", smaller)] if plan.optimizer == "adamw" else []
        adapters: Fields = {"lora_rank": 16, "in_backward": False}
        yield [("LoRA of rank 16 in place of full fine-tuning", adapters)]
    rank = plan.lora_rank or 16
    bits: Fields = {"bits": 4, "lora_rank": rank, "in_backward": False}
    yield [] if plan.bits == 4 else [(f"4-bit weights, LoRA of rank {rank} (QLoRA)", bits)]
    lengths = [plan.length >> n for n in range(1, 16) if (plan.length >> n) >= 256]
    yield [
        (f"length {plan.length} → {n}",
         {"length": n, "new_tokens": plan.new_tokens * n // plan.length})
        for n in lengths
    ]  # fmt: skip
