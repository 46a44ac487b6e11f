"""Week 8's recorded experiment: the healthy run of the build, and what each planted fault does.

    python notebooks/experiments/week08_mend.py

Six steps of GRPO as in `course.week08.mend_build`: the healthy settings on three seeds, and the
broken run with its faults taken out one by one, with seed 0. Every finished run is kept under
`runs/week08-mend/`; the result is written to data/results/week08/mend.json. The build accepts a run
that reaches the lowest of the healthy seeds less five points.
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
    heldout_prompts,
    policy,
    shipped,
    write_record,
)

from postlab.course.week08 import mend_build as build
from postlab.rewards import math_reward

TARGET = RESULTS / "week08" / "mend.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld", "evals.evaluation", "sampling.decoding", "sampling.trl",
    "course.week08.mend_build",
)  # fmt: skip
ROOM = 0.05  # below the lowest healthy seed
FAULTS: dict[str, tuple[dict[str, Any], Any]] = {
    "as it is": (build.BROKEN, build.broken_reward),
    "reward mended": (build.BROKEN, math_reward),
    "reward and limit mended": (build.BROKEN | {"max_completion_length": 64}, math_reward),
    "a rate of 0.02": (build.HEALTHY | {"learning_rate": 0.02}, math_reward),
}
LOGGED = ("reward", "frac_reward_zero_std", "completions/clipped_ratio", "entropy")


def run(settings: dict[str, Any], reward: Any, seed: int) -> dict[str, Any]:
    """One short run: accuracy, change of the weights, and some of its log."""
    made = build.try_run(settings, reward, seed=seed)
    log = {name: [e[name] for e in made.log if name in e] for name in LOGGED}
    return {"accuracy": made.accuracy, "moved": made.moved, "log": log}


def start() -> float:
    """The DPO stage on the same sums."""
    from postlab.evals import evaluate

    sums = heldout_prompts(build.PROMPTS, ["arithmetic"])
    model, tokenizer = policy(shipped("dpo"))
    frame = evaluate(model.eval(), tokenizer, sums, temperature=1.0, samples=2)
    return float(frame["arithmetic"].mean())


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    todo = {f"healthy {seed}": (build.HEALTHY, math_reward, seed) for seed in SEEDS}
    todo = {"healthy 0": todo.pop("healthy 0")} | {n: (*how, 0) for n, how in FAULTS.items()} | todo

    def key(name: str) -> str:
        settings = {"name": name, "healthy": build.HEALTHY, "broken": build.BROKEN}
        return arm_key(settings | {"start": adapter_hash("dpo")}, *CODE, own=__file__)

    before, made = arms.result("start", key("start"), start), {}
    for name, how in todo.items():  # the record is written after every run
        made[name] = arms.result(name, key(name), partial(run, *how))
        healthy = [one for other, one in made.items() if other.startswith("healthy")]
        scores = [one["accuracy"] for one in healthy]
        record = {
            "settings": {"healthy": build.HEALTHY, "broken": build.BROKEN, "steps": build.STEPS},
            "start": before, "least": round(min(scores) - ROOM, 3), "most": max(scores),
            "moved": sum(one["moved"] for one in healthy) / len(healthy), "healthy": healthy,
            "faults": {other: one for other, one in made.items() if other in FAULTS},
        }  # fmt: skip
        write_record(__file__, TARGET, record, seeds=SEEDS[: len(healthy)])


if __name__ == "__main__":
    main()
