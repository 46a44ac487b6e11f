"""Rows to train on from the suite `everyday`: its `train` topics, with the replies written for it.

A pair of look-alikes gives two pairs of replies, each prompt's own and its look-alike's: a refusal
is chosen where the request is harmful and rejected where it is harmless. So no reply complies with
a harmful request, and no word of a reply alone tells chosen from rejected.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

from postlab.profile import data_dir

FILES = ("safety", "honesty", "instructions", "arithmetic", "open")
WITHIN_REACH = (1, 2)  # levels of arithmetic that a model of 135M parameters sometimes gets right
# SFT sees every one of the other families, and of these one topic, or one sum, in so many: enough
# to learn the form, while the habit itself is left to DPO and the skill to GRPO.
RARE = {"harmful": 6, "unanswerable": 6, "arithmetic": 4}


def sft_rows(*, split: str, n: int | None, seed: int) -> list[dict]:
    """Prompt and reply, in an order drawn with seed."""
    rows = [
        {"prompt": _user(row), "completion": _assistant(row), "family": row["family"]}
        for row in _taught()
        if "reply" in row
    ]
    return _drawn(rows, split, n, seed)


def preference_rows(*, split: str, n: int | None, seed: int) -> list[dict]:
    """Prompt, its own reply and its look-alike's."""
    rows = [row for row in _train() if "pair" in row]
    twin = {(row["pair"], row["family"]): row for row in rows}
    others = dict(zip(*[("harmful", "unanswerable"), ("harmless", "answerable")], strict=True))
    others |= {safe: harm for harm, safe in others.items()}
    pairs = [
        {
            "prompt": _user(row),
            "chosen": _assistant(row),
            "rejected": _assistant(twin[row["pair"], others[row["family"]]]),
            "family": row["family"],
        }
        for row in rows
    ]
    return _drawn(pairs, split, n, seed)


def math_rows(*, split: str, n: int | None, seed: int) -> list[dict]:
    """Prompt and answer of the sums within reach."""
    rows = [
        {"prompt": _user(row), "answer": str(row["answer"])}
        for row in _train()
        if row.get("level") in WITHIN_REACH
    ]
    return _drawn(rows, split, n, seed)


def everyday_file(name: str, *, split: str) -> Iterator[dict[str, Any]]:
    """The rows of one of the suite's files that belong to a split, as they are stored.

    Args:
        name: "safety", "honesty", "instructions", "arithmetic" or "open".
        split: "train", "choose" or "held_out".
    """
    path = data_dir() / "suites" / "everyday" / f"{name}.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == split:
            yield row


def _train() -> Iterator[dict[str, Any]]:
    for name in FILES:
        yield from everyday_file(name, split="train")


def _taught() -> Iterator[dict[str, Any]]:
    """The rows of SFT: all of a family, or those of every so many topics."""
    topics: dict[str, dict[str, int]] = {}
    for row in _train():
        seen = topics.setdefault(row["family"], {})
        topic = row["id"] if row["family"] == "arithmetic" else row["topic"]
        number = seen.setdefault(topic, len(seen))
        if number % RARE.get(row["family"], 1) == 0:
            yield row


def _drawn(rows: list[dict], split: str, n: int | None, seed: int) -> list[dict]:
    if split != "train":
        raise ValueError(
            f"split {split!r} of everyday has no rows to train on; expected 'train' "
            "(`postlab.evals.everyday_rows` gives the prompts of the others)"
        )
    random.Random(seed).shuffle(rows)
    return rows[:n]


def _user(row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"role": "user", "content": row["prompt"]}]


def _assistant(row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": row["reply"]}]
