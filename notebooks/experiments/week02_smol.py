"""A training step of SmolLM2-135M under full fine-tuning, LoRA and QLoRA: memory and time.

    python notebooks/experiments/week02_smol.py

writes data/results/week02/smol.json; about 3 CPU minutes. The notebook runs the same function live
under the profile smol. Every method has a process of its own. Other
programs used the machine as well, so compare the processor's seconds, not those on the wall.

Left out: quality, which a few steps can't show, and a GPU.
"""

from __future__ import annotations

import json
import time
from functools import partial

from _common import RESULTS, Arms, arm_key, command_line, in_own_process, minutes, write_record

import postlab.course.week02.cost as cost

TARGET = RESULTS / "week02" / "smol.json"
METHODS = ("full", "lora", "qlora")


def fresh_run(method: str) -> dict[str, float]:
    """One method in a process of its own."""
    return in_own_process(__file__, "--run", method, HF_HUB_OFFLINE="1")


def main() -> None:
    options = command_line(__doc__, run={"choices": METHODS, "help": "one method, as JSON"})
    if options.run:
        measured = cost.smol_step(options.run)
        print("\n" + json.dumps(measured | {"cpu_s": round(time.process_time(), 1)}))
        return
    arms = Arms(__file__, limit=options.runs)
    settings = {"rank": cost.RANK, "batch": cost.BATCH, "length": cost.LENGTH, "rates": cost.RATES}
    key = arm_key(settings, "course.week02.cost", own=__file__)
    runs = {method: arms.result(method, key, partial(fresh_run, method)) for method in METHODS}
    spent = minutes(run.pop("cpu_s") for run in runs.values())
    write_record(
        __file__, TARGET, {"settings": settings, "methods": runs}, seeds=[0], cpu_minutes=spent
    )


if __name__ == "__main__":
    main()
