"""Week 10's control: was it the labels, or the longer training that comes with them?

    python notebooks/experiments/week10_head_steps.py

In week10_heads.py every head of *digits* sees its labels 30 times, so 32,000 labels also mean 16
times as many steps of the optimizer as 2,000. Here the heads with 2,000 and 8,000 labels get as
many steps as the one with 32,000 (3,750 batches of 256), the same rows, seeds and held-out sums.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import week10_heads as heads
from _common import RESULTS, Arms, arm_key, command_line, minutes, write_record

TARGET = RESULTS / "week10" / "head_steps.json"


def longer(seed: int) -> dict[str, Any]:
    """The digits' heads of 2,000 and 8,000 labels, trained for as many steps as that of 32,000."""
    begun, scores = time.process_time(), {}
    how, labels = heads.SETTINGS["head"], heads.SETTINGS["labels"]
    test = np.array([heads.digits_of(text) for text in heads.both(heads.heldout())[1]])
    for size in ("few", "many"):
        terms = heads.SETTINGS["terms"]["planted"]
        texts, y = heads.coin(heads.planted("train", labels[size], str(seed), terms), seed)
        was = how["epochs"]
        how["epochs"] = was * labels["most"] // labels[size]
        x = np.array([heads.digits_of(text) for text in texts])
        head = heads.fit(x, y, hidden=how["hidden"], seed=seed)
        how["epochs"] = was
        scores[f"digits, {labels[size]}, longer"] = heads.split_scores(head(test))
    seconds = round(time.process_time() - begun, 1)
    return {"seed": seed, "scores": scores, "cpu_seconds": seconds}


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    key = arm_key({"settings": heads.SETTINGS}, "tinyworld", "process.steps", own=heads.__file__)
    runs = [arms.result(f"longer {seed}", key, partial(longer, seed)) for seed in heads.SEEDS]
    took = minutes(run["cpu_seconds"] for run in runs)
    write_record(
        __file__, TARGET, {"settings": heads.SETTINGS, "runs": runs}, seeds=heads.SEEDS,
        training_minutes=took,
    )  # fmt: skip


if __name__ == "__main__":
    main()
