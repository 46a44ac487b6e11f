"""Blind pairs of replies in a random order, and the file that each vote on them is added to.

A part of `postlab.judge` that knows no widget. Order and sides come from a hash of seed, prompt
id and stages, so a restart goes on where the voter stopped. The file is a log: a line a vote, and
a line for each vote taken back; nothing in it is ever changed. Votes belong to the words that were
read: a stage made anew gets new pairs, and the old votes stay in the file without counting.

Left out: several voters in one file, and protection from a voter who opens the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.judge.pairs import CHOICES
from postlab.storage import append_json, read_json_lines

if TYPE_CHECKING:
    import pandas as pd

ANSWER_COLUMNS = ("id", "prompt", "answer")


@dataclass(frozen=True)
class Pair:
    """Two stages' replies to one prompt, in the order in which a voter meets them.

    Args:
        key: of these very words, whichever stands first.
        id: of the prompt, as `evaluate` gives it.
        stages: whose reply stands first and second.
        replies: the two texts.
    """

    key: str
    id: str
    prompt: str
    stages: tuple[str, str]
    replies: tuple[str, str]

    @property
    def identical(self) -> bool:
        """Word for word the same: a tie that nobody has to be asked about."""
        return self.replies[0] == self.replies[1]


def pairs_of(frames: Mapping[str, pd.DataFrame], *, seed: int) -> tuple[Pair, ...]:
    """Each two stages on each prompt they share, in voting order; of samples, the first one.

    Args:
        frames: {stage: frame of `evals.evaluate`}, at least two, on the same prompts.
        seed: of the order of the pairs, and of which reply stands first.
    Raises:
        ValueError: if there is one stage, a column is missing, or the prompts differ.
    """
    if not isinstance(frames, Mapping):
        raise TypeError(f"frames is a {type(frames).__name__}; expected {{stage: frame, ...}}")
    if len(frames) < 2:
        raise ValueError(f"got the stages {list(frames)}; a vote needs two or more")
    answers = {stage: _answers(stage, frame) for stage, frame in frames.items()}
    first, *others = answers
    prompts = {name: prompt for name, (prompt, _) in answers[first].items()}
    for stage in others:
        here = {name: prompt for name, (prompt, _) in answers[stage].items()}
        odd = sorted(prompts.items() ^ here.items())
        if odd:
            raise ValueError(
                f"{first!r} and {stage!r} were evaluated on different prompts (the first that"
                f" differs is {odd[0][0]!r}); evaluate both with the same suite, n and seed"
            )
    pairs = []
    for a, b in combinations(answers, 2):
        for name, prompt in prompts.items():
            texts = {a: answers[a][name][1], b: answers[b][name][1]}
            key = _hash([name, prompt, sorted(texts.items())])[:16]
            # By name, not by text: a changed reply moves no other pair.
            draw = _hash([seed, name, sorted(texts)])
            left, right = sorted(texts, reverse=int(draw[-1], 16) % 2 == 1)
            replies = (texts[left], texts[right])
            pairs.append((draw, Pair(key, name, prompt, (left, right), replies)))
    return tuple(pair for _, pair in sorted(pairs, key=lambda d: d[0]))


class VoteLog:
    """Votes in a JSONL file, each on the disk before the next pair is shown.

    Args:
        path: made with its folders at the first vote.
    Raises:
        ValueError: if the file holds lines that are not votes; nothing is added to such a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.torn = 0
        self._file_state: tuple[int, int] | None = None
        self._votes: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> dict[str, dict[str, Any]]:
        """{pair's key: its vote}, oldest first; votes taken back are left out."""
        stat = self.path.stat() if self.path.exists() else None
        state = stat and (stat.st_size, stat.st_mtime_ns)
        if state != self._file_state:  # another arena may have written
            self._votes = self._parsed()
            self._file_state = state
        return dict(self._votes)

    def add(self, record: dict[str, Any]) -> None:
        """Append one record, on the disk when this returns."""
        append_json(self.path, record)

    def _parsed(self) -> dict[str, dict[str, Any]]:
        votes: dict[str, dict[str, Any]] = {}
        records, self.torn = read_json_lines(self.path)
        for number, record in records:
            if not _is_vote(record):
                raise ValueError(
                    f"{self.path}, line {number}: expected a vote with a pair and a choice, got"
                    f" {record!r:.60}; give a path of its own to the votes"
                )
            votes.pop(record["pair"], None)
            if not record.get("undo"):
                votes[record["pair"]] = record
        return votes


def _answers(stage: str, frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """{prompt id: (prompt, first answer)} of one stage."""
    missing = [name for name in ANSWER_COLUMNS if name not in frame]
    if missing:
        raise ValueError(
            f"the frame of {stage!r} has no column {missing[0]!r}; expected what evals.evaluate"
            f" returns, with {', '.join(ANSWER_COLUMNS)}, got {', '.join(map(str, frame.columns))}"
        )
    answers: dict[str, tuple[str, str]] = {}
    for name, prompt, answer in frame[list(ANSWER_COLUMNS)].itertuples(index=False):
        answers.setdefault(str(name), (str(prompt), str(answer)))
    if not answers:
        raise ValueError(f"the frame of {stage!r} is empty; a vote needs at least one prompt")
    return answers


def _is_vote(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("pair"), str):
        return False
    return record.get("undo") is True or record.get("choice") in CHOICES


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
