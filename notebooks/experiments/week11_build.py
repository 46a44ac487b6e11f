"""Week 11's third recorded experiment: does Build 11.1's solution hold with other seeds?

    python notebooks/experiments/week11_build.py

The build's mix was chosen out of ten with seed 0, after its held-out results had been seen. Here,
its `worth` and the judges' sum label pairs of that mix with five seeds, as the notebook does with
seed 0. A seed decides which pairs are drawn, their order and the training. The prompts that measure
the policies are the same for all seeds. Nothing was chosen with seeds 1 to 4. Left out: the other
nine mixes.

Every finished run is stored under `runs/week11-build/`, so an interrupted experiment continues
where it stopped; the result is data/results/week11/build.json.
"""

from __future__ import annotations

import time
from typing import Any

from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    functions_of,
    minutes,
    write_record,
)

from postlab.course.week11 import front_build as build

TARGET = RESULTS / "week11" / "build.json"
SEEDS = (0, 1, 2, 3, 4)
ARMS = ("worth", "sum")
CODE = ("objectives", "tinyworld", "evals")
SETTINGS: dict[str, Any] = {
    "mix": build.REFERENCE_MIX, "pairs": build.PAIRS, "steps": build.STEPS, "rate": build.RATE,
    "prompts": build.PROMPTS, "weight": 1.5,
}  # fmt: skip


def summed(helpful: float | None, safe: float | None, honest: float | None) -> float:
    """The judges' sum, with one weight for safety and honesty."""
    weight = SETTINGS["weight"]
    return (helpful or 0) + weight * (safe or 0) + weight * (honest or 0)


def run(arm: str, seed: int) -> dict[str, Any]:
    """DPO on the pairs that one way to label gives; the policy's metrics, as shares."""
    begun = time.process_time()
    worth = build.reference if arm == "worth" else summed
    pairs = build.labelled(worth, SETTINGS["mix"], seed=seed)
    rows = tuple((pair.prompt, pair.chosen, pair.rejected) for pair in pairs)
    scores = build.train_and_measure(rows, seed=seed)
    shares = {
        name: {metric: round(share, 4) for metric, share in one.items()}
        for name, one in scores.items()
    }
    return {"arm": arm, "seed": seed, "cpu_s": round(time.process_time() - begun, 1)} | shares


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    begin = adapter_hash("sft")
    settings = {"settings": SETTINGS, "start": begin, "build": functions_of(build.__file__)}
    runs = arms.run_all(
        ARMS, SEEDS, run, key=lambda arm: arm_key(settings | {"arm": arm}, *CODE, own=__file__)
    )
    write_record(
        __file__, TARGET, {"settings": SETTINGS, "target": build.TARGET, "runs": runs},
        seeds=SEEDS, start={"sft": begin[:12]}, cpu_minutes=minutes(one["cpu_s"] for one in runs),
    )  # fmt: skip


if __name__ == "__main__":
    main()
