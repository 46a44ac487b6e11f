"""What a recorded experiment says of itself, and how it is written: data/results/week*/*.json.

Left out: the runs. Each experiment keeps its own, one file a run, so that it can go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

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


def write_result(target: Path, result: Mapping[str, Any]) -> None:
    """Write an experiment's result whole or not at all, and make its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_text(target, json.dumps(result, indent=1) + "\n")
