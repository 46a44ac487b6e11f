"""Week 7's fifth recorded experiment: pass@k before and after GRPO, for k up to 64.

    python notebooks/experiments/week07_pass.py

The shipped stages `dpo` and `grpo` of the tiny profile answer the same held-out sums 64 times each
at temperature 1, and how many answers are right is counted for each sum. One pair of stages, so the
sums are the sample and there are no seeds. Every finished stage is kept under `runs/week07-pass/`;
the result is written to data/results/week07/pass.json.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    frozen,
    heldout_prompts,
    shipped,
    write_record,
)

TARGET = RESULTS / "week07" / "pass.json"
CODE = ("tinyworld", "evals.evaluation", "evals.forms", "sampling.decoding")
SETTINGS: dict[str, Any] = {"sums": 100, "samples": 64}
STAGES = ("dpo", "grpo")


def counted(stage: str) -> dict[str, list]:
    """How many of a stage's answers to each sum are right, and the sums' numbers of terms."""
    from postlab.evals import evaluate

    sums = heldout_prompts(SETTINGS["sums"], ["arithmetic"])
    frame = evaluate(
        *frozen(shipped(stage)), sums, temperature=1.0, samples=SETTINGS["samples"], seed=0
    )
    right = frame.groupby("id", sort=False)["arithmetic"].sum().astype(int)
    terms = frame.groupby("id", sort=False)["prompt"].first().str.count(r"\+") + 1
    return {"right": right.tolist(), "terms": terms.tolist()}


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    stages = {}
    for stage in STAGES:
        key = arm_key({"settings": SETTINGS, "start": adapter_hash(stage)}, *CODE, own=__file__)
        stages[stage] = arms.result(stage, key, partial(counted, stage))
    write_record(__file__, TARGET, {"settings": SETTINGS, "stages": stages}, seeds=(0,))


if __name__ == "__main__":
    main()
