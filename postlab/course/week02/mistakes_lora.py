"""What goes wrong in a LoRA layer: edits of the right answer below."""

from __future__ import annotations

from torch import Tensor

from postlab.course.check._answers import mistakes


def lora_forward(
    x: Tensor, weight: Tensor, a: Tensor, b: Tensor, *, alpha: float, r: int
) -> Tensor:
    scale = alpha / r
    base = x @ weight.T
    down = x @ a.T
    return base + scale * (down @ b.T)


LORA_FORWARD = mistakes("""
scale_missing: nothing scales the adapter: its output is multiplied by alpha / r
- alpha / r -> 1

r_forgotten: you multiply by alpha and do not divide by r
- alpha / r -> alpha

alpha_forgotten: you divide by r and do not multiply by alpha
- alpha / r -> 1 / r

rslora_scale: you scale by alpha / sqrt(r): that is rsLoRA, plain LoRA divides by r
- alpha / r -> alpha / r ** 0.5

scale_upside_down: you scale by r / alpha: it is alpha / r
- alpha / r -> r / alpha

scale_product: you scale by alpha * r: it is alpha / r
- alpha / r -> alpha * r

whole_division: you divide with //, which throws the fraction away: alpha / r need not be whole
- alpha / r -> alpha // r

scale_twice: alpha / r is in it twice: scale a or b or the product of both, and only one of them
- scale * (down -> scale ** 2 * (down

base_scaled: you scale the frozen layer's output too: alpha / r belongs to the adapter alone
- base + scale * (down @ b.T) -> scale * (base + down @ b.T)

base_forgotten: you return the adapter's part alone: add it to what the frozen weight gives
- base + scale -> scale

adapter_forgotten: you return what the frozen weight gives: the adapter's part is missing
- base + scale * (down @ b.T) -> base

a_and_b_swapped: b is applied before a, or you form a @ b: x goes down through a, then up through b
- x @ a.T -> x @ b.T
+ down @ b.T -> down @ a.T

adapter_not_transposed: a and b are not transposed: weights are (out, in), so x meets them as x @ a.T
- x @ a.T -> x @ a
+ down @ b.T -> down @ b

a_not_transposed: a is not transposed: it is (r, in), so x meets it as x @ a.T
- x @ a.T -> x @ a

b_not_transposed: b is not transposed: it is (out, r), so it is down @ b.T
- down @ b.T -> down @ b

weight_not_transposed: the weight is not transposed: it is (out, in), so it is x @ weight.T, or
F.linear
- x @ weight.T -> x @ weight

x_on_the_right: x stands on the right: it holds rows, (…, in), so it comes first, x @ weight.T
- x @ weight.T -> weight @ x
+ x @ a.T -> a @ x
+ down @ b.T -> b @ down

nothing_transposed: nothing is transposed: weights are (out, in), so it is x @ weight.T, or F.linear
- x @ weight.T -> x @ weight
+ x @ a.T -> x @ a
+ down @ b.T -> down @ b

adapter_on_output: the adapter is fed with the frozen layer's output: it reads x, beside that layer
- x @ a.T -> base @ a.T

subtracted: the adapter's part is subtracted: it is added
- base + scale -> base - scale
""")
