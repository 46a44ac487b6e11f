"""Instruction rows for SFT: a prompt and the reply to imitate.

Of a conversation the last reply is the completion and everything before it the prompt; earlier
replies are not trained, which is what TRL does with prompt and completion columns.
"""

from collections.abc import Mapping

from postlab.datasets import _messages, _rows

_FORMATS = {
    "messages": ("messages",),
    "conversations": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt": ("prompt", "completion"),
    "question": ("question", "answer"),
}


def instruction_rows(source: str, *, split: str, n: int | None = None, seed: int = 0) -> list[dict]:
    """Rows for SFTTrainer: `prompt` and `completion`, each a list of messages.

    Understood are message lists (`messages`), ShareGPT (`conversations`), Alpaca (`instruction`,
    `input`, `output`), `prompt` + `completion`, and `question` + `answer`.

    Args:
        source: "tinyworld", or "tinyworld-english", where the prompt holds what has to be known;
            "openhermes", "slimorca", "gsm8k", a Hub id, or a JSON, JSONL or
            Parquet file.
        split: the split's name, with a range of rows if wanted: "train[:5000]". A file is one
            split whatever it is called here, so take held-out rows from another range of it.
        n: at most so many rows, drawn with seed; None for all, in their order. From the Hub they
            are streamed: only what is needed is downloaded.
        seed: of the draw.
    Returns:
        The rows, a list that shows how many were read and, in `dropped`, left out by reason.
    Raises:
        ValueError: for a row without a field it needs; it names source, row (from 1; the line
            of JSON Lines) and field.
        OSError: where the Hub cannot be read.
    Taught in week 3.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "rows.jsonl")
    >>> _ = path.write_text('{"instruction": "Add.", "input": "2, 3", "output": "5"}')
    >>> instruction_rows(str(path), split="train")[0]["prompt"]
    [{'role': 'user', 'content': 'Add.\\n\\n2, 3'}]
    """
    if source in _rows.EMBEDDED:
        from postlab.tinyworld import corpus

        english = source == "tinyworld-english"
        return _rows.Rows(
            corpus.sft_rows(split=split, n=n, seed=seed, with_context=english), source, {}
        )
    return _rows.collect(source, split, n, seed, _convert)


def _convert(raw: Mapping, where: str) -> dict:
    form = _messages.choose_format(raw, _FORMATS, where)
    if form in ("messages", "conversations"):
        turns = _messages.messages_of(raw[form], where, form)
        while turns and turns[-1]["role"] != "assistant":  # an unanswered question at the end
            turns = turns[:-1]
        prompt, completion = turns[:-1], turns[-1:]
    elif form == "alpaca":
        prompt = _messages.alpaca_prompt(raw, where)
        completion = _reply(raw, "output", where)
    elif form == "prompt":
        prompt = _messages.messages_of(raw["prompt"], where, "prompt")
        completion = _messages.messages_of(raw["completion"], where, "completion", role="assistant")
    else:
        prompt = _messages.messages_of(_messages.text_of(raw, "question", where), where, "question")
        completion = _reply(raw, "answer", where)
    prompt = _messages.checked_prompt(_messages.with_system(prompt, raw, where))
    return {"prompt": prompt, "completion": _messages.checked_reply(completion)}


def _reply(raw: Mapping, field: str, where: str) -> list[_messages.Message]:
    return _messages.messages_of(
        _messages.text_of(raw, field, where), where, field, role="assistant"
    )
