"""What a recorded experiment says of itself, and how it is written: data/results/week*/*.json.

Each run of an experiment is a file of its own first, so that an interrupted one goes on. Left out:
what names such a file; an experiment knows what its runs depend on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postlab.runs import describe_environment
from postlab.storage import atomic_text


def provenance(command: str, *, seeds: Sequence[int], packages: Sequence[str]) -> dict[str, Any]:
    """Command, commit, seeds, date, device and versions of the packages that are named.

    Args:
        command: what makes the result again.
        seeds: of its runs.
        packages: whose versions matter to it.
    Returns:
        What a result file holds under "provenance"; no path and no machine's name.
    """
    machine = describe_environment()
    device = machine["device"]
    return {
        "command": command,
        "commit": machine["commit"],
        "seeds": list(seeds),
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{device['cpus']} CPU cores, {device['ram_gib']} GiB, {device['system']}",
        "versions": {name: version(name) for name in packages},
    }


def finished(part: Path, make: Callable[[], Mapping[str, Any]], *, begun: float) -> dict[str, Any]:
    """One run's result: as an interrupted experiment left it, or made now and kept.

    Args:
        part: the file that keeps it.
        make: trains and measures; called only where there is no such file.
        begun: `time.perf_counter()` at the experiment's start, for the line of progress.
    """
    if not part.exists():
        atomic_text(part, json.dumps(make()))
        print(f"{part.name}: {time.perf_counter() - begun:.0f} s", flush=True)
    return json.loads(part.read_text(encoding="utf-8"))


def listed(values: Iterable[float], *, digits: int = 4) -> list[float | None]:
    """Numbers rounded to so many significant digits, a whole one as an integer, NaN as null.

    >>> listed([1.0, 0.25, -123.456]), listed([-123.456, float("nan")], digits=6)
    ([1, 0.25, -123.5], [-123.456, None])
    """
    rounded = [float(f"{value:.{digits}g}") for value in values]
    return [
        None if math.isnan(value) else int(value) if value.is_integer() else value
        for value in rounded
    ]


def numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    """A recorded list of numbers as an array.

    Args:
        values: numbers, None where one was not finite.
    Returns:
        (n,) floats, NaN for None.

    >>> numbers([1, 0.25, -123.5]).tolist()
    [1.0, 0.25, -123.5]
    """
    return np.array(values, dtype=float)


def json_text(value: Any, indent: str = "") -> str:
    """JSON with one line per key and one line per list of numbers, which diffs and reads well.

    A list of short strings takes one line too; a list of anything else, one line per item.

    >>> print(json_text({"seed": 0, "loss": [0.5, 0.25], "runs": [{"name": "sft"}]}))
    {
     "seed": 0,
     "loss": [0.5, 0.25],
     "runs": [
      {
       "name": "sft"
      }
     ]
    }
    """
    inner = indent + " "
    if isinstance(value, Mapping) and value:
        lines = [f"{json.dumps(str(key))}: {json_text(v, inner)}" for key, v in value.items()]
    elif isinstance(value, list | tuple) and not _fits_a_line(value):
        lines = [json_text(item, inner) for item in value]
    else:
        return json.dumps(value)
    first, last = "{}" if isinstance(value, Mapping) else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{last}"


def _fits_a_line(values: Sequence[Any]) -> bool:
    if any(isinstance(value, Mapping | list | tuple) for value in values):
        return False
    return len(json.dumps(values)) <= 80 or not any(isinstance(value, str) for value in values)


def log_columns(log_history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A trainer's log history as one list per logged number, and the summary that ends it.

    Raises:
        ValueError: if two steps logged different names, or the history does not end in a summary.

    >>> log = [{"loss": 0.5, "step": 1}, {"loss": 0.25, "step": 2}, {"train_loss": 0.4, "step": 2}]
    >>> log_columns(log)
    {'steps': {'loss': [0.5, 0.25], 'step': [1, 2]}, 'summary': {'train_loss': 0.4, 'step': 2}}
    """
    *steps, summary = log_history
    names = list(steps[0]) if steps else []
    if "train_loss" not in summary or any(list(entry) != names for entry in steps):
        raise ValueError(
            "a log history was expected whose steps all log the same names and whose last entry is "
            f"the trainer's summary; the first step logged {names}, the last entry {list(summary)}"
        )
    columns = {name: [entry[name] for entry in steps] for name in names}
    return {"steps": columns, "summary": dict(summary)}


def log_history(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The log history that `log_columns` took apart, one entry per step and the summary last.

    Args:
        recorded: `steps`, a list per logged number, and `summary`, as in a file of data/results/.
    Returns:
        A list of dicts, as in `trainer.state.log_history`.

    >>> log_history({"steps": {"loss": [0.5, 0.25], "step": [1, 2]}, "summary": {"step": 2}})
    [{'loss': 0.5, 'step': 1}, {'loss': 0.25, 'step': 2}, {'step': 2}]
    """
    columns = recorded["steps"]
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows] + [dict(recorded["summary"])]


def write_result(target: Path, result: Mapping[str, Any]) -> None:
    """Write an experiment's result whole or not at all, and make its folder.

    Args:
        target: the JSON file.
        result: numbers, texts, lists and dicts.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_text(target, json_text(result) + "\n")
