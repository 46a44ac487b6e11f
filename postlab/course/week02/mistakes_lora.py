"""What goes wrong in a LoRA layer: each mistake as a function that makes it."""

from __future__ import annotations

from torch import Tensor

from postlab.course.check._parts import Mistake


def _lora(x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return x @ weight.T + scale * (x @ a.T @ b.T)


LORA_FORWARD = (
    Mistake(
        "scale_missing",
        "nothing scales the adapter: its output is multiplied by alpha / r",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, a, b, 1),
    ),
    Mistake(
        "r_forgotten",
        "you multiply by alpha and do not divide by r",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, a, b, alpha),
    ),
    Mistake(
        "alpha_forgotten",
        "you divide by r and do not multiply by alpha",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, a, b, 1 / r),
    ),
    Mistake(
        "rslora_scale",
        "you scale by alpha / sqrt(r): that is rsLoRA, plain LoRA divides by r",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, a, b, alpha / r**0.5),
    ),
    Mistake(
        "scale_upside_down",
        "you scale by r / alpha: it is alpha / r",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, a, b, r / alpha),
    ),
    Mistake(
        "whole_division",
        "you divide with //, which throws the fraction away: alpha / r need not be whole",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, a, b, alpha // r),
    ),
    Mistake(
        "base_scaled",
        "you scale the frozen layer's output too: alpha / r belongs to the adapter alone",
        lambda x, w, a, b, *, alpha, r: alpha / r * _lora(x, w, a, b, 1),
    ),
    Mistake(
        "base_forgotten",
        "you return the adapter's part alone: add it to what the frozen weight gives",
        lambda x, w, a, b, *, alpha, r: alpha / r * (x @ a.T @ b.T),
    ),
    Mistake(
        "adapter_forgotten",
        "you return what the frozen weight gives: the adapter's part is missing",
        lambda x, w, a, b, *, alpha, r: x @ w.T,
    ),
    Mistake(
        "a_and_b_swapped",
        "b is applied before a, or you form a @ b: x goes down through a, then up through b",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, b, a, alpha / r),
    ),
    Mistake(
        "adapter_not_transposed",
        "a and b are not transposed: weights are (out, in), so x meets them as x @ a.T",
        lambda x, w, a, b, *, alpha, r: x @ w.T + alpha / r * (x @ a @ b),
    ),
    Mistake(
        "weight_not_transposed",
        "the weight is not transposed: it is (out, in), so it is x @ weight.T, or F.linear",
        lambda x, w, a, b, *, alpha, r: x @ w + alpha / r * (x @ a.T @ b.T),
    ),
    Mistake(
        "x_on_the_right",
        "x stands on the right: it holds rows, (…, in), so it comes first, x @ weight.T",
        lambda x, w, a, b, *, alpha, r: w @ x + alpha / r * b @ a @ x,
        lambda x, w, a, b, *, alpha, r: (w + alpha / r * b @ a) @ x,
    ),
    Mistake(
        "nothing_transposed",
        "nothing is transposed: weights are (out, in), so it is x @ weight.T, or F.linear",
        lambda x, w, a, b, *, alpha, r: x @ w + alpha / r * (x @ a @ b),
    ),
    Mistake(
        "adapter_on_output",
        "the adapter is fed with the frozen layer's output: it reads x, beside that layer",
        lambda x, w, a, b, *, alpha, r: x @ w.T + alpha / r * (x @ w.T @ a.T @ b.T),
    ),
    Mistake(
        "subtracted",
        "the adapter's part is subtracted: it is added",
        lambda x, w, a, b, *, alpha, r: _lora(x, w, a, b, -alpha / r),
    ),
)
