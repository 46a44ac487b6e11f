"""Synthetic rows in the schemas of the real data sets, awkward cases included.

Every field that the real sets have is there, under its real name, in the file format that the Hub
serves. Among them are conversations of several turns, system prompts, replies longer than any
`max_length`, empty ones, pairs whose two replies are the same, other scripts and code.
"""

from __future__ import annotations

import io
import json
import random
from typing import Any

from postlab.datasets import _hub

PARQUET = "data/train-00000-of-00001.parquet"
TOPICS = (
    "tides", "compost", "sourdough", "binary search", "photosynthesis", "chess openings",
    "tax brackets", "volcanoes", "haiku", "bicycle gears", "vaccines", "origami",
)  # fmt: skip
ASKED = (
    "Explain {} to a ten-year-old.", "What are three common mistakes with {}?",
    "Write a short plan for learning about {}.", "Summarise the history of {} in two sentences.",
)  # fmt: skip
SENTENCES = (
    "It helps to start with an example.", "The first step is to look closely.",
    "Most people find the second part harder.", "Check the result before you go on.",
    "There are exceptions, but they are rare.", "In short: practise, measure, repeat.",
)  # fmt: skip
SYSTEM = "You are an AI assistant. Provide a detailed answer so the user doesn't need to search."
CODE = "```python\ndef area(r):\n    return 3.14159 * r**2\n```\nCall `area(2)`; it gives 12.57."


def repositories(rows: int = 48) -> dict[str, dict[str, bytes]]:
    """{Hub id: files} of the three sets that the GPU profiles read, and of SlimOrca.

    Few rows, so that a stage of `cuts.ROWS` meets every awkward kind.
    """
    known = {name: repo for name, (repo, _) in _hub.KNOWN.items()}
    card = (
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n"
        "    path: main/train-*\n  - split: test\n    path: main/test-*\n---\n"
    )
    return {
        known["openhermes"]: {PARQUET: parquet(openhermes(rows))},
        known["slimorca"]: {"oo-labeled_correct.gpt4.sharegpt.jsonl": lines(slimorca(rows))},
        known["ultrafeedback"]: {PARQUET: parquet(ultrafeedback(rows))},
        known["gsm8k"]: {
            "main/train-00000-of-00001.parquet": parquet(gsm8k(rows, 1)),
            "main/test-00000-of-00001.parquet": parquet(gsm8k(rows, 2)),
            "README.md": card.encode(),
        },
    }


def openhermes(count: int) -> list[dict[str, Any]]:
    """OpenHermes-2.5 as the Hub's Parquet conversion has it."""
    rows = []
    for index, turns in enumerate(conversations(count, seed=3)):
        names = {"system": "system", "user": "human", "assistant": "gpt"}
        talk = [{"from": names[r], "value": text, "weight": None} for r, text in turns]
        row = dict.fromkeys(
            ("custom_instruction", "topic", "model_name", "model", "skip_prompt_formatting",
             "category", "views", "language", "id", "title", "idx", "hash", "avatarUrl",
             "system_prompt", "source")
        )  # fmt: skip
        row |= {"conversations": talk, "source": "airoboros2.2", "category": "general"}
        row |= {"id": f"row-{index}", "skip_prompt_formatting": False}
        rows.append(row)
    return rows


def slimorca(count: int) -> list[dict[str, Any]]:
    rows = []
    for turns in conversations(count, seed=4):
        names = {"system": "system", "user": "human", "assistant": "gpt"}
        weights = {"system": None, "user": 0.0, "assistant": 1.0}
        talk = [{"from": names[r], "value": text, "weight": weights[r]} for r, text in turns]
        rows.append({"conversations": talk})
    return rows


def ultrafeedback(count: int) -> list[dict[str, Any]]:
    """The cleaned binarisation: prompt as text, both replies as whole conversations."""
    rows, chooser = [], random.Random(5)
    for index, turns in enumerate(conversations(count, seed=5, system=False)):
        (_, prompt), (_, good) = turns[0], turns[-1]
        bad = good if index % 40 == 7 else paragraph(chooser, 2)  # a tie now and then
        sides = {"chosen": good, "rejected": bad}
        row: dict[str, Any] = {"source": "evol_instruct", "prompt": prompt}
        for side, text in sides.items():
            row[side] = [
                {"content": prompt, "role": "user"},
                {"content": text, "role": "assistant"},
            ]
            row[f"{side}-rating"] = 4.75 if side == "chosen" else 2.5
            row[f"{side}-model"] = "gpt-4" if side == "chosen" else "alpaca-7b"
        rows.append(row)
    return rows


def gsm8k(count: int, seed: int) -> list[dict[str, str]]:
    """Word problems with calculator marks, thousands separators and a final `#### ` line."""
    rows, chooser = [], random.Random(seed)
    for index in range(count):
        crates, each, sold = (chooser.randint(3, 90) for _ in range(3))
        each *= 100 if index % 10 == 0 else 1
        total = crates * each
        left = total - sold
        question = (
            f"A shop receives {crates} crates with {each} apples each (delivery {index}) and sells"
            f" {sold} apples. How many apples are left?"
        )
        answer = (
            f"There are {crates}*{each}=<<{crates}*{each}={total}>>{total} apples.\n"
            f"After the sale {total}-{sold}=<<{total}-{sold}={left}>>{left} are left.\n"
            f"#### {left:,}"
        )
        rows.append({"question": question, "answer": answer})
    return rows


def conversations(count: int, *, seed: int, system: bool = True) -> list[list[tuple[str, str]]]:
    """(role, text) turns: most are one question and one reply, and some are not so easy."""
    chooser, talks = random.Random(seed), []
    for index in range(count):
        ask = chooser.choice(ASKED).format(chooser.choice(TOPICS)) + f" ({index})"
        turns = [("user", ask), ("assistant", paragraph(chooser, chooser.randint(1, 6)))]
        if index % 16 == 1:
            turns += [("user", "And then?"), ("assistant", paragraph(chooser, 2))]
        if index % 16 == 2:
            turns[-1] = ("assistant", paragraph(chooser, 900))  # some 7,000 tokens
        if index % 16 == 3:
            turns[-1] = ("assistant", "")
        if index % 16 == 4:
            turns[-1] = ("assistant", CODE)
        if index % 16 == 5:
            turns = [("user", f"请解释潮汐。({index})"), ("assistant", "潮汐由月球引力引起。😀")]
        if system and index % 4 == 0:
            turns.insert(0, ("system", SYSTEM))
        talks.append(turns)
    return talks


def paragraph(chooser: random.Random, sentences: int) -> str:
    return " ".join(chooser.choice(SENTENCES) for _ in range(sentences))


def lines(rows: list[dict]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def parquet(rows: list[dict]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()
