"""Blind pairs of replies in a random order, and the file that each vote on them is added to.

A part of `postlab.judge` that knows no widget. Order and sides come from a hash of seed, prompt
id and stages, so a restart goes on where the voter stopped. The file is a log: a line a vote, and
a line for each vote taken back; nothing in it is ever changed. Votes belong to the words that were
read: a stage made anew gets new pairs, and the old votes stay in the file without counting.

A file that exists is added to only if it is empty or its first line is a vote, or what is left of
one. A byte-order mark and Windows line ends are accepted, and
a symbolic link is followed. Processes that vote at once each add whole lines; if two of them vote
on the same pair, the later vote counts.

Left out: several voters in one file, and protection from a voter who opens the file.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.judge.pairs import CHOICES
from postlab.storage import append_json, read_file

if TYPE_CHECKING:
    import pandas as pd

ANSWER_COLUMNS = ("id", "prompt", "answer")
_MOST_BYTES = 64_000_000  # of a file of votes: some 400,000 of them


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
            key = content_hash([name, prompt, sorted(texts.items())])[:16]
            # By name, not by text: a changed reply moves no other pair.
            draw = content_hash([seed, name, sorted(texts)])
            left, right = sorted(texts, reverse=int(draw[-1], 16) % 2 == 1)
            replies = (texts[left], texts[right])
            pairs.append((draw, Pair(key, name, prompt, (left, right), replies)))
    return tuple(pair for _, pair in sorted(pairs, key=lambda d: d[0]))


class VoteLog:
    """Votes in a JSONL file, each on the disk before the next pair is shown.

    Args:
        path: made with its folders at the first vote.
    Raises:
        ValueError: if there is something else than votes at `path`; it is left as it is.
    """

    field = "pair"  # what a record is about; of two records with the same, the later one counts
    what = "vote"  # what a line holds, for messages

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.torn = 0
        self._file_state: tuple[int, ...] | None = None
        self._votes: dict[str, dict[str, Any]] = {}
        self.read()

    def read(self) -> dict[str, dict[str, Any]]:
        """{pair's key: its vote}, oldest first; votes taken back are left out.

        Raises:
            ValueError: if the file holds something else than votes.
        """
        stat = self.path.stat() if self.path.exists() else None
        state = stat and (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if state != self._file_state:  # another arena may have written
            self._votes = self._parsed()
            self._file_state = state
        return dict(self._votes)

    def add(self, record: dict[str, Any]) -> None:
        """Append one record, on the disk when this returns.

        Raises:
            ValueError: as `read`: another program may have put its own file there meanwhile.
        """
        self.read()
        append_json(self.path, record)

    def _parsed(self) -> dict[str, dict[str, Any]]:
        votes: dict[str, dict[str, Any]] = {}
        self.torn = 0
        for place, (number, line) in enumerate(self._lines()):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                # The end of a line was lost with the machine; what follows is whole. A file's first
                # line has to show that the file holds votes.
                if place or line.startswith(f'{{"{self.field}": "'):
                    self.torn += 1
                    continue
                raise self._foreign(number, line, "not JSON") from None
            if problem := self._problem(record):
                raise self._foreign(number, line, problem)
            votes.pop(record[self.field], None)
            if not record.get("undo"):
                votes[record[self.field]] = record
        return votes

    def _problem(self, record: Any) -> str | None:
        """Why a line's record isn't a vote, or a vote taken back; None if it is one."""
        sides = ("first", "second")
        return unfit(record, self.field, texts=sides, choices=CHOICES, choice="choice")

    def _foreign(self, number: int, line: str, problem: str) -> ValueError:
        return ValueError(
            f"{self.path}, line {number}: expected a {self.what}, got {line[:60]!r} ({problem})."
            f" Nothing was written to the file; give the {self.what}s a path of their own"
        )

    def _lines(self) -> list[tuple[int, str]]:
        """(number, text) of each line that isn't blank."""
        if not self.path.exists():
            return []
        text = read_file(self.path, most=_MOST_BYTES).decode("utf-8-sig", errors="replace")
        return [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _answers(stage: str, frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """{prompt id: (prompt, first answer)} of one stage."""
    missing = [name for name in ANSWER_COLUMNS if name not in frame]
    if missing:
        raise ValueError(
            f"the frame of {stage!r} has no column {missing[0]!r}; expected what evals.evaluate"
            f" returns, with {', '.join(ANSWER_COLUMNS)}, got {', '.join(map(str, frame.columns))}"
        )
    for column in ANSWER_COLUMNS:
        if empty := int(frame[column].isna().sum()):
            raise ValueError(
                f"the frame of {stage!r} has no {column} in {empty} of its {len(frame)} rows; an"
                " empty answer is '' (of a CSV file, pandas reads it with keep_default_na=False)"
            )
    answers: dict[str, tuple[str, str]] = {}
    for name, prompt, answer in frame[list(ANSWER_COLUMNS)].itertuples(index=False):
        answers.setdefault(str(name), (str(prompt), str(answer)))
    if not answers:
        raise ValueError(f"the frame of {stage!r} is empty; a vote needs at least one prompt")
    return answers


def unfit(
    record: Any, field: str, *, texts: Sequence[str], choices: Sequence[str], choice: str
) -> str | None:
    """Why a line's record isn't a decision, or one taken back; None if it is one.

    Args:
        field: that names what was decided on; it is text, also where a decision is taken back.
        texts: further fields that are text.
        choice: the field of the decision, one of `choices`.
    """
    if not isinstance(record, dict):
        return f"a {type(record).__name__}, not an object"
    back = record.get("undo") is True
    for name in (field,) if back else (field, *texts):
        if not isinstance(record.get(name), str):
            return f"its field {name!r} is {reprlib.repr(record.get(name))}, not text"
    if not back and record.get(choice) not in choices:
        return f"its field {choice!r} is {reprlib.repr(record.get(choice))}"
    return None


def content_hash(value: Any) -> str:
    """The SHA-256 of a value that JSON can hold, in hex."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
