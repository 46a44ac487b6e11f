"""What goes wrong in NF4's codes and bits: each mistake as a function that makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake
from postlab.scratch.nf4 import nf4_codes, weights_gib


def _nearest(scaled: Tensor, codebook: Tensor) -> Tensor:
    return (scaled.unsqueeze(-1) - codebook).abs().argmin(-1).to(torch.uint8)


def _scaled(w: Tensor) -> Tensor:
    return w / w.abs().amax(1, keepdim=True)


def _scaled_by(w: Tensor, codebook: Tensor, scale: Tensor, *, shown: Any = None) -> tuple:
    return _nearest(w / scale.unsqueeze(-1), codebook), scale if shown is None else shown


def _peak(w: Tensor) -> Tensor:
    """(n,) the value of largest size, with its sign."""
    return w.gather(1, w.abs().argmax(1, keepdim=True)).squeeze(1)


def _absmax(w: Tensor) -> Tensor:
    return w.abs().amax(1)


NF4_CODES = (
    Mistake(
        "not_divided",
        "you look for the nearest code of w itself: divide each block by its absmax first",
        lambda w, codebook: (_nearest(w, codebook), _absmax(w)),
    ),
    Mistake(
        "largest_not_absolute",
        "you take the largest value and not the largest absolute value: in a block whose largest "
        "entry is negative the scaled values leave [-1, 1]",
        lambda w, codebook: _scaled_by(w, codebook, w.amax(1)),
    ),
    Mistake(
        "absmax_signed",
        "absmax keeps the sign of the entry: a block whose largest entry is negative is mirrored",
        lambda w, codebook: _scaled_by(w, codebook, _peak(w)),
    ),
    Mistake(
        "one_absmax",
        "one absmax serves the whole tensor: each block, a row, has its own",
        lambda w, codebook: _scaled_by(w, codebook, w.abs().max()),
        lambda w, codebook: _scaled_by(w, codebook, w.abs().max().expand(len(w))),
    ),
    Mistake(
        "wrong_axis",
        "absmax is taken down the columns: a block is a row, dim=1",
        lambda w, codebook: (_nearest(w / w.abs().amax(0), codebook), w.abs().amax(0)),
    ),
    Mistake(
        "rounds_up",
        "you take the next code above: searchsorted and bucketize find where a value would be "
        "inserted, not what it is nearest to. Give them the midpoints of the codebook",
        lambda w, codebook: (
            torch.searchsorted(codebook, _scaled(w)).clamp(max=15).to(torch.uint8),
            _absmax(w),
        ),
    ),
    Mistake(
        "rounds_down",
        "you take the next code below instead of the nearest",
        lambda w, codebook: (
            (torch.searchsorted(codebook, _scaled(w), right=True) - 1).to(torch.uint8),
            _absmax(w),
        ),
    ),
    Mistake(
        "no_axis_for_the_codebook",
        "the differences have no axis of their own: scaled.unsqueeze(-1) - codebook has one for "
        "the sixteen values",
        lambda w, codebook: ((_scaled(w) - codebook).abs().argmin(-1), _absmax(w)),
    ),
    Mistake(
        "codes_from_1",
        "your codes are one too high: they count from 0",
        lambda w, codebook: (nf4_codes(w, codebook)[0] + 1, _absmax(w)),
    ),
    Mistake(
        "distance_signed",
        "you look for the smallest signed difference: take its absolute value before argmin",
        lambda w, codebook: (
            (_scaled(w).unsqueeze(-1) - codebook).argmin(-1).to(torch.uint8),
            _absmax(w),
        ),
        lambda w, codebook: (
            (codebook - _scaled(w).unsqueeze(-1)).argmin(-1).to(torch.uint8),
            _absmax(w),
        ),
    ),
    Mistake(
        "farthest",
        "you take the farthest code: argmin, not argmax",
        lambda w, codebook: (
            (_scaled(w).unsqueeze(-1) - codebook).abs().argmax(-1).to(torch.uint8),
            _absmax(w),
        ),
    ),
    Mistake(
        "even_steps",
        "your codes are evenly spaced: the codebook's values are not, look for the nearest of them",
        lambda w, codebook: (((_scaled(w) + 1) * 7.5).round().to(torch.uint8), _absmax(w)),
    ),
    Mistake(
        "values_not_codes",
        "you return the codebook's values: their positions, 0 to 15, are wanted",
        lambda w, codebook: (codebook[nf4_codes(w, codebook)[0].long()], _absmax(w)),
    ),
    Mistake(
        "mean_not_max",
        "you divide by the mean absolute value of the block and not by the largest",
        lambda w, codebook: _scaled_by(w, codebook, w.abs().mean(1)),
    ),
    Mistake(
        "absmax_not_squeezed",
        "absmax keeps an axis of size 1: that helps in the division, squeeze it off before return",
        lambda w, codebook: (nf4_codes(w, codebook)[0], _absmax(w).unsqueeze(1)),
    ),
    Mistake(
        "outputs_swapped",
        "the two values have changed places: codes first, then absmax",
        lambda w, codebook: nf4_codes(w, codebook)[::-1],
    ),
    Mistake(
        "multiplied",
        "you multiply by absmax: dividing by it brings a block into [-1, 1]",
        lambda w, codebook: _scaled_by(w, codebook, 1 / _absmax(w), shown=_absmax(w)),
    ),
)


def _gib(parameters: float, bits: float, unit: float = 2**30) -> float:
    return parameters * bits / 8 / unit


def _extra(bits: float, block: int, constant_bits: float) -> float:
    return constant_bits / block if bits < 16 else 0.0


def _in_unit(unit: float) -> Callable[..., float]:
    def gib(parameters: float, *, bits: float, block: int = 64, constant_bits: float = 32) -> float:
        return _gib(parameters, bits + _extra(bits, block, constant_bits), unit)

    return gib


def _plus(extra: Callable[[float, int, float], float]) -> Callable[..., float]:
    def gib(parameters: float, *, bits: float, block: int = 64, constant_bits: float = 32) -> float:
        return _gib(parameters, bits + extra(bits, block, constant_bits))

    return gib


def _rounded(digits: int) -> Any:
    return lambda *given, **more: round(weights_gib(*given, **more), digits)


WEIGHTS_GIB = (
    Mistake(
        "constants_forgotten",
        "the constants of the blocks are left out: below 16 bits each block has one",
        _plus(lambda bits, block, constant: 0),
    ),
    Mistake(
        "decimal_gb",
        "you divide by 10**9: that gives GB, a GiB is 2**30 bytes",
        _in_unit(1e9),
    ),
    Mistake("bits_not_bytes", "you count bits: a byte has eight", _in_unit(2**30 / 8)),
    Mistake("bytes_not_gib", "you return bytes: a GiB is 2**30 of them", _in_unit(1)),
    Mistake(
        "rounded",
        "you round, or divide with //: return the number as it is",
        *(_rounded(digits) for digits in (0, 1, 2, 3)),
        lambda *given, **more: float(weights_gib(*given, **more) // 1),
    ),
    Mistake("mib_not_gib", "you return MiB: a GiB is 2**30 bytes", _in_unit(2**20)),
    Mistake(
        "constants_from_16",
        "you count constants at 16 bits and more too: only quantised weights have them",
        _plus(lambda bits, block, constant: constant / block),
        _plus(lambda bits, block, constant: constant / block if bits <= 16 else 0),
        _plus(lambda bits, block, constant: constant / block if bits != 16 else 0),
    ),
    Mistake(
        "constants_only_4_bits",
        "only 4-bit weights get constants: all below 16 bits have them",
        _plus(lambda bits, block, constant: constant / block if bits == 4 else 0),
    ),
    Mistake(
        "constant_in_bytes",
        "you count a constant as constant_bits bytes: it has that many bits",
        _plus(lambda bits, block, constant: 8 * _extra(bits, block, constant)),
    ),
    Mistake(
        "constant_a_weight",
        "you count a constant for each weight: a block of weights shares one",
        _plus(lambda bits, block, constant: constant * (bits < 16)),
    ),
    Mistake(
        "block_upside_down",
        "you count block / constant_bits: a weight's share of its block's constant is "
        "constant_bits / block",
        _plus(lambda bits, block, constant: block / constant if bits < 16 else 0),
    ),
)
