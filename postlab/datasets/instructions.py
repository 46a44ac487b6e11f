"""Instruction rows for SFT: a prompt and the reply to imitate.

Of a conversation the last reply is the completion and everything before it the prompt; earlier
replies are not trained, which is what TRL does with prompt and completion columns.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from postlab.datasets import _everyday, _messages, _rows
from postlab.datasets._fields import (
    CONVERSATIONS,
    PROMPTS,
    REPLIES,
    Fields,
    Format,
    choose_format,
)
from postlab.tinyworld import corpus

# The first ones are also what an error names.
_FORMATS: tuple[Format, ...] = (
    ("messages",),
    ("instruction", "output"),
    ("prompt", "completion"),
    ("question", "solution"),
    ("question", "answer"),
    *((name,) for name in CONVERSATIONS[1:]),
    *((prompt, reply) for reply in REPLIES for prompt in PROMPTS),
    ("query", "answers", "tools"),
    ("data",),
    ("text",),
)


def instruction_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: Any = None,
    control_tokens: _rows.OnControlTokens = "count",
) -> list[dict]:
    """Rows for SFTTrainer: `prompt` and `completion`, each a list of messages.

    Understood are conversations (`messages`, `conversations`, in the forms of OpenAI, ShareGPT,
    OASST and LIMA), Alpaca (`instruction`, `input`, `output`, `history`, `system`), and a prompt
    with a reply under their usual names (`prompt` + `completion`, `question` + `answer`, `query` +
    `response`, `inputs` + `targets`, ...). Reasoning stays in the message under its own key.
    Tool calls stay in `tool_calls`, and `tools` is the text of a JSON list, as TRL reads it; make
    such rows a data set with `Dataset.from_list(rows, on_mixed_types="use_json")`.

    A row is dropped and counted where it cannot be read (a field is missing, it has images), where
    there is nothing to learn (an empty reply), and where the data calls its reply bad
    (`label: false`, `weight: 0`).

    Args:
        source: "tinyworld", or "tinyworld-english", where the prompt holds what has to be known;
            "everyday", "openhermes", "slimorca", "gsm8k", a Hub id, or a JSON, JSONL or
            Parquet file.
        split: the split's name, with a range of rows if wanted: "train[:5000]". A file is one
            split whatever it is called here, so take held-out rows from another range of it.
        n: at most so many rows, drawn with seed; None for all, in their order. From the Hub they
            are streamed: only what is needed is downloaded.
        seed: of the draw.
        columns: where the data has names of its own: our name of a field -> its name there, as
            {"prompt": "query", "completion": "reply.text"}. None for a field that has one of our
            names and another meaning: {"label": None}.
        tokenizer: counts the control tokens typed in the rows' texts, which it would read as real
            turns, in the result's `control_tokens`, and warns of them.
        control_tokens: what becomes of rows that hold some: "count" keeps them, "drop" drops and
            counts them, "refuse" makes the first one an error.
    Returns:
        The rows, a list that shows how many were read, in `dropped` how many were left out for
        which reason, and in `unused` which fields of the others were not used.
    Raises:
        ValueError: where most rows cannot be read; it names source, row (from 1; the line of JSON
            Lines) and field of the first. Where no row is left. For a broken file.
        OSError: where the Hub cannot be read.
    Taught in week 3.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "rows.jsonl")
    >>> _ = path.write_text('{"instruction": "Add.", "input": "2, 3", "output": "5"}')
    >>> instruction_rows(str(path), split="train")[0]["prompt"]
    [{'role': 'user', 'content': 'Add.\\n\\n2, 3'}]
    """
    options = _rows.Options(columns, tokenizer, control_tokens)
    if source in _rows.EMBEDDED:
        make: Callable[..., list[dict]] = _everyday.sft_rows
        if source != "everyday":
            make = partial(corpus.sft_rows, with_context=source == "tinyworld-english")
        return _rows.embedded(make, source, split, n, seed, options)
    return _rows.collect(source, split, n, seed, _convert, options)


def _convert(row: Fields) -> dict:
    label = row.label()
    if label is not None and not label[1]:
        raise _messages.Drop(f"whose field {label[0]!r} calls the reply bad")
    return prompt_and_completion(row)


def prompt_and_completion(row: Fields) -> dict:
    """The prompt, the last reply, and the tools where there are some."""
    hint = ""
    if {"chosen", "rejected"} <= set(row):
        hint = "; for chosen and rejected take preference_rows"
    fields = choose_format(row, _FORMATS, hint)
    if len(fields) == 1:
        prompt, completion = _conversation(row, fields[0])
    elif fields == ("query", "answers", "tools"):
        calls = _messages.tool_calls(row["answers"], "answers")
        prompt = row.prompt("query")
        completion = [{"role": "assistant", "content": "", "tool_calls": calls}]
    else:
        prompt = row.prompt(fields[0])
        replies = row.messages(fields[1], role="assistant")
        prompt, completion = [*prompt, *replies[:-1]], replies[-1:]
    # An empty system prompt (SlimOrca has them) would be an empty turn in the template.
    prompt = [m for m in prompt if m["role"] != "system" or m["content"].strip()]
    prompt = _messages.checked_prompt(prompt)
    completion = row.with_reasoning(_messages.checked_reply(completion))
    return {"prompt": prompt, "completion": completion, **row.tools(prompt)}


def _conversation(row: Fields, field: str) -> tuple[list, list]:
    """A conversation's turns before its last reply, and that reply."""
    if field == "text":
        turns = _messages.transcript_of(row.text(field), field)
    else:
        turns = row.messages(field)
    reply = row.first(REPLIES)  # Dolphin-R1 has it beside a conversation that only asks
    if turns and turns[-1]["role"] != "assistant" and reply:
        return row.with_system(turns), row.messages(reply, role="assistant")
    if turns and turns[-1]["role"] != "assistant" and "chosen" in row:
        raise _messages.Odd("with its reply in field 'chosen'", "take preference_rows")
    while turns and turns[-1]["role"] != "assistant":  # an unanswered question at the end
        turns = turns[:-1]
        row.left.add("an unanswered last turn")
    if not turns:
        raise _messages.Drop("with no reply")
    if _messages.untrained(row[field], len(turns) - 1):
        raise _messages.Drop("whose reply is marked as not to be trained")
    return row.with_system(turns[:-1]), turns[-1:]
