"""LoRA Without Regret, the part on reinforcement learning: GRPO at rank 1, rank 8 and in full.

    python notebooks/experiments/week02_rl.py

Runs of TRL's GRPOTrainer on the tiny world's sums, from the shipped SFT stage with its adapter
merged: every weight trained, or new adapters on all seven projections. Each arm chooses its
learning rate from the same ladder, by the mean reward over all steps of two runs at each rate, with
seeds that the comparison doesn't use. Then three seeds per arm at its own rate, judged on held-out
sums during training and at its end.

Kept of each run: its log, which held-out sums are right, and for full fine-tuning how much of the
change of each matrix its largest singular values hold. Every finished run is kept under
`runs/week02-rl/`; the result is written to data/results/week02/rl.json. About 10 minutes on an
idle core.

Left out: other group sizes, batch sizes and losses, longer runs, and other tasks. One model of 1.4
million parameters: this shows mechanism, not capability.
"""

from __future__ import annotations

from collections.abc import Callable
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
    log_series,
    minutes,
    shipped,
    train,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week02" / "rl.json"
METHODS = ("full", "lora-1", "lora-8")
SEEDS = (0, 1, 2)
CODE = ("tinyworld", "evals.evaluation", "rewards", "sampling.decoding", "sampling.trl")
SETTINGS: dict[str, Any] = {
    "steps": 12,
    "judged_after": (1, 2, 4, 8, 12),
    "alpha_over_r": 2.0,
    "heldout_sums": 200,
    "tuning_seeds": (100, 200),
    "ladder": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
FIRST_RUNGS = {"full": (1, 4), "lora-1": (3, 6), "lora-8": (2, 5)}  # before any extension
LOGGED = ("step", "reward", "frac_reward_zero_std", "completions/mean_length")


def start(method: str, seed: int) -> tuple[Any, Any]:
    """The SFT stage with its adapter merged, ready to be trained by one method, and tokenizer."""
    import torch
    from peft import LoraConfig, get_peft_model

    from postlab.profile import PROJECTIONS

    adapted, tokenizer = frozen(shipped("sft"))
    merged = adapted.merge_and_unload()
    if method == "full":
        return merged.train().requires_grad_(True), tokenizer
    rank = int(method.partition("-")[2])
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=SETTINGS["alpha_over_r"] * rank, target_modules=list(PROJECTIONS),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(merged.requires_grad_(False), config).train(), tokenizer


def right_sums(model: Any, tokenizer: Any, sums: list[dict[str, Any]]) -> str:
    """A 1 for each sum whose greedy answer is right, a 0 for each other one."""
    from postlab.evals import evaluate

    frame = evaluate(model.eval(), tokenizer, sums)
    return "".join("01"[int(value)] for value in frame["arithmetic"])


def trained_by(
    method: str, seed: int, lr: float, *, after_step: Callable[[Any, int], None] | None = None
) -> Any:
    """GRPO with one method, seed and rate; what `train` returns."""
    from postlab.datasets import math_rows
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    grpo = get_profile("tiny").grpo
    model, tokenizer = start(method, seed)
    rows = math_rows(grpo.source, split="train", n=grpo.rows, seed=seed)
    how = {"save_strategy": "no", "max_steps": SETTINGS["steps"], "learning_rate": lr}
    return train(
        "grpo", model, tokenizer,
        [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows],
        seed=seed, arguments={**grpo.trainer, **how}, packed=True,
        reward_funcs=math_reward, rollout_func=rollout_func, after_step=after_step,
    )  # fmt: skip


def tuning_run(method: str, seed: int, lr: float) -> dict[str, Any]:
    """A run to choose a rate by: its mean reward over all steps."""
    trained = trained_by(method, seed, lr)
    rewards = log_series(trained.log, ["reward"])["reward"]
    return {"reward": sum(rewards) / len(rewards), "train_s": round(trained.seconds, 1)}


def run(method: str, seed: int, lr: float) -> dict[str, Any]:
    """A run of the comparison, judged on held-out sums on its way."""
    sums = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    right: dict[str, str] = {}

    def judge(trainer: Any, step: int) -> None:
        if step in SETTINGS["judged_after"]:
            training = trainer.model.training
            right[str(step)] = right_sums(trainer.model, trainer.processing_class, sums)
            trainer.model.train(training)

    trained = trained_by(method, seed, lr, after_step=judge)
    return {
        "method": method,
        "seed": seed,
        "lr": lr,
        "trainable": sum(p.numel() for p in trained.model.parameters() if p.requires_grad),
        "right": right,
        "log": log_series(trained.log, LOGGED),
        "change": change(trained.model) if method == "full" else None,
        "train_s": round(trained.seconds, 1),
    }


def change(model: Any) -> list[dict[str, Any]]:
    """For each matrix of the layers: how far it moved from the start, and in how few directions.

    `moved` is the norm of the change over that of the matrix; `top` the share of the squared change
    that its largest 1 and its largest 8 singular values hold.
    """
    from postlab.profile import PROJECTIONS

    before = dict(start("full", 0)[0].named_parameters())
    entries = []
    for name, weight in model.named_parameters():
        if name.split(".")[-2] in PROJECTIONS:
            difference = (weight - before[name]).detach()
            squares = difference.svd().S.square()
            shares = [squares[:k].sum() / squares.sum() for k in (1, 8)]
            moved = difference.norm() / before[name].detach().norm()
            entries.append({"moved": listed([moved.item()])[0], "top": listed(map(float, shares))})
    return entries


def tuned(method: str, arms: Arms, key: str) -> dict[float, list[dict[str, Any]]]:
    """Tuning runs by rate: four rungs of the ladder, and on while the best is at an edge."""
    ladder, (low, high) = SETTINGS["ladder"], FIRST_RUNGS[method]
    while True:
        results = {
            lr: [
                arms.result(
                    f"tuning {method} {lr:g} {seed}", key, partial(tuning_run, method, seed, lr)
                )
                for seed in SETTINGS["tuning_seeds"]
            ]
            for lr in ladder[low : high + 1]
        }
        best = best_rate(results)
        if best == ladder[low] and low > 0:
            low -= 1
        elif best == ladder[high] and high < len(ladder) - 1:
            high += 1
        else:
            return results


def best_rate(results: dict[float, list[dict[str, Any]]]) -> float:
    """The rate with the highest mean reward, seeds averaged."""
    return max(results, key=lambda lr: sum(one["reward"] for one in results[lr]))


def start_run() -> dict[str, Any]:
    """The same held-out sums before any RL."""
    model, tokenizer = start("full", 0)
    sums = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "right": right_sums(model, tokenizer, sums),
    }


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    recipe = dict(get_profile("tiny").grpo.trainer)
    settings = {"settings": SETTINGS, "recipe": recipe, "start": adapter_hash("sft")}
    key = arm_key(settings | {"logged": LOGGED}, *CODE, own=__file__)
    before = arms.result("start", key, start_run)
    tuning = {method: tuned(method, arms, key) for method in METHODS}
    rates = {method: best_rate(tuning[method]) for method in METHODS}
    runs = [
        arms.result(f"{m} {seed} {rates[m]:g}", key, partial(run, m, seed, rates[m]))
        for seed in SEEDS
        for m in METHODS
    ]
    results = [one for by_rate in tuning.values() for some in by_rate.values() for one in some]
    record = {
        "settings": SETTINGS,
        "recipe": recipe,
        "start": before,
        "tuning": [
            {"method": m, "lr": lr, "reward": listed(one["reward"] for one in some)}
            for m, by_rate in tuning.items()
            for lr, some in by_rate.items()
        ],
        "runs": runs,
    }
    took = minutes(one["train_s"] for one in [*results, *runs])
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
