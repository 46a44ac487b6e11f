"""No work on padding: a batch's rows laid end to end while they pass through the transformer.

A padded batch of tinyworld's dialogues is half padding, and on a CPU each padded position costs as
much as a real one. `without_padding` moves the real tokens of a batch into fewer, fuller rows on
their way into the decoder, and its hidden states back to where they came from. Everything outside,
the trainer, its losses and its counts, sees the padded batch it made; results differ by rounding
(and, where there is dropout, by its luck).

What keeps the texts of a row apart is transformers' own packed-sequence mask: where positions start
anew and no attention mask is given, attention stops. TRL's `padding_free` does the same with a
single row, in which most of attention's work is masked away, and for SFT alone.

Left out: GPUs, where Unsloth has its own way; sampling, which `decoding` does; models that are not
in KINDS; and the output head, which still sees the padding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KINDS = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
)  # decoders whose masks come from `create_causal_mask`
ROW = 128  # tokens: attention's work grows with a row's length, so rows are not made longer
WORTH = 0.9  # moving the tokens pays where it leaves out a tenth of the positions


@contextmanager
def without_padding(model: Any) -> Iterator[None]:
    """While inside, `model` computes on the real tokens of a padded batch only.

    Args:
        model: a causal LM, with adapters or without. On a GPU, or of a kind that was not tried,
            it is left as it is.
    """
    decoder = _decoder(model)
    if decoder is None:
        yield
        return
    padded, before = decoder.forward, vars(decoder).get("forward")

    @functools.wraps(
        padded
    )  # by its `__module__` `decoding` knows a forward that changes no answer
    def packed(*args: Any, **kwargs: Any) -> Any:
        laid = None if args else _packable(kwargs)
        if laid is None:
            return padded(*args, **kwargs)
        take, positions, back = laid
        # unused places repeat the first token; each is a text of its own that nothing attends to
        tokens = kwargs["input_ids"].flatten()[take]
        moved = {"input_ids": tokens, "attention_mask": None, "position_ids": positions}
        output = padded(**kwargs | moved)
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[back]
        return output

    packed.without_padding = True  # type: ignore[attr-defined]  # a function takes any attribute
    decoder.forward = packed
    try:
        yield
    finally:
        if before is None:
            del decoder.forward
        else:
            decoder.forward = before


def is_packed(model: Any) -> bool:
    """True inside `without_padding`: then results differ by rounding from those outside."""
    decoder = _decoder(model)
    return hasattr(vars(decoder).get("forward") if decoder else None, "without_padding")


def lay_out(mask: Any) -> tuple[Any, Any, Any] | None:
    """Where a batch's real tokens go, longest text first into the first row with room for it.

    Args:
        mask: (B, T) of 1 at real tokens and 0 at padding, on either side.
    Returns:
        `take` (R, L), for each place of the fuller rows an index into the B*T positions;
        `positions` (R, L), counted from 0 in each text and 0 where there is none;
        `back` (B, T), for each position of the batch an index into the R*L places; a padded one
        gets any. None where too little would be saved, or a text has no token.

    >>> import torch
    >>> take, positions, back = lay_out(torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 1]]))
    >>> take.tolist(), positions.tolist()
    ([[0, 1, 2, 3, 9, 10, 11, 4]], [[0, 1, 2, 3, 0, 1, 2, 0]])
    >>> back.tolist()
    [[0, 1, 2, 3], [7, 0, 0, 0], [0, 4, 5, 6]]
    """
    import torch

    real = [row.nonzero()[:, 0] for row in mask.cpu()]
    lengths = [len(row) for row in real]
    if min(lengths) == 0:
        return None
    width = max(ROW, *lengths)
    rows: list[list[int]] = []
    used: list[int] = []
    for text in sorted(range(len(real)), key=lambda text: -lengths[text]):
        row = next((i for i, n in enumerate(used) if n + lengths[text] <= width), len(rows))
        if row == len(rows):
            rows.append([])
            used.append(0)
        rows[row].append(text)
        used[row] += lengths[text]
    height, width = len(rows), max(used)
    if height * width > WORTH * mask.numel():
        return None
    take = torch.zeros(height, width, dtype=torch.long)
    positions = torch.zeros(height, width, dtype=torch.long)
    back = torch.zeros(mask.shape, dtype=torch.long)
    for row, texts in enumerate(rows):
        at = 0
        for text in texts:
            end = at + lengths[text]
            take[row, at:end] = text * mask.shape[1] + real[text]
            positions[row, at:end] = torch.arange(lengths[text])
            back[text, real[text]] = torch.arange(at, end) + row * width
            at = end
    return take, positions, back


def _packable(kwargs: dict[str, Any]) -> tuple[Any, Any, Any] | None:
    """`lay_out` of a training batch; None for sampling and for what asks for more than states."""
    mask = kwargs.get("attention_mask")
    plain = kwargs.get("input_ids") is not None and mask is not None and mask.dim() == 2
    extras = ("position_ids", "past_key_values", "output_hidden_states", "output_attentions")
    more = any(kwargs.get(name) is not None and kwargs[name] is not False for name in extras)
    return lay_out(mask) if plain and not more and kwargs.get("use_cache") is False else None


def _decoder(model: Any) -> Any:
    """The stack of layers below the head, or None where the batch has to stay as it is."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in KINDS or model.device.type != "cpu":
        return None
    whole = model.get_base_model() if hasattr(model, "peft_config") else model
    return getattr(whole, "model", None)
