"""Devices, their prices, and how long a training step takes on them.

Rates are the makers' own (dense 16-bit tensor throughput with float32 accumulation). No run reaches
them, so every time is a range: LOW and HIGH say which share of the rate and which delay a layer are
usual for Hugging Face's trainers. Left out: Unsloth's and compiled kernels, vLLM, data loading,
evaluation, the optimizer's own work, and bandwidth for what is not weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from postlab.preflight.memory import Plan
from postlab.profile import describe_machine

# Rounded middle of on-demand prices at GPU clouds; sellers differ by a factor of two and more.
PRICES_OF = "2026-05"
FREE_CPU_GIB = 16.0  # assumed where the system does not tell
# Two cores with AVX2 were measured at 68 GFLOP/s in float32 and 25 GB/s, and one of them at 340
# million NF4 weights dequantised a second; a GPU does that at the pace of its memory.
CPU_CORE_TFLOPS = 0.034
CPU_CORE_NF4 = 3.4e8
CPU_BANDWIDTH = 25.0


@dataclass(frozen=True)
class Device:
    """Where a stage runs.

    Args:
        memory_gib: what the driver reports.
        taken_gib: of that, for the CUDA context; on a CPU for Python and its libraries.
        tflops: 10^12 floating-point operations a second in matrix products.
        bandwidth: of its memory, 10^9 bytes a second.
        dollars_an_hour: a typical on-demand price in PRICES_OF.
        nf4: NF4 weights that can be dequantised a second.
    """

    name: str
    memory_gib: float
    tflops: float
    bandwidth: float
    dollars_an_hour: float
    taken_gib: float = 0.5
    nf4: float = math.inf

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


GPUS: dict[str, Device] = {
    row[0]: Device(*row)
    for row in (
        # name, GiB, TFLOP/s, GB/s, dollars an hour
        ("T4", 15.0, 65, 320, 0.35),
        ("L4", 22.5, 121, 300, 0.60),
        ("RTX 3090", 24.0, 71, 936, 0.30),
        ("RTX 4090", 24.0, 165, 1008, 0.50),
        ("A100 40GB", 40.0, 312, 1555, 1.20),
        ("A100 80GB", 80.0, 312, 2039, 1.60),
        ("H100", 79.6, 989, 3350, 2.80),
        ("H200", 140.4, 989, 4800, 3.70),
    )
}
DEVICES: tuple[str, ...] = ("cpu", *GPUS)
_ALIASES = {"a100": "A100 80GB", "3090": "RTX 3090", "4090": "RTX 4090"}


def find_device(name: str) -> Device:
    """A known device; "cpu" is this machine, with the memory it has and a rate for its cores.

    Raises:
        ValueError: if it is not known, naming those which are.

    >>> find_device("t4").memory_gib, find_device("A100-40GB").name
    (15.0, 'A100 40GB')
    """
    short = " ".join(str(name).lower().replace("-", " ").split())
    if short == "cpu":
        machine = describe_machine()
        memory, cores = machine["ram_gib"] or FREE_CPU_GIB, machine["cpus"]
        return Device(
            "cpu", memory, CPU_CORE_TFLOPS * cores, CPU_BANDWIDTH, 0.0, taken_gib=1.0,
            nf4=CPU_CORE_NF4 * cores,
        )  # fmt: skip
    known = {gpu.lower(): gpu for gpu in GPUS} | _ALIASES
    if short not in known:
        raise ValueError(f"unknown device {name!r}; expected one of {', '.join(DEVICES)}")
    return GPUS[known[short]]


@dataclass(frozen=True)
class Pace:
    """What a device makes of its rate: a share of it, and seconds of delay a layer and pass."""

    share: float
    delay: float


# Seven quantised projections with adapters and what lies between them are about a hundred kernels,
# each 7 to 30 microseconds of Python and launch; a small model waits for those, not for arithmetic.
SLOW, FAST = 0.003, 0.0007
LOW = {"cpu": Pace(0.4, SLOW), "gpu": Pace(0.2, SLOW)}
HIGH = {"cpu": Pace(0.95, FAST), "gpu": Pace(0.7, FAST)}


def step_seconds(plan: Plan, on: Device) -> tuple[float, float, float]:
    """Seconds of a micro-batch, its share of sampling included: (shortest, middle, longest).

    The middle is the geometric mean of the other two, of which a run of ours may see either.
    """
    kind = "cpu" if on.is_cpu else "gpu"
    fast, slow = (_seconds(plan, on, pace[kind]) for pace in (HIGH, LOW))
    return fast, math.sqrt(fast * slow), slow


def _seconds(plan: Plan, on: Device, pace: Pace) -> float:
    trained = _train_seconds(plan, on, pace)
    if plan.stage != "grpo":
        return trained
    return trained + _sample_seconds(plan, on, pace) / plan.accumulation


def passes(plan: Plan) -> int:
    """Passes through the layers, in units of a forward pass.

    1 forward, 1 back to the inputs, 1 more to the weights in full fine-tuning, 1 to do the forward
    pass again with checkpointing, 1 for a reference.
    """
    return 2 + plan.full + plan.checkpointing + plan.reference


def forward_flops(plan: Plan) -> float:
    """2 * parameters of the linear maps * tokens, 2 * V * H for each position with logits, and
    attention's 2 * A * length for each token and layer, half of the square being masked."""
    shape = plan.shape
    attention = 2 * shape.layers * shape.query_dim * plan.length
    rows = plan.tokens if plan.stage == "sft" else plan.positions
    return (
        plan.tokens * (2 * shape.linear_parameters + attention) + 2 * rows * shape.head_parameters
    )


def weight_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    """Seconds to have every linear map once: in 4 bits the codes are read, and c bytes a weight are
    written and read again, at the device's bandwidth, and a CPU has to work the weights out; else
    the weights are read."""
    linear = plan.shape.linear_parameters
    moved = linear * (0.5 + 2 * plan.compute if plan.bits == 4 else plan.bits / 8)
    worked_out = linear / (on.nf4 * pace.share) if plan.bits == 4 else 0
    return moved / (on.bandwidth * 1e9) + worked_out


def _train_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    work = forward_flops(plan) / (on.tflops * 1e12 * pace.share)
    return passes(plan) * (work + weight_seconds(plan, on, pace) + plan.shape.layers * pace.delay)


def _sample_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    """One call of `generate` for batch * accumulation completions: a new token waits for all
    weights, the head and half of the final KV cache, or for arithmetic; and a delay a layer."""
    shape, sequences = plan.shape, plan.batch * plan.accumulation
    cache = sequences * plan.length * shape.kv_bytes(plan.compute) / 2
    head = shape.head_parameters * plan.stream
    reading = weight_seconds(plan, on, pace) + (head + cache) / (on.bandwidth * 1e9)
    parameters = shape.linear_parameters + shape.head_parameters
    work = 2 * parameters * sequences / (on.tflops * 1e12 * pace.share)
    return plan.new_tokens * (max(reading, work) + shape.layers * pace.delay)
