"""Tasks beyond mathematics whose replies a program can check: code with tests, JSON with a schema.

Prompts say what the reward looks for: a function's name stands in a test that is shown, a record's
fields in its schema. Left out: tests that need a file or a package (`rewards.code` cannot read
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
    ("problem_description", "test", "entry_point"),  # LeetCodeDataset: its `prompt` is imports
    ("prompt", "test", "entry_point"),
    ("question", "input_output"),
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

    Understood are MBPP's `text` or `prompt` with `test_list` and its set-up, `prompt` with `tests`
    as code_reward reads them, HumanEval's `prompt`, `test` and `entry_point`, LeetCodeDataset's
    `problem_description` with these, and `question` with `input_output` as in APPS and TACO.
    Below the question stands the first test, or what the program has to define, or that it reads
    and prints: without it the function's name would be a guessing game. A gold program is kept
    where there is one (`completion`, MBPP's `code`, HumanEval's `canonical_solution` below its
    prompt, the first of APPS's `solutions`). `tests` is a list or JSON text. Tinyworld's prompts
    name the function, and its rows have `held_back` as well: tests for the evaluation, which no
    reward is to see.

    Args:
        source: "tinyworld", a Hub id, or a JSON, JSONL or Parquet file.
        split: the split's name, with a range of rows if wanted: "train[:5000]". A file is one
            split whatever it is called here, so take held-out rows from another range of it.
        n: at most so many rows, drawn with seed; None for all, in their order.
        seed: of the draw.
        columns, tokenizer, control_tokens: as in `instruction_rows`.
    Returns, Raises: as `instruction_rows`.
    Source: MBPP, Austin et al. 2021, arXiv 2108.07732; HumanEval, Chen et al. 2021, 2107.03374;
        APPS, Hendrycks et al. 2021, 2105.09938. Taught in week 8.

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
    question, *fields = choose_format(row, _CODE)
    tests = row[fields[0]]
    if not isinstance(tests, str | list | dict):
        raise _messages.Odd(
            f"field {fields[0]!r} must be tests as code_reward reads them",
            f"got {type(tests).__name__}",
        )
    first = tests[0] if isinstance(tests, list) and tests else tests
    # As JSON: a column of dicts would get every key of every row, and can't hold lists as well.
    if fields == ["test", "entry_point"]:
        tests = _text(row, "prompt", *fields)
    elif fields == ["test_list"] and any(name in row for name in _SETUP):
        tests = _text(row, *fields, *_SETUP)
    elif fields == ["input_output"] and not isinstance(tests, str):
        tests = json.dumps(tests, ensure_ascii=False)
    if (read := read_tests(tests)) is None:
        raise _messages.Drop("with tests that cannot be read")
    if fields[0] in ("tests", "test_list"):
        shown = first if isinstance(first, str) else json.dumps(first)
        hint = f"Your code must pass: {shown}"
    elif read.names:
        hint = f"Your code must define: {', '.join(sorted(read.names))}"
    else:
        hint = "Your program must read from standard input and print its result."
    if starter := row.first(["starter_code"]):
        hint += f"\n\nStart from:\n\n{row.text(starter)}"
    prompt = _prompt(row, question, hint)
    return {"prompt": prompt, "tests": tests} | _gold(row, "code", _published(row))


def _text(row: Fields, *names: str) -> str:
    """These fields of a row, as JSON."""
    return json.dumps({name: row[name] for name in names if name in row}, ensure_ascii=False)


def _published(row: Fields) -> str | None:
    """The gold program of HumanEval or APPS, if the row has one that can be read."""
    if "canonical_solution" in row and "prompt" in row:
        return row.text("prompt") + row.text("canonical_solution")
    if row.first(["solutions"]):
        programs = row["solutions"]
        try:
            programs = json.loads(programs) if isinstance(programs, str) else programs
        except (ValueError, RecursionError):
            return None
        if isinstance(programs, list) and programs and isinstance(programs[0], str):
            return programs[0]
    return None


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


def _gold(row: Fields, field: str, text: str | None = None) -> dict[str, Any]:
    """The gold reply, where a row has one: its own, or else this text."""
    named = "completion" if "completion" in row else field
    if named in row:
        reply = row.messages(named, role="assistant")
    elif text:
        reply = [{"role": "assistant", "content": text}]
    else:
        return {}
    return {"completion": _messages.checked_reply(reply)}
