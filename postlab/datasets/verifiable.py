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
from postlab.datasets._fields import Fields, Format, choose_format
from postlab.rewards import is_schema, read_tests
from postlab.tinyworld import verifiable

_CODE: tuple[Format, ...] = (
    ("prompt", "tests"),
    ("text", "test_list"),
    ("prompt", "test_list"),
    ("question", "tests"),
)
_JSON: tuple[Format, ...] = (("prompt", "schema"),)
_SETUP = ("test_setup_code", "test_imports")


def code_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: Any = None,
    control_tokens: _rows.OnControlTokens = "count",
) -> list[dict]:
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
        columns, tokenizer, control_tokens: as in `instruction_rows`.
    Returns, Raises: as `instruction_rows`.
    Source: MBPP, Austin et al. 2021, arXiv 2108.07732. Taught in week 8.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "programs.jsonl")
    >>> _ = path.write_text('{"text": "Square a number.", "test_list": ["assert f(3) == 9"]}')
    >>> code_rows(str(path), split="train")[0]["prompt"][0]["content"]
    'Square a number.\\n\\nYour code must pass: assert f(3) == 9'
    """
    options = _rows.Options(columns, tokenizer, control_tokens)
    if source == "tinyworld":
        return _rows.embedded(verifiable.code_rows, source, split, n, seed, options)
    return _rows.collect(source, split, n, seed, _code, options)


def json_rows(
    source: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    columns: Mapping[str, str | None] | None = None,
    tokenizer: Any = None,
    control_tokens: _rows.OnControlTokens = "count",
) -> list[dict]:
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
    options = _rows.Options(columns, tokenizer, control_tokens)
    if source == "tinyworld":
        return _rows.embedded(verifiable.json_rows, source, split, n, seed, options)
    return _rows.collect(source, split, n, seed, _json, options)


def _code(row: Fields) -> dict:
    question, field = choose_format(row, _CODE)
    if setup := row.first(_SETUP):
        raise _messages.Drop(f"whose tests need a set-up (field {setup!r})")
    tests = row[field]
    if not isinstance(tests, str | list | dict):
        raise _messages.Odd(
            f"field {field!r} must be tests as code_reward reads them",
            f"got {type(tests).__name__}",
        )
    if read_tests(tests) is None:
        raise _messages.Drop("with tests that cannot be read")
    first = tests[0] if isinstance(tests, list) else tests
    shown = first if isinstance(first, str) else json.dumps(first)
    prompt = _prompt(row, question, f"Your code must pass: {shown}")
    return {"prompt": prompt, "tests": tests} | _gold(row, "code")


def _json(row: Fields) -> dict:
    choose_format(row, _JSON)
    schema = row["schema"]
    text = schema if isinstance(schema, str) else json.dumps(schema)
    if not is_schema(text):
        raise _messages.Drop("with a schema that is none")
    prompt = _prompt(row, "prompt", f"Answer with JSON of this schema: {text}")
    return {"prompt": prompt, "schema": text} | _gold(row, "json")


def _prompt(row: Fields, field: str, hint: str) -> list[dict[str, str]]:
    """The prompt, and below its last message what its reward looks for."""
    prompt = _messages.checked_prompt(row.prompt(field))
    return [*prompt[:-1], {"role": "user", "content": f"{prompt[-1]['content']}\n\n{hint}"}]


def _gold(row: Fields, field: str) -> dict[str, Any]:
    """The gold reply, where a row has one."""
    named = "completion" if "completion" in row else field
    if named not in row:
        return {}
    return {"completion": _messages.checked_reply(row.messages(named, role="assistant"))}
