"""LoRA by hand, what must not change it, and PEFT's layer beside ours: value and gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from postlab.scratch.lora import LoRALinear, lora_forward

TOLERANCE = 1e-5  # in float64; what was found when this was written is below 1e-14


def adapted(*, seed: int = 0, bias: bool = True, **settings) -> LoRALinear:
    """A float64 layer 6 -> 5 whose B is not zero, so that the adapter says something."""
    torch.manual_seed(seed)
    layer = LoRALinear(nn.Linear(6, 5, bias=bias, dtype=torch.float64), **settings)
    nn.init.normal_(layer.b)
    return layer


def test_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    a, b = torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0], [0.0], [2.0]])
    # alpha / r = 4; x A^T is 1 and -1; so +4 and -4 times (1, 0, 2) on the columns of W
    found = lora_forward(x, weight, a, b, alpha=4, r=1)
    assert found.tolist() == [[1 + 4, 3, 5 + 8], [2 - 4, 4, 6 - 8]]


def test_starts_as_the_layer_it_wraps_and_can_leave_it():
    layer = LoRALinear(nn.Linear(6, 5), r=2, alpha=4)
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), layer.linear(x))
    layer(x).square().sum().backward()
    assert layer.b.grad.abs().sum() > 0  # A is not zero, or nothing would ever move
    assert layer.a.grad.abs().sum() == 0  # B is
    assert layer.linear.weight.grad is None and layer.linear.bias.grad is None


def test_alpha_counts_by_its_ratio_to_r():
    x, weight = torch.randn(2, 6), torch.randn(5, 6)
    a, b = torch.randn(2, 6), torch.randn(5, 2)
    twice = lora_forward(x, weight, a, b, alpha=8, r=2) - x @ weight.T
    once = lora_forward(x, weight, a, b, alpha=4, r=2) - x @ weight.T
    torch.testing.assert_close(twice, 2 * once)
    wide = torch.cat([a, torch.zeros_like(a)]), torch.cat([b, torch.zeros_like(b)], dim=1)
    same = lora_forward(x, weight, *wide, alpha=8, r=4) - x @ weight.T
    torch.testing.assert_close(same, once)  # idle directions at the same ratio change nothing


def test_rslora_divides_by_the_root():
    assert LoRALinear(nn.Linear(64, 64), r=16, alpha=32).scaling == 2
    assert LoRALinear(nn.Linear(64, 64), r=16, alpha=32, rslora=True).scaling == 8


@pytest.mark.parametrize("bias", [True, False])
def test_merged_says_the_same_and_shares_nothing(bias: bool):
    layer = adapted(r=3, alpha=5, dropout=0.5, bias=bias).eval()
    merged, x = layer.merged(), torch.randn(7, 6, dtype=torch.float64)
    torch.testing.assert_close(merged(x), layer(x), rtol=0, atol=1e-12)
    assert type(merged) is nn.Linear and all(p.requires_grad for p in merged.parameters())
    before = merged.weight.clone()
    layer.linear.weight.data.zero_()
    assert torch.equal(merged.weight, before)


def test_the_update_has_rank_r():
    layer = adapted(r=2, alpha=2)
    update = layer.merged().weight - layer.linear.weight
    assert torch.linalg.matrix_rank(update).item() == 2


def test_dropout_falls_on_the_adapter_only_and_in_training_only():
    layer = adapted(r=2, alpha=2, dropout=0.5, bias=False)
    x = torch.randn(4, 6, dtype=torch.float64)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer.train()
    torch.manual_seed(1)
    dropped = nn.functional.dropout(x, 0.5)
    torch.manual_seed(1)
    nothing = torch.zeros_like(layer.linear.weight)
    wanted = lora_forward(dropped, nothing, layer.a, layer.b, alpha=2, r=2)
    torch.testing.assert_close(layer(x) - layer.linear(x), wanted, rtol=0, atol=1e-12)


def peft_beside(layer: LoRALinear, *, rslora: bool, dropout: float = 0.0) -> nn.Module:
    """PEFT's layer with the same base weight, A and B."""
    from peft import LoraConfig, get_peft_model

    base = nn.Sequential(nn.Linear(6, 5, bias=layer.linear.bias is not None, dtype=torch.float64))
    base.load_state_dict({f"0.{k}": v.clone() for k, v in layer.linear.state_dict().items()})
    config = LoraConfig(
        r=layer.r, lora_alpha=layer.alpha, lora_dropout=dropout, use_rslora=rslora,
        target_modules=["0"],
    )  # fmt: skip
    model = get_peft_model(base, config)
    theirs = model.base_model.model[0]
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(layer.a)
        theirs.lora_B["default"].weight.copy_(layer.b)
    return model


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("r", "alpha"), [(1, 1), (2, 4), (5, 3)])
def test_agrees_with_peft(r: int, alpha: float, dropout: float, rslora: bool):
    ours = adapted(seed=r, r=r, alpha=alpha, dropout=dropout, rslora=rslora)
    model = peft_beside(ours, rslora=rslora, dropout=dropout)
    theirs, inputs = model.base_model.model[0], torch.randn(4, 3, 6, dtype=torch.float64)
    upstream = torch.randn(4, 3, 5, dtype=torch.float64)

    def run(forward: nn.Module, a: Tensor, b: Tensor) -> list[Tensor]:
        x = inputs.clone().requires_grad_()
        torch.manual_seed(7)  # the same dropout on both sides
        y = forward(x)
        return [y, *torch.autograd.grad(y, [x, a, b], upstream)]

    mine = run(ours, ours.a, ours.b)
    library = run(model, theirs.lora_A["default"].weight, theirs.lora_B["default"].weight)
    for found, wanted in zip(mine, library, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("rslora", [False, True])
def test_merges_as_peft_does(rslora: bool):
    ours = adapted(r=2, alpha=4, rslora=rslora)
    merged = peft_beside(ours, rslora=rslora).merge_and_unload()
    torch.testing.assert_close(ours.merged().weight, merged[0].weight, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(ours.merged().bias, merged[0].bias, rtol=0, atol=0)


def test_starts_with_a_of_the_size_of_pefts():
    """Same distribution, so that learning rates carry over: uniform within 1 / sqrt(in)."""
    from peft import LoraConfig, get_peft_model

    ours = LoRALinear(nn.Linear(400, 50), r=32, alpha=1).a
    model = get_peft_model(
        nn.Sequential(nn.Linear(400, 50)), LoraConfig(r=32, target_modules=["0"])
    )
    theirs = model.base_model.model[0].lora_A["default"].weight
    for a in (ours, theirs):
        assert a.abs().max().item() == pytest.approx(1 / math.sqrt(400), rel=1e-2)
        assert a.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=5e-2)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (dict(a=(6, 2)), r"a has shape \(6, 2\).*need \(2, 6\); it is transposed"),
        (dict(b=(2, 5)), r"b has shape \(2, 5\).*need \(5, 2\); it is transposed"),
        (dict(a=(3, 6), b=(5, 3)), r"a has shape \(3, 6\), but weight \(5, 6\) and r=2"),
        (dict(x=(4, 5)), r"x has shape \(4, 5\); its last dimension must be weight's 6"),
        (dict(weight=(6,)), r"weight has shape \(6,\); expected a matrix"),
    ],
)
def test_wrong_shapes_are_named(shapes: dict, message: str):
    right = dict(x=(4, 6), weight=(5, 6), a=(2, 6), b=(5, 2)) | shapes
    tensors = [torch.zeros(right[name]) for name in ("x", "weight", "a", "b")]
    with pytest.raises(ValueError, match=message):
        lora_forward(*tensors, alpha=4, r=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(r=0, alpha=1), "r is 0"),
        (dict(r=2.0, alpha=1), "r is 2.0"),
        (dict(r=2, alpha=0), "alpha is 0"),
        (dict(r=2, alpha=1, dropout=1.0), "dropout is 1.0"),
    ],
)
def test_wrong_settings_are_named(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LoRALinear(nn.Linear(2, 2), **settings)


def test_wrong_layers_are_named():
    with pytest.raises(TypeError, match="linear is a Embedding; LoRALinear adapts an nn.Linear"):
        LoRALinear(nn.Embedding(2, 2), r=1, alpha=1)
    packed = nn.Linear(2, 2)
    packed.weight = nn.Parameter(torch.zeros(2, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(TypeError, match="dequantise them first"):
        LoRALinear(packed, r=1, alpha=1)
