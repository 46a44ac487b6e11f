"""The questions of the mock interview, read from YAML.

A question's rubric is a mapping: each point, and the phrase of the model answer that makes it, so
that a test can check that no point goes beyond the model answer. Two things are filled in when the
bank is read: `log` shows a recorded run of week 8, whose cause stays hidden, and `estimates` are
made by `preflight` and written into the texts. Left out: grading by keywords, which would reward
naming things.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from postlab.course.recorded import log_history
from postlab.doctor import finite
from postlab.preflight import estimate
from postlab.profile import data_dir

KINDS = {  # kind: what it asks for
    "derive": "derive or explain",
    "code": "write code",
    "debug": "debug a run",
    "design": "design a system",
    "taste": "research taste",
    "paper": "discuss a paper",
    "safety": "safety",
    "behavioural": "behavioural (STAR: situation, task, action, result)",
}
LOG_ROWS = 8  # rows of a log that are shown


@dataclass(frozen=True)
class Question:
    """One question with its rubric.

    Args:
        topic: the file of the bank that it stands in, or "your runs".
        kind: one of KINDS.
        week: the week that teaches it; None if no week does, and then `reading` says where to look.
        points: {what a good answer says: the phrase of the model answer that says it}.
        minutes: a fair time limit.
        exercise: of `course.check`, which judges a code round.
        table: rows of a log to look at.
        code: what the doctor finds in that log; "" for a healthy run.
    """

    id: str
    topic: str
    kind: str
    question: str
    points: Mapping[str, str]
    answer: str
    follow_ups: tuple[str, ...]
    red_flags: tuple[str, ...]
    week: int | None = None
    reading: str = ""
    minutes: int = 6
    exercise: str = ""
    table: tuple[Mapping[str, str], ...] = ()
    code: str | None = None


@cache
def bank() -> tuple[Question, ...]:
    """All questions of the bank, by topic."""
    folder = Path(__file__).parent / "bank"
    return tuple(
        _question({"topic": path.stem.replace("_", " ")} | fields)
        for path in sorted(folder.glob("*.yaml"))
        for fields in read_yaml(path)
    )


def read_yaml(path: Path) -> list[dict[str, Any]]:
    """A file of questions, as plain data."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast
    return yaml.load(path.read_text(encoding="utf-8"), loader)  # both are safe loaders


def filled(fields: Mapping[str, Any], values: Mapping[str, Any]) -> Question:
    """A question whose texts have `{placeholders}`, with values in their place.

    Raises:
        KeyError: if a placeholder has no value.
    """

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.format(**values)
        if isinstance(value, Mapping):
            return {fill(key): fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    return _question({name: fill(value) for name, value in fields.items()})


def log_table(
    history: Iterable[Mapping[str, Any]], signals: Iterable[str], *, rows: int = LOG_ROWS
) -> tuple[dict[str, str], ...]:
    """Some rows of a log, evenly spaced, with three digits a number."""
    names = ("step", *signals)
    entries = [entry for entry in history if names[1] in entry]
    places = {round(i * (len(entries) - 1) / max(rows - 1, 1)) for i in range(rows)}
    shown = [entries[place] for place in sorted(places) if 0 <= place < len(entries)]
    return tuple({name: _digits(entry.get(name)) for name in names} for entry in shown)


def _digits(value: Any) -> str:
    return f"{value:.3g}" if finite(value) else str(value)[:20]


def _question(fields: dict[str, Any]) -> Question:
    fields = dict(fields)
    if estimates := fields.pop("estimates", None):
        return filled(fields, {name: estimate(**how) for name, how in estimates.items()})
    if log := fields.pop("log", None):
        fields["table"] = log_table(log_history(_recorded()[log["run"]]), log["signals"])
    for name in ("follow_ups", "red_flags"):
        fields[name] = tuple(fields.get(name, ()))
    question = Question(**fields)
    return replace(question, answer=" ".join(question.answer.split()))


@cache
def _recorded() -> dict[str, Any]:
    """{name: a recorded run of week 8}."""
    path = data_dir() / "results" / "week08" / "logs" / "tuning.json"
    return json.loads(path.read_text(encoding="utf-8"))
