"""Is the reply JSON of the asked-for shape? The verifiable reward for structured replies.

The reply is JSON as a whole or holds it in its only fenced block, and is validated against a JSON
schema by jsonschema. Stricter than most parsers, so that there is nothing to gain by hedging: a key
given twice, NaN, Infinity, a number beyond floats, and nesting beyond MAX_DEPTH score 0.

Patterns are matched by the `regex` package, whose searches can be given a time limit: Python's own
may take hours on a text of fifty characters, and nothing in the same process can stop them.

Left out: `format` ("date", "email"), which a schema only notes, references to other documents
(nothing is ever fetched), schemas of another draft inside a schema, and `unevaluatedProperties`
beside `patternProperties`. The form alone is judged; put what must be true in `const` or `enum`.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import regex

from postlab.rewards._batch import check_batch
from postlab.rewards._reply import after_thinking, fenced, reply_text

MAX_REPLY_CHARS = 50_000
MAX_NUMBER_CHARS = 100
MAX_DEPTH = 32
# What one reply may take, a third of a second in all; ordinary ones take a few microseconds. Steps
# and not seconds where it can be, so that a busy machine gives the same rewards as an idle one.
MAX_STEPS = 80_000  # keywords that are checked
PATTERN_SECONDS = 0.15  # of CPU time, for all patterns


@dataclass
class _Budget:
    """What is left to one reply."""

    steps: int
    seconds: float


_budget: ContextVar[_Budget] = ContextVar("_budget")


def schema_reward(completions: list, schema: list, **columns: Any) -> list[float | None]:
    """1.0 where a completion is JSON that its row's schema accepts, else 0.0.

    Args:
        completions: strings, or lists of messages, as TRL passes them.
        schema: the JSON schemas, one a completion: JSON text, which a dataset keeps as it is, or
            what json.loads makes of it. Of dicts, `datasets` makes one table: every row's schema
            gets every other row's keys, so prefer text.
        columns: the other columns of the batch; none is used.
    Returns:
        One reward a completion; None where the schema itself is invalid or refers elsewhere. A
        reply on which a pattern takes too long gets 0.0.
    Raises:
        TypeError: if completions or schema is a single value, such as a string, and no list.
        ValueError: if there are not as many schemas as completions.
    Source: JSON Schema, draft 2020-12 unless `$schema` names another. Taught in week 8.

    >>> named = '{"type": "object", "required": ["name"]}'
    >>> schema_reward(['{"name": "owl"}', "{}", '{"name": "owl"} I hope'], schema=[named] * 3)
    [1.0, 0.0, 0.0]
    """
    check_batch("schema_reward", completions, schema=schema)
    rewards: list[float | None] = []
    for completion, row in zip(completions, schema, strict=True):
        text = row if isinstance(row, str) else json.dumps(row, sort_keys=True, default=str)
        checker = _checker(text)
        reply = after_thinking(reply_text(completion))
        rewards.append(None if checker is None else _score(checker, reply))
    return rewards


def is_schema(text: str) -> bool:
    """Whether a text is a JSON schema that `schema_reward` can score replies with.

    >>> is_schema('{"pattern": "^[A-Z]{3}$"}'), is_schema('{"pattern": "("}'), is_schema("owl")
    (True, False, False)
    """
    return _checker(text) is not None


def _score(checker: Any, reply: str) -> float | None:
    parsed = _json(reply)
    if parsed is None:
        return 0.0
    (instance,) = parsed
    _budget.set(_Budget(MAX_STEPS, PATTERN_SECONDS))
    try:
        return float(checker.is_valid(instance))
    except TimeoutError:  # too much work, which a reply of ordinary size and shape does not ask for
        return 0.0
    except Exception:  # the schema's fault: a reference into nothing, or one to itself
        return None


@lru_cache(maxsize=1024)
def _checker(text: str) -> Any:
    """A validator that fetches nothing; None where the text is no valid schema."""
    import jsonschema
    import referencing

    try:
        schema = json.loads(text)
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        if isinstance(schema, dict):
            schema.pop("$schema", None)  # or jsonschema would go back to its own class, see _kind
        keywords = list(_keywords(schema))
        for key, value in keywords:
            if key == "pattern" and isinstance(value, str):
                regex.compile(value)
            if key == "patternProperties" and isinstance(value, dict):
                list(map(regex.compile, value))
    except (jsonschema.SchemaError, ValueError, TypeError, RecursionError, regex.error):
        return None
    if {"patternProperties", "unevaluatedProperties"} <= {key for key, _ in keywords}:
        return None  # jsonschema matches these with Python's own matcher, and cannot be told not to
    elsewhere = ("$ref", "$dynamicRef", "$recursiveRef", "$schema")
    if any(k in elsewhere and isinstance(v, str) and v[:1] != "#" for k, v in keywords):
        return None
    return _kind(kind)(schema, registry=referencing.Registry())


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every keyword that a schema might use, with its value, wherever it stands."""
    if isinstance(schema, list):
        for item in schema:
            yield from _keywords(item)
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key, value
            if key not in ("const", "enum", "default", "examples"):
                yield from _keywords(value)


