"""Rewarded soups: adapters of one start, each trained on its own objective, averaged exactly.

An average of LoRA's A and of its B is not the average of BA, which is what the model adds to its
weights. PEFT's `add_weighted_adapter` offers several ways; 'cat' lays the A's and B's side by side,
so that the new product is the weighted sum of the old ones, at the sum of their ranks. That is what
is used here. 'svd' is exact only up to its rank, and 'linear' averages the factors.

Where all adapters went on from one SFT adapter, each still holds it: with weights that add up to 1
the soup holds it once, and is the average of the whole policies. Left out: adapters that train
biases or whole modules, and rank-stabilised LoRA, which 'cat' would scale wrongly.

Source: Ramé et al. 2023, arXiv 2306.04488, section 2.2. Taught in week 11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NAME = "soup"


def simplex(parts: int, *, objectives: int = 3) -> list[tuple[float, ...]]:
    """All weights that are whole multiples of 1/parts and add up to 1.

    Args:
        parts: into how many the weight is cut.
        objectives: weights a point.
    Returns:
        The points, the first objective's corner first.
    Raises:
        ValueError: if parts or objectives is below 1.
    Taught in week 11.

    >>> simplex(2, objectives=2)
    [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    >>> len(simplex(4)), len(simplex(6))
    (15, 28)
    """
    if parts < 1 or objectives < 1:
        raise ValueError(f"{parts=}, {objectives=}; expected at least 1 of each")

    def whole(left: int, places: int) -> list[tuple[int, ...]]:
        if places == 1:
            return [(left,)]
        firsts = range(left, -1, -1)
        return [(first, *rest) for first in firsts for rest in whole(left - first, places - 1)]

    return [tuple(part / parts for part in point) for point in whole(parts, objectives)]


def soup(model: Any, weights: Mapping[str, float], *, name: str = NAME) -> Any:
    """Average adapters of a PEFT model exactly, and make the average the active adapter.

    PEFT returns without a word when the name is taken, and the old average goes on answering; here
    an adapter of that name is deleted first.

    Args:
        model: a PeftModel that holds the adapters.
        weights: adapter -> weight, from 0; they have to add up to 1.
        name: of the new adapter; not one of those averaged.
    Returns:
        The same model. Nothing of it is trainable.
    Raises:
        ValueError: if weights do not add up to 1 or one is negative; if an adapter is unknown,
            would be overwritten, or is not plain LoRA.
    Source: Ramé et al. 2023, arXiv 2306.04488, eq. 1. Taught in week 11.
    """
    weights = {adapter: float(weight) for adapter, weight in weights.items()}
    known = [adapter for adapter in model.peft_config if adapter != name]
    if name in weights or not set(weights) <= set(known):
        raise ValueError(
            f"adapters {', '.join(weights) or 'none'} into {name!r}; the model holds"
            f" {', '.join(known)}: load the others first, and choose another name for the soup"
        )
    # 1. The weights of a weighted mean: theta = sum of w_i theta_i, w_i >= 0, sum of w_i = 1.
    total = math.fsum(weights.values())
    if min(weights.values(), default=-1) < 0 or not math.isclose(total, 1, abs_tol=1e-6):
        raise ValueError(
            f"weights {weights} add up to {total:.6g}; expected weights from 0 that add up to 1,"
            " or the start's own adapter is held more or less than once"
        )
    for adapter in weights:
        _check_plain(adapter, model.peft_config[adapter])
    # 2. Leave out weights of 0: they would only raise the rank of the new adapter.
    used = {adapter: weight for adapter, weight in weights.items() if weight}
    # 3. Delete the old soup first, or PEFT keeps it; an active adapter can't be deleted.
    if name in model.peft_config:
        model.set_adapter(known[0])
        model.delete_adapter(name)
    # 4. 'cat' lays the factors side by side, so that the new BA is the sum of w_i B_i A_i.
    model.add_weighted_adapter(list(used), list(used.values()), name, combination_type="cat")
    model.set_adapter(name)
    return model.requires_grad_(False)


def _check_plain(adapter: str, config: Any) -> None:
    kind = getattr(config.peft_type, "value", config.peft_type)
    odd = [
        flag for flag in ("use_rslora", "use_dora", "modules_to_save") if getattr(config, flag, 0)
    ]
    odd += ["bias"] * (getattr(config, "bias", "none") != "none")
    if kind != "LORA" or odd:
        raise ValueError(
            f"adapter {adapter!r} is {kind} with {', '.join(odd) or 'no LoRA factors'}; expected"
            " plain LoRA: merge such adapters and average the merged weights"
        )
