"""Tasks beyond mathematics whose replies a program can check: code with tests, JSON with a schema.

Prompts say what the reward looks for: a function's name stands in a test that is shown, a record's
fields in its schema. Left out: tests that need a file or a set-up (`rewards.code` cannot read
them), and holding tests back from a set that has none to spare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from postlab.datasets import _messages, _rows
from postlab.rewards import is_schema, read_tests
from postlab.tinyworld import verifiable

_CODE = {
    "mbpp": ("text", "test_list"),
    "sanitized": ("prompt", "test_list"),
    "prompt": ("prompt", "tests"),
}
_JSON = {"prompt": ("prompt", "schema")}


def code_rows(source: str, *, split: str, n: int | None = None, seed: int = 0) -> list[dict]:
    """Rows for GRPOTrainer and code_reward: `prompt`, a list of messages, and `tests`.

    Understood are MBPP's `text` or `prompt` with `test_list`, and `prompt` with `tests` as
    code_reward reads them. The first test is shown below the question: without it the function's
    name would be a guessing game. A gold program (`completion`, or MBPP's `code`) is kept where
    there is one. Tinyworld's prompts name the function, and its rows have `held_back` as well:
    tests for the evaluation, which no reward is to see.

    Args:
        source: "tinyworld", a Hub id, or a JSON, JSONL or Parquet file.
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
    Source: MBPP, Austin et al. 2021, arXiv 2108.07732. Taught in week 8.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "programs.jsonl")
    >>> _ = path.write_text('{"text": "Square a number.", "test_list": ["assert f(3) == 9"]}')
    >>> code_rows(str(path), split="train")[0]["prompt"][0]["content"]
    'Square a number.\\n\\nYour code must pass: assert f(3) == 9'
    """
    if source == "tinyworld":
        return _rows.embedded(verifiable.code_rows, source, split, n, seed)
    return _rows.collect(source, split, n, seed, _code)


def json_rows(source: str, *, split: str, n: int | None = None, seed: int = 0) -> list[dict]:
    """Rows for GRPOTrainer and schema_reward: `prompt`, a list of messages, and `schema`, as text.

    Understood is `prompt` with `schema`. The schema is shown below the question. A gold record
    (`completion`) is kept where there is one. Tinyworld's prompts name the fields, and its gold
    records hold the truth, of which the schema checks the form alone.

    Args, Returns, Raises: as `code_rows`.
    Taught in week 8.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "records.jsonl")
    >>> _ = path.write_text('{"prompt": "Who won?", "schema": {"type": "object"}}')
    >>> json_rows(str(path), split="train")[0]["schema"]
    '{"type": "object"}'
    """
    if source == "tinyworld":
        return _rows.embedded(verifiable.json_rows, source, split, n, seed)
    return _rows.collect(source, split, n, seed, _json)


def _code(raw: Mapping, where: str) -> dict:
    question, field = _CODE[_messages.choose_format(raw, _CODE, where)]
    tests = raw[field]
    if not isinstance(tests, str | list | dict):
        raise ValueError(
            f"{where}: field {field!r} must be tests as code_reward reads them, "
            f"got {type(tests).__name__}"
        )
    if read_tests(tests) is None:
        raise _messages.Drop("with tests that cannot be read")
    first = tests[0] if isinstance(tests, list) else tests
    shown = first if isinstance(first, str) else json.dumps(first)
    prompt = _prompt(raw, question, where, f"Your code must pass: {shown}")
    return {"prompt": prompt, "tests": tests} | _gold(raw, "code", where)


def _json(raw: Mapping, where: str) -> dict:
    _messages.choose_format(raw, _JSON, where)
    schema = raw["schema"]
    text = schema if isinstance(schema, str) else json.dumps(schema)
    if not is_schema(text):
        raise _messages.Drop("with a schema that is none")
    prompt = _prompt(raw, "prompt", where, f"Answer with JSON of this schema: {text}")
    return {"prompt": prompt, "schema": text} | _gold(raw, "json", where)


def _prompt(raw: Mapping, field: str, where: str, hint: str) -> list[dict[str, str]]:
    """The prompt, and below its last message what its reward looks for."""
    prompt = _messages.messages_of(raw[field], where, field)
    prompt = _messages.checked_prompt(_messages.with_system(prompt, raw, where))
    return [*prompt[:-1], {"role": "user", "content": f"{prompt[-1]['content']}\n\n{hint}"}]


def _gold(raw: Mapping, field: str, where: str) -> dict[str, Any]:
    """The gold reply, where a row has one."""
    named = "completion" if raw.get("completion") is not None else field
    if raw.get(named) is None:
        return {}
    reply = _messages.messages_of(raw[named], where, named, role="assistant")
    return {"completion": _messages.checked_reply(reply)}
