"""Is the reply JSON of the asked-for shape? The verifiable reward for structured replies.

The reply is JSON as a whole or holds it in its only fenced block, and is validated against a JSON
schema by jsonschema. Stricter than most parsers, so that there is nothing to gain by hedging: a key
given twice, NaN, Infinity, a number beyond floats, and nesting beyond MAX_DEPTH score 0.

Left out: `format` ("date", "email"), which a schema only notes, and references to other documents:
nothing is ever fetched. The form alone is judged; put what must be true in `const` or `enum`.
"""

import json
import re
import subprocess
import sys
from functools import lru_cache
from typing import Any, NamedTuple

from postlab.rewards._latex import bounded
from postlab.rewards._patterns import steps
from postlab.rewards._reply import after_thinking, fenced, reply_text

MAX_REPLY_CHARS = 50_000
MAX_NUMBER_CHARS = 100
MAX_DEPTH = 32
MAX_STEPS = 10_000_000  # of a pattern, in this process: about a tenth of a second
CPU_SECONDS = 2  # of a validation in a process of its own

# A pattern that may take for ever runs where it can be ended: in a process with a limit.
_VALIDATE = """
import json, resource, sys
import jsonschema, referencing
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
schema, instance = json.load(sys.stdin)
kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
print(kind(schema, registry=referencing.Registry()).is_valid(instance))
"""


def schema_reward(completions: list, schema: list, **columns: Any) -> list[float | None]:
    """1.0 where a completion is JSON that its row's schema accepts, else 0.0.

    Args:
        completions: strings, or lists of messages, as TRL passes them.
        schema: the JSON schemas, one a completion: JSON text, which a dataset keeps as it is, or
            what json.loads makes of it. Of dicts, `datasets` makes one table: every row's schema
            gets every other row's keys, so prefer text.
        columns: the other columns of the batch; none is used.
    Returns:
        One reward a completion; None where the schema itself is invalid or refers elsewhere.
    Raises:
        ValueError: if there are not as many schemas as completions.
    Source: JSON Schema, draft 2020-12 unless `$schema` names another. Taught in week 8.

    >>> named = '{"type": "object", "required": ["name"]}'
    >>> schema_reward(['{"name": "owl"}', "{}", '{"name": "owl"} I hope'], schema=[named] * 3)
    [1.0, 0.0, 0.0]
    """
    if len(completions) != len(schema):
        raise ValueError(
            f"schema_reward got {len(completions)} completions and {len(schema)} schemas; "
            "the dataset's column `schema` must hold one JSON schema a row"
        )
    rewards: list[float | None] = []
    for completion, row in zip(completions, schema, strict=True):
        text = row if isinstance(row, str) else json.dumps(row, sort_keys=True, default=str)
        checker = _checker(text)
        reply = after_thinking(reply_text(completion))
        rewards.append(None if checker is None else _score(checker, reply))
    return rewards


class _Checker(NamedTuple):
    validator: Any
    patterns: tuple[str, ...]


def _score(checker: _Checker, reply: str) -> float | None:
    parsed = _json(reply)
    if parsed is None:
        return 0.0
    (instance,) = parsed
    if sum(steps(pattern, len(reply)) for pattern in checker.patterns) > MAX_STEPS:
        return _in_a_process(checker.validator.schema, instance)

    def validate() -> tuple[bool | None]:
        try:
            return (checker.validator.is_valid(instance),)
        except Exception:  # the schema's fault: a reference into nothing, or one to itself
            return (None,)

    valid = bounded(validate)
    if valid is None:
        return 0.0  # too much work, which a reply of ordinary size and shape does not ask for
    return None if valid[0] is None else float(valid[0])


@lru_cache(maxsize=1024)
def _checker(text: str) -> _Checker | None:
    """A validator that fetches nothing; None where the text is no valid schema."""
    import jsonschema
    import referencing

    try:
        schema = json.loads(text)
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        patterns: list[str] = []
        references: list[str] = []
        _gather(schema, patterns, references)
        for pattern in patterns:
            steps(pattern, 1)
    except (jsonschema.SchemaError, ValueError, TypeError, RecursionError, re.error):
        return None
    if not all(reference.startswith("#") for reference in references):
        return None
    return _Checker(kind(schema, registry=referencing.Registry()), tuple(patterns))


def _gather(schema: Any, patterns: list[str], references: list[str]) -> None:
    """Every pattern and reference that a schema might use, wherever it stands."""
    if isinstance(schema, list):
        for item in schema:
            _gather(item, patterns, references)
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "pattern" and isinstance(value, str):
                patterns.append(value)
            if key == "patternProperties" and isinstance(value, dict):
                patterns.extend(value)
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                references.append(value)
            if key not in ("const", "enum", "default", "examples"):
                _gather(value, patterns, references)


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


def _in_a_process(schema: Any, instance: Any) -> float:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _VALIDATE, str(CPU_SECONDS)],
            input=json.dumps([schema, instance]),
            capture_output=True,
            text=True,
            timeout=20 * CPU_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return 0.0
    return float(done.stdout.strip() == "True")
