"""Week 3's recorded experiment on its build: what do at most 800 rows chosen on a budget win?

    python notebooks/experiments/week03_curation.py

Two sets of rows are drawn from the pool of this week's build: 6,400 rows as their teachers wrote
them, with copies and leaked held-out prompts planted among them. "random" takes any 800 rows.
"ours" is the build's own answer: rows without copies and leaks that aren't wrong, every family in
the pool's share of 800 (rounded down, which makes 796), on the build's budget of 1,600 verdicts. A
run reads 60 batches of 16 rows, which is less than a sixth of the pool, so training on all of it
would hardly differ from "random".

A seed decides the draw, the adapter and the order of the rows; recipe and number of steps are the
build's (`postlab.course.week03.dataset_build.train_and_score`). Every run ends with the same
held-out prompts answered greedily. Nothing was tuned: there is one setting per arm. A finished run
is kept under `runs/week03-curation/`, so an interrupted experiment continues where it stopped
(`--runs N` makes at most N), and data/results/week03/curation.json is written once all are there.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import Any

from _common import PACKAGES, RESULTS, Arms, arm_key, command_line, minutes, write_record

from postlab.course.week03 import dataset_build as build
from postlab.profile import get_profile

TARGET = RESULTS / "week03" / "curation.json"
CODE = ("tinyworld.oracle", "tinyworld.corpus", "tinyworld.tasks")
ARMS = ("random", "ours")
SEEDS = (0, 1, 2)


def rows_of(arm: str, seed: int) -> list[dict]:
    """The 800 rows of an arm, or a few less where families are rounded."""
    choose = {"random": build.random_choice, "ours": build.our_choice}[arm]
    return choose(build.pool(), build.Budget(), seed=seed)


def train_and_answer(arm: str, seed: int) -> dict[str, Any]:
    rows = rows_of(arm, seed)
    begun = time.perf_counter()
    scores = build.train_and_score(rows, seed=seed)
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "counts": build.describe(rows),
        "families": dict(Counter(row["family"] for row in rows)),
        "scores": scores,
    }


def main() -> None:
    arms, profile = Arms(__file__, limit=command_line(__doc__).runs), get_profile("tiny")
    settings = {
        "learning_rate": profile.sft.trainer["learning_rate"], "lora": dict(profile.lora),
        "rows": build.ROWS, "steps": build.STEPS, "batch": build.BATCH, "warmup": build.WARMUP,
        "prompts": build.PROMPTS, "verdicts": build.VERDICTS, "pool": build.POOL,
        "copies": build.COPIES, "leaks": build.LEAKS,
    }  # fmt: skip
    runs = []
    for seed in SEEDS:
        for arm in ARMS:
            key = arm_key(settings | {"arm": arm}, *CODE, own=__file__)
            result = arms.result(f"{arm} {seed}", key, partial(train_and_answer, arm, seed))
            runs.append({"arm": arm, "seed": seed} | result)
    took = minutes(run["seconds"] for run in runs)
    record = {"settings": settings, "runs": runs}
    write_record(
        __file__,
        TARGET,
        record,
        seeds=SEEDS,
        packages=PACKAGES,
        training_and_answering_minutes=took,
    )


if __name__ == "__main__":
    main()
