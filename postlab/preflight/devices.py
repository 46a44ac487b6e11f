"""Devices, their prices, and how long a training step takes on them.

Rates are the makers' own (dense 16-bit tensor throughput with float32 accumulation). No run reaches
them, so every time is a range: LOW and HIGH say which share of the rate and which delay a layer are
usual for Hugging Face's trainers. Left out: vLLM, data loading, evaluation, and bandwidth for what
is neither weights nor the optimizer's.
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


HOPPER = 0.7  # large products get 600 to 700 of an H100's 989 TFLOP/s, and nearly all of an A100's


@dataclass(frozen=True)
class Device:
    """Where a stage runs.

    Args:
        memory_gib: what the driver reports.
        taken_gib: of that, for the CUDA context; on a CPU for Python and its libraries.
        tflops: 10^12 floating-point operations a second in matrix products.
        bandwidth: of its memory, 10^9 bytes a second.
        dollars_an_hour: a typical on-demand price in PRICES_OF.
        link: to another device of the machine, 10^9 bytes a second one way: half of what NVLink's
            makers add up, or what PCIe leaves.
        bf16: whether it computes in bfloat16; older ones emulate it.
        reach: of `tflops`, what large matrix products get, beside an A100's.
        nf4: NF4 weights that can be dequantised a second.
    """

    name: str
    memory_gib: float
    tflops: float
    bandwidth: float
    dollars_an_hour: float
    link: float = 12.0
    bf16: bool = True
    reach: float = 1.0
    taken_gib: float = 0.5
    nf4: float = math.inf

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"


GPUS: dict[str, Device] = {
    row[0]: Device(*row)
    for row in (
        # name, GiB, TFLOP/s, GB/s, dollars an hour, GB/s to the next one, bfloat16, reach
        ("P100", 15.9, 19, 732, 0.30, 12, False),
        ("V100 16GB", 15.8, 112, 900, 0.40, 100, False),
        ("V100 32GB", 31.7, 112, 900, 0.60, 100, False),
        ("T4", 15.0, 65, 320, 0.35, 12, False),
        ("L4", 22.5, 121, 300, 0.60),
        ("A10G", 22.5, 70, 600, 1.00),
        ("RTX A6000", 48.0, 155, 768, 0.60),
        ("L40S", 45.0, 362, 864, 1.00),
        ("RTX 3060", 12.0, 26, 360, 0.10),
        ("RTX 3060 Ti", 8.0, 32, 448, 0.10),
        ("RTX 3070", 8.0, 41, 448, 0.12),
        ("RTX 3070 Ti", 8.0, 44, 608, 0.12),
        ("RTX 3080", 10.0, 60, 760, 0.18),
        ("RTX 3080 Ti", 12.0, 68, 912, 0.20),
        ("RTX 3090", 24.0, 71, 936, 0.30),
        ("RTX 3090 Ti", 24.0, 80, 1008, 0.32),
        ("RTX 4060", 8.0, 30, 272, 0.10),
        ("RTX 4060 Ti", 16.0, 44, 288, 0.14),
        ("RTX 4070", 12.0, 58, 504, 0.16),
        ("RTX 4070 Ti", 12.0, 80, 504, 0.20),
        ("RTX 4080", 16.0, 97, 717, 0.28),
        ("RTX 4090", 24.0, 165, 1008, 0.50),
        ("RTX 5060 Ti", 16.0, 47, 448, 0.14),
        ("RTX 5070", 12.0, 62, 672, 0.16),
        ("RTX 5070 Ti", 16.0, 88, 896, 0.22),
        ("RTX 5080", 16.0, 113, 960, 0.30),
        ("RTX 5090", 31.8, 210, 1792, 0.70),
        ("A100 40GB", 40.0, 312, 1555, 1.20, 300),
        ("A100 80GB", 80.0, 312, 2039, 1.60, 300),
        ("H100", 79.6, 989, 3350, 2.80, 450, True, HOPPER),
        ("H200", 140.4, 989, 4800, 3.70, 450, True, HOPPER),
        ("B200", 179.1, 2250, 8000, 5.50, 900, True, HOPPER),
    )
}
DEVICES: tuple[str, ...] = ("cpu", *GPUS)
_ALIASES = {"a100": "A100 80GB", "v100": "V100 16GB", "a6000": "RTX A6000"} | {
    name.lower().removeprefix("rtx "): name for name in GPUS if name.startswith("RTX ")
}


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
    """What a device makes of its rate.

    Args:
        full, adapters: share of it in full fine-tuning and with adapters, whose many small products
            leave the device waiting.
        delay: seconds of Python and launches a layer and pass in training; a small model waits for
            those, not for arithmetic.
        sampling: the same for one new token, where nothing hides them.
        link: share of the link between devices.
        overlap: whether devices send while they compute.
        sweeps: how often the optimizer goes through memory.
        reading: share of the bandwidth of memory.
    """

    full: float
    adapters: float
    delay: float
    sampling: float
    link: float = 1.0
    overlap: bool = True
    sweeps: int = 1
    reading: float = 1.0

    def share(self, plan: Plan) -> float:
        return self.full if plan.full else self.adapters * (UNSLOTH if plan.unsloth else 1)


# GPU: fitted to one half of the published speeds in data/results/preflight; sweeps, reading and
# HOPPER came after the other half had been seen, as the record says.
# CPU: measured on two cores. The same arithmetic gives both ends.
LOW = {
    "cpu": Pace(0.4, 0.4, 0.003, 0.003),
    "gpu": Pace(0.42, 0.36, 0.0016, 0.003, 0.25, False, 3, 0.45),
}
HIGH = {
    "cpu": Pace(0.95, 0.95, 0.0007, 0.0007),
    "gpu": Pace(0.85, 0.72, 0.0005, 0.0007, reading=0.9),
}
UNSLOTH = 1.15  # its kernels' gain over PEFT's, as measured for the same fused kernels elsewhere


def step_seconds(plan: Plan, on: Device) -> tuple[float, float, float]:
    """Seconds of a micro-batch, its share of sampling included: (shortest, middle, longest).

    The middle is the geometric mean of the other two, of which a run of ours may see either.
    """
    kind = "cpu" if on.is_cpu else "gpu"
    fast, slow = (_seconds(plan, on, pace[kind]) for pace in (HIGH, LOW))
    return fast, math.sqrt(fast * slow), slow


def _seconds(plan: Plan, on: Device, pace: Pace) -> float:
    trained, sent = _train_seconds(plan, on, pace), link_seconds(plan, on, pace)
    trained = max(trained, sent) if pace.overlap else trained + sent
    trained += update_seconds(plan, on, pace) / plan.accumulation
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
    """2 * parameters of the linear maps that a token passes * tokens, 2 * V * H for each position
    with logits, and attention's 2 * A * length for each token and layer, half of the square being
    masked."""
    shape = plan.shape
    attention = 2 * shape.layers * shape.query_dim * plan.length
    maps = plan.tokens * (2 * shape.active_parameters + attention)
    return maps + 2 * plan.positions * shape.head_parameters


def link_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    """Seconds that devices send to each other in a micro-batch: FSDP gathers the weights for each
    direction (and a reference) and scatters the gradients; DDP sums the gradients of a step, twice
    their size."""
    if plan.devices == 1:
        return 0.0
    others = (plan.devices - 1) / plan.devices
    gradients = plan.trained * plan.element
    if plan.shards > 1:
        packed = 0.516 if plan.bits == 4 else plan.compute
        linear = plan.shape.linear_parameters
        weights = linear * packed + (plan.parameters - linear) * plan.compute
        sent = (2 + plan.reference) * weights + gradients
    else:
        sent = 2 * gradients / plan.accumulation
    return others * sent / (on.link * 1e9 * pace.link)


def update_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    """Seconds of the optimizer's step: it reads the gradient, reads and writes the parameter and
    its two moments, at the device's bandwidth."""
    return pace.sweeps * 7 * plan.trained * plan.element / plan.shards / (on.bandwidth * 1e9)


