"""Preference rows for DPO and reward models: a prompt, the chosen reply and the rejected one."""

from collections.abc import Mapping

from postlab.datasets import _messages, _rows

_FORMATS = {
    "prompt": ("prompt", "chosen", "rejected"),
    "conversations": ("conversations", "chosen", "rejected"),
    "alpaca": ("instruction", "chosen", "rejected"),
    "whole": ("chosen", "rejected"),
}


def preference_rows(source: str, *, split: str, n: int | None = None, seed: int = 0) -> list[dict]:
    """Rows for DPOTrainer: `prompt`, `chosen` and `rejected`, each a list of messages.

    The prompt may be text, messages, ShareGPT `conversations` or an Alpaca instruction; chosen and
    rejected may be text, one message, or whole conversations that begin with the prompt. A pair
    whose replies are equal teaches nothing and is dropped, and so is one with an empty reply.

    Args:
        source: "tinyworld", or "tinyworld-english", where the prompt holds what has to be known;
            "ultrafeedback", a Hub id, or a JSON, JSONL or Parquet file.
        split: the split's name, with a range of rows if wanted: "train[:5000]". A file is one
            split whatever it is called here, so take held-out rows from another range of it.
        n: at most so many rows, drawn with seed; None for all, in their order.
        seed: of the draw.
    Returns:
        The rows, a list that shows how many were read and, in `dropped`, left out by reason.
    Raises:
        ValueError: for a row without a field it needs; it names source, row (from 1; the line
            of JSON Lines) and field.
        OSError: where the Hub cannot be read.
    Taught in week 5.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.jsonl")
    >>> _ = path.write_text('{"prompt": "2 + 3?", "chosen": "5", "rejected": "6"}\\n'
    ...                     '{"prompt": "2 + 4?", "chosen": "6", "rejected": "6"}')
    >>> rows = preference_rows(str(path), split="train")
    >>> len(rows), rows[0]["chosen"], rows.dropped
    (1, [{'role': 'assistant', 'content': '5'}], {'with chosen equal to rejected': 1})
    """
    if source in _rows.EMBEDDED:
        from postlab.tinyworld import corpus

        english = source == "tinyworld-english"
        return _rows.Rows(
            corpus.preference_rows(split=split, n=n, seed=seed, with_context=english), source, {}
        )
    return _rows.collect(source, split, n, seed, _convert)


def _convert(raw: Mapping, where: str) -> dict:
    form = _messages.choose_format(raw, _FORMATS, where)
    sides = {
        field: _messages.messages_of(raw[field], where, field, role="assistant")
        for field in ("chosen", "rejected")
    }
    if form == "whole":
        if any(len(side) < 2 for side in sides.values()):
            raise ValueError(
                f"{where}: no field 'prompt', and chosen and rejected are no whole conversations"
            )
        prompt = []
    elif form == "alpaca":
        prompt = _messages.alpaca_prompt(raw, where)
    else:
        prompt = _messages.messages_of(raw[form], where, form)

    before = {field: side[:-1] for field, side in sides.items()}
    if before["chosen"] != before["rejected"]:
        raise _messages.Drop("whose two replies answer different prompts")
    shared = before["chosen"]
    if (
        shared and prompt[-len(shared) :] != shared
    ):  # else the prompt has it already, and perhaps more
        prompt = shared
    chosen, rejected = (_messages.checked_reply(side[-1:]) for side in sides.values())
    if chosen[0]["content"].strip() == rejected[0]["content"].strip():
        raise _messages.Drop("with chosen equal to rejected")
    prompt = _messages.checked_prompt(_messages.with_system(prompt, raw, where))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
