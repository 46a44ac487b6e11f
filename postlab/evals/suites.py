"""What an evaluation asks: named suites and the check of rows brought along.

A row is {"id", "family", "prompt" (messages), "score" (answer, closed -> {metric: number})}
with, if it likes, "temperature", "samples" and "max_new_tokens" of its own.

What this leaves out: GSM8K is asked without examples and with one final answer each, so its shares
are not comparable to published few-shot or majority-vote ones; a refusal is told by its opening.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

REFUSAL = re.compile(
    r"^\W*((i['’]?m|i am) (sorry|afraid|unable|not able)|sorry\b|as an ai\b"
    r"|i (cannot|can['’]t|will not|won['’]t))",
    re.IGNORECASE,
)

# One plain number, and the same alone on the line that ends the reply.
NUMBER = re.compile(r"(?<![0-9.,])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
FINAL = re.compile(rf"#### *\$?({NUMBER.pattern})\.?\s*$")


def suite_rows(suite: Any, n: int | None, seed: int) -> list[Mapping[str, Any]]:
    """A suite's rows, by name or as given, checked, at most `n` a family.

    Args:
        suite: a name in SUITES, or rows of your own: `id`, `family`, `prompt` (messages) and
            `score`, a function of an answer and whether it ended.
        n: prompts per family at most; None takes all.
        seed: of the prompts that a named suite draws.
    Returns:
        The rows, in the suite's order.
    Raises:
        ValueError: if the name is unknown, there is no row, or a row lacks a field.
    """
    if n is not None and n < 1:
        raise ValueError(f"n={n}; expected at least one prompt a family, or None for all")
    if isinstance(suite, str):
        if suite not in SUITES:
            raise ValueError(f"suite {suite!r} is unknown; expected one of {', '.join(SUITES)}")
        suite = SUITES[suite](n, seed)
    rows, selected = list(suite), []
    counts: dict[str, int] = {}  # family: rows so far
    ids = set()
    if not rows:
        raise ValueError("the suite is empty; expected rows with id, family, prompt and score")
    for index, row in enumerate(rows):
        for name in ("id", "family", "prompt", "score"):
            if name not in row:
                raise ValueError(
                    f"row {index} of the suite has no field {name!r} (it has {sorted(row)}); each"
                    " row needs id, family, prompt (a message list) and score(answer, closed)"
                )
        prompt = row["prompt"]
        if isinstance(prompt, str) or not prompt or prompt[-1].get("role") == "assistant":
            raise ValueError(
                f"row {index} of the suite: field 'prompt' is {prompt!r:.80}; expected a message"
                " list that ends with the user, as [{'role': 'user', 'content': ...}]"
            )
        if row["id"] in ids:
            raise ValueError(f"row {index} of the suite: id {row['id']!r} occurs twice")
        ids.add(row["id"])
        counts[row["family"]] = counts.get(row["family"], 0) + 1
        if n is None or counts[row["family"]] <= n:
            selected.append(row)
    return selected


def _tinyworld(n: int | None, seed: int, **options: Any) -> list[dict[str, Any]]:
    from postlab.tinyworld.tasks import heldout_suite

    if n is not None:
        options["n"] = n
    return heldout_suite(seed=seed, **options)


def _gsm8k(n: int | None, seed: int) -> list[dict[str, Any]]:
    from postlab.datasets import math_rows

    rows = []
    for row in math_rows("gsm8k", split="test", n=n, seed=seed):
        name = hashlib.sha256(row["prompt"][-1]["content"].encode()).hexdigest()[:12]
        rows.append(
            {
                "id": f"gsm8k-{name}",
                "family": "gsm8k",
                "prompt": row["prompt"],
                "score": _gsm8k_score(row["answer"]),
                "max_new_tokens": 320,  # room to work it out
            }
        )
    return rows


def _gsm8k_score(gold: str) -> Callable[[str, bool], dict[str, float]]:
    """Right in the asked-for form, right in any form, in the form at all, refused.

    Answers are read here and not by postlab.rewards: what a policy learns to please in its reward's
    extractor then shows as a difference between the two.
    """
    gold_value = _value(gold)

    def score(answer: str, closed: bool) -> dict[str, float]:
        asked_for = FINAL.search(answer) if answer.count("####") == 1 else None
        numbers = NUMBER.findall(answer)
        scores = {}
        for name, text in (
            ("gsm8k_strict", asked_for and asked_for[1]),
            ("gsm8k_lenient", asked_for[1] if asked_for else numbers[-1] if numbers else None),
        ):
            right = text is not None and _value(text) == gold_value
            scores[name] = math.nan if gold_value is None else float(right)
        refused = float(REFUSAL.match(answer) is not None)
        return scores | {"format": float(closed and asked_for is not None), "refusal": refused}

    return score


def _value(number: str) -> Decimal | None:
    try:
        return Decimal(number.strip().replace(",", ""))
    except InvalidOperation:
        return None


SUITES: dict[str, Callable[[int | None, int], list[dict[str, Any]]]] = {
    "tinyworld": _tinyworld,
    "tinyworld-english": lambda n, seed: _tinyworld(n, seed, with_context=True),
    "gsm8k": _gsm8k,
}
