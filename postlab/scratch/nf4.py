"""NF4, the 4-bit type of QLoRA: sixteen values at the quantiles of a normal, a scale per block.

`quantize` packs a weight the way bitsandbytes does on a CPU, bit for bit: codes, the largest
absolute value of each block, and (double quantisation) those in 8 bits. `nf4_codes` is the step
that matters, `weights_gib` the arithmetic of what it saves.

Left out: blocks that a weight does not fill (bitsandbytes has them; the matrices of language models
never do), FP4, and a 4-bit matrix product: as in bitsandbytes on a CPU, weights are dequantised
first. CUDA kernels may choose the neighbour where a value lies in the middle between two codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# As bitsandbytes has them; `normal_codebook` says where they come from.
NF4 = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip
NESTED_BLOCK = 256  # constants that share a constant of their own under double quantisation
TINIEST = 1e-38  # in place of the largest value of a block that is all zeros
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class NF4Tensor:
    """A weight in NF4, from `quantize`.

    Args:
        codes: (numel / 2,) uint8, two codes a byte, the first in the upper half.
        absmax: (blocks,) float32, the largest absolute value of each block; under double
            quantisation uint8, positions in `dynamic_map()`.
        shape: of the weight.
        dtype: of the weight, and of `dequantize()`.
        block: weights that share a constant.
        nested_absmax: (ceil(blocks / 256),) float32, the scales of `absmax`; else None.
        offset: () float32, the mean that was taken off `absmax`; else None.
    """

    codes: Tensor
    absmax: Tensor
    shape: torch.Size
    dtype: torch.dtype
    block: int
    nested_absmax: Tensor | None = None
    offset: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of codes and constants.

        >>> quantize(torch.ones(64, 64)).nbytes  # 4096 / 2 + 64 blocks * 4
        2304
        """
        parts = (self.codes, self.absmax, self.nested_absmax, self.offset)
        return sum(t.numel() * t.element_size() for t in parts if t is not None)

    def constants(self) -> Tensor:
        """(blocks,) float32: the scale of each block, as `dequantize` uses it."""
        if self.nested_absmax is None or self.offset is None:
            return self.absmax
        values = dynamic_map().to(self.absmax.device)[self.absmax.long()]
        scales = self.nested_absmax.repeat_interleave(NESTED_BLOCK)[: len(values)]
        return values * scales + self.offset

    def dequantize(self) -> Tensor:
        """The weight that the codes stand for: NF4[code] times the constant of its block.

        >>> quantize(torch.tensor([2.0, -1.0, 0.7, 0.1]), block=4).dequantize()
        tensor([ 2.0000, -1.0501,  0.6758,  0.1592])
        """
        # 1. Unpack the two codes of each byte, upper half first.
        pairs = torch.stack([self.codes >> 4, self.codes & 0xF], dim=1)  # (numel / 2, 2)
        # 2. Look up the value of each code, and undo the scaling of each block.
        values = NF4.to(pairs.device)[pairs.long()].view(-1, self.block)  # (blocks, block)
        scaled = values * self.constants().view(-1, 1)
        return scaled.view(self.shape).to(self.dtype)


