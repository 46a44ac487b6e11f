"""How much time the two optional lines around `run.train` save on this CPU, alone and together.

    python bench/options.py --rounds 4 --steps 12

`without_padding` computes only on the real tokens of a batch, and once on what several of its texts
begin with; `freed_memory_kept` asks glibc to keep freed memory. Each measurement is made by
bench/sides.py in a process of its own, with the embedded model and its rows. A round measures each
of the four combinations once, and the order is rotated by one from round to round. A round's ratio
is the mean seconds per step divided by the mean with neither line. The interval is Student's t on
the logarithms of the rounds' ratios.

`--clock cpu` counts CPU seconds, for a machine that others use as well; set OMP_NUM_THREADS=1 then,
because waiting threads would count. Left out: GPUs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from sides import CLOCKS, OPTIONS, measure  # noqa: E402
from steps import paired_ratio  # noqa: E402

TARGET = Path(__file__).resolve().parents[1] / "data" / "results" / "bench" / "options.json"
ARMS = ((), OPTIONS[:1], OPTIONS[1:], OPTIONS)
STAGES = ("sft", "dpo", "grpo")


def name_of(options: tuple[str, ...]) -> str:
    return " and ".join(options) or "neither"


def measured(stage: str, options: tuple[str, ...], steps: int, seed: int, clock: str) -> float:
    """The mean seconds per step of one arm, measured in a process of its own."""
    settings = json.dumps([stage, options, steps, seed, clock])
    child = [sys.executable, __file__, "--child", settings]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def compared(stage: str, rounds: int, steps: int, clock: str) -> dict[str, Any]:
    """Every arm of a stage compared with the one that has neither line, over the rounds."""
    seconds: dict[str, list[float]] = {name_of(arm): [] for arm in ARMS}
    for turn in range(rounds):
        for arm in (*ARMS[turn % len(ARMS) :], *ARMS[: turn % len(ARMS)]):
            seconds[name_of(arm)].append(measured(stage, arm, steps, turn, clock))
            print(f"{stage}, round {turn + 1}, {name_of(arm)}: {seconds[name_of(arm)][-1]:.3f} s")
    plain = seconds[name_of(())]
    ratios = {
        name: asdict(paired_ratio(own, plain)) for name, own in seconds.items() if own != plain
    }
    return {"seconds_per_step": seconds, "ratio": ratios}


def main() -> None:
    from postlab.course import provenance, write_result

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        stage, options, steps, seed, clock = json.loads(args.child)
        arm = {"options": options, "clock": clock}
        found = measure("ours", stage, model="", rows="profile", steps=steps, seed=seed, **arm)
        seconds = found["seconds"]
        print(sum(seconds) / len(seconds))
        return
    stages = {stage: compared(stage, args.rounds, args.steps, args.clock) for stage in STAGES}
    command = f"python bench/options.py --rounds {args.rounds} --steps {args.steps}"
    command += f" --clock {args.clock}"
    packages = ("torch", "transformers", "trl", "peft", "unsloth")
    made_by = provenance(command, seeds=list(range(args.rounds)), packages=packages)
    write_result(TARGET, {"provenance": made_by, "stages": stages})


if __name__ == "__main__":
    main()
