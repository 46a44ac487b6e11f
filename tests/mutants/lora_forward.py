"""Wrong answers to `lora_forward`, as people write them."""

import math

import torch
import torch.nn.functional as F


def does_not_scale(x, weight, a, b, *, alpha, r):
    return F.linear(x, weight) + F.linear(F.linear(x, a), b)


def forgets_r(x, weight, a, b, *, alpha, r):
    return x @ weight.T + alpha * (x @ a.T) @ b.T


def forgets_alpha(x, weight, a, b, *, alpha, r):
    return x @ weight.T + (x @ a.T @ b.T) / r


def scales_as_rslora(x, weight, a, b, *, alpha, r):
    scaling = alpha / math.sqrt(r)
    return F.linear(x, weight) + scaling * F.linear(F.linear(x, a), b)


def divides_down(x, weight, a, b, *, alpha, r):
    scaling = alpha // r
    return F.linear(x, weight) + scaling * F.linear(F.linear(x, a), b)


def turns_the_scale_round(x, weight, a, b, *, alpha, r):
    delta = b @ a
    return F.linear(x, weight + (r / alpha) * delta)


def scales_everything(x, weight, a, b, *, alpha, r):
    return (alpha / r) * F.linear(x, weight + b @ a)


def only_the_adapter(x, weight, a, b, *, alpha, r):
    return F.linear(F.linear(x, a), b) * (alpha / r)


def b_then_a(x, weight, a, b, *, alpha, r):
    return F.linear(x, weight) + alpha / r * (x @ b.T @ a.T)


def no_transposes_in_the_adapter(x, weight, a, b, *, alpha, r):
    return F.linear(x, weight) + (alpha / r) * (x @ a @ b)


def no_transposes_at_all(x, weight, a, b, *, alpha, r):
    return x @ weight + (x @ a @ b) * alpha / r


def adapter_after_the_layer(x, weight, a, b, *, alpha, r):
    h = F.linear(x, weight)
    return h + alpha / r * F.linear(F.linear(h, a), b)


def merges_in_place(x, weight, a, b, *, alpha, r):
    weight += alpha / r * b @ a
    return x @ weight.T


def adapter_without_gradient(x, weight, a, b, *, alpha, r):
    with torch.no_grad():
        delta = alpha / r * b @ a
    return F.linear(x, weight + delta)


def only_for_matrices(x, weight, a, b, *, alpha, r):
    return torch.mm(x, weight.t()) + alpha / r * torch.mm(torch.mm(x, a.t()), b.t())


def fixed_scale(x, weight, a, b, *, alpha, r):
    return F.linear(x, weight) + 2 * F.linear(F.linear(x, a), b)


def as_in_the_paper(x, weight, a, b, *, alpha, r):
    return weight @ x + (alpha / r) * (b @ a @ x)


MUTANTS = {
    "does_not_scale": "scale_missing",
    "forgets_r": "r_forgotten",
    "forgets_alpha": "alpha_forgotten",
    "scales_as_rslora": "rslora_scale",
    "divides_down": "whole_division",
    "turns_the_scale_round": "scale_upside_down",
    "scales_everything": "base_scaled",
    "only_the_adapter": "base_forgotten",
    "b_then_a": "a_and_b_swapped",
    "no_transposes_in_the_adapter": "adapter_not_transposed",
    "no_transposes_at_all": "nothing_transposed",
    "adapter_after_the_layer": "adapter_on_output",
    "merges_in_place": "edits_inputs",
    "adapter_without_gradient": "no_gradient_to_a",
    "only_for_matrices": "raises_RuntimeError",
    "fixed_scale": "ignores_alpha",
    "as_in_the_paper": "x_on_the_right",
}
