"""Week 7's third recorded experiment: learning rates and schedules, up to where training collapses.

    python notebooks/experiments/week07_rates.py

Runs of TRL's GRPOTrainer from the shipped DPO stage with the tiny profile's recipe, but for half of
its steps, so that a rate that is too low shows as well. Five rates, each four times the last, with
three schedules: constant; constant after a warm-up over the first fifth of the steps; and a
straight line down to zero. The plan is one seed for every point, and five for the three rates
around the edge; `--finished` writes the record of what has been run. Every finished run is
kept under `runs/week07-rates/`, so an interrupted experiment goes on where it stopped; the result
is written to data/results/week07/rates.json.

Kept of each run: its log, and of every held-out prompt of six families whether the greedy answer is
right at the end. A seed decides prompts, their order and the draws; all runs start from one policy,
which is measured as well. No finished run was left out.
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
    file_name,
    heldout_prompts,
    log_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week07" / "rates.json"
# an arm is trained again when one of these changes
CODE = (
    "tinyworld",
    "evals.evaluation",
    "evals.forms",
    "rewards",
    "sampling.decoding",
    "sampling.trl",
)
SETTINGS: dict[str, Any] = {"steps": 20, "warmup_steps": 4, "heldout_sums": 200, "heldout": 40}
OTHERS = ("lists", "facts", "howto", "unsafe", "unknown")
RATES = (2.5e-5, 1e-4, 4e-4, 1.6e-3, 6.4e-3)
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"lr_scheduler_type": "constant", "warmup_steps": 0},
    "warm-up": {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 4},
    "decay": {"lr_scheduler_type": "linear", "warmup_steps": 0},
}
ARMS: dict[str, dict[str, Any]] = {  # name: what it changes
    f"{schedule} {rate:g}": {"learning_rate": rate} | how
    for rate in RATES
    for schedule, how in SCHEDULES.items()
}
REPEATED = (4e-4, 1.6e-3, 6.4e-3)  # the rates around the edge
MORE_SEEDS = (1, 2, 3, 4)  # of these
LOGGED = (
    *("step", "reward", "learning_rate", "frac_reward_zero_std", "entropy", "grad_norm"),
    *("completions/mean_length", "completions/clipped_ratio"),
)


def heldout_scores(model: Any, tokenizer: Any) -> dict[str, list]:
    """Whether each held-out prompt is answered right, greedily, by family."""
    from postlab.evals import evaluate
    from postlab.tinyworld.oracle import METRIC

    prompts = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    prompts += heldout_prompts(SETTINGS["heldout"], OTHERS)
    frame = evaluate(model.eval(), tokenizer, prompts)
    return {
        family: listed(frame.loc[frame["family"] == family, METRIC[family]].astype(float))
        for family in ("arithmetic", *OTHERS)
    }


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed; its log, the held-out scores at the end, and seconds."""
    from postlab.datasets import math_rows
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    grpo = get_profile("tiny").grpo
    model, tokenizer = policy(shipped("dpo"))
    rows = math_rows(grpo.source, split="train", n=grpo.rows, seed=seed)
    trained = train(
        "grpo", model, tokenizer,
        [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows],
        seed=seed,
        arguments={
            **grpo.trainer, "save_strategy": "no", "max_steps": SETTINGS["steps"], **ARMS[arm]
        },
        packed=True, reward_funcs=math_reward, rollout_func=rollout_func,
    )  # fmt: skip
    return {
        "arm": arm,
        "seed": seed,
        "log": log_series(trained.log, LOGGED),
        "end": heldout_scores(trained.model, tokenizer),
        "train_s": round(trained.seconds, 1),
    }


def start() -> dict[str, list]:
    """The held-out scores of the policy that all runs start from."""
    return heldout_scores(*policy(shipped("dpo")))


def plan() -> list[tuple[str, int]]:
    """Every run, the wide sweep first, then the further seeds of the repeated rates."""
    again = [arm for arm, how in ARMS.items() if how["learning_rate"] in REPEATED]
    by_schedule = [arm for schedule in SCHEDULES for arm in ARMS if arm.startswith(schedule)]
    return [(arm, 0) for arm in by_schedule] + [(arm, seed) for seed in MORE_SEEDS for arm in again]


def main() -> None:
    stop = {"action": "store_true", "help": "write the record of the runs that are finished"}
    options = command_line(__doc__, finished=stop)
    arms = Arms(__file__, limit=options.runs)
    shared = {"settings": SETTINGS, "start": adapter_hash("dpo"), "logged": LOGGED}
    shared["recipe"] = dict(get_profile("tiny").grpo.trainer)
    begin = arms.result("start", arm_key(shared, *CODE, own=__file__), start)
    runs = []
    for arm, seed in plan():
        key, name = arm_key(shared | {"arm": ARMS[arm]}, *CODE, own=__file__), f"{arm} {seed}"
        if options.finished and not (arms.folder / f"{key}-{file_name(name)}.json").exists():
            continue
        runs.append(arms.result(name, key, partial(run, arm, seed)))
    kept = {one["arm"]: ARMS[one["arm"]] for one in runs}
    record = {"settings": SETTINGS, "arms": kept, "start": begin, "runs": runs}
    took = minutes(one["train_s"] for one in runs)
    seeds = sorted({one["seed"] for one in runs})
    write_record(__file__, TARGET, record, seeds=seeds, training_minutes=took)


if __name__ == "__main__":
    main()
