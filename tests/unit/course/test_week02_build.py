"""Week 2's build: right ones of several forms pass, and each wrong one is told its own mistake."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from postlab.course.week02 import adapters, check_adapters


class Layer(nn.Module):
    """A learner's layer, in which one thing can be wrong."""

    def __init__(self, linear: nn.Linear, r: int, alpha: float, how: str) -> None:
        super().__init__()
        self.linear, self.r, self.alpha, self.how = linear, r, alpha, how
        size = linear.in_features
        a, b = torch.randn(r, size) / math.sqrt(size), torch.zeros(linear.out_features, r)
        if how == "random start":
            b = torch.randn_like(b)
        if how == "both zero":
            a = torch.zeros_like(a)
        if how == "a full matrix":
            self.full = nn.Parameter(torch.zeros_like(linear.weight))
        if how == "a trained copy":
            self.own = nn.Parameter(linear.weight.detach().clone())
        if how == "one too many":
            a = torch.randn(r + 1, size)
            b = torch.zeros(linear.out_features, r + 1)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def scale(self) -> float:
        other = {
            "no scale": 1.0, "alpha alone": self.alpha, "rslora": self.alpha / math.sqrt(self.r),
            "odd scale": 0.7, "floor": self.alpha // self.r,
            "by features": self.alpha / self.a.shape[1],
            "subtracted": -self.alpha / self.r,
        }  # fmt: skip
        return other.get(self.how, self.alpha / self.r)

    def forward(self, x):
        base = self.linear(x)
        if self.how == "bias lost":
            base = F.linear(x, self.linear.weight)
        if self.how == "base scaled":
            base = 2 * base
        if self.how == "detached":
            return base + self.scale() * (x @ self.a.T @ self.b.T).detach()
        if self.how == "b detached":
            return base + self.scale() * (x @ self.a.T @ self.b.detach().T)
        if self.how == "twice" and self.b.any():
            return base + self.scale() * (x @ self.a.T @ self.b.T) ** 2
        return base + self.scale() * (x @ self.a.T @ self.b.T)


def learner(how: str = ""):
    """The two functions of a learner."""

    def inject(model, names, *, r, alpha):
        if how != "not frozen":
            model.requires_grad_(False)
        if how == "nothing":
            return
        names = names[:1] if how == "one name" else names
        for name, module in list(model.named_modules()):
            parent, _, last = name.rpartition(".")
            if last in names or (how == "others too" and last == "up_proj"):
                if how == "beside the path":
                    model.register_module("".join(name.split(".")), Layer(module, r, alpha, how))
                    continue
                parent = "" if how == "dotted" else parent
                last = name if how == "dotted" else last
                setattr(model.get_submodule(parent), last, Layer(module, r, alpha, how))
        if how == "frozen last":
            model.requires_grad_(False)

    def merge(model):
        if how == "merge raises":
            raise KeyError("a")
        for name, module in list(model.named_modules()):
            if not isinstance(module, Layer):
                continue
            parent, _, last = name.rpartition(".")
            change = module.scale() * module.b.data @ module.a.data
            if how == "merge without scale":
                change = module.b.data @ module.a.data
            if how == "merge transposed" and change.shape[0] == change.shape[1]:
                change = change.T
            if how == "merge noise":
                change = change + 0.05 * torch.randn_like(change)
            if how == "merge drops":
                change = 0 * change
            linear = module.linear
            if how == "merge replaces":
                linear.weight.data.zero_()
            linear.weight.data += change
            if how == "merge loses bias":
                linear.bias = None
            if how == "merge keeps the weight":
                linear = linear.weight
            if how != "not merged":
                setattr(model.get_submodule(parent), last, linear)

    return inject, merge


def code(how: str) -> str:
    return adapters.examine(*learner(how)).code


class Thin(nn.Module):
    """The same as two bias-free linear layers, with the scale folded into the forward pass."""

    def __init__(self, linear, r, alpha):
        super().__init__()
        self.frozen, self.scale = linear, alpha / r
        self.down = nn.Linear(linear.in_features, r, bias=False)
        self.up = nn.Linear(r, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.frozen(x) + self.up(self.down(x * self.scale))


def thin():
    def inject(model, names, *, r, alpha):
        for p in model.parameters():
            p.requires_grad = False
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if name in names:
                    parent.add_module(name, Thin(child, r, alpha))

    def merge(model):
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Thin):
                    plain = nn.Linear(child.frozen.in_features, child.frozen.out_features)
                    plain.weight.data = child.frozen.weight + child.scale * (
                        child.up.weight @ child.down.weight
                    )
                    plain.bias = child.frozen.bias
                    parent.add_module(name, plain)

    return inject, merge


@pytest.mark.parametrize(
    "functions", [learner(), thin(), (adapters.inject, adapters.merge)], ids=["a", "b", "reference"]
)
def test_right_ones_of_other_forms_pass_and_are_returned(functions, capsys):
    assert check_adapters(*functions) == functions
    assert capsys.readouterr().out.startswith("✓ adapters: right. 14,336 parameters trained")


WRONG = {
    "nothing": "nothing_injected", "one name": "layers_missing", "others too": "other_layers",
    "frozen last": "adapters_frozen", "not frozen": "base_not_frozen",
    "a full matrix": "wrong_size", "a trained copy": "base_not_frozen",
    "one too many": "wrong_size", "both zero": "both_zero",
    "random start": "start_is_not_the_base", "base scaled": "frozen_path_changed",
    "no scale": "scale_missing", "alpha alone": "r_forgotten", "rslora": "rslora_scale",
    "odd scale": "wrong_scale", "floor": "whole_division", "by features": "scale_by_features",
    "subtracted": "subtracted", "twice": "rank_too_high",
    "detached": "raises_in_training", "b detached": "no_gradient",
    "merge raises": "raises_in_merge", "merge without scale": "merge_scale",
    "merge transposed": "merge_transposed", "merge noise": "merge_differs",
    "merge drops": "adapter_dropped", "merge replaces": "base_lost", "dotted": "no_effect",
    "beside the path": "layers_missing", "not merged": "not_merged",
    "merge keeps the weight": "not_merged",
    "bias lost": "bias_in_inject", "merge loses bias": "bias_in_merge",
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_build_is_told_its_own_mistake(how):
    assert code(how) == WRONG[how]


def test_a_stub_is_not_attempted_and_the_reference_goes_on(capsys):
    def stub(*args, **kwargs):
        raise NotImplementedError

    assert check_adapters(stub, stub) == (adapters.inject, adapters.merge)
    assert "not attempted" in capsys.readouterr().out
    assert adapters.examine(learner()[0], stub).code == "merge_missing"
    outcome = adapters.examine(*learner("merge raises"))
    assert 'raise KeyError("a")' in outcome.message  # the learner's own line
    assert adapters.examine("inject", stub).code == "not_a_function"
