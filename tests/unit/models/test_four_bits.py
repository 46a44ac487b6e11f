"""4-bit weights on a CPU are what their codes say, whichever kernels the processor brings.

The kernels of processors with AVX-512 are swapped in as they compute, so that a machine without
them tests the repair; a right kernel is swapped in as well, for machines that have wrong ones.
"""

from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
from collections.abc import Iterator
from math import prod

import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn import Linear4bit, Params4bit, modules

from postlab.models import four_bits
from postlab.scratch.nf4 import quantize

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def by_rows(A, absmax, blocksize, quant_type, shape, dtype):
    """As AVX-512's kernel reads: it gives each row as many constants as it has whole blocks."""
    if shape[-1] % 16:  # which that kernel leaves to another
        return four_bits.dequantize(A, absmax, blocksize, quant_type, shape, dtype)
    values = four_bits.dequantize(
        A, torch.ones_like(absmax), blocksize, quant_type, shape, torch.float32
    )
    rows, columns = prod(shape[:-1]), shape[-1]
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    block = row * (columns // blocksize) + column // blocksize
    return (values.reshape(rows, columns) * absmax[block]).to(dtype).reshape(tuple(shape))


@pytest.fixture
def swapped() -> Iterator:
    """Put another CPU kernel of `dequantize_4bit` in place; all as before after the test."""
    libraries, before = [], len(four_bits._overrides)
    bf16 = modules.has_avx512bf16

    def swap(kernel) -> None:
        library = torch.library.Library("bitsandbytes", "IMPL")
        library.impl("dequantize_4bit", kernel, "CPU", allow_override=True)
        libraries.append(library)

    yield swap
    modules.has_avx512bf16 = bf16
    for library in [*four_bits._overrides[before:], *libraries]:
        library._destroy()
    del four_bits._overrides[before:]


def weight(width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(64, width, generator=torch.Generator().manual_seed(width)).to(dtype)


def error(width: int, dtype: torch.dtype, **how) -> float:
    """Root mean square of what four bits change, as a share of the weight's own."""
    w = weight(width, dtype).float()
    codes, state = functional.quantize_4bit(w.to(dtype), **how)
    back = functional.dequantize_4bit(codes, state)
    assert back.dtype == dtype and back.shape == w.shape
    return ((back.float() - w).square().mean() / w.square().mean()).sqrt().item()


def exact_weight(width: int) -> torch.Tensor:
    """What a layer's weight is after rounding, by our own NF4 and none of the library's kernels."""
    return quantize(weight(width), double_quant=True).dequantize()


def test_a_wrong_kernel_is_found_repaired_and_logged_in_a_line(swapped, caplog, capsys):
    caplog.set_level(logging.INFO, logger=four_bits.__name__)
    swapped(by_rows)
    assert four_bits.misread_widths() == [32, 96, 160, 416]
    assert error(160, torch.float32, quant_type="nf4") > 0.2  # as measured on such a processor
    assert four_bits.repair() == ["dequantising rows that are not whole blocks"]
    (line,) = caplog.messages
    assert line.startswith("bitsandbytes ") and "repaired" in line
    assert capsys.readouterr().err == ""
    assert four_bits.misread_widths() == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_the_repair_holds_at_every_width_type_and_precision(swapped, dtype, kind, nested):
    swapped(by_rows)
    four_bits.repair()
    limit = 0.11 if kind == "nf4" else 0.16
    for width in (32, 48, 64, 96, 100, 160, 192, 416, 448):
        assert error(width, dtype, quant_type=kind, compress_statistics=nested) < limit, width


def test_a_right_kernel_is_left_alone(swapped, caplog):
    caplog.set_level(logging.INFO, logger=four_bits.__name__)
    swapped(four_bits.dequantize)
    modules.has_avx512bf16 = lambda: False
    before = list(four_bits._overrides)  # one, on a processor with AVX-512
    assert four_bits.repair() == [] and four_bits._overrides == before
    assert not caplog.messages


def test_whole_blocks_stay_with_the_librarys_kernel(swapped):
    asked = []

    def noting(A, absmax, blocksize, quant_type, shape, dtype):
        asked.append(shape[-1])
        return by_rows(A, absmax, blocksize, quant_type, shape, dtype)

    swapped(noting)
    four_bits.repair()
    asked.clear()
    error(128, torch.float32)
    error(160, torch.float32)
    assert asked == [128]


def test_layers_that_pack_for_bfloat16_in_evaluation_are_found(swapped):
    """The packing is bitsandbytes' own Python; for rows of 96 it raises on every processor."""
    modules.has_avx512bf16 = lambda: True
    assert "layers in evaluation mode" in four_bits.repair()
    layer = Linear4bit(160, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = Params4bit(weight(160), requires_grad=False, quant_type="nf4")
    layer = layer.to("cpu").eval()
    with torch.no_grad():
        got = layer(torch.ones(2, 160))
    wanted = exact_weight(160).sum(1)
    torch.testing.assert_close(got[0], wanted, rtol=1e-4, atol=1e-4)


def test_gradients_pass_through_the_repair(swapped):
    swapped(by_rows)
    four_bits.repair()
    layer = Linear4bit(160, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = Params4bit(weight(160), requires_grad=False, quant_type="nf4")
    layer = layer.to("cpu")
    x = torch.zeros(1, 160, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad[0], exact_weight(160).sum(0), rtol=1e-5, atol=1e-5)


def test_this_processor_is_right_after_the_import():
    """bitsandbytes has called the entry point by now, where postlab is installed."""
    (point,) = importlib.metadata.entry_points(group="bitsandbytes.backends", name="postlab")
    assert point.load() is four_bits.repair
    assert four_bits.misread_widths() == [] and four_bits._evaluates_exactly()


ANY_PROCESSOR = """
import logging
import postlab
import bitsandbytes.backends.cpu.ops
from postlab.models import four_bits
four_bits.misread_widths = lambda: [160]
four_bits._evaluates_exactly = lambda: False
logging.getLogger("bitsandbytes.backends.cpu.ops").warning(
    "Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "no kernels"
)
four_bits.repair()
logging.getLogger("bitsandbytes.backends.cpu.ops").warning("another warning")
"""


def test_the_import_prints_nothing_on_any_processor():
    """PEFT imports bitsandbytes for every adapter: a line would land in whichever cell is first."""
    done = subprocess.run([sys.executable, "-c", ANY_PROCESSOR], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == ""
    assert done.stderr.strip().splitlines() == ["another warning"]


def test_the_probe_leaves_torchs_random_state_alone():
    before = torch.get_rng_state()
    four_bits.misread_widths(), four_bits._evaluates_exactly()
    assert torch.equal(torch.get_rng_state(), before)