def weight_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    """Seconds to have every linear map once: in 4 bits the codes are read, and c bytes a weight are
    written and read again, at the device's bandwidth, and a CPU has to work the weights out; else
    the weights are read."""
    linear = plan.shape.linear_parameters
    moved = linear * (0.5 + 2 * plan.compute if plan.bits == 4 else plan.bits / 8)
    worked_out = linear / (on.nf4 * pace.share(plan)) if plan.bits == 4 else 0
    return moved / (on.bandwidth * 1e9 * pace.reading) + worked_out


def _train_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    work = forward_flops(plan) / (on.tflops * 1e12 * on.reach * pace.share(plan))
    return passes(plan) * (work + weight_seconds(plan, on, pace) + plan.shape.layers * pace.delay)


def _sample_seconds(plan: Plan, on: Device, pace: Pace) -> float:
    """One call of `generate` for batch * accumulation completions: a new token waits for all
    weights, the head and half of the final KV cache, or for arithmetic; and a delay a layer."""
    shape, sequences = plan.shape, plan.batch * plan.accumulation
    cache = sequences * plan.length * shape.kv_bytes(plan.compute) / 2
    head = shape.head_parameters * plan.stream
    rest = (head + cache) / (on.bandwidth * 1e9 * pace.reading)
    reading = weight_seconds(plan, on, pace) + rest
    parameters = shape.active_parameters + shape.head_parameters
    work = 2 * parameters * sequences / (on.tflops * 1e12 * on.reach * pace.share(plan))
    return plan.new_tokens * (max(reading, work) + shape.layers * pace.sampling)
