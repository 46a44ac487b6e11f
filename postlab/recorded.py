"""What a recorded experiment says of itself, and how it is written: data/results/week*/*.json.

Each run of an experiment is a file of its own first, so that an interrupted one goes on. Left out:
what names such a file; an experiment knows what its runs depend on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postlab.machine import describe
from postlab.storage import atomic_text


def provenance(command: str, *, seeds: Sequence[int], packages: Sequence[str]) -> dict[str, Any]:
    """Command, commit, seeds, date, device and versions of the packages that are named."""
    machine = describe()
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


def listed(values: Iterable[float], *, digits: int = 4) -> str:
    """Numbers in one text, so that a long list takes one line of a file.

    >>> listed([1.0, 0.25, -123.456]), listed([-123.456], digits=6)
    ('1 0.25 -123.5', '-123.456')
    """
    return " ".join(f"{value:.{digits}g}" for value in values)


def numbers(text: str) -> NDArray[np.float64]:
    """The numbers of a text that `listed` made.

    >>> numbers("1 0.25 -123.5").tolist()
    [1.0, 0.25, -123.5]
    """
    return np.array(text.split(), dtype=float)


def write_result(target: Path, result: Mapping[str, Any]) -> None:
    """Write an experiment's result whole or not at all, and make its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_text(target, json.dumps(result, indent=1) + "\n")
