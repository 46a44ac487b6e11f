"""Unsloth's Triton kernels, one at a time, against plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

Figures = dict[str, float]


def measure() -> dict[str, Figures]:
    """{kernel: largest absolute difference of value and gradient}, in float32."""
    checks = (rms_norm, swiglu, swiglu_backward, rope, cross_entropy)
    return {check.__name__: check() for check in checks}


def gap(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).detach().abs().max())


def both(ours: Callable, theirs: Callable, *shapes: tuple[int, ...]) -> Figures:
    """Two functions on the same random tensors: their values, and the gradients of each tensor."""
    values, grads = [], []
    for function in (ours, theirs):
        draw = torch.Generator().manual_seed(0)
        inputs = [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]
        value = function(*inputs)
        weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        grads.append(torch.autograd.grad((value * weights).sum(), inputs))
        values.append(value)
    return {"value": gap(*values), "gradient": max(map(gap, *grads))}


def rms_norm() -> Figures:
    from unsloth.kernels.rms_layernorm import fast_rms_layernorm

    class Norm(torch.nn.Module):
        weight = torch.linspace(0.5, 1.5, 160)
        variance_epsilon = 1e-5

    norm = Norm()
    return both(
        lambda x: fast_rms_layernorm(norm, x),
        lambda x: F.rms_norm(x, (160,), norm.weight, norm.variance_epsilon),
        (2, 5, 160),
    )


def swiglu() -> Figures:
    from unsloth.kernels.swiglu import swiglu_fg_kernel

    e, g = torch.randn(2, 2, 5, 416, generator=torch.Generator().manual_seed(0))
    return {"value": gap(swiglu_fg_kernel(e, g), F.silu(e) * g)}


def swiglu_backward() -> Figures:
    """The kernel overwrites its inputs by h, the gradient for the up and that for the gate."""
    from unsloth.kernels.swiglu import swiglu_DWf_DW_dfg_kernel

    upstream, e, g = torch.randn(3, 10, 416, generator=torch.Generator().manual_seed(0))
    gate, up = e.clone().requires_grad_(), g.clone().requires_grad_()
    h = F.silu(gate) * up
    d_gate, d_up = torch.autograd.grad(h, (gate, up), upstream)
    ours = swiglu_DWf_DW_dfg_kernel(upstream.clone(), e.clone(), g.clone())
    return {"value": gap(ours[0], h), "gradient": max(map(gap, ours[1:], (d_up, d_gate)))}


def rope() -> Figures:
    from unsloth.kernels.rope_embedding import fast_rope_embedding

    heads, length, width = 5, 7, 32
    angles = torch.arange(length)[:, None] * 10_000 ** (-torch.arange(0, width, 2) / width)
    cos, sin = (f(torch.cat([angles, angles], -1)) for f in (torch.cos, torch.sin))

    def rotated(x: torch.Tensor) -> torch.Tensor:
        half = torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1)
        return x * cos + half * sin

    return both(
        lambda q, k: torch.cat(fast_rope_embedding(q * 1, k * 1, cos, sin), 1),
        lambda q, k: torch.cat([rotated(q), rotated(k)], 1),
        (2, heads, length, width),
        (2, 1, length, width),
    )


def cross_entropy() -> Figures:
    from unsloth.kernels.cross_entropy_loss import fast_cross_entropy_loss

    labels = torch.arange(12).reshape(2, 6) * 40
    labels[0, :2] = -100
    return both(
        lambda x: fast_cross_entropy_loss(x * 1, labels),
        lambda x: F.cross_entropy(x.view(-1, 512), labels.view(-1)),
        (2, 6, 512),
    )
