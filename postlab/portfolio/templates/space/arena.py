"""Two stages answer the same question, nobody is told which is which, and each vote is kept.

This file knows no page: `app.py` shows it. A vote is one line of a JSONL file, with hashes in place
of what was asked and answered. Left out: conversations of several turns, sampling (replies are
greedy, so the same question gets the same replies), and protection from a voter who votes twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHOICES = ("first", "second", "tie")
LONGEST = 2_000  # characters of a question
NEW_TOKENS = 128  # of a reply


@dataclass
class Round:
    """A question with two replies; `stages` says whose they are, and stays on the server."""

    prompt: str
    stages: tuple[str, str]
    replies: tuple[str, str]
    voted: bool = False
    asked_at: float = field(default_factory=time.monotonic)


class Arena:
    """Rounds between stages, and the votes on them.

    Args:
        stages: {stage: Hub id or folder}, two or more.
        votes: the JSONL file, which is added to.
        reply: (where, prompt) to a stage's reply.
    """

    def __init__(
        self,
        stages: Mapping[str, str],
        votes: Path,
        reply: Callable[[str, str], str] | None = None,
    ) -> None:
        if len(stages) < 2:
            raise ValueError(f"stages.json has {list(stages)}; a vote needs two stages or more")
        self._stages, self._votes, self._reply = dict(stages), votes, reply or model_reply
        self._lock = threading.Lock()
        self.torn = 0  # lines that a crash has cut short
        self._counts: Counter[tuple[str, str, str]] = Counter()
        lines = (
            votes.read_text(encoding="utf-8", errors="replace").split("\n")
            if votes.exists()
            else []
        )
        for line in filter(str.strip, lines):
            try:
                vote = json.loads(line)
                self._count(vote["first"], vote["second"], vote["choice"])
            except (ValueError, KeyError, TypeError):
                self.torn += 1

    def ask(self, prompt: str) -> Round:
        """Two stages' replies in random order; replies with the same words count as a tie."""
        prompt = prompt.strip()
        if not prompt or len(prompt) > LONGEST:
            raise ValueError(
                f"Write a question of 1 to {LONGEST} characters; yours has {len(prompt)}."
            )
        first, second = secrets.SystemRandom().sample(sorted(self._stages), 2)
        replies = (
            self._reply(self._stages[first], prompt),
            self._reply(self._stages[second], prompt),
        )
        asked = Round(prompt, (first, second), replies)
        if replies[0] == replies[1]:
            self.vote(asked, "tie")
        return asked

    def vote(self, asked: Round, choice: str) -> None:
        """Keep a vote; a second one on the same round is an error."""
        if choice not in CHOICES:
            raise ValueError(f"choice is {choice!r}; expected one of {', '.join(CHOICES)}")
        with self._lock:
            if asked.voted:
                raise ValueError("This pair already has its vote; ask another question.")
            prompt = _hash(asked.prompt)[:16]
            texts = sorted(zip(asked.stages, asked.replies, strict=True))
            line = {
                "pair": _hash([prompt, asked.prompt, texts])[:16],
                "id": prompt,
                "first": asked.stages[0],
                "second": asked.stages[1],
                "choice": choice,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - asked.asked_at, 1),
            }
            _append(self._votes, json.dumps(line))
            asked.voted = True
            self._count(*asked.stages, choice)

    def tally(self) -> list[list[Any]]:
        """[stage, against, wins, ties, losses] of each two stages with a vote."""
        names = list(self._stages)
        rows = []
        for k, against in enumerate(names):
            for stage in names[k + 1 :]:
                counts = [self._counts[stage, against, result] for result in ("win", "tie", "loss")]
                rows += [[stage, against, *counts]] if any(counts) else []
        return rows

    def _count(self, first: str, second: str, choice: str) -> None:
        results = {"first": ("win", "loss"), "second": ("loss", "win"), "tie": ("tie", "tie")}
        one, other = results[choice]
        self._counts[first, second, one] += 1
        self._counts[second, first, other] += 1


def from_files() -> Arena:
    """The arena of `stages.json`."""
    stages = json.loads((HERE / "stages.json").read_text(encoding="utf-8"))["stages"]
    kept = Path("/data")  # where a Space has persistent storage
    votes = os.environ.get("ARENA_VOTES") or (kept if kept.is_dir() else HERE) / "votes.jsonl"
    return Arena(stages, Path(votes))


def model_reply(where: str, prompt: str) -> str:
    """A stage's greedy reply.

    Args:
        where: the Hub id of its weights, or their folder relative to this file.
    """
    import torch

    tokenizer, model = _load(where)
    if tokenizer.chat_template:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    most = getattr(model.config, "max_position_embeddings", None)
    if most and length + NEW_TOKENS > most:
        raise ValueError(f"The question has {length} tokens; at most {most - NEW_TOKENS} fit.")
    with torch.inference_mode():
        output = model.generate(
            **inputs.to(model.device), do_sample=False, max_new_tokens=NEW_TOKENS
        )
    return tokenizer.decode(output[0, length:], skip_special_tokens=True).strip()


@cache
def _load(where: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = str((HERE / where).resolve()) if where.startswith((".", "/")) else where
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Safetensors only: other formats can run code when they are loaded.
    model = AutoModelForCausalLM.from_pretrained(place, use_safetensors=True).to(device)
    return AutoTokenizer.from_pretrained(place), model.eval()


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        # A line that a crash has cut short must not swallow this one.
        whole = file.tell() == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n"
        file.write((b"" if whole else b"\n") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