def quantize(w: Tensor, *, block: int = 64, double_quant: bool = False) -> NF4Tensor:
    """Round a weight to NF4, four bits a value and one constant a block.

    1. Scale and code each block: `nf4_codes`.
    2. Pack two codes into each byte.
    3. With double quantisation, round the blocks' constants to 8 bits in the same way.

    Args:
        w: any shape, float32, float16 or bfloat16; its values are taken row by row.
        block: values that share a constant; w's size must be a multiple of it.
        double_quant: also round the constants, to 8 bits in blocks of 256.
    Returns:
        NF4Tensor, with `dequantize()` and `nbytes`.
    Raises:
        ValueError: if w's size is no multiple of block, or w holds NaN or infinity.
        TypeError: for another type of number.
    Source: Dettmers et al. 2023, arXiv 2305.14314, section 3. Taught in week 2.

    >>> packed = quantize(torch.linspace(-1, 1, 4096).view(64, 64), double_quant=True)
    >>> packed.nbytes  # 4096 / 2 + 64 blocks * 1 + one scale and one mean, 4 each
    2120
    """
    if w.dtype not in FLOATS:
        raise TypeError(f"w is {w.dtype}; expected float32, float16 or bfloat16: use w.float()")
    if not isinstance(block, int) or block < 2 or block % 2:
        raise ValueError(f"block is {block!r}; expected an even number of weights, such as 64")
    if not w.numel() or w.numel() % block:
        raise ValueError(
            f"w has shape {tuple(w.shape)}, {w.numel()} values, which is no multiple of"
            f" block={block}; choose a block that divides it"
        )
    if not torch.isfinite(w).all():
        raise ValueError("w holds NaN or infinity, which no block constant can scale")
    # 1. Compute one scale per block and one code per weight (eq. 1).
    codes, absmax = nf4_codes(w.detach().float().reshape(-1, block), NF4.to(w.device))
    # 2. Pack two codes into each byte.
    flat = codes.view(-1)  # (numel,)
    packed = flat[::2] << 4 | flat[1::2]
    if not double_quant:
        return NF4Tensor(packed, absmax, w.shape, w.dtype, block)
    # 3. Double quantisation: round the scales to 8 bits, in blocks of their own. They are all
    #    positive, so subtract their mean first, or half of the signed codes would never be used.
    offset = absmax.mean()
    nested, scales = _dynamic_codes(absmax - offset)
    return NF4Tensor(packed, nested, w.shape, w.dtype, block, scales, offset)


