"""Week 11's second recorded experiment: do multipliers hold their level if they get the time?

    python notebooks/experiments/week11_constraint.py

In week11_objectives.py, the runs with multipliers end after 24 steps, most of them far above the
level that was asked for. Here two arms train for 200 steps with a tenth of the dual rate, from the
same SFT stage, towards a level of 70% for safety and for honesty:

- *switch*: GRPO as in week11_objectives.py. TRL divides the advantages by the standard deviation
  within the group, so the multiplier decides only which reply is better, not by how much.
- *dial*: the advantages are not divided (`scale_rewards="none"`), and a KL penalty holds the policy
  near SFT, so the share of refusals can respond gradually to the multiplier.

The level is about samples at temperature 1, because that is what the multiplier sees. A policy that
refuses 70% of the time may refuse every prompt when it is decoded greedily, so the finished policy
is measured both ways on held-out prompts. Left out: a constraint on facts.

Every finished run is stored under `runs/week11-constraint/`, so an interrupted experiment continues
where it stopped; the result is data/results/week11/constraint.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import week11_objectives as five
from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    functions_of,
    heldout_prompts,
    metric_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab import objectives as aims
from postlab.course import listed
from postlab.tinyworld import tasks

TARGET = RESULTS / "week11" / "constraint.json"
SEEDS = (0, 1, 2)
LEVEL = 0.7
HELD = {"safe": "safety", "honest": "honesty"}  # judge: the metric that its multiplier holds
WATCHED = ("safety", "honesty", "over_refusal", "facts")
SETTINGS: dict[str, Any] = {
    "level": LEVEL, "begin": 1.5, "rate": 0.02, "memory": 0.9, "samples": 4, "heldout": 100,
    "max_steps": 200,
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "dial": {"scale_rewards": "none", "beta": 0.2},
    "switch": {},
}


def watcher(means: dict[str, float]) -> Callable[..., list[float]]:
    """A reward of 0 that updates running means of the truth about each batch."""
    from postlab.tinyworld.oracle import read

    def watch(prompts: list, completions: list, **columns: Any) -> list[float]:
        values_of: dict[str, list[float]] = {}
        for prompt, completion in zip(prompts, completions, strict=True):
            item = read(prompt[-1]["content"])
            assert item is not None  # every training prompt can be read back
            scores = tasks.score(item, completion[-1]["content"], True)
            for metric in WATCHED:
                if metric in scores:
                    values_of.setdefault(metric, []).append(float(scores[metric]))
        for metric, values in values_of.items():
            now, memory = sum(values) / len(values), SETTINGS["memory"]
            means[metric] = memory * means.get(metric, now) + (1 - memory) * now
        return [0.0] * len(prompts)

    return watch


def constrained(arm: str, seed: int) -> dict[str, Any]:
    """GRPO on the helpful judge, safety and honesty held to the level by multipliers."""
    from postlab.evals import evaluate
    from postlab.sampling import rollout_func

    begun, cpu = time.perf_counter(), time.process_time()
    arguments = five.recipe("grpo") | {"max_steps": SETTINGS["max_steps"]} | ARMS[arm]
    model, tokenizer = policy(shipped("sft"))
    groups = arguments["per_device_train_batch_size"] // arguments["num_generations"]
    rows = aims.prompts(n=arguments["max_steps"] * groups, seed=seed)
    multipliers = dict.fromkeys(HELD, SETTINGS["begin"])
    means: dict[str, float] = {}
    history: list[dict[str, float]] = []

    def ascend(trainer: Any, step: int) -> None:
        for name, metric in HELD.items():
            if metric in means:
                multipliers[name] = aims.dual_step(
                    multipliers[name], means[metric], level=LEVEL, rate=SETTINGS["rate"]
                )
                trainer.reward_weights[five.NAMES.index(name)] = multipliers[name]
        history.append({f"{name} multiplier": m for name, m in multipliers.items()} | means)

    trained = train(
        "grpo", model, tokenizer, rows, seed=seed,
        arguments={"reward_weights": [1.0, *multipliers.values(), 0.0], **arguments},
        packed=True, after_step=ascend, rollout_func=rollout_func,
        reward_funcs=[*map(aims.judge_reward, five.NAMES), watcher(means)],
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    policy_, prompts = trained.model.eval(), heldout_prompts(SETTINGS["heldout"], five.FAMILIES)
    greedy = evaluate(policy_, tokenizer, prompts)
    how = {"temperature": 1.0, "samples": SETTINGS["samples"], "seed": seed}
    sampled = evaluate(policy_, tokenizer, prompts, **how)
    shares = sampled.groupby("id", sort=False)[list(five.METRICS)].mean()  # a number per prompt
    names = [*history[-1]]
    return {
        "arm": arm,
        "seed": seed,
        "train_s": round(seconds, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "steps": {name: listed(step.get(name, float("nan")) for step in history) for name in names},
        "greedy": metric_series(greedy, five.METRICS),
        "sampled": metric_series(shares, five.METRICS),
    }


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    begin = adapter_hash("sft")
    settings = {
        "settings": SETTINGS, "start": begin, "recipe": five.recipe("grpo"), "held": HELD,
        "watched": WATCHED, "kept": [five.NAMES, five.FAMILIES, five.METRICS],
        "five": functions_of(five.__file__)["recipe"],
    }  # fmt: skip
    runs = [
        arms.result(
            f"{arm} {seed}",
            arm_key(settings | {"arm": ARMS[arm]}, *five.CODE, own=__file__),
            partial(constrained, arm, seed),
        )
        for arm in ARMS
        for seed in SEEDS
    ]
    write_record(
        __file__, TARGET, {"settings": SETTINGS, "arms": ARMS, "runs": runs}, seeds=SEEDS,
        start={"sft": begin[:12]}, cpu_minutes=minutes(run["cpu_s"] for run in runs),
    )  # fmt: skip


if __name__ == "__main__":
    main()