@cache
def _kind(kind: Any) -> Any:
    """A jsonschema validator class that can be stopped, in patterns and between keywords."""
    import jsonschema

    checks = dict(kind.VALIDATORS)
    ours = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    checks |= {name: check for name, check in ours.items() if name in checks}
    counted = {name: _counted(name, check) for name, check in checks.items()}
    return jsonschema.validators.extend(kind, counted)


def _counted(name: str, check: Callable) -> Callable:
    """A keyword's check that takes a step of the reply's budget, or one for each item compared."""
    whole = name in ("const", "enum", "uniqueItems")

    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        budget = _budget.get()
        budget.steps -= 1 + (len(instance) if whole and isinstance(instance, list | dict) else 0)
        if budget.steps < 0:
            raise TimeoutError
        return check(validator, value, instance, schema)

    return checked


def _matches(pattern: str, text: str) -> bool:
    """Whether a pattern occurs in a text; TimeoutError once the reply's time is used up."""
    budget, begun = _budget.get(), time.thread_time()
    if budget.seconds <= 0:
        raise TimeoutError
    match = regex.search(pattern, text, timeout=budget.seconds)
    budget.seconds -= time.thread_time() - begun
    return match is not None


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Exception]:
    """jsonschema compares each pair of items that cannot be sorted; this takes one pass."""
    from jsonschema import ValidationError

    if wanted and validator.is_type(instance, "array"):
        texts = {json.dumps(_one_spelling(item), sort_keys=True) for item in instance}
        if len(texts) < len(instance):
            yield ValidationError("an item given twice")


def _one_spelling(value: Any) -> Any:
    """JSON with its whole numbers as such: 1.0 is 1."""
    if isinstance(value, list):
        return [_one_spelling(item) for item in value]
    if isinstance(value, dict):
        return {key: _one_spelling(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Exception]:
    from jsonschema import ValidationError

    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"no match for {pattern!r}")


def _pattern_properties(
    validator: Any, rules: dict, instance: Any, schema: Any
) -> Iterator[Exception]:
    if validator.is_type(instance, "object"):
        for pattern, rule in rules.items():
            for key, value in instance.items():
                if _matches(pattern, key):
                    yield from validator.descend(value, rule, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, rule: Any, instance: Any, schema: Any
) -> Iterator[Exception]:
    if validator.is_type(instance, "object"):
        named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        for key, value in instance.items():
            if key not in named and not any(_matches(pattern, key) for pattern in patterns):
                yield from validator.descend(value, rule, path=key)


def _json(reply: str) -> tuple[Any] | None:
    """The JSON value of a reply, in a tuple; None where there is none, or more than one."""
    if len(reply) > MAX_REPLY_CHARS:
        return None
    text = reply.strip()
    if "```" in text:
        blocks = fenced(text)
        if len(blocks) != 1 or text.count("```") != 2 or blocks[0][0] not in ("", "json"):
            return None
        text = blocks[0][1].strip()
    try:
        value = json.loads(
            text,
            parse_int=_number(int),
            parse_float=_number(float),
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError):
        return None
    return (value,) if _depth(value) <= MAX_DEPTH else None


def _number(kind: type) -> Any:
    def read(text: str) -> int | float:
        value = kind(text) if len(text) <= MAX_NUMBER_CHARS else None
        if value is None or value in (float("inf"), float("-inf")):
            raise ValueError("a number too long or too large")
        return value

    return read


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key given twice")
    return record


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while depth <= MAX_DEPTH and (nested := [x for x in level if isinstance(x, list | dict)]):
        level = [item for x in nested for item in (x.values() if isinstance(x, dict) else x)]
        depth += 1
    return depth
