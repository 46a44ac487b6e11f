"""NF4 by hand, by brute force, and bit for bit beside bitsandbytes on the CPU."""

from __future__ import annotations

import pytest
import torch

from postlab.scratch import nf4
from postlab.scratch.nf4 import NF4, nf4_codes, quantize, weights_gib

# --- hand-worked, invariances, brute force --------------------------------------------------------


def test_codes_by_hand():
    w = torch.tensor([[4.0, -4.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    codes, absmax = nf4_codes(w, NF4)
    # 1, -1, 0, and 1/2, which is nearer to 0.4407 (code 12) than to 0.5626 (13)
    assert codes.tolist() == [[15, 0, 7, 12], [7, 7, 7, 7]]
    assert absmax.tolist() == [4.0, 0.0] and codes.dtype == torch.uint8


def test_a_code_is_the_nearest_value():
    w = torch.randn(50, 64)
    codes, absmax = nf4_codes(w, NF4)
    distances = (w.unsqueeze(-1) / absmax.view(-1, 1, 1) - NF4).abs()  # (n, block, 16)
    chosen = distances.gather(2, codes.long().unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(chosen, distances.amin(dim=2), rtol=0, atol=1e-6)


def test_a_block_knows_nothing_of_its_neighbours():
    w = torch.randn(8, 64)
    codes, absmax = nf4_codes(w, NF4)
    scaled = w.clone()
    scaled[3] *= 1024  # a power of two: not a bit of any quotient changes
    codes_after, absmax_after = nf4_codes(scaled, NF4)
    assert torch.equal(codes_after, codes)
    absmax[3] *= 1024
    assert torch.equal(absmax_after, absmax)


def test_the_codebook_is_that_of_the_normal():
    assert (nf4.normal_codebook() - NF4).abs().max() < 2e-7
    assert len(NF4) == 16 and (NF4.diff() > 0).all()
    assert NF4[0] == -1 and NF4[7] == 0 and NF4[15] == 1


def test_normal_weights_lose_less_to_nf4_than_to_even_steps():
    torch.manual_seed(0)
    w = torch.randn(1000, 64)
    even = torch.linspace(-1, 1, 16)
    errors = []
    for codebook in (NF4, even):
        codes, absmax = nf4_codes(w, codebook)
        errors.append((codebook[codes.long()] * absmax.view(-1, 1) - w).square().mean())
    assert errors[0] < 0.9 * errors[1]


def test_quantising_again_changes_nothing():
    for double in (False, True):
        once = quantize(torch.randn(64, 64), double_quant=double).dequantize()
        codes = quantize(once).codes
        assert torch.equal(quantize(quantize(once).dequantize()).codes, codes)


BITS = [(False, 4 + 32 / 64), (True, 4 + 8 / 64 + 32 / 64 / 256)]


@pytest.mark.parametrize(("double", "wanted"), BITS)
def test_bytes_are_the_arithmetic(double: bool, wanted: float):
    w = torch.randn(512, 512)  # 4,096 blocks: whole nested blocks
    packed = quantize(w, double_quant=double)
    offset = 4 if double else 0
    assert packed.nbytes == w.numel() * wanted / 8 + offset
    constant_bits = 8 + 32 / 256 if double else 32
    gib = weights_gib(w.numel(), bits=4, constant_bits=constant_bits)
    assert gib * 2**30 == pytest.approx(packed.nbytes - offset)


def test_weights_gib_by_hand():
    assert weights_gib(2**30, bits=32) == 4.0
    assert weights_gib(2**30, bits=16, block=1) == 2.0  # 16 bits need no constants
    assert weights_gib(2**30, bits=4, block=32) == 0.5 + 4 / 32
    assert weights_gib(70e9, bits=4) == pytest.approx(36.67, abs=0.01)


@pytest.mark.parametrize("name", ["parameters", "bits", "block", "constant_bits"])
def test_weights_gib_names_what_is_wrong(name: str):
    with pytest.raises(ValueError, match=f"{name} is 0; expected a positive number"):
        weights_gib(**({"parameters": 1, "bits": 4} | {name: 0}))


def test_what_cannot_be_quantised_is_named():
    with pytest.raises(ValueError, match=r"w has shape \(3, 5\), 15 values, .* no multiple of"):
        quantize(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="w holds NaN or infinity"):
        quantize(torch.full((64,), torch.inf))
    with pytest.raises(TypeError, match=r"w is torch.float64; .*use w.float\(\)"):
        quantize(torch.zeros(64, dtype=torch.float64))
    with pytest.raises(ValueError, match="block is 63; expected an even number"):
        quantize(torch.zeros(63), block=63)
    with pytest.raises(ValueError, match=r"w has shape \(64,\); expected \(n, block\)"):
        nf4_codes(torch.zeros(64), NF4)
    with pytest.raises(ValueError, match="ascending"):
        nf4_codes(torch.zeros(1, 64), NF4.flip(0))


# --- bitsandbytes ---------------------------------------------------------------------------------


def weight(kind: str, dtype: torch.dtype) -> torch.Tensor:
    torch.manual_seed(len(kind))
    w = torch.randn(160, 416) * 0.03
    if kind == "outliers":
        w[::7, ::11] *= 40
    if kind == "zeros":
        w[:5] = 0  # whole blocks of nothing
    if kind == "equal":  # every block has the same constant: nested scale 0
        w = torch.full((160, 416), 0.3)
    return w.to(dtype)


@pytest.mark.parametrize("kind", ["normal", "outliers", "zeros", "equal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("double", [False, True])
def test_equals_bitsandbytes_bit_for_bit(kind: str, dtype: torch.dtype, block: int, double: bool):
    from bitsandbytes import functional as bnb

    w = weight(kind, dtype)
    codes, state = bnb.quantize_4bit(
        w, blocksize=block, compress_statistics=double, quant_type="nf4"
    )
    ours = quantize(w, block=block, double_quant=double)
    pairs = {
        "codes": (ours.codes, codes.view(-1)),
        "absmax": (ours.absmax, state.absmax),
        "dequantised": (ours.dequantize(), bnb.dequantize_4bit(codes, state)),
        "codebook": (NF4, state.code),
    }
    if double:  # 1,040 or more constants: the last nested block is not full
        pairs |= {
            "nested absmax": (ours.nested_absmax, state.state2.absmax),
            "offset": (ours.offset, state.offset),
            "dynamic map": (nf4.dynamic_map(), state.state2.code),
            "constants": (
                ours.constants(),
                bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset,
            ),
        }
    assert [name for name, (mine, theirs) in pairs.items() if not torch.equal(mine, theirs)] == []


def test_the_gradient_passes_a_frozen_4_bit_weight_as_in_bitsandbytes():
    """QLoRA's backward: x gets dy W with W dequantised; codes get no gradient."""
    from bitsandbytes.nn import Linear4bit

    from postlab.scratch.lora import lora_forward

    w = weight("normal", torch.float32)
    layer = Linear4bit(416, 160, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    layer.load_state_dict({"weight": w})
    layer = layer.to("cpu")  # quantises
    a, b = (torch.randn(4, 416) / 20).requires_grad_(), torch.randn(160, 4).requires_grad_()
    upstream, gradients = torch.randn(3, 160), []
    inputs = torch.randn(3, 416)
    frozen = quantize(w, double_quant=True).dequantize()
    for forward in (
        lambda x: layer(x) + lora_forward(x, torch.zeros(160, 416), a, b, alpha=8, r=4),
        lambda x: lora_forward(x, frozen, a, b, alpha=8, r=4),
    ):
        x = inputs.clone().requires_grad_()
        y = forward(x)
        gradients.append([y, *torch.autograd.grad(y, [x, a, b], upstream)])
    for found, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
