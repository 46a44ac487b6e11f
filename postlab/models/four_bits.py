"""bitsandbytes' 4-bit weights on a CPU, corrected where its kernels compute them wrongly.

On processors with AVX-512, bitsandbytes 0.50.2 misreads a 4-bit matrix whose rows are not whole
blocks. Its vector kernel gives each row `columns // blocksize` constants, but blocks run on over
the ends of rows, so most values are multiplied by another block's constant. On processors that also
have bfloat16 instructions, a layer in evaluation mode repacks its weights: that fails for such rows
and rounds all others to bfloat16. The first fault raises nothing, so a run trains on a damaged
base. The embedded base is 160 values wide, and a block holds 64.

`repair` probes both paths and replaces only the faulty one. bitsandbytes calls it at the end of its
own import (the entry point `bitsandbytes.backends` in pyproject.toml), so Unsloth, PEFT and
transformers are served as well. GPU kernels are neither tested nor changed.

PEFT imports bitsandbytes wherever an adapter is loaded or merged, four bits or not. So the import
prints nothing on any processor: what was repaired is logged at INFO.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (32, 64, 96, 160, 416)  # values per row: a part of a block, whole ones, whole and a part
BLOCK = 64
logger = logging.getLogger(__name__)
_overrides: list[Any] = []  # torch drops an override with the object that made it


def repair() -> list[str]:
    """Probe bitsandbytes on this CPU, and replace what computes wrongly.

    Returns:
        What was replaced, in words; empty where bitsandbytes is right. Logged at INFO.
    Taught in week 2.
    """
    repaired = []
    if misread_widths():
        _override_dequantize()
        repaired.append("dequantising rows that are not whole blocks")
    if not _evaluates_exactly():
        from bitsandbytes.nn import modules

        modules.has_avx512bf16 = lambda: False  # asked by each layer when it is made
        repaired.append("layers in evaluation mode")
    if repaired:
        logger.info(
            "bitsandbytes %s computes 4-bit weights wrongly on this CPU; repaired: %s",
            metadata.version("bitsandbytes"),
            ", ".join(repaired),
        )
    return repaired


def misread_widths() -> list[int]:
    """The widths, of those probed, at which `dequantize_4bit` is not what the codes stand for."""
    import torch
    from bitsandbytes import functional

    wrong = []
    for width in WIDTHS:
        codes, state = functional.quantize_4bit(_weight(width), quant_type="nf4", blocksize=BLOCK)
        exact = dequantize(
            codes, state.absmax, state.blocksize, "nf4", tuple(state.shape), torch.float32
        )
        if not torch.equal(functional.dequantize_4bit(codes, state), exact):
            wrong.append(width)
    return wrong


def dequantize(
    A: Tensor,
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    shape: Sequence[int],
    dtype: Any,
) -> Tensor:
    """What 4-bit codes stand for, in plain torch: the codebook's value times the block's constant.

    Args:
        A: the packed codes, two per byte, the first in the high four bits.
        absmax: (blocks,) float32 constants; blocks run on over the ends of rows.
        blocksize: values per block; the last block may hold fewer.
        quant_type: "nf4" or "fp4".
        shape: of the weight.
        dtype: of the result.
    Returns:
        the weight, of `shape` and `dtype`.
    """
    import torch
    from bitsandbytes.functional import get_4bit_type

    packed = A.contiguous().view(torch.uint8).flatten()
    codes = torch.stack((packed >> 4, packed & 15), dim=1).flatten()[: math.prod(shape)]
    values = get_4bit_type(quant_type, device=str(A.device))[codes.long()]
    constants = absmax.float().repeat_interleave(blocksize)[: len(values)]
    return (values * constants).to(dtype).reshape(tuple(shape))


def _override_dequantize() -> None:
    """Let torch call `dequantize` where rows are not whole blocks, the library's kernel elsewhere.

    Before torch had `get_kernel` the library's kernel cannot be reached behind an override, and
    `dequantize` serves every shape.
    """
    import torch

    name, key = "dequantize_4bit", "CPU"
    find = getattr(torch.library, "get_kernel", None)
    kernel = find and find(f"bitsandbytes::{name}", key)

    def exact(keys: Any, A: Tensor, absmax: Tensor, blocksize: int, *rest: Any) -> Tensor:
        shape = rest[1]
        if kernel is None or shape[-1] % blocksize:
            return dequantize(A, absmax, blocksize, *rest)
        return kernel.call_boxed(keys, A, absmax, blocksize, *rest)

    library = torch.library.Library("bitsandbytes", "IMPL")
    with warnings.catch_warnings():  # torch's, that a kernel is overridden
        warnings.simplefilter("ignore")
        library.impl(name, exact, key, with_keyset=True, allow_override=True)
    _overrides.append(library)


def _evaluates_exactly() -> bool:
    """Whether a 4-bit layer computes in evaluation mode what it computes in training."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    for width in WIDTHS:
        with torch.random.fork_rng(devices=[]):  # a layer draws weights, which are replaced
            layer = Linear4bit(width, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
        layer.weight = Params4bit(_weight(width), requires_grad=False, quant_type="nf4")
        layer.weight = layer.to("cpu").weight  # quantizes it
        x = torch.linspace(-1, 1, 3 * width).reshape(3, width)
        try:
            with torch.no_grad():
                trained = layer.train()(x)
                evaluated = layer.eval()(x)
        except (RuntimeError, AssertionError):
            return False
        if evaluated.dtype != trained.dtype:
            return False
        if not torch.allclose(evaluated, trained, rtol=1e-4, atol=1e-5):
            return False
    return True


def _weight(width: int) -> Tensor:
    """(64, width) values whose blocks differ in size; made without torch's random state."""
    import torch

    place = torch.arange(64 * width, dtype=torch.float32)
    return (torch.sin(place * 12.9898) * torch.exp(torch.sin(place / 37))).reshape(64, width)
