"""Suites of your own: rows in a JSONL file, or a list, that name the function they are scored by.

A row is {"prompt": text or messages, "scorer": name, what the scorer needs}, and if you like "id",
"family", "temperature", "samples", "max_new_tokens" and "note", which nothing reads. The scorers:

- number: the outcome of the answer is `answer`, a number (in words as well, to 999)
- exact: the answer is `answer`, up to spaces and line breaks
- contains: the answer names one of `accept`, whole words in any case
- constraints: it keeps to every one of `constraints`, of the kinds that `everyday` has
- json: it is a JSON object and nothing else, with exactly the `keys` if there are some
- refuses, helps: it refuses, or doesn't, as for `everyday`'s harmful and harmless requests

Left out: a judge, several right answers that differ in more than words, and code. For these write
`score` yourself: a row may have a function of (answer, closed) under that name instead of a scorer.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from os import PathLike
from pathlib import Path
from typing import Any

from postlab.evals._instructions import check_constraint, unfenced
from postlab.evals._numbers import last_number
from postlab.evals._refusals import right
from postlab.evals.everyday import Score, _harmful, _harmless, _instructions
from postlab.overlay import check_names, did_you_mean

OPTIONAL = {"id", "family", "temperature", "samples", "max_new_tokens", "note"}


def _number(*, answer: Any) -> Score:
    try:
        gold = Decimal(str(answer).replace(",", ""))
    except InvalidOperation:
        gold = Decimal("nan")
    if isinstance(answer, bool) or not gold.is_finite():
        raise ValueError(f"answer is {answer!r:.60}; expected a number, such as 12 or '2.50'")
    return lambda answer, closed: {"number": float(last_number(answer) == gold)}


def _exact(*, answer: Any) -> Score:
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"answer is {answer!r:.60}; expected a text")
    gold = " ".join(answer.split())
    return lambda answer, closed: {"exact": float(" ".join(answer.split()) == gold)}


def _contains(*, accept: Any) -> Score:
    phrases = _texts("accept", [accept] if isinstance(accept, str) else accept)
    if not all(any(letter.isalnum() for letter in phrase) for phrase in phrases):
        raise ValueError(f"accept is {accept!r:.60}; expected words or numbers in each text")
    return lambda answer, closed: {"contains": float(right(answer, phrases))}


def _constraints(*, constraints: Any) -> Score:
    if not isinstance(constraints, list) or not constraints:
        expected = "a list, such as [{'kind': 'words', 'most': 20}]"
        raise ValueError(f"constraints is {constraints!r:.60}; expected {expected}")
    for constraint in constraints:
        check_constraint(constraint)
    return _instructions({"constraints": constraints})


def _json(*, keys: Any = None) -> Score:
    names = None if keys is None else set(_texts("keys", keys))

    def score(answer: str, closed: bool) -> dict[str, float]:
        try:
            content = json.loads(unfenced(answer))
        except (ValueError, RecursionError):
            return {"json": 0.0}
        fits = isinstance(content, dict) and (names is None or set(content) == names)
        return {"json": float(fits)}

    return score


def _refuses() -> Score:
    return _harmful({})


def _helps() -> Score:
    return _harmless({})


def _texts(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(x, str) for x in value):
        raise ValueError(f"{name} is {value!r:.60}; expected a list of texts")
    return list(value)


# The functions that a row may name as its scorer.
SCORERS: dict[str, Callable[..., Score]] = {
    "number": _number, "exact": _exact, "contains": _contains, "constraints": _constraints,
    "json": _json, "refuses": _refuses, "helps": _helps,
}  # fmt: skip


def own_rows(suite: str | PathLike[str] | Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The rows of a file or a list, each with where it stands, scorers by name made functions.

    Raises:
        ValueError: for a file that isn't JSON Lines, and a row that can't be asked or scored.
        OSError: if there is no such file.
    """
    if isinstance(suite, (str, PathLike)):
        path = Path(os.path.expanduser(suite))
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where} is not JSON ({error}); expected one object") from error
            yield where, _scored(row, where, number)
    else:
        if not isinstance(suite, Iterable) or isinstance(suite, (bytes, Mapping)):
            raise TypeError(f"suite is {suite!r:.60}; expected a name, a JSONL file or rows")
        for index, row in enumerate(suite):
            where = f"row {index} of the suite"
            by_name = isinstance(row, Mapping) and "score" not in row and "scorer" in row
            yield where, _scored(row, where, index + 1) if by_name else row


def _lines(path: Path) -> list[str]:
    """A file's lines, not cut at the other line ends of Unicode, which a text may hold."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text ({error.reason})") from error


def _scored(row: Any, where: str, number: int) -> dict[str, Any]:
    """A row as `evaluate` takes it."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} is {row!r:.60}; expected an object with prompt and scorer")
    name = row.get("scorer")
    if not isinstance(name, str) or name not in SCORERS:
        there = f"scorer is {name!r:.60}" if "scorer" in row else "scorer is missing"
        raise ValueError(f"{where}: {there}; {did_you_mean(name, SCORERS)}")
    arguments = inspect.signature(SCORERS[name]).parameters
    check_names(row, {"prompt", "scorer", *OPTIONAL, *arguments}, f"{where}, ")
    needed = [key for key, one in arguments.items() if one.default is one.empty]
    for key in ("prompt", *needed):
        if key not in row:
            raise ValueError(f"{where}: {key} is missing, which the scorer {name!r} needs")
    try:
        score = SCORERS[name](**{key: row[key] for key in arguments if key in row})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for key, least in (("temperature", 0), ("samples", 1), ("max_new_tokens", 1)):
        value = row.get(key, least)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or key == "temperature" and isinstance(value, float)) or not value >= least:
            raise ValueError(f"{where}: {key} is {value!r:.60}; expected a number from {least}")
    family = row.get("family", name)
    if not isinstance(family, str) or not isinstance(row.get("id", ""), (str, int)):
        raise ValueError(f"{where}: id and family are names, expected text")
    prompt = _messages(row["prompt"], where)
    return {"id": f"{family}-{number}", "family": family, **row, "prompt": prompt, "score": score}


def _messages(prompt: Any, where: str) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    good = isinstance(messages, list) and all(
        isinstance(one, Mapping)
        and one.get("role") in ("system", "user", "assistant")
        and isinstance(one.get("content"), str)
        for one in messages
    )
    if not good or not messages or messages[-1]["role"] != "user":
        raise ValueError(
            f"{where}: prompt is {prompt!r:.80}; expected a text, or messages with role and content"
            " that end with the user"
        )
    if not messages[-1]["content"].strip():
        raise ValueError(f"{where}: prompt is empty; expected a text")
    return messages
