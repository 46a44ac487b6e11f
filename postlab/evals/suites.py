"""What an evaluation asks: named suites and the check of rows brought along.

A row is {"id", "family", "prompt" (messages), "score" (answer, closed -> {metric: number})}
with, if it likes, "temperature", "samples" and "max_new_tokens" of its own, and "kl": False where
KL is not to be measured.

What this leaves out: GSM8K is asked without examples and with one final answer each, so its shares
are not comparable to published few-shot or majority-vote ones; a refusal is told by its opening.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from postlab.evals._numbers import value_of

REFUSAL = re.compile(
    r"^\W*((i['’]?m|i am) (sorry|afraid|unable|not able)|sorry\b|as an ai\b"
    r"|i (cannot|can['’]t|will not|won['’]t))",
    re.IGNORECASE,
)

# One plain number, and the same alone on the line that ends the reply.
NUMBER = re.compile(r"(?<![0-9.,])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
FILES = (".jsonl", ".ndjson")  # of rows of one's own
FINAL = re.compile(rf"#### *\$?({NUMBER.pattern})\.?\s*$")


def suite_rows(suite: Any, n: int | None, seed: int) -> list[Mapping[str, Any]]:
    """A suite's rows, by name or as given, checked, at most `n` a family.

    Args:
        suite: a name in SUITES or several joined by "+"; rows of your own, each with `id`,
            `family`, `prompt` (messages) and `score`, a function of an answer and whether it ended,
            or with `prompt` and the name of a `scorer` and what it needs, as in `evals.own`; or a
            JSONL file of the latter.
        n: prompts per family at most; None takes all.
        seed: of the prompts that a named suite draws.
    Returns:
        The rows, in the suite's order.
    Raises:
        ValueError: if the name is unknown, there is no row, or a row lacks a field or has a wrong
            one; of a file, the message names the line.
        OSError: if there is no such file.
    """
    from postlab.evals.own import own_rows

    if n is not None and n < 1:
        raise ValueError(f"n={n}; expected at least one prompt a family, or None for all")
    if isinstance(suite, str) and not suite.endswith(FILES):
        if "truthfulqa" in suite:
            raise ValueError(
                f"suite {suite!r}: no program here can tell whether a free answer is true. Run"
                " lm-eval's task truthfulqa_gen, which compares answers with TruthfulQA's true and"
                " false references by BLEU and ROUGE, or ask its questions as rows of your own and"
                " let a judge compare two stages"
            )
        unknown = [name for name in suite.split("+") if name not in SUITES]
        if unknown:
            raise ValueError(
                f"suite {unknown[0]!r} is unknown; expected one of {', '.join(SUITES)}, several"
                " joined by '+', or a file of your own that ends in .jsonl"
            )
        suite = [row for name in suite.split("+") for row in SUITES[name](n, seed)]
    rows, selected = list(own_rows(suite)), []
    counts: dict[str, int] = {}  # family: rows so far
    ids = set()
    if not rows:
        raise ValueError("the suite is empty; expected rows with id, family, prompt and score")
    for where, row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(
                f"{where} is {row!r:.60}; expected a mapping with id, family, prompt and score"
            )
        for name in ("id", "family", "prompt", "score"):
            if name not in row:
                raise ValueError(
                    f"{where} has no field {name!r} (it has {sorted(row)}); each row needs id,"
                    " family, prompt (a message list) and score(answer, closed), or prompt and"
                    " scorer"
                )
        prompt = row["prompt"]
        messages = isinstance(prompt, list | tuple) and all(isinstance(m, Mapping) for m in prompt)
        if not messages or not prompt or prompt[-1].get("role") == "assistant":
            raise ValueError(
                f"{where}: field 'prompt' is {prompt!r:.80}; expected a message"
                " list that ends with the user, as [{'role': 'user', 'content': ...}]"
            )
        name, family, score = (row[field] for field in ("id", "family", "score"))
        if not isinstance(name, str | int) or not isinstance(family, str) or not callable(score):
            raise ValueError(
                f"{where}: id {name!r:.40}, family {family!r:.40}, score {score!r:.60}; expected"
                " two names and a function"
            )
        if str(name) in ids:  # answers are kept by its text
            raise ValueError(f"{where}: id {row['id']!r} occurs twice")
        ids.add(str(name))
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
    gold_value = value_of(gold)

    def score(answer: str, closed: bool) -> dict[str, float]:
        asked_for = FINAL.search(answer) if answer.count("####") == 1 else None
        numbers = NUMBER.findall(answer)
        scores = {}
        for name, text in (
            ("gsm8k_strict", asked_for and asked_for[1]),
            ("gsm8k_lenient", asked_for[1] if asked_for else numbers[-1] if numbers else None),
        ):
            right = text is not None and value_of(text) == gold_value
            scores[name] = math.nan if gold_value is None else float(right)
        refused = float(REFUSAL.match(answer) is not None)
        return scores | {"format": float(closed and asked_for is not None), "refusal": refused}

    return score


def _everyday(n: int | None, seed: int) -> list[dict[str, Any]]:
    """The held-out prompts; if not all are asked, drawn so that look-alikes stay together."""
    from postlab.evals.everyday import everyday_rows

    return _shuffled(everyday_rows("held_out"), n, seed)


def _everyday_small(n: int | None, seed: int) -> list[dict[str, Any]]:
    from postlab.evals.everyday import within_reach

    return _shuffled(within_reach(), n, seed)


def _shuffled(rows: list[dict[str, Any]], n: int | None, seed: int) -> list[dict[str, Any]]:
    if n is None:
        return rows

    def drawn(row: Mapping[str, Any]) -> str:
        name = row.get("pair", row["id"]).replace("_sampled", "")
        return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    return sorted(rows, key=drawn)


def _public(name: str) -> Callable[[int | None, int], list[dict[str, Any]]]:
    def rows(n: int | None, seed: int) -> list[dict[str, Any]]:
        from postlab.evals.public import public_rows

        return public_rows(name, n=n, seed=seed)

    return rows


# The suites known by name: what makes their rows, of n prompts a family and a seed.
SUITES: dict[str, Callable[[int | None, int], list[dict[str, Any]]]] = {
    "tinyworld": _tinyworld,
    "tinyworld-english": lambda n, seed: _tinyworld(n, seed, with_context=True),
    "gsm8k": _gsm8k,
    "everyday": _everyday,
    "everyday-small": _everyday_small,
}
SUITES |= {
    name: _public(name) for name in ("ifeval", "math500", "xstest", "harmbench", "alpaca_eval")
}
