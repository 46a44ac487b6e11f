"""When, and on what, each notebook last ran from start to end.

`notebooks/build.py` and `notebooks/experiments/ship.py` note it in data/results/verified.json,
`postlab.start` shows it. Left out: a machine's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from postlab.profile import data_dir, device_name


def last_run(profile: str, notebook: str) -> str:
    """'2026-11-22 on 2 CPU cores, 23.5 GiB', or that there is no such run.

    Args:
        notebook: as it was noted, such as "week03".
    """
    try:
        text = (data_dir() / "results" / "verified.json").read_text(encoding="utf-8")
        entry = json.loads(text)[profile][notebook]
        return f"{entry['date']} on {entry['device']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "not verified on such a device"


def note_run(
    data: Path, profile: str, notebooks: Iterable[str], *, date: str, device: Mapping[str, Any]
) -> None:
    """Note that these notebooks ran.

    Args:
        data: the folder that holds `results`.
        notebooks: their short names, such as "week03".
        date: YYYY-MM-DD.
        device: as from `describe_machine`.
    """
    path = data / "results" / "verified.json"
    noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for notebook in notebooks:
        noted.setdefault(profile, {})[notebook] = {"date": date, "device": device_name(device)}
    in_order = {name: dict(sorted(entries.items())) for name, entries in noted.items()}
    path.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")
