"""A trained head read out: the chance that each step is right, one number from them, a reward.

Works with any token-classification model of two classes whose class 1 is 'right': the process
reward model is read at every step's end, the outcome reward model at the last one.

Left out: heads with one output, and verifiers that write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from postlab.process.steps import SUMS, split_steps, step_ids
from postlab.sampling import Messages, unchanged

_BATCH_ROWS = 128  # solutions per forward pass
AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda p: p[-1],
    "min": min,
    "product": math.prod,
    "mean": lambda p: sum(p) / len(p),
    "sum": sum,
}


def step_scores(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    separator: str = " ",
    batch_rows: int = _BATCH_ROWS,
) -> list[list[float]]:
    """The chance, by a trained head, that each step of each solution is right.

    Equal solutions are read once; batches hold solutions of like length. The model's modes are as
    before afterwards.

    Args:
        model: a token-classification model with two classes, 1 is 'right'.
        tokenizer: the one it was trained with.
        rows: with `prompt` and `completions`; labels are not looked at.
        separator: as in `encode_steps`.
        batch_rows: solutions a forward pass; lower it for a large model.
    Returns:
        A list a row, a probability a step.
    Raises:
        ValueError: if the head has not two classes, a row has no step, or a chance is not finite.
    Taught in week 10.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    if getattr(model.config, "num_labels", None) != 2:
        raise ValueError(
            f"the head has {getattr(model.config, 'num_labels', None)} classes; expected 2: load "
            "it with AutoModelForTokenClassification and num_labels=2"
        )
    encoded = [
        step_ids(r["prompt"], r["completions"], tokenizer, separator=separator) for r in rows
    ]
    # 1. Each distinct solution once: its tokens and the positions where steps end, by length.
    keys = [(tuple(ids), tuple(ends)) for ids, ends in encoded]
    order = sorted(set(keys), key=lambda key: len(key[0]))
    chances: dict[tuple[tuple[int, ...], tuple[int, ...]], list[float]] = {}
    device = next(model.parameters()).device
    with torch.no_grad(), unchanged(model, tokenizer):
        for group in (order[i : i + batch_rows] for i in range(0, len(order), batch_rows)):
            ids = [torch.tensor(key[0], device=device) for key in group]
            batch = pad_sequence(ids, batch_first=True)  # right: the mask hides the zeros
            mask = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
            # 2. At every token, the head gives the probability of class 1, 'right'.
            logits = model(input_ids=batch, attention_mask=mask).logits.float()  # (B, T, 2)
            right = logits.softmax(dim=-1)[..., 1]
            # 3. The head was trained at the ends of steps only, so it is read only there.
            for key, row in zip(group, right, strict=True):
                chances[key] = row[list(key[1])].tolist()
                if not all(map(math.isfinite, chances[key])):
                    raise ValueError(
                        f"the head's chances are {chances[key]} at the steps of a solution of "
                        f"{len(key[0])} tokens; expected 0 to 1: load the head in float32 or "
                        "bfloat16 (float16 overflows), and look at its training log for NaN"
                    )
    return [chances[key] for key in keys]


def aggregate(scores: Sequence[float], how: str = "min") -> float:
    """One number for a solution from the chances of its steps.

    `min` says that a chain is as strong as its weakest link, `product` takes the chances for
    independent, `last` trusts the last step to know of all before it. `mean` and `sum` are here to
    be compared: a sum pays for every further step.

    Args:
        scores: a chance a step, in order.
        how: "last", "min", "product", "mean" or "sum".
    Raises:
        ValueError: if there is no score, one is NaN, or `how` is none of these.
    Source: Lightman et al. 2023, arXiv 2305.20050, appendix F (min, product); Wang et al. 2023,
        arXiv 2312.08935 (min). Taught in week 10.

    >>> [aggregate([0.5, 1.0, 0.75], how) for how in ("last", "min", "product", "sum")]
    [0.75, 0.5, 0.375, 2.25]
    """
    if how not in AGGREGATES:
        raise ValueError(f"how is {how!r}; expected one of {', '.join(AGGREGATES)}")
    if not scores:
        raise ValueError("no score to aggregate; a solution has at least one step")
    if any(x != x for x in scores):
        raise ValueError(
            f"a score is NaN: {list(scores)}; expected a chance a step: load the head in float32 "
            "or bfloat16"
        )
    return float(AGGREGATES[how](scores))


def process_reward(
    model: Any,
    tokenizer: Any,
    *,
    how: str = "min",
    name: str = "process_reward",
    at: str = SUMS,
    separator: str = " ",
) -> Callable[..., list[float]]:
    """A process reward model as a reward in TRL's protocol, to see what GRPO makes of it.

    A blank completion is worth 0, which is also the least that `last`, `min` and `product` give.

    Args:
        model: as for `step_scores`.
        tokenizer: its own.
        how: of `aggregate`.
        name: under which TRL logs it.
        at: where a completion is cut, as in `split_steps`.
        separator: as in `encode_steps`, the one that the head was trained with.
    Returns:
        `(prompts, completions, **columns) -> list[float]`, for completions as messages.
    Raises:
        ValueError: if `how` is unknown; by the reward, if a chance is not finite.
    Taught in week 10.
    """
    aggregate([1.0], how)  # an unknown `how` is told now, not after the first generation

    def reward(prompts: list[Messages], completions: list[Any], **columns: Any) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        steps = [split_steps(text, at=at) for text in texts]
        rows = [
            {"prompt": prompt, "completions": cut}
            for prompt, cut in zip(prompts, steps, strict=True)
            if cut
        ]
        scores = iter(step_scores(model, tokenizer, rows, separator=separator))
        return [aggregate(next(scores), how) if cut else 0.0 for cut in steps]

    reward.__name__ = name
    return reward
