"""Week 2: a linear layer with a LoRA adapter, NF4's codes, and the memory that weights take."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week02 import mistakes_lora, mistakes_nf4
from postlab.scratch.lora import lora_forward
from postlab.scratch.nf4 import NF4, nf4_codes, weights_gib


def _lora_inputs(seed: int) -> dict[str, Any]:
    """Vectors, rows and batches of sequences; in, out and r all different; alpha / r not whole."""
    g = torch.Generator().manual_seed(seed)
    sizes = (((2, 4), 5, 3, 2, 7), ((3,), 4, 6, 3, 4), ((), 3, 5, 4, 6))
    lead, n_in, n_out, r, alpha = sizes[seed % 3]
    x, weight = torch.randn(*lead, n_in, generator=g), torch.randn(n_out, n_in, generator=g)
    a, b = torch.randn(r, n_in, generator=g), torch.randn(n_out, r, generator=g)
    return {"x": x, "weight": weight, "a": a, "b": b, "alpha": alpha + seed // 6, "r": r}


def _blocks(seed: int) -> dict[str, Any]:
    """Weights that lie well inside the reach of one code, on a codebook of the case's own."""
    g, n = torch.Generator().manual_seed(seed), (3, 5, 2)[seed % 3]
    gaps = 0.5 + torch.rand(15, generator=g)
    steps = torch.cat([torch.zeros(1), gaps.cumsum(0)])
    codebook = 2 * steps / steps[-1] - 1
    near = (torch.rand(n, 64, generator=g) - 0.5) * 0.7 * codebook.diff().min()
    scaled = codebook[torch.randint(1, 15, (n, 64), generator=g)] + near
    ends = torch.where(torch.arange(n) % 2 == 0, -1.0, 1.0)
    scaled.scatter_(1, torch.randint(64, (n, 1), generator=g), ends.unsqueeze(1))
    return {"w": scaled * (0.05 + 3 * torch.rand(n, 1, generator=g)), "codebook": codebook}


def _sizes(seed: int) -> dict[str, Any]:
    bits, block, constant_bits = ((4, 64, 8.125), (8, 128, 32), (3, 32, 16))[seed % 3]
    later = seed // 6  # other numbers of the same kind
    return {
        "parameters": (7_248_023_552, 134_515_008, 70_553_706_496)[seed % 3] * (1 + later),
        "bits": bits - later,
        "block": block * (1 + later),
        "constant_bits": constant_bits * (1 + later),
    }


def _two_blocks() -> Tensor:
    w = torch.zeros(2, 64)
    w[0, :4], w[1, :4] = torch.tensor([2.0, -2, 0, 1]), torch.tensor([-4.0, 3, 1, 0.5])
    return w


LORA_FORWARD = Exercise(
    name="lora_forward",
    reference=lora_forward,
    positional=("x", "weight", "a", "b"),
    cases=(
        Case(
            "x [1, 2], weight [1, 1] [0, 1], a [1, 0] [2, 1], b [1, 1] [0, 1], alpha 5 and r 2",
            {
                "x": torch.tensor([[1.0, 2.0]]),
                "weight": torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
                "a": torch.tensor([[1.0, 0.0], [2.0, 1.0]]),
                "b": torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
                "alpha": 5,
                "r": 2,
            },
            "the weight gives [3, 2]; a gives [1, 4], b turns that into [5, 4], times 5/2",
        ),
        Case(
            "x [1, -1, 2], weight [1, 1, 1], a [1, 0, 1] [0, 1, 0], b [1, 2], alpha 3 and r 2",
            {
                "x": torch.tensor([[1.0, -1.0, 2.0]]),
                "weight": torch.tensor([[1.0, 1.0, 1.0]]),
                "a": torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
                "b": torch.tensor([[1.0, 2.0]]),
                "alpha": 3,
                "r": 2,
            },
            "the weight gives [2]; a gives [3, -1], b turns that into [1], times 3/2",
        ),
    ),
    random=_lora_inputs,
    plain=mistakes_lora.lora_forward,
    mistakes=mistakes_lora.LORA_FORWARD,
    axes={"weight": "o.", "b": "o."},
    gradients=("x", "a", "b"),
)
NF4_CODES = Exercise(
    name="nf4_codes",
    reference=nf4_codes,
    positional=("w", "codebook"),
    cases=(
        Case(
            "the blocks [2, -2, 0, 1, 0, …] and [-4, 3, 1, 0.5, 0, …] and the NF4 codebook",
            {"w": _two_blocks(), "codebook": NF4},
            "scaled [1, -1, 0, .5] and [-1, .75, .25, .125]; .5 is closer to 0.441, code 12, than "
            "to 0.563, code 13",
        ),
    ),
    random=_blocks,
    plain=mistakes_nf4.nf4_codes,
    mistakes=mistakes_nf4.NF4_CODES,
    axes={"w": "bi"},
    edges=(
        Edge(
            "zero_block",
            Case(
                "a block of zeros",
                {"w": torch.zeros(1, 64), "codebook": NF4},
                "0 is code 7",
            ),
            "A block of zeros has absmax 0, which is returned as it is, and code 7 throughout. "
            "As 0 / 0 is NaN, divide by absmax.clamp(min=1e-38), or handle 0 separately.",
            ("absmax.clamp(min=1e-38) -> absmax",),
        ),
        Edge(
            "small_block",
            Case(
                "a block of very small weights",
                {"w": 1e-6 * torch.linspace(-1, 1, 64)[None, :], "codebook": NF4},
                "the same block a million times larger has the same codes",
            ),
            "What you add to absmax, or its lower limit, is large beside the weights of a small "
            "block and changes its codes: guard against 0 only, as absmax.clamp(min=1e-38) does.",
            ("absmax.clamp(min=1e-38) -> absmax.clamp(min=1e-4)",),
        ),
    ),
    outputs=("codes", "absmax"),
)
WEIGHTS_GIB = Exercise(
    name="weights_gib",
    reference=weights_gib,
    positional=("parameters",),
    cases=(
        Case("2**30 parameters of 4 bits", {"parameters": 2**30, "bits": 4}, "(4 + 32/64) / 8"),
        Case("2**30 parameters of 16 bits", {"parameters": 2**30, "bits": 16}, "two bytes each"),
        Case("2**30 parameters of 8 bits", {"parameters": 2**30, "bits": 8}, "(8 + 32/64) / 8"),
        Case("2**30 parameters of 12 bits", {"parameters": 2**30, "bits": 12}, "(12 + 32/64) / 8"),
        Case("2**30 parameters of 32 bits", {"parameters": 2**30, "bits": 32}, "four bytes each"),
        Case(
            "2**30 parameters of 4 bits, block 128 and constant_bits 16",
            {"parameters": 2**30, "bits": 4, "block": 128, "constant_bits": 16},
            "(4 + 16/128) / 8",
        ),
    ),
    random=_sizes,
    plain=mistakes_nf4.weights_gib,
    mistakes=mistakes_nf4.WEIGHTS_GIB,
)
