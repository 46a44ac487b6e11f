"""Week 7's fourth recorded experiment: training on prompts of middling difficulty only.

    python notebooks/experiments/week07_filter.py

The start policy, the shipped DPO stage, answers each prompt of a pool four times, and a prompt is
kept if one to three of the answers are right. Then TRL's GRPOTrainer trains from that policy with
the tiny profile's recipe at a constant rate, on the kept prompts or on all of them, with the same
number of generated answers per step. The filter's own answers are as many as 20 steps generate, so
the run without a filter goes on for 20 steps more: after them both have generated equally many.
Every finished run is kept under `runs/week07-filter/`, so an interrupted experiment goes on where
it stopped; the result is written to data/results/week07/filter.json.

Kept: the number of right answers of each prompt of the pool, by number of terms; of each run its
log, and of every held-out sum whether the greedy answer is right after some steps. A seed decides
the pool, the order and the draws. No rate or band was tuned.
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
    log_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week07" / "filter.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld",
    "evals.evaluation",
    "evals.forms",
    "rewards",
    "sampling.decoding",
    "sampling.trl",
)  # an arm is trained again when one of these changes
SETTINGS: dict[str, Any] = {
    "pool": 320, "samples": 4, "band": (1, 3), "heldout_sums": 200, "lr_scheduler_type": "constant",
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {  # steps after which the held-out sums are answered
    "filtered": {"kept": True, "looks": [5, 10, 20]},
    "all prompts": {"kept": False, "looks": [5, 10, 20, 40]},
}
LOGGED = ("step", "reward", "frac_reward_zero_std", "entropy", "completions/mean_length")


def pool(seed: int) -> list[dict[str, Any]]:
    """Training sums, and how many of the start policy's answers to each are right."""
    from postlab.datasets import math_rows
    from postlab.evals import evaluate
    from postlab.rewards import math_reward

    rows = list(math_rows("tinyworld", split="train", n=SETTINGS["pool"], seed=seed))
    prompts = [
        {"id": str(i), "family": "sums", "prompt": row["prompt"], "score": lambda *_: {}}
        for i, row in enumerate(rows)
    ]
    frame = evaluate(
        *policy(shipped("dpo")), prompts, temperature=1.0, samples=SETTINGS["samples"], seed=seed
    )
    golds = [rows[int(i)]["answer"] for i in frame["id"]]
    frame["right"] = math_reward(frame["answer"].tolist(), answer=golds)
    right = frame.groupby(frame["id"].astype(int))["right"].sum()
    return [
        {"prompt": row["prompt"], "answer": row["answer"], "right": int(right[i])}
        for i, row in enumerate(rows)
    ]


def run(arm: str, seed: int, *, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Train one arm with one seed; its log, the held-out sums after some steps, and seconds."""
    from postlab.evals import evaluate
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    how, low, high = ARMS[arm], *SETTINGS["band"]
    kept = [row for row in rows if not how["kept"] or low <= row["right"] <= high]
    model, tokenizer = policy(shipped("dpo"))
    suite = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    looks: dict[str, list] = {}

    def after_step(trainer: Any, step: int) -> None:
        if step in how["looks"]:
            frame = evaluate(trainer.model.eval(), tokenizer, suite)
            looks[str(step)] = listed(frame["arithmetic"].astype(float))
            trainer.model.train()

    trained = train(
        "grpo", model, tokenizer,
        [{"prompt": row["prompt"], "answer": row["answer"]} for row in kept],
        seed=seed,
        arguments={
            **get_profile("tiny").grpo.trainer, "save_strategy": "no",
            "lr_scheduler_type": SETTINGS["lr_scheduler_type"], "max_steps": how["looks"][-1],
        },
        packed=True, after_step=after_step, reward_funcs=math_reward, rollout_func=rollout_func,
    )  # fmt: skip
    return {
        "arm": arm,
        "seed": seed,
        "prompts": len(kept),
        "looks": looks,
        "log": log_series(trained.log, LOGGED),
        "train_s": round(trained.seconds, 1),
    }


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    shared = {"settings": SETTINGS, "start": adapter_hash("dpo"), "logged": LOGGED}
    shared["recipe"] = dict(get_profile("tiny").grpo.trainer)
    pool_key = arm_key(shared, *CODE, own=__file__)
    runs, pools = [], []
    for seed in SEEDS:
        rows = arms.result(f"pool {seed}", pool_key, partial(pool, seed))
        terms = [row["prompt"][-1]["content"].count("+") + 1 for row in rows]
        pools.append({"seed": seed, "right": [row["right"] for row in rows], "terms": terms})
        for arm in ARMS:
            key = arm_key(shared | {"arm": ARMS[arm]}, *CODE, own=__file__)
            runs.append(
                arms.result(
                    f"{arm} {seed}", key,
                    partial(run, arm, seed, rows=rows),
                )
            )  # fmt: skip
    record = {"settings": SETTINGS, "arms": ARMS, "pools": pools, "runs": runs}
    took = minutes(one["train_s"] for one in runs)
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
