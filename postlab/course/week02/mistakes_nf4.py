"""Common mistakes in NF4's codes and bits, as edits of the right answers below."""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.course.check._answers import mistakes


def nf4_codes(w: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    absmax = w.abs().amax(1)
    scaled = w / absmax.clamp(min=1e-38).unsqueeze(1)
    distance = (scaled.unsqueeze(-1) - codebook).abs()
    codes = distance.argmin(-1).to(torch.uint8)
    return codes, absmax


NF4_CODES = mistakes("""
not_divided: you look for the nearest code of w itself: divide each block by its absmax first
- w / absmax.clamp(min=1e-38).unsqueeze(1) -> w

largest_not_absolute: you take the largest value instead of the largest absolute value: in a block
whose largest entry is negative, the scaled values leave [-1, 1]
- w.abs().amax(1) -> w.amax(1)

absmax_signed: absmax keeps the sign of the entry: a block whose largest entry is negative is
mirrored
- w.abs().amax(1) -> w.gather(1, w.abs().argmax(1, True)).squeeze(1)
+ absmax.clamp(min=1e-38) -> absmax

one_absmax: you use one absmax for the whole tensor: each block (each row) has its own
- w.abs().amax(1) -> w.abs().max()
+ absmax.clamp(min=1e-38).unsqueeze(1) -> absmax
- w.abs().amax(1) -> w.abs().max().expand(len(w))

wrong_axis: you take absmax over the columns: a block is a row, dim=1
- amax(1) -> amax(0)
+ absmax.clamp(min=1e-38).unsqueeze(1) -> absmax
- amax(1) -> amax(0)
+ absmax.clamp(min=1e-38).unsqueeze(1) -> absmax.clamp(min=1e-38)

rounds_up: you take the next code above: searchsorted and bucketize find where a value would be
inserted, not which value is nearest. Give them the midpoints of the codebook
- distance.argmin(-1) -> torch.searchsorted(codebook, scaled).clamp(max=15)

rounds_down: you take the next code below instead of the nearest
- distance.argmin(-1) -> (torch.searchsorted(codebook, scaled, right=True) - 1)

no_axis_for_the_codebook: the differences have no axis for the codebook: scaled.unsqueeze(-1) -
codebook has one for the sixteen values
- scaled.unsqueeze(-1) - codebook -> scaled - codebook

codes_from_1: your codes are one too high: they count from 0
- distance.argmin(-1) -> (distance.argmin(-1) + 1)

distance_signed: you look for the smallest signed difference: take its absolute value before argmin
- (scaled.unsqueeze(-1) - codebook).abs() -> scaled.unsqueeze(-1) - codebook
- (scaled.unsqueeze(-1) - codebook).abs() -> codebook - scaled.unsqueeze(-1)

farthest: you take the farthest code: argmin, not argmax
- distance.argmin -> distance.argmax

even_steps: your codes are evenly spaced: the codebook's values are not, look for the nearest of
them
- distance.argmin(-1) -> ((scaled + 1) * 7.5).round()

values_not_codes: you return the codebook's values: return their positions, 0 to 15
- return (codes, absmax) -> return (codebook[codes.long()], absmax)

mean_not_max: you divide by the mean absolute value of the block instead of the largest
- w.abs().amax(1) -> w.abs().mean(1)

spread_not_max: you divide by the standard deviation or norm of the block: divide by the largest
absolute value
- w.abs().amax(1) -> w.std(1)
- w.abs().amax(1) -> w.std(1, correction=0)
- w.abs().amax(1) -> w.square().mean(1).sqrt()
- w.abs().amax(1) -> w.norm(dim=1)

range_not_absmax: you scale by the block's range, largest minus smallest value: divide by the
largest absolute value
- w.abs().amax(1) -> w.amax(1) - w.amin(1)

absmax_not_squeezed: absmax still has an axis of size 1: it helps in the division, but squeeze it
before you return absmax
- return (codes, absmax) -> return (codes, absmax.unsqueeze(1))

outputs_swapped: the two outputs are swapped: return codes first, then absmax
- return (codes, absmax) -> return (absmax, codes)

absmax_not_kept: your absmax isn't exactly the largest absolute value: use the safeguard against
0 / 0 only in the division
- w.abs().amax(1) -> w.abs().amax(1) + 1e-3

multiplied: you multiply by absmax: divide by it to bring a block into [-1, 1]
- w / absmax.clamp(min=1e-38).unsqueeze(1) -> w * absmax.unsqueeze(1)
""")


def weights_gib(
    parameters: int, *, bits: float, block: int = 64, constant_bits: float = 32
) -> float:
    constants = constant_bits / block if bits < 16 else 0
    gib = parameters * (bits + constants) / 8 / 2**30
    return gib


WEIGHTS_GIB = mistakes("""
constants_forgotten: the constants of the blocks add nothing: they are left out, counted once for
the whole model, or rounded away by //. Below 16 bits, each block has one
- constant_bits / block if bits < 16 else 0 -> 0

decimal_gb: you divide by 10**9: that gives GB, a GiB is 2**30 bytes
- 2 ** 30 -> 10 ** 9

bits_not_bytes: you count bits: a byte has eight
- / 8 / 2 ** 30 -> / 2 ** 30

bytes_not_gib: you return bytes: a GiB is 2**30 of them
- / 8 / 2 ** 30 -> / 8

rounded: you round, or divide with //: return the exact number
- return gib -> return round(gib)
- return gib -> return round(gib, 1)
- return gib -> return round(gib, 2)
- return gib -> return round(gib, 3)
- return gib -> return gib // 1
- return gib -> return math.ceil(gib)

mib_not_gib: you return MiB: a GiB is 2**30 bytes
- 2 ** 30 -> 2 ** 20

constants_from_16: you count constants at 16 bits or more: only quantised weights have them
- constant_bits / block if bits < 16 else 0 -> constant_bits / block
- bits < 16 -> bits <= 16
- bits < 16 -> bits != 16

whole_bytes: you round the bits of a weight to whole bytes: bits / 8, without //, ceil or a minimum
- bits + constants -> bits // 8 * 8 + constants
- bits + constants -> math.ceil(bits / 8) * 8 + constants
- bits + constants -> max(1, bits // 8) * 8 + constants
- bits + constants -> (bits if bits < 8 else bits // 8 * 8) + constants

constants_some_bits: you count constants for some widths only, such as 4 bits or 4 and 8: all
weights below 16 bits have them
- bits < 16 -> bits <= 8
- bits < 16 -> bits in (4, 8)
- bits < 16 -> bits == 4
- bits < 16 -> bits <= 4
- bits < 16 -> bits < 8

constant_in_bytes: you count a constant as constant_bits bytes: it has that many bits
- constant_bits / block -> 8 * constant_bits / block

constant_divided_twice: you divide the constant by 8 twice, or before you add it to the bits
- constant_bits / block -> constant_bits / 8 / block

constant_a_weight: you count a constant for each weight: all weights of a block share one
- constant_bits / block if -> constant_bits if

block_upside_down: you count block / constant_bits: a weight's share of its block's constant is
constant_bits / block
- constant_bits / block -> block / constant_bits
""")
