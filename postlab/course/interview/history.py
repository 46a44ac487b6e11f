"""What was asked, how it was graded, and when it should be asked again.

Repetition is Leitner's: a question moves up a box if at least three quarters of its points were
made, back to the first box below one half, and otherwise stays where it is. A higher box waits
longer. Left out: how sure or how fast the answer was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.course.interview.questions import Question
from postlab.runs import run_root
from postlab.storage import append_json, read_json_lines

if TYPE_CHECKING:
    import pandas as pd

WAIT_DAYS = (1, 2, 4, 8, 16)  # until a question of each box is due again
GOOD, POOR = 0.75, 0.5  # shares of the points: a box up; back to the first
FIELDS = {"question": str, "topic": str, "hit": list, "time": str}


class History:
    """Grades in a JSONL file, each on the disk when `add` returns.

    Args:
        path: made with its folders at the first grade.
    Raises:
        ValueError: if the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.torn = path, 0
        self.records()

    def add(self, record: dict[str, Any]) -> None:
        """Append one grade."""
        append_json(self.path, record)

    def records(self) -> list[dict[str, Any]]:
        """Every grade, oldest first; `torn` counts the lines that a crash cut short."""
        lines, self.torn = read_json_lines(self.path)
        for number, record in lines:
            if not all(isinstance(record.get(name), kind) for name, kind in FIELDS.items()):
                raise ValueError(
                    f"{self.path}, line {number}: expected a grade of the mock interview with "
                    f"{', '.join(FIELDS)}, got {', '.join(map(str, record))[:80]}; move this file"
                )
        return [record for _, record in lines]

    def due(self) -> dict[str, datetime]:
        """{question's id: when it should be asked again}."""
        boxes: dict[str, int] = {}
        when: dict[str, datetime] = {}
        for record in self.records():
            name, share = record["question"], sum(record["hit"]) / max(len(record["hit"]), 1)
            box = boxes.get(name, 0)
            box = 0 if share < POOR else min(box + 1, len(WAIT_DAYS) - 1) if share >= GOOD else box
            boxes[name] = box
            asked = datetime.fromisoformat(record["time"])
            when[name] = asked + timedelta(days=WAIT_DAYS[box])
        return when

    def ordered(
        self, questions: Sequence[Question], *, seed: int = 0, now: datetime | None = None
    ) -> list[Question]:
        """Those that are due, longest overdue first; then new ones; then those that can wait.

        New ones are in a random order, those about the learner's own runs before the others.
        """
        now, when = now or datetime.now(UTC), self.due()
        mixed = random.Random(seed).sample(list(questions), len(questions))

        def rank(question: Question) -> tuple[int, float]:
            due = when.get(question.id)
            if due is None:
                return 1, float(question.topic != "your runs")
            return (0 if due <= now else 2), due.timestamp()

        return sorted(mixed, key=rank)


def history_path(root: Path | str | None = None) -> Path:
    """Where the grades of a run root are kept."""
    return (run_root() if root is None else Path(root)) / "interview.jsonl"


def gaps(*, root: Path | str | None = None) -> pd.DataFrame:
    """Which points you missed, by week and topic, in the last answer to each question.

    Args:
        root: run root; by default `runs.run_root()`.
    Returns:
        week (0: no week teaches it), topic, questions, points, hit, missed, share (hit / points)
        and reread (whether the share is below three quarters), most missed points first.
    """
    import pandas as pd

    last = {record["question"]: record for record in History(history_path(root)).records()}
    columns = ("week", "topic", "questions", "points", "hit")
    rows = [
        (record.get("week") or 0, record["topic"], 1, len(record["hit"]), sum(record["hit"]))
        for record in last.values()
    ]
    frame = pd.DataFrame(rows, columns=columns).groupby(["week", "topic"], as_index=False).sum()
    frame["missed"] = frame["points"] - frame["hit"]
    frame["share"] = frame["hit"] / frame["points"]
    frame["reread"] = frame["share"] < GOOD
    return frame.sort_values(["missed", "week"], ascending=[False, True], ignore_index=True)
