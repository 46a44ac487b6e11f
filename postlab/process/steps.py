"""Replies cut into steps, and labels placed on tokens: where every process reward model begins.

The label of a step stands on the step's *last* token: there a causal model has read all of it and
nothing of the next. All other tokens, those of the prompt included, have -100, which transformers'
losses leave out. A reply is tokenized whole, never step by step: a tokenizer may join the end of
one step and the beginning of the next.

Left out: steps that only a model could tell apart, and replies of several turns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from postlab.datasets import Rows
from postlab.sampling import Messages, Rollout, answer, check_fits, render, unchanged

SUMS = r"(?<=[,.]) (?=\S)"  # '12+30=42, 42+15=57. #### 57': tinyworld's sums
LINES = r"\n+(?=\S)"  # a step a line, as in GSM8K, or a paragraph
IGNORED = -100


def split_steps(text: str, *, at: str = SUMS) -> list[str]:
    """The steps of a reply, without what stands between them; their order is kept.

    A reply without any boundary is one step: a blurted answer is judged as what it is.

    Args:
        text: the reply.
        at: pattern of what stands between two steps; `SUMS`, `LINES` or your own.
    Returns:
        At least one step; none for a blank reply.
    Raises:
        TypeError: if text is no string.
    Taught in week 10.

    >>> split_steps("12+30=42, 42+15=57. #### 57")
    ['12+30=42,', '42+15=57.', '#### 57']
    >>> split_steps("#### 57"), split_steps("  ")
    (['#### 57'], [])
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a reply's text, got {type(text).__name__}")
    return [step.strip() for step in re.split(at, text.strip()) if step.strip()]


def step_row(
    prompt: Messages, reply: str, labels: Sequence[Any] | None = None, *, at: str = SUMS
) -> dict[str, Any]:
    """A row in TRL's stepwise form from a reply; labels are None until somebody knows.

    Args:
        prompt: messages.
        reply: its text.
        labels: one a step; None for unknown.
        at: where the reply is cut, as in `split_steps`.
    Raises:
        ValueError: if there is not one label a step.

    >>> step_row([{"role": "user", "content": "What is 2+3?"}], "2+3=5. #### 5", [1, 1])["labels"]
    [1, 1]
    """
    steps = split_steps(reply, at=at)
    labels = [None] * len(steps) if labels is None else list(labels)
    _check_counts(steps, labels)
    return {"prompt": list(prompt), "completions": steps, "labels": labels}


def outcome_rows(rows: Sequence[Mapping[str, Any]], right: Sequence[float]) -> list[dict[str, Any]]:
    """The same solutions with the outcome on the last step and no other label.

    Args:
        rows: with `prompt`, `completions`.
        right: whether each final answer is right, 0 or 1.
    Raises:
        ValueError: if there is not one outcome a row.

    >>> rows = [{"prompt": [], "completions": ["2+3=6.", "#### 5"], "labels": [0, 0]}]
    >>> outcome_rows(rows, [1])[0]["labels"]
    [None, 1]
    """
    if len(rows) != len(right):
        raise ValueError(f"{len(rows)} rows and {len(right)} outcomes; expected one a row")
    return [
        {**row, "labels": [None] * (len(row["completions"]) - 1) + [outcome]}
        for row, outcome in zip(rows, right, strict=True)
    ]


def encode_steps(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    *,
    separator: str = " ",
    max_length: int = 512,
    drop_long: bool = False,
) -> Rows:
    """Tokens and labels for a token-classification head, ready for transformers' `Trainer`.

    Pad batches with `DataCollatorForTokenClassification`, which fills labels with -100. Labels that
    are shares (soft labels) are rounded to 0 or 1 at one half, since cross-entropy over two classes
    takes classes; a step labelled None has -100.

    Args:
        rows: `prompt` (messages), `completions` (steps), `labels` (one a step).
        tokenizer: a fast one, with the policy's chat template.
        separator: what stands between two steps in the reply.
        max_length: of prompt and reply, tokens.
        drop_long: leave rows with more tokens out and count them, in place of an error.
    Returns:
        A dict a row: `input_ids`, `attention_mask`, `labels`, of one length, and `ends`, the places
        of the steps' last tokens; a list that counts in `dropped` what was left out.
    Raises:
        ValueError: if a row has no step, not one label a step, or more tokens than max_length (with
            drop_long: if all have): cut rows would lose the labels at their ends without a word.
    Source: Lightman et al. 2023, arXiv 2305.20050, section 2.6. Taught in week 10.
    """
    encoded, long = [], 0
    for number, row in enumerate(rows):
        steps, labels = list(row["completions"]), list(row["labels"])
        _check_counts(steps, labels, f"row {number}: ")
        ids, ends = step_ids(row["prompt"], steps, tokenizer, separator=separator)
        if len(ids) > max_length and not drop_long:
            raise ValueError(
                f"row {number}: {len(ids)} tokens, max_length is {max_length}; raise it, or leave "
                "such rows out with drop_long=True: a cut row loses the labels of its last steps"
            )
        if len(ids) > max_length:
            long += 1
            continue
        # The label of a step is placed on its last token only.
        placed = [IGNORED] * len(ids)
        for end, label in zip(ends, labels, strict=True):
            placed[end] = IGNORED if label is None else int(label >= 0.5)
        one = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": placed}
        encoded.append(one | {"ends": ends})
    if long and not encoded:
        raise ValueError(f"all {long} rows have more than {max_length} tokens; raise max_length")
    dropped = {f"longer than {max_length} tokens": long} if long else {}
    return Rows(encoded, getattr(rows, "source", "rows"), dropped)


