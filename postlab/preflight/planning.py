"""Memory, time and cost of a stage on a device, before anything is downloaded.

`estimate` does the arithmetic of `memory` (bytes, from the model's shape) and `devices` (seconds,
from the device's rates). What the formulas leave out stands at the top of those modules. How far
they were off in published runs is recorded in `data/results/preflight/published.json`: a handful of
constants, which say that they are fitted, come from one half of those figures, and so do the widths
of the ranges. Of the other half, which was looked at before the formulas were final, 91% of the
peaks lie in their ranges, of ±23.4% in the median, and 98% of the speeds, but in ranges of ±37.3%.
Cost is as good as a price table with a date.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from postlab.doctor import Finding
from postlab.preflight.advice import find_faults, fits, placed, reserved_gib, spread
from postlab.preflight.architectures import architecture
from postlab.preflight.devices import PRICES_OF, find_device, step_seconds
from postlab.preflight.memory import GIB, OPTIMIZERS, PAIRED, TARGETS, Memory, Plan

PLANNED_STAGES = ("sft", "dpo", "grpo", "reward")
ENGINES, PARALLEL = ("trl", "unsloth"), ("ddp", "fsdp")
OLDEST, NEWEST = (0, 11), (1, 16)  # versions of TRL whose losses are known


@dataclass(frozen=True)
class Estimate:
    """What a stage needs and takes; sizes in GiB (2^30 bytes).

    total = weights + adapters + gradients + optimizer + reference + overhead + gathered + the
    largest of activations, kv_cache and update.

    Args:
        parameters, trained: of the model, and those that get a gradient.
        activations_gib: all that a backward pass needs, the logits included, less the gradients
            that are not there yet.
        logits_gib: the logits' copies alone; `peak_at` says whether they are the peak.
        update_gib: what the optimizer takes while it steps.
        overhead_gib: the workspace of the device's libraries.
        gathered_gib: with FSDP, what is whole on a device for a moment.
        total_gib: peak allocated, on a CPU what the process takes on top of its imports. Like all
            sizes of one of the devices.
        reserved_gib: with what the allocator may hold besides and the CUDA context or, on a CPU,
            the imports; this has to fit into `memory_gib`.
        total_range_gib, reserved_range_gib: where nine in ten runs were measured.
        peak_at: "logits", "layer" (one layer's backward pass), "update" or "sampling".
        tokens_per_s: tokens of the sequences trained on by all devices together, sampling and
            reference included.
        hours, dollars: of all examples; None if their number was not given. The ranges are from
            the fastest to the slowest pace that is usual.
        findings: "does_not_fit" with the nearest change that fits, "tight", "emulated_bf16",
            "rough_shape".
    """

    stage: str
    model: str
    device: str
    parameters: int
    trained: int
    weights_gib: float
    adapters_gib: float
    gradients_gib: float
    optimizer_gib: float
    reference_gib: float
    activations_gib: float
    logits_gib: float
    kv_cache_gib: float
    update_gib: float
    overhead_gib: float
    gathered_gib: float
    total_gib: float
    total_range_gib: tuple[float, float]
    reserved_gib: float
    reserved_range_gib: tuple[float, float]
    memory_gib: float
    fits: bool
    peak_at: str
    tokens_per_s: float
    tokens_per_s_range: tuple[float, float]
    hours: float | None
    hours_range: tuple[float, float] | None
    dollars: float | None
    dollars_range: tuple[float, float] | None
    prices_of: str
    findings: tuple[Finding, ...]

    @property
    def advice(self) -> str:
        """One sentence: that it fits, or the nearest change that fits."""
        bad = [f for f in self.findings if f.code == "does_not_fit"]
        return bad[0].fix if bad else f"fits: {self.reserved_gib:.1f} of {self.memory_gib:.1f} GiB"


def estimate(
    stage: str,
    *,
    model: str | Path,
    device: str,
    batch: int,
    length: int,
    bits: int,
    lora_rank: int = 16,
    group: int = 1,
    new_tokens: int = 0,
    examples: int | None = None,
    epochs: float = 1.0,
    accumulation: int = 1,
    checkpointing: bool = True,
    reference: bool | None = None,
    optimizer: str = "adamw",
    trl: str = "1.14",
    engine: str = "trl",
    targets: str = "all",
    devices: int = 1,
    parallel: str = "ddp",
    in_backward: bool = False,
) -> Estimate:
    """Estimate memory, time and cost of training one stage with TRL.

    Args:
        stage: "sft", "dpo", "grpo" or "reward".
        model: Hub id of a known architecture, or a `config.json` or the folder that has it.
        device: a known GPU, or "cpu" for this machine.
        batch: sequences in a device's forward pass; a pair of DPO or of a reward model is two.
        length: tokens of prompt and completion together.
        bits: of the base's weights: 4 (NF4 with double quantisation), 16 or 32.
        lora_rank: of the adapters; 0 is full fine-tuning.
        group: GRPO's completions a prompt.
        new_tokens: tokens of a GRPO completion, a part of `length`.
        examples: rows trained on in an epoch: texts, pairs, or prompts of GRPO.
        accumulation: micro-batches a step; GRPO samples all of them at once.
        checkpointing: whether layers' activations are computed again.
        reference: whether a reference is kept: by default for DPO, and not for GRPO (beta 0).
        optimizer: one of OPTIMIZERS, or transformers' name for it.
        trl: version of TRL, from 0.11 to 1.16: copies of the logits and precisions depend on it.
        engine: "trl" for TRL and PEFT alone, or "unsloth" for its checkpointing, which moves
            activations to the host, its kernels and its fused losses.
        targets: the maps that have adapters: "all", "attention" (q, k, v, o) or "qv".
        devices: of this kind in one machine.
        parallel: "ddp", a copy on each device, or "fsdp", a share of weights, gradients and
            optimizer on each.
        in_backward: whether each parameter is updated as soon as its gradient is there (full
            fine-tuning without accumulation), so that gradients don't add up.
    Returns:
        Estimate; `fits` and `advice` say whether it can be run as it is.
    Raises:
        ValueError: for an unknown stage, model or device, naming the known ones, and for sizes that
            contradict each other.
    Source: Dettmers et al. 2023, arXiv 2305.14314, for NF4's constants; the libraries' sources for
        the rest. Taught in week 2.

    >>> qlora = estimate("sft", model="mistralai/Mistral-7B-v0.3", device="T4", batch=1,
    ...                  length=512, bits=4)
    >>> round(qlora.weights_gib, 2), qlora.fits  # 6.979e9 * 4.127 / 8 + 0.269e9 * 2 bytes
    (3.85, True)
    >>> full = estimate("sft", model="meta-llama/Llama-3.1-70B", device="H100", batch=1,
    ...                 length=512, bits=32, lora_rank=0)
    >>> round(full.weights_gib + full.gradients_gib + full.optimizer_gib)  # 70.55e9 * 16 bytes
    1051
    """
    on, shape = find_device(device), architecture(model)
    plan = placed(
        Plan(
            stage=stage, shape=shape, batch=batch, length=length, bits=bits, lora_rank=lora_rank,
            new_tokens=new_tokens, accumulation=accumulation, checkpointing=checkpointing,
            reference=stage == "dpo" if reference is None else reference,
            optimizer=_optimizer(optimizer), trl=_trl(trl), targets=targets, engine=engine,
            devices=devices, parallel=parallel, in_backward=in_backward,
        ),
        on,
    )  # fmt: skip
    _check(plan, group)
    memory, reserved = Memory(plan), reserved_gib(plan, on)
    fast, middle, slow = step_seconds(plan, on)
    rows = (examples or 0) * epochs * (2 if stage in PAIRED else group if stage == "grpo" else 1)
    hours = [rows / (batch * devices) * seconds / 3600 for seconds in (fast, middle, slow)]
    dollars = [h * on.dollars_an_hour * devices for h in hours]
    known = examples is not None
    return Estimate(
        stage=stage, model=shape.name, device=on.name,
        parameters=plan.parameters, trained=plan.trained,
        weights_gib=memory.weights / GIB, adapters_gib=memory.adapters / GIB,
        gradients_gib=memory.gradients / GIB, optimizer_gib=memory.optimizer / GIB,
        reference_gib=memory.reference / GIB, activations_gib=memory.activations / GIB,
        logits_gib=memory.logits / GIB, kv_cache_gib=memory.kv_cache / GIB,
        update_gib=memory.update / GIB, overhead_gib=memory.overhead / GIB,
        gathered_gib=memory.gathered / GIB,
        total_gib=memory.total / GIB, total_range_gib=spread(plan, memory.total / GIB),
        reserved_gib=reserved, reserved_range_gib=spread(plan, reserved),
        memory_gib=on.memory_gib, fits=fits(plan, on),
        peak_at=memory.peak_at,
        tokens_per_s=plan.tokens * devices / middle,
        tokens_per_s_range=(plan.tokens * devices / slow, plan.tokens * devices / fast),
        hours=hours[1] if known else None, hours_range=(hours[0], hours[2]) if known else None,
        dollars=dollars[1] if known else None,
        dollars_range=(dollars[0], dollars[2]) if known else None,
        prices_of=PRICES_OF, findings=tuple(find_faults(plan, on)),
    )  # fmt: skip


# What transformers calls them besides.
_SYNONYMS = {
    "adamw_torch": "adamw", "adamw_torch_fused": "adamw", "paged_adamw_32bit": "adamw",
    "adamw_bnb_8bit": "adamw_8bit", "adamw_torch_8bit": "adamw_8bit", "lion_32bit": "lion",
    "paged_lion_8bit": "lion_8bit",
}  # fmt: skip


def _optimizer(name: str) -> str:
    short = _SYNONYMS.get(name, name)
    if short not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; expected one of {', '.join(OPTIMIZERS)}")
    return short


def _trl(version: str) -> tuple[int, int]:
    numbers = str(version).split(".")
    if len(numbers) > 1 and numbers[0].isdigit() and numbers[1].isdigit():
        read = int(numbers[0]), int(numbers[1])
        if OLDEST <= read <= NEWEST:
            return read
    ends = [".".join(map(str, end)) for end in (OLDEST, NEWEST)]
    raise ValueError(f"trl={version!r}; expected a version from {ends[0]} to {ends[1]}")


def _check(plan: Plan, group: int) -> None:
    if plan.stage not in PLANNED_STAGES:
        raise ValueError(
            f"unknown stage {plan.stage!r}; expected one of {', '.join(PLANNED_STAGES)}"
        )
    if plan.bits not in (4, 16, 32):
        raise ValueError(f"bits={plan.bits!r}; expected 4, 16 or 32")
    sizes = {"batch": plan.batch, "length": plan.length, "accumulation": plan.accumulation}
    sizes["devices"] = plan.devices
    for name, value in (sizes | {"group": group, "lora_rank": plan.lora_rank}).items():
        least = 0 if name == "lora_rank" else 1
        if value < least:
            raise ValueError(f"{name} is {value}; expected {least} or more")
    options: dict[str, tuple[str, Iterable[str]]] = {
        "engine": (plan.engine, ENGINES), "parallel": (plan.parallel, PARALLEL),
        "targets": (plan.targets, TARGETS),
    }  # fmt: skip
    for option, (choice, choices) in options.items():
        if choice not in choices:
            raise ValueError(f"{option}={choice!r}; expected one of {', '.join(choices)}")
    if plan.on_cpu and (plan.devices > 1 or plan.unsloth):
        raise ValueError(
            f"devices={plan.devices}, engine={plan.engine!r} on a CPU; expected one device and "
            "engine='trl' there"
        )
    if plan.unsloth and plan.parallel == "fsdp":
        raise ValueError("engine='unsloth' with parallel='fsdp'; expected 'ddp', which it can do")
    if plan.in_backward and (not plan.full or plan.accumulation > 1):
        raise ValueError(
            f"in_backward with lora_rank={plan.lora_rank} and accumulation={plan.accumulation}; "
            "expected full fine-tuning (lora_rank=0) without accumulation"
        )
    if plan.bits == 4 and plan.full:
        raise ValueError(
            "4-bit weights cannot be trained themselves; expected lora_rank of 1 or more with "
            "bits=4, or bits of 16 or 32 for full fine-tuning"
        )
    if plan.stage in PAIRED and plan.batch % 2:
        raise ValueError(
            f"batch={plan.batch} for {plan.stage}, where a pair is two sequences; expected twice "
            "per_device_train_batch_size"
        )
    if plan.stage == "grpo" and not 1 <= plan.new_tokens < plan.length:
        raise ValueError(
            f"new_tokens={plan.new_tokens} of length={plan.length} for grpo; expected the tokens "
            "of a completion, fewer than those of prompt and completion together"
        )
