"""Instruction rows as token ids and a loss mask, the way TRL's SFTTrainer makes them.

A part of `postlab.chat`: one rendering, tokenised once, the loss on the completion alone. Left out:
packing, images, and templates which mark assistant turns inside the prompt (only the completion is
trained).
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from postlab.chat.invariant import by_row, checked_row, examine, typed_by_row
from postlab.doctor import Finding

if TYPE_CHECKING:
    import torch


def encode(
    rows: Sequence[dict],
    tokenizer: Any,
    *,
    max_length: int,
    control_tokens: Literal["count", "refuse"] = "count",
) -> dict[str, "torch.Tensor"]:
    """Token ids and loss mask of instruction rows, the way TRL's SFTTrainer makes them.

    The loss falls on everything after the prompt: the reply, its end-of-turn token, and what the
    template writes after that. Rows longer than max_length are cut at the end, with one warning
    that counts them: a cut row does not train the end of turn. Rows whose messages the template
    loses or trains wrongly, and control tokens typed in messages, get a warning for each kind,
    with the finding that `check_template(tokenizer, rows=rows)` returns.

    Args:
        rows: dicts with `prompt` and `completion`, each a list of messages; `tools` and
            `chat_template_kwargs` go to the template, as in TRL.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: tokens kept a row.
        control_tokens: what to do about rows whose messages hold control tokens such as
            `<|im_end|>` as text: "count" them in a warning, or "refuse" them with an error.
    Returns:
        `input_ids`, `attention_mask` and `loss_mask`, each (B, T) int64, right-padded; loss_mask
        is 1 on exactly the trained tokens.
    Raises:
        ValueError: for a row without a field, or whose prompt alone fills max_length; it names row
            and field. For rows that the template cannot render, with the reason. For typed control
            tokens that are refused.
    Taught in week 1.

    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> ids = {word: i for i, word in enumerate("user assistant 2 + 3 5 end".split())}
    >>> words = Tokenizer(models.WordLevel(ids))
    >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="end")
    >>> tokenizer.chat_template = (
    ...     "{% for m in messages %}{{ m.role + ' ' + m.content + ' end ' }}{% endfor %}"
    ...     "{% if add_generation_prompt %}assistant {% endif %}")
    >>> row = {"prompt": [{"role": "user", "content": "2 + 3"}],
    ...        "completion": [{"role": "assistant", "content": "5"}]}
    >>> batch = encode([row], tokenizer, max_length=16)
    >>> tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    ['user', '2', '+', '3', 'end', 'assistant', '5', 'end']
    >>> batch["loss_mask"][0].tolist()
    [0, 0, 0, 0, 0, 0, 1, 1]
    """
    import torch

    if not rows:
        raise ValueError("encode got no rows; it needs at least one with `prompt` and `completion`")
    if max_length < 1:
        raise ValueError(f"max_length must be a positive number of tokens, got {max_length}")
    _require_template(tokenizer)

    if control_tokens not in ("count", "refuse"):
        raise ValueError(f"control_tokens must be 'count' or 'refuse', got {control_tokens!r:.40}")

    rows = [checked_row(row, index) for index, row in enumerate(rows)]
    sequences, starts, cut = [], [], 0
    failed: list[tuple[int, Finding]] = []
    broken: list[tuple[int, Finding]] = []
    typed: dict[int, Counter[str]] = {}
    for index, (rendering, findings, counts) in enumerate(examine(rows, tokenizer)):
        if rendering is None:
            failed += [(index, finding) for finding in findings]
            continue
        broken += [(index, each) for each in findings if each.severity != "info"]
        if counts:
            typed[index] = counts
        ids, start = rendering.ids, rendering.start
        if start >= min(len(ids), max_length):
            raise ValueError(
                f"rows[{index}]: field 'prompt' has {start} of the row's {len(ids)} tokens and "
                f"max_length is {max_length}, so nothing of the completion is trained; "
                "raise max_length or drop the row"
            )
        cut += len(ids) > max_length
        sequences.append(ids[:max_length])
        starts.append(start)
    refused = by_row(failed) + (typed_by_row(typed) if control_tokens == "refuse" else [])
    if refused:
        raise ValueError("; ".join(f"{each.evidence}. Fix: {each.fix}" for each in refused))
    for finding in by_row(broken) + typed_by_row(typed):
        warnings.warn(str(finding), stacklevel=2)
    if cut:
        warnings.warn(
            f"{cut} of {len(rows)} rows are longer than max_length={max_length} and were cut at "
            "the end; they do not train the end of turn",
            stacklevel=2,
        )

    width = max(map(len, sequences))
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    input_ids = torch.full((len(sequences), width), pad)  # (B, T)
    attention_mask = torch.zeros_like(input_ids)
    loss_mask = torch.zeros_like(input_ids)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        # From lengths, never from `ids == pad`: pad may be the end of turn, which is trained.
        attention_mask[b, : len(ids)] = 1
        loss_mask[b, start : len(ids)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "loss_mask": loss_mask}


def _require_template(tokenizer: Any) -> None:
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template; set tokenizer.chat_template before encoding"
        )
