"""When, and on what, each week's notebook last ran from start to end.

`notebooks/build.py` and `notebooks/experiments/ship.py` note it in data/results/verified.json,
`postlab.start` shows it. Left out: a machine's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from postlab.profile import data_dir, device_name


def last_run(profile: str, week: int | None) -> str:
    """'2026-11-22 on 2 CPU cores, 23.5 GiB', or that there is no such run."""
    try:
        text = (data_dir() / "results" / "verified.json").read_text(encoding="utf-8")
        entry = json.loads(text)[profile][_name(week)]
        return f"{entry['date']} on {entry['device']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "not verified on such a device"


def note_run(
    data: Path, profile: str, weeks: Iterable[int], *, date: str, device: Mapping[str, Any]
) -> None:
    """Note that the notebooks of these weeks ran.

    Args:
        data: the folder that holds `results`.
        date: YYYY-MM-DD.
        device: as from `describe_machine`.
    """
    path = data / "results" / "verified.json"
    noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for week in weeks:
        noted.setdefault(profile, {})[_name(week)] = {"date": date, "device": device_name(device)}
    by_week = {name: dict(sorted(entries.items())) for name, entries in noted.items()}
    path.write_text(json.dumps(by_week, indent=1) + "\n", encoding="utf-8")


def _name(week: int | None) -> str:
    return f"week{week or 0:02d}"
