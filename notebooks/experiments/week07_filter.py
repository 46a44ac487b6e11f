"""Week 7's fourth recorded experiment: does it pay to drop prompts that are too easy or too hard?

    python notebooks/experiments/week07_filter.py

Short GRPO runs of TRL's trainer from the shipped DPO stage, with the tiny profile's recipe but a
constant learning rate. Three arms, which take their prompts from the same list in the same order:

- "unfiltered": the first prompts of the list
- "filtered": the starting policy answers each prompt four times, and prompts that it gets right
  sometimes, but not always, are kept until there are enough; as many updates as "unfiltered"
- "unfiltered, longer": further steps on further prompts, for as many answers as the filter took

The outcome, fixed before any run: the share of right answers to held-out sums, sampled at
temperature 1. The rate is the recipe's, and was not tuned for any arm. A seed decides the list and
the draws. Every finished run is kept under `runs/week07-filter/`, so an interrupted experiment goes
on where it stopped; the result is written to data/results/week07/filter.json.
"""

from __future__ import annotations

from functools import cache, partial
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
SEEDS = tuple(range(8))
CODE = (
    "tinyworld",
    "evals.evaluation",
    "evals.forms",
    "rewards",
    "sampling.decoding",
    "sampling.trl",
)
SETTINGS: dict[str, Any] = {
    "steps": 8, "group": 8, "groups_a_step": 8, "filter_samples": 4, "prompts_at_a_time": 32,
    "rows": 2000, "heldout_sums": 200, "samples": 2,
}  # fmt: skip
ARMS = ("unfiltered", "filtered", "unfiltered, longer")
LOGGED = ("reward", "frac_reward_zero_std", "entropy", "completions/mean_length")


@cache
def prompt_list(seed: int) -> list[dict[str, Any]]:
    """Different training sums in a seed's order."""
    from postlab.datasets import math_rows

    source = get_profile("tiny").grpo.source
    rows = math_rows(source, split="train", n=SETTINGS["rows"], seed=seed)
    distinct = {str(row["prompt"]): row for row in rows}.values()
    return [{"prompt": row["prompt"], "answer": row["answer"]} for row in distinct]


def training_reward(gold: str, answer: str, closed: bool) -> dict[str, float]:
    """What training pays for an answer, as a metric."""
    from postlab.rewards import math_reward

    completions = [[{"role": "assistant", "content": answer}]]
    return {"right": math_reward(completions=completions, answer=[gold])[0]}


@cache
def filtered(seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The first prompts of the list that the start gets right sometimes; and what that took."""
    from postlab.evals import evaluate

    model, tokenizer = policy(shipped("dpo"))
    wanted = SETTINGS["steps"] * SETTINGS["groups_a_step"]
    rows, kept, rates = prompt_list(seed), [], []
    while len(kept) < wanted:
        part = rows[len(rates) : len(rates) + SETTINGS["prompts_at_a_time"]]
        if not part:
            raise RuntimeError(f"{len(kept)} of {wanted} prompts after all {len(rates)}")
        suite = [
            {"id": str(i), "family": "arithmetic", "prompt": row["prompt"], "max_new_tokens": 64,
             "score": partial(training_reward, row["answer"])}
            for i, row in enumerate(part)
        ]  # fmt: skip
        frame = evaluate(
            model.eval(), tokenizer, suite, seed=seed,
            temperature=1.0, samples=SETTINGS["filter_samples"],
        )  # fmt: skip
        of_part = frame.groupby("id", sort=False)["right"].mean().tolist()
        rates += of_part
        kept += [row for row, rate in zip(part, of_part, strict=True) if 0 < rate < 1]
    counts = {f"{rate:g}": rates.count(rate) for rate in sorted(set(rates))}
    answers = len(rates) * SETTINGS["filter_samples"]
    return kept[:wanted], {"prompts": len(rates), "answers": answers, "pass_rates": counts}


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed; its log, what it sampled, and its sums at the end."""
    from postlab.evals import evaluate
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    # 1. The prompts.
    steps, a_step = SETTINGS["steps"], SETTINGS["groups_a_step"] * SETTINGS["group"]
    chosen, cost = filtered(seed)
    if arm == "unfiltered, longer":
        steps += round(cost["answers"] / a_step)
    if arm != "filtered":
        chosen = prompt_list(seed)[: steps * SETTINGS["groups_a_step"]]

    # 2. The run.
    model, tokenizer = policy(shipped("dpo"))
    recipe = {
        **get_profile("tiny").grpo.trainer, "max_steps": steps, "logging_steps": 1,
        "num_generations": SETTINGS["group"], "per_device_train_batch_size": a_step,
        "save_strategy": "no", "lr_scheduler_type": "constant", "warmup_steps": 0,
    }  # fmt: skip
    trained = train(
        "grpo", model, tokenizer, chosen, seed=seed, arguments=recipe,
        packed=True, reward_funcs=math_reward, rollout_func=rollout_func,
    )  # fmt: skip

    # 3. Its held-out sums.
    sums = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    frame = evaluate(
        trained.model.eval(), tokenizer, sums, temperature=1.0, samples=SETTINGS["samples"]
    )
    return {
        "arm": arm, "seed": seed, "steps": steps, "answers": steps * a_step,
        "filter": cost if arm == "filtered" else None,
        "log": log_series(trained.log, LOGGED),
        "arithmetic": listed(frame.groupby("id", sort=False)["arithmetic"].mean()),
        "train_s": round(trained.seconds, 1),
    }  # fmt: skip


def start() -> list:
    """The shipped DPO stage on the same sums."""
    from postlab.evals import evaluate

    sums = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    model, tokenizer = policy(shipped("dpo"))
    frame = evaluate(model.eval(), tokenizer, sums, temperature=1.0, samples=SETTINGS["samples"])
    return listed(frame.groupby("id", sort=False)["arithmetic"].mean())


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    settings = {
        "settings": SETTINGS, "start": adapter_hash("dpo"), "logged": LOGGED,
        "recipe": dict(get_profile("tiny").grpo.trainer),
    }  # fmt: skip
    key = arm_key(settings, *CODE, own=__file__)
    record: dict[str, Any] = {"settings": SETTINGS, "start": arms.result("start", key, start)}
    record["runs"] = []
    for seed in SEEDS:
        record["runs"] += [
            arms.result(f"{arm} {seed}", key, partial(run, arm, seed)) for arm in ARMS
        ]
        took = minutes(one["train_s"] for one in record["runs"])
        write_record(
            __file__, TARGET, record, seeds=SEEDS[: SEEDS.index(seed) + 1], training_minutes=took
        )


if __name__ == "__main__":
    main()