def step_ids(
    prompt: Messages, steps: Sequence[str], tokenizer: Any, *, separator: str = " "
) -> tuple[list[int], list[int]]:
    """Tokens of prompt and reply, and the place of each step's last token.

    Raises:
        ValueError: if there is no step, or a step has no token of its own.
    """
    if not steps or not all(step.strip() for step in steps):
        raise ValueError("a solution has no step, or an empty one; leave blank replies out")
    # 1. Tokenize prompt and reply each in one piece: step by step, the tokens would differ.
    before = tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    reply = tokenizer(
        separator.join(steps), add_special_tokens=False, return_offsets_mapping=True
    )  # whole: a token may hold the end of a step and the space behind it
    # 2. By character offsets, a step ends at the token that holds its last character.
    ends, at = [], 0
    for step in steps:
        last = at + len(step) - 1  # the step's last character
        # the last of its tokens: those of one character's bytes all have that character's place
        holds = [i for i, (a, b) in enumerate(reply["offset_mapping"]) if a <= last < b]
        if not holds:
            raise ValueError(
                f"no token holds the last character of step {step!r:.80}, {step[-1]!r}: this "
                "tokenizer drops it; strip the step, or take another tokenizer"
            )
        ends.append(holds[-1])
        at += len(step) + len(separator)
    if len(set(ends)) < len(ends):
        raise ValueError(f"two steps end in one token: {list(steps)}; choose another separator")
    return before + reply["input_ids"], [len(before) + end for end in ends]


def sample_solutions(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Messages],
    *,
    n: int,
    temperature: float = 1.0,
    new_tokens: int = 72,
    seed: int = 0,
) -> list[list[str]]:
    """n replies to each prompt, drawn from the policy; a draw depends on seed, prompt and number.

    Args:
        prompts: messages, P of them.
        n: replies a prompt.
        temperature: above 0.
        new_tokens: where a reply is cut.
    Returns:
        P lists of n texts, special tokens stripped.
    Raises:
        ValueError: if n, temperature or new_tokens is out of range, or a prompt too long.
    Taught in week 10.
    """
    if n < 1 or temperature <= 0 or new_tokens < 1:
        raise ValueError(
            f"{n=}, {temperature=}, {new_tokens=}; expected at least 1, above 0, at least 1"
        )
    groups = []
    for prompt in prompts:
        text = render(tokenizer, prompt)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        groups.append([Rollout(text, number, ids, temperature, new_tokens) for number in range(n)])
        check_fits(model, groups[-1][0])
    draw(model, tokenizer, [one for group in groups for one in group], seed=seed)
    return [
        [tokenizer.decode(one.answer, skip_special_tokens=True).strip() for one in group]
        for group in groups
    ]


def draw(model: Any, tokenizer: Any, rollouts: Sequence[Rollout], *, seed: int) -> None:
    """Fill in the answers of rollouts, without a trace in the model."""
    import torch

    with torch.no_grad(), unchanged(model, tokenizer):
        for _ in answer(model, tokenizer, rollouts, seed=seed):
            pass


def _check_counts(steps: Sequence[str], labels: Sequence[Any], where: str = "") -> None:
    if len(steps) != len(labels):
        raise ValueError(f"{where}{len(steps)} steps and {len(labels)} labels; expected one a step")
    odd = [x for x in labels if x is not None and not 0 <= x <= 1]
    if odd:
        raise ValueError(f"{where}a label is {odd[0]}; expected 0 to 1, or None for unknown")
