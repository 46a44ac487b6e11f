"""Run every cell of the notebooks again under nbval, in the profile tiny: `make nbval`.

The weeks run in two lanes side by side, each with one thread and a runs folder of its own, as two
cores finish so in about half the time. One lane makes the stages and goes on with them, as a
learner does; the weeks of the other start from the shipped stages, as somebody who comes in later
does. A notebook's report is printed whole when it ends.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAKES_STAGES = ("03", "05", "06", "07", "09", "12")
"""Weeks of the lane that makes the stages, in order; all others start from shipped stages."""


def lanes(notebooks: Sequence[Path]) -> list[list[Path]]:
    """The notebooks of each lane, in order; extras, which make no stages, take turns."""
    staged = [n for n in notebooks if n.stem.startswith(tuple(f"week{w}" for w in MAKES_STAGES))]
    others = [n for n in notebooks if n not in staged]
    return [lane for lane in ([staged, others] if staged else [others[::2], others[1::2]]) if lane]


def command(notebook: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env"),
        *("--nbval-cell-timeout=1200", "--nbval-kernel-startup-timeout=300", str(notebook)),
    ]


def run_lane(lane: Sequence[Path], failed: list[str], printing: threading.Lock) -> None:
    """Run the notebooks of a lane one after the other, and note those that fail."""
    with tempfile.TemporaryDirectory() as runs:
        environment = os.environ | {
            "POSTLAB_PROFILE": "tiny",
            "POSTLAB_RUNS": runs,
            "HF_HUB_OFFLINE": "1",
            "UNSLOTH_DISABLE_STATISTICS": "1",
            "OMP_NUM_THREADS": "1",
        }
        for notebook in lane:
            begun = time.monotonic()
            done = subprocess.run(
                command(notebook),
                cwd=ROOT,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            if done.returncode:
                failed.append(notebook.stem)
            with printing:
                print(done.stdout)
                print(f"{notebook.stem}: {time.monotonic() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    failed: list[str] = []
    printing = threading.Lock()
    running = [
        threading.Thread(target=run_lane, args=(lane, failed, printing))
        for lane in lanes(sorted(parser.parse_args().notebooks))
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed:
        sys.exit(f"failed: {', '.join(sorted(failed))}")


if __name__ == "__main__":
    main()
