"""Tasks whose replies a program can check: one-line functions of a list, and records in JSON.

A function takes one number from a list and does a little arithmetic with it; what is checked is
what it returns. A record is some of a creature's fields; what its schema checks is the form, and
the gold reply holds the truth, so that the two can be told apart.

Left out: functions of several lines or arguments, nested records. Held out are one constant in five
(`tasks.held_out_numbers`), the held-out creatures, and wordings; each operation and each choice of
fields is in both splits.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from postlab.tinyworld import tasks, words

PICKS = ("largest", "smallest", "count", "first", "last")  # of `tasks.LIST_OPS`
STEPS: dict[str, tuple[Callable[[int, int], int], str]] = {  # words: (meaning, Python)
    "add {k}": (lambda a, k: a + k, "{a}+{k}"),
    "at least {k}": (max, "max({a}, {k})"),
    "at most {k}": (min, "min({a}, {k})"),
}
CONSTANTS = range(10, 60)
JSON_WORDINGS = (
    ("Give the {e} as JSON: {fields}.", "Describe the {e} in JSON: {fields}."),
    ("Please give me the {e} as JSON: {fields}.",),
)
# Lists of a row's own tests: below every constant in all one can take from them, then above.
TESTED = ("[7, 2, 9, 4]", "[1, 6, 3]", "[70, 64, 91, 83]", "[3] * 64")
HELD_BACK = ("[5]", "[-4, -9, 3]", "[8, 8, 2, 5, 6]", "[99, 61]", "[66, 80, 75]", "[90] * 70")


def code_rows(*, split: str = "train", n: int | None = None, seed: int = 0) -> list[dict]:
    """Functions to write (`prompt`, `tests`, `held_back`, `completion`, `family`); default 1,000.

    No reward is to see the tests in `held_back`: they are for evaluation.
    """
    rng, rows = random.Random(f"functions {_checked(split)} {seed}"), []
    for _ in range(1000 if n is None else n):
        pick, step = rng.choice(PICKS), rng.choice(tuple(STEPS))
        k = rng.choice(
            [k for k in CONSTANTS if tasks.held_out_numbers((k,)) == (split == "heldout")]
        )
        name, meaning, code = tasks.LIST_OPS[pick]
        does, write = STEPS[step]
        wording = rng.choice(words.WORDINGS["code"][split == "heldout"])
        prompt = wording.format(op=f"{name.replace(' of', '')}, then {step.format(k=k)}")
        tests, held_back = (
            [f"assert f({x}) == {does(meaning(_listed(x)), k)}" for x in lists]
            for lists in (TESTED, HELD_BACK)
        )
        function = f"def f(x): return {write.format(a=code.format(x='x'), k=k)}"
        rows.append(_row(prompt, function, "code") | {"tests": tests, "held_back": held_back})
    return rows


def json_rows(*, split: str = "train", n: int | None = None, seed: int = 0) -> list[dict]:
    """Records to give (`prompt`, `schema`, `completion`, `family`); default 1,000.

    The schema, as text, asks for the named fields and no others, each with a value that the world
    has for it: a red creature may be called green. The gold completion has the true values.
    """
    rng, rows = random.Random(f"records {_checked(split)} {seed}"), []
    for _ in range(1000 if n is None else n):
        creature = rng.choice(words.known(words.CREATURES, split))
        traits, count = words.traits(creature), rng.choice((1, 2))
        chosen = rng.sample(tuple(traits), count)
        record = {"name": creature} | {k: v for k, v in traits.items() if k in chosen}
        wording = rng.choice(JSON_WORDINGS[split == "heldout"])
        prompt = wording.format(e=creature, fields=", ".join(record))
        schema = json.dumps(_schema(tuple(record)))
        rows.append(_row(prompt, json.dumps(record), "json") | {"schema": schema})
    return rows


def _listed(text: str) -> list[int]:
    """`[3] * 64`, or a list of numbers, as a list."""
    numbers, _, times = text.partition("*")
    return json.loads(numbers) * int(times or 1)


def _schema(fields: tuple[str, ...]) -> dict:
    values: dict[str, dict] = {"name": {"type": "string", "pattern": "^[a-z]+$"}}
    values |= {field: {"enum": list(tasks.VALUES[field])} for field in fields if field != "name"}
    shape = {"properties": values, "required": list(fields), "additionalProperties": False}
    return {"type": "object"} | shape


def _row(prompt: str, completion: str, family: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
        "family": family,
    }


def _checked(split: str) -> str:
    if split not in ("train", "heldout"):
        raise ValueError(f"split {split!r} is unknown; expected 'train' or 'heldout'")
    return split
