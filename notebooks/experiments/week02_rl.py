"""Week 2's question asked of RL: does a LoRA adapter learn as well as all weights do?

    python notebooks/experiments/week02_rl.py

Short GRPO runs of TRL's trainer on the embedded world's sums. All start from the same weights: the
shipped DPO stage, merged into the base. Trained are all weights, or a fresh LoRA adapter of rank 1
or 16 on all projections (alpha = 2r). Everything else is the tiny profile's recipe, but with fewer
steps and a constant learning rate. There are two lengths: six steps, after which all methods are
still improving, and twenty. Each length chooses its own rates.

Every method chooses its learning rate on a ladder of factors of two, by the share
of right answers to tuning sums after a run with a tuning seed; the ladder goes on while the best is
at an edge. The comparison has its own seeds and its own held-out sums, sampled at temperature 1.
The outcome, fixed before any run: the share of right answers at the end. Every finished run is kept
under `runs/week02-rl/`, so an interrupted experiment goes on where it stopped; the result is
data/results/week02/rl.json.

The embedded model has 1.4 million parameters: this shows mechanism, not capability.
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
    log_series,
    minutes,
    policy,
    sampled_sums,
    shipped,
    train,
    write_record,
)

from postlab.profile import PROJECTIONS, get_profile

TARGET = RESULTS / "week02" / "rl.json"
SEEDS, TUNING_SEED = tuple(range(8)), 100
METHODS = ("full", "lora-1", "lora-16")
CODE = (
    "tinyworld",
    "evals.evaluation",
    "evals.forms",
    "rewards",
    "sampling.decoding",
    "sampling.trl",
)
SETTINGS: dict[str, Any] = {
    "rows": 512, "heldout_sums": 200, "tuning_sums": 100, "samples": 2,
}  # fmt: skip
LADDER = [2e-4 * 2**k for k in range(-7, 7)]
LENGTHS = (6, 20)  # steps
START = slice(5, 10)  # 5e-5 to 8e-4; four times as high for LoRA
LOGGED = ("reward", "frac_reward_zero_std", "entropy", "grad_norm", "completions/mean_length")


def build(method: str, seed: int) -> tuple[Any, Any]:
    """The merged DPO stage, with all weights or a fresh adapter trainable; and its tokenizer."""
    import torch
    from peft import LoraConfig, get_peft_model

    model, tokenizer = policy(shipped("dpo"))
    merged = model.merge_and_unload()
    if method == "full":
        return merged.requires_grad_(True), tokenizer
    r = int(method.removeprefix("lora-"))
    torch.manual_seed(seed)
    config = LoraConfig(
        r=r, lora_alpha=2 * r, task_type="CAUSAL_LM", target_modules=list(PROJECTIONS)
    )
    return get_peft_model(merged.requires_grad_(False), config), tokenizer


def arguments(steps: int) -> dict[str, Any]:
    """The trainer's arguments without `output_dir`, `seed` and `learning_rate`."""
    return {
        **get_profile("tiny").grpo.trainer, "max_steps": steps, "logging_steps": 1,
        "save_strategy": "no", "lr_scheduler_type": "constant", "warmup_steps": 0,
    }  # fmt: skip


def run(method: str, rate: float, steps: int, seed: int, *, tuning: bool) -> dict[str, Any]:
    """Train one method with one rate, length and seed; its log, and its sums at the end."""
    from postlab.datasets import math_rows
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    model, tokenizer = build(method, seed)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    grpo = get_profile("tiny").grpo
    rows = math_rows(grpo.source, split="train", n=SETTINGS["rows"], seed=seed)
    trained = train(
        "grpo", model, tokenizer,
        [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows],
        seed=seed, arguments={**arguments(steps), "learning_rate": rate},
        packed=True, reward_funcs=math_reward, rollout_func=rollout_func,
    )  # fmt: skip
    return {
        "method": method, "seed": seed, "rate": rate, "steps": steps, "trainable": trainable,
        "log": log_series(trained.log, LOGGED),
        "arithmetic": sampled_sums(trained.model, tokenizer, SETTINGS, tuning=tuning),
        "train_s": round(trained.seconds, 1),
    }  # fmt: skip


def mean(values: list) -> float:
    return sum(values) / len(values)


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    base = {"settings": SETTINGS, "start": adapter_hash("dpo"), "logged": LOGGED}
    finished: list[dict[str, Any]] = []

    def result(method: str, rate: float, steps: int, seed: int, *, tuning: bool) -> dict[str, Any]:
        key = arm_key(base | {"arguments": arguments(steps), "tuning": tuning}, *CODE, own=__file__)
        name = f"{'tuning' if tuning else 'final'} {method} {rate:g} {steps} {seed}"
        one = arms.result(name, key, partial(run, method, rate, steps, seed, tuning=tuning))
        finished.append(one)
        return one

    def tuned(method: str, steps: int) -> dict[float, float]:
        """Percent right by rate, as far as the ladder has to go."""
        shift = 0 if method == "full" else 2
        low, high = START.start + shift, START.stop + shift
        while True:
            scores = {
                rate: 100
                * mean(result(method, rate, steps, TUNING_SEED, tuning=True)["arithmetic"])
                for rate in LADDER[low:high]
            }
            best = max(scores, key=lambda rate: scores[rate])
            if best == LADDER[low] and low > 0:
                low -= 1
            elif best == LADDER[high - 1] and high < len(LADDER):
                high += 1
            else:
                return scores

    model, tokenizer = policy(shipped("dpo"))
    start = arms.result(
        "start", arm_key(base, *CODE, own=__file__),
        partial(sampled_sums, model, tokenizer, SETTINGS, tuning=False),
    )  # fmt: skip
    trials: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for steps in LENGTHS:
        # 1. Every method's learning rate.
        best: dict[str, float] = {}
        for method in METHODS:
            scores = tuned(method, steps)
            best[method] = max(scores, key=lambda rate, of=scores: of[rate])
            trials += [
                {"steps": steps, "method": method, "rate": rate, "right": round(score, 2)}
                for rate, score in scores.items()
            ]
            print(steps, method, scores, flush=True)
        # 2. The comparison.
        for seed in SEEDS:
            runs += [result(m, best[m], steps, seed, tuning=False) for m in METHODS]
            print(seed, [round(mean(one["arithmetic"]), 3) for one in runs[-3:]], flush=True)
        distinct = {id(one): one for one in finished}.values()
        write_record(
            __file__, TARGET,
            {"settings": SETTINGS, "tuning_seed": TUNING_SEED, "trials": trials,
             "start": start, "runs": runs},
            seeds=SEEDS, training_minutes=minutes(one["train_s"] for one in distinct),
        )  # fmt: skip


if __name__ == "__main__":
    main()