def nf4_codes(w: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each block by its largest absolute value and take the nearest value of the codebook.

    Args:
        w: (n, block) weights, a block a row.
        codebook: (16,) values in [-1, 1], ascending, such as `NF4`.
    Returns:
        codes (n, block) uint8, positions in the codebook, and absmax (n,).
    Raises:
        ValueError: if w is no matrix, or the codebook is not ascending or has more than 256 values.
    Source: Dettmers et al. 2023, arXiv 2305.14314, eq. 1. Taught in week 2.

    >>> codes, absmax = nf4_codes(torch.tensor([[2.0, -2.0, 0.0, 1.0]]), NF4)
    >>> codes.tolist(), absmax.tolist()  # 1/2 lies between 0.44 (12) and 0.56 (13)
    ([[15, 0, 7, 12]], [2.0])
    """
    if w.dim() != 2:
        raise ValueError(f"w has shape {tuple(w.shape)}; expected (n, block): use w.view(-1, 64)")
    if codebook.dim() != 1 or not 2 <= len(codebook) <= 256 or (codebook.diff() <= 0).any():
        raise ValueError("codebook must be a vector of 2 to 256 ascending values, such as NF4")
    # 1. Each block has its own scale, so an outlier costs precision only in its block.
    absmax = w.abs().amax(dim=1)  # (n,)
    scaled = w * (1 / absmax.clamp(min=TINIEST)).view(-1, 1)  # (n, block), in [-1, 1]
    # 2. The nearest value's code is the number of midpoints below; same as an argmin of distances.
    middles = (codebook[:-1] + codebook[1:]) / 2  # (15,) for NF4
    codes = torch.bucketize(scaled.clamp(-1, 1), middles.to(scaled))
    return codes.to(torch.uint8), absmax


def normal_codebook(*, offset: float = 1 - (1 / 32 + 1 / 30) / 2) -> Tensor:
    """Where NF4 comes from: quantiles of a standard normal, 7 below zero, zero, and 8 above.

    Evenly spaced probabilities from 1 - offset to 1/2 on the left and from 1/2 to offset on the
    right, their quantiles, all divided by the largest. Zero is in both halves and is kept once.

    Args:
        offset: the probability at the outermost value; at 1 it would be infinite. The default is
            the mean of the two midpoints 1 - 1/32 and 1 - 1/30.
    Returns:
        (16,) float32, ascending from -1 to 1.
    Source: Dettmers et al. 2023, arXiv 2305.14314, section 3 and appendix E.

    >>> bool((normal_codebook() - NF4).abs().max() < 2e-7)
    True
    """
    # 1. Evenly spaced probabilities on each side, so that levels are dense where weights are.
    left = torch.linspace(1 - offset, 0.5, 8, dtype=torch.float64)[:-1]
    right = torch.linspace(0.5, offset, 9, dtype=torch.float64)
    # 2. Their quantiles under a standard normal, which is what trained weights resemble.
    values = torch.special.ndtri(torch.cat([left, right]))
    # 3. Scale to [-1, 1], the range that blocks are scaled to as well.
    return (values / values.max()).float()


def dynamic_map() -> Tensor:
    """(256,) values of the signed 8-bit dynamic type: seven decades, finer towards 1.

    Source: Dettmers 2015, arXiv 1511.04561; used for constants by QLoRA's double quantisation.

    >>> values = dynamic_map()
    >>> len(values), values[0].item() > -1, values[127].item(), values[-1].item()
    (256, True, 0.0, 1.0)
    """
    values = [0.0, 1.0]
    for bits in range(7):  # the smaller the decade, the fewer bits are left for the fraction
        edges = torch.linspace(0.1, 1, 2**bits + 1)
        means = 10.0 ** (bits - 6) * (edges[:-1] + edges[1:]) / 2
        values += means.tolist() + (-means).tolist()
    return torch.tensor(sorted(values))


def weights_gib(
    parameters: float, *, bits: float, block: int = 64, constant_bits: float = 32
) -> float:
    """GiB that the weights take, the constants of their blocks included.

    Args:
        parameters: how many.
        bits: of one weight; from 16 on there are no constants.
        block: weights that share a constant.
        constant_bits: of one constant; under double quantisation 8 + 32 / 256.
    Returns:
        GiB (2**30 bytes).
    Raises:
        ValueError: if a number is not positive.
    Source: Dettmers et al. 2023, arXiv 2305.14314, section 3. Taught in week 2.

    >>> weights_gib(2**30, bits=16), weights_gib(2**30, bits=4)  # 2 bytes; 4 + 32/64 bits
    (2.0, 0.5625)
    """
    sizes = {"parameters": parameters, "bits": bits, "block": block, "constant_bits": constant_bits}
    for name, value in sizes.items():
        if not value > 0 or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}; expected a positive number")
    constants = constant_bits / block if bits < 16 else 0.0
    return parameters * (bits + constants) / 8 / 2**30


def _dynamic_codes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Block constants in 8 bits: codes (blocks,) uint8 and a float32 scale for each 256 of them."""
    rows = math.ceil(len(values) / NESTED_BLOCK)
    padded = values.new_zeros(rows * NESTED_BLOCK)
    padded[: len(values)] = values
    scales = padded.view(rows, NESTED_BLOCK).abs().amax(dim=1)
    scaled = padded.view(rows, NESTED_BLOCK) / scales.clamp(min=TINIEST).view(-1, 1)
    # The library does not search for the nearest value but looks it up, in a table of 65,536 evenly
    # spaced ones: to agree in every bit, go to the nearest of those first.
    steps = ((scaled.clamp(-1, 1) + 1) * 0.5 * 65535 + 0.5).int()
    table = dynamic_map().to(values.device)
    codes = torch.bucketize(steps / 65535 * 2 - 1, (table[:-1] + table[1:]) / 2)
    codes[scales == 0] = 0  # and where all constants are equal, it writes zeros
    return codes.to(torch.uint8).view(-1)[: len(values)], scales
