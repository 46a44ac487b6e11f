"""Where the seconds of `make stages` go: imports, training, keys, answers, KL, scores, the report.

    python bench/profile_stages.py --out data/results/bench/make_stages.json

Seed 1 is trained and evaluated in a folder that is deleted afterwards. Each week runs in a process
of its own, as `make stages` runs it, with clocks around the calls in
`CLOCKED`. An activity's seconds leave out those of the activities inside it, so a column adds up to
the whole. CPU seconds count all threads; beside other programs they tell more than the wall's.

Left out: GPUs (a call returns before its kernels have run), and starting Python itself.
"""

from __future__ import annotations

import argparse
import builtins
import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WEEKS = ("03", "05", "07", "12")
REST = "the cells' own code"
IMPORTS = "imports"
CLOCKED = (  # module, owner and name of a function, activity
    ("postlab.runs.run", "Run._fit", "training"),
    ("postlab.runs.run", "Run.train", "a run's key, weights and manifest"),
    ("postlab.lab", "Lab.evaluate", "evaluation: prompts, keys, scores"),
    ("postlab.sampling.rollout", "_decode", "evaluation: answers"),
    ("postlab.sampling.rollout", "_generate", "evaluation: answers"),
    ("postlab.evals.evaluation", "answer_kl", "evaluation: KL"),
    ("postlab.lab", "Lab.report", "the report"),
)


class Clock:
    """Wall and CPU seconds of each activity, without those of the activities inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.active = [REST]
        self.mark = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def charge(self) -> None:
        """Add the time since the last call to the activity that is going on."""
        now = self.now()
        for i in (0, 1):
            self.seconds[self.active[-1]][i] += now[i] - self.mark[i]
        self.mark = now

    def around(self, work: Callable[..., Any], activity: str) -> Callable[..., Any]:
        """`work` with its time charged to `activity`."""

        @functools.wraps(work)
        def clocked(*args: Any, **kwargs: Any) -> Any:
            self.charge()
            self.active.append(activity)
            try:
                return work(*args, **kwargs)
            finally:
                self.charge()
                self.active.pop()

        return clocked


def child(week: str, to: Path) -> None:
    """Run a week in this process, and write its seconds by activity."""
    clock = Clock()
    builtins.__import__ = clock.around(builtins.__import__, IMPORTS)
    for module, path, activity in CLOCKED:
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, name, clock.around(getattr(owner, name), activity))
    script = ROOT / "notebooks" / "stages.py"
    sys.argv = [str(script), week]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        clock.charge()
        to.write_text(json.dumps(clock.seconds), encoding="utf-8")


def profile(weeks: Sequence[str], seed: int) -> dict[str, dict[str, list[float]]]:
    """{week: {activity: [wall, CPU seconds]}} of weeks that are run one after the other."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "POSTLAB_RUNS": str(Path(folder) / "runs"),
            "POSTLAB_PROFILE": "tiny",
            "POSTLAB_SEED": str(seed),
            "MPLBACKEND": "Agg",
        }
        for week in weeks:
            to = Path(folder) / f"{week}.json"
            command = [sys.executable, __file__, "--child", week, "--out", str(to)]
            with (Path(folder) / f"{week}.log").open("w+") as log:
                done = subprocess.run(command, env=environment, stdout=log, stderr=log)
                log.seek(0)
                if done.returncode:
                    sys.exit(f"week {week} failed:\n{log.read()[-3000:]}")
            seconds[week] = json.loads(to.read_text(encoding="utf-8"))
            print(table({week: seconds[week]}), flush=True)
    return seconds


def table(seconds: dict[str, dict[str, list[float]]]) -> str:
    """A line per activity, the longest first, with its share.

    >>> print(table({"03": {"training": [3.0, 5.0]}, "05": {"training": [1.0, 1.0], "x": [2, 2]}}))
    weeks 03, 05                          wall s   CPU s   share of CPU
    training                                 4.0     6.0   75%
    x                                        2.0     2.0   25%
    all                                      6.0     8.0
    """
    total: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for activities in seconds.values():
        for activity, spent in activities.items():
            total[activity] = [a + b for a, b in zip(total[activity], spent, strict=True)]
    wall, cpu = (sum(spent[i] for spent in total.values()) for i in (0, 1))
    title = f"weeks {', '.join(seconds)}" if len(seconds) > 1 else f"week {', '.join(seconds)}"
    lines = [f"{title:36}{'wall s':>8}{'CPU s':>8}   share of CPU"]
    for activity, (w, c) in sorted(total.items(), key=lambda item: -item[1][1]):
        lines.append(f"{activity:36}{w:8.1f}{c:8.1f}   {c / cpu:.0%}")
    return "\n".join([*lines, f"{'all':36}{wall:8.1f}{cpu:8.1f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weeks", nargs="+", choices=WEEKS, default=WEEKS)
    parser.add_argument("--seed", type=int, default=1, help="not 0, whose stages are shipped")
    parser.add_argument("--out", type=Path, help="write the seconds here, with their provenance")
    parser.add_argument("--child", choices=WEEKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.out)
        return
    seconds = profile(args.weeks, args.seed)
    print(table(seconds))
    if args.out:
        from postlab.course import provenance

        threads = os.environ.get("OMP_NUM_THREADS")
        command = f"OMP_NUM_THREADS={threads} " if threads else ""
        command += f"python bench/profile_stages.py --seed {args.seed}"
        packages = ("torch", "transformers", "trl", "peft", "unsloth")
        made = provenance(command, seeds=[args.seed], packages=packages)
        rounded = {
            week: {name: [round(x, 2) for x in spent] for name, spent in activities.items()}
            for week, activities in seconds.items()
        }
        record = {"seconds": rounded, "provenance": made}
        args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
