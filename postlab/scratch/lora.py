"""LoRA: train a thin product beside a frozen weight, W + scaling * B A.

`lora_forward` is the whole method in two lines, `LoRALinear` the layer with its zero start, dropout
and merge. It agrees with PEFT's LoRA and rsLoRA, value and gradient.

Left out: LoRA for embeddings and convolutions, DoRA, several adapters on one layer, and quantised
base weights (dequantise them and call `lora_forward`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def lora_forward(
    x: Tensor, weight: Tensor, a: Tensor, b: Tensor, *, alpha: float, r: int
) -> Tensor:
    """What a linear layer with a LoRA adapter returns: x W^T + alpha/r (x A^T) B^T.

    The product B A is never formed: x goes through the r-wide bottleneck, which costs
    r (in + out) multiplications a token instead of in * out.

    Args:
        x: (..., in) activations.
        weight: (out, in), frozen.
        a: (r, in), the way down.
        b: (out, r), the way up; zero at the start, so that training starts from the base.
        alpha: strength of the adapter; what counts is alpha / r.
        r: rank.
    Returns:
        (..., out).
    Raises:
        ValueError: if the shapes do not fit each other or r.
    Source: Hu et al. 2021, arXiv 2106.09685, eq. 3. Taught in week 2.

    >>> x, weight = torch.tensor([[1.0, 2.0]]), torch.eye(2)
    >>> a, b = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0], [0.0]])
    >>> lora_forward(x, weight, a, b, alpha=2, r=1)  # [1, 2] + 2/1 * 3 * [1, 0]
    tensor([[7., 2.]])
    """
    _check_shapes(x, weight, a, b, r)
    # Eq. 3: W0 x + scaling * B A x.
    return F.linear(x, weight) + lora_update(x, a, b, scaling=alpha / r)


def lora_update(x: Tensor, a: Tensor, b: Tensor, *, scaling: float) -> Tensor:
    """The adapter's part alone, scaling * (x A^T) B^T.

    Args:
        x: (..., in).
        a: (r, in).
        b: (out, r).
        scaling: alpha / r, or alpha / sqrt(r) for rsLoRA.
    Returns:
        (..., out).

    >>> lora_update(torch.tensor([1.0, 2.0]), torch.ones(1, 2), torch.ones(3, 1), scaling=0.5)
    tensor([1.5000, 1.5000, 1.5000])
    """
    down = F.linear(x, a)  # 1. (..., in) -> (..., r): through the bottleneck
    up = F.linear(down, b)  # 2. (..., r) -> (..., out)
    return up * scaling  # 3. so that alpha sets the strength for any r


class LoRALinear(nn.Module):
    """A linear layer, frozen, with a trainable low-rank update beside it.

    B starts at zero, so the layer starts out as the one it wraps; A starts like a linear layer's
    own weight, for with both at zero neither would get a gradient.

    Args:
        linear: the layer to adapt; its parameters are frozen in place.
        r: rank of the update.
        alpha: the update is scaled by alpha / r.
        dropout: share of the adapter's inputs zeroed in training; the frozen path sees them all.
        rslora: scale by alpha / sqrt(r), which keeps the size of the update as r grows.
    Raises:
        TypeError: if `linear` is no nn.Linear, or its weights are quantised.
        ValueError: if r, alpha or dropout is out of range.
    Source: Hu et al. 2021, arXiv 2106.09685; Kalajdzievski 2023, arXiv 2312.03732 (rsLoRA). Taught
        in week 2.

    >>> layer = LoRALinear(nn.Linear(8, 4), r=2, alpha=4)
    >>> sum(p.numel() for p in layer.parameters() if p.requires_grad)  # r * (in + out)
    24
    >>> x = torch.ones(1, 8)
    >>> torch.equal(layer(x), layer.linear(x))
    True
    """

    def __init__(
        self,
        linear: nn.Linear,
        *,
        r: int,
        alpha: float,
        dropout: float = 0.0,
        rslora: bool = False,
    ) -> None:
        super().__init__()
        _check_settings(linear, r, alpha, dropout)
        # 1. The base is frozen: only the adapter needs gradients and optimizer states.
        self.linear = linear.requires_grad_(False)
        # 2. B = 0, so B A = 0 and training starts from the base model. A must not be 0 as well, or
        #    neither would get a gradient.
        weight = linear.weight
        self.a = nn.Parameter(torch.empty(r, linear.in_features).to(weight))
        self.b = nn.Parameter(torch.zeros(linear.out_features, r).to(weight))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)
        # 3. The scale of the update.
        self.r, self.alpha = r, alpha
        self.scaling = alpha / math.sqrt(r) if rslora else alpha / r

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out); without dropout, `lora_forward` plus the bias."""
        return self.linear(x) + lora_update(self.dropout(x), self.a, self.b, scaling=self.scaling)

    def merged(self) -> nn.Linear:
        """One plain linear layer that computes the same: weight W + scaling * B A.

        A new layer that shares nothing with this one, without dropout, and as trainable as any.

        >>> layer = LoRALinear(nn.Linear(2, 2, bias=False), r=1, alpha=2)
        >>> _ = [t.data.fill_(1) for t in (layer.linear.weight, layer.a, layer.b)]
        >>> layer.merged().weight.tolist()  # 1 + 2/1 * 1 * 1
        [[3.0, 3.0], [3.0, 3.0]]
        """
        bias = self.linear.bias
        merged = nn.Linear(self.linear.in_features, self.linear.out_features, bias is not None)
        merged = merged.to(self.linear.weight)
        with torch.no_grad():
            merged.weight.copy_(self.linear.weight + self.scaling * self.b @ self.a)
            if bias is not None:
                merged.bias.copy_(bias)
        return merged

    def extra_repr(self) -> str:
        return f"r={self.r}, alpha={self.alpha}, scaling={self.scaling:g}"


def _check_shapes(x: Tensor, weight: Tensor, a: Tensor, b: Tensor, r: int) -> None:
    shapes = {name: tuple(t.shape) for name, t in {"weight": weight, "a": a, "b": b}.items()}
    for name, shape in shapes.items():
        if len(shape) != 2:
            raise ValueError(f"{name} has shape {shape}; expected a matrix")
    out_features, in_features = shapes["weight"]
    expected = {"a": (r, in_features), "b": (out_features, r)}
    for name, shape in expected.items():
        if shapes[name] != shape:
            hint = "; it is transposed" if shapes[name] == shape[::-1] else ""
            raise ValueError(
                f"{name} has shape {shapes[name]}, but weight {shapes['weight']} and r={r} need"
                f" {shape}{hint}"
            )
    if x.shape[-1:] != (in_features,):
        raise ValueError(
            f"x has shape {tuple(x.shape)}; its last dimension must be weight's {in_features}"
        )


def _check_settings(linear: nn.Linear, r: int, alpha: float, dropout: float) -> None:
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"linear is a {type(linear).__name__}; LoRALinear adapts an nn.Linear")
    if not linear.weight.is_floating_point():
        raise TypeError(
            f"linear holds packed {linear.weight.dtype} weights; dequantise them first, or call"
            " lora_forward with the dequantised weight"
        )
    if not isinstance(r, int) or r < 1:
        raise ValueError(f"r is {r!r}; expected a whole number from 1 on, such as 16")
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha!r}; expected a positive number, such as 2 * r")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}; expected a share in [0, 1)")
