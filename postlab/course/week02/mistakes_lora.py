"""Common mistakes in a LoRA layer, as edits of the right answer below."""

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
scale_missing: the adapter isn't scaled: multiply its output by alpha / r
- alpha / r -> 1

r_forgotten: you multiply by alpha but don't divide by r
- alpha / r -> alpha

alpha_forgotten: you divide by r but don't multiply by alpha
- alpha / r -> 1 / r

rslora_scale: you scale by alpha / sqrt(r): that is rsLoRA; plain LoRA divides by r
- alpha / r -> alpha / r ** 0.5

scale_upside_down: you scale by r / alpha: it should be alpha / r
- alpha / r -> r / alpha

scale_product: you scale by alpha * r: it should be alpha / r
- alpha / r -> alpha * r

scale_by_features: you divide by a number of features: r is the rank, the number of rows of a
- alpha / r -> alpha / a.shape[1]
- alpha / r -> alpha / weight.shape[0]

r_twice: you divide by r twice: it is alpha / r
- alpha / r -> alpha / r ** 2

whole_division: you divide with //, which drops the fraction: alpha / r may not be an integer
- alpha / r -> alpha // r

scale_twice: you apply alpha / r twice: scale a, b or their product, but only one of them
- scale * (down -> scale ** 2 * (down

base_scaled: you scale the frozen layer's output too: alpha / r applies only to the adapter
- base + scale * (down @ b.T) -> scale * (base + down @ b.T)

base_scaled_instead: you scale the frozen layer's output instead of the adapter's
- base + scale * (down @ b.T) -> scale * base + down @ b.T

base_twice: the frozen layer's output is in it twice: add the adapter's to it once
- base + scale -> base + base + scale

adapter_through_weight: the adapter's output goes through the frozen weight, or is added before it:
it is added to that layer's output, W x + scale * B A x
- base + scale * (down @ b.T) -> (x + scale * (down @ b.T)) @ weight.T
- base + scale * (down @ b.T) -> base + scale * (down @ b.T) @ weight.T

nonlinear: there is a non-linearity between a and b: LoRA has none, or it could not be merged
- x @ a.T -> (x @ a.T).relu()
- x @ a.T -> torch.nn.functional.gelu(x @ a.T)

base_forgotten: you return only the adapter's part: add it to the output of the frozen weight
- base + scale -> scale

adapter_forgotten: you return only the frozen weight's output: the adapter's part is missing
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

x_on_the_right: x is on the right: it holds rows, (…, in), so it comes first, x @ weight.T
- x @ weight.T -> weight @ x
+ x @ a.T -> a @ x
+ down @ b.T -> b @ down

nothing_transposed: nothing is transposed: weights are (out, in), so it is x @ weight.T, or F.linear
- x @ weight.T -> x @ weight
+ x @ a.T -> x @ a
+ down @ b.T -> down @ b

adapter_on_output: you feed the frozen layer's output to the adapter: it reads x, like that layer
- x @ a.T -> base @ a.T

subtracted: you subtract the adapter's part: add it
- base + scale -> base - scale
""")
