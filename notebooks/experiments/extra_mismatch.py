"""Recorded experiment of the extra on mismatch: GRPO whose samples come from another copy.

    python notebooks/experiments/extra_mismatch.py

TRL's GRPOTrainer on sums, from the shipped SFT stage, 8 completions a step in groups of 4. The
completions come from the policy itself, from a copy rounded to few bits, or from one some steps
old, and the loss is left alone or weighed by p/q (`postlab.course.extras.corrected`). All arms
share one rate, chosen as the better of two for the arm without mismatch, with another seed and
other held-out prompts than the results; no correction was tuned (the limit is 2 everywhere).

Every finished run is kept under `runs/extra-mismatch/`, the result is written to
data/results/extras/sampler_mismatch.json. Kept of each run: the reward, gradient norm, entropy and
mismatch of each batch, and every held-out sum right or wrong at the end.
"""

from __future__ import annotations

import tempfile
import time
from functools import cache, partial
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
    shipped,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "extras" / "sampler_mismatch.json"
SEEDS = (0, 1, 2)
TUNING_SEED = 100
RATES = (3e-4, 1e-3)
SETTINGS: dict[str, Any] = {
    "start": "sft", "completions": 8, "group": 4, "steps": 16, "rows": 600, "limit": 2.0,
    "heldout_sums": 100, "tuning_sums": 50,
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "no mismatch": {},
    "3 bits": {"bits": 3},
    "8 steps old": {"lag": 8},
    "8 steps old, truncated": {"lag": 8, "mode": "token_truncate"},
    "8 steps old, masked": {"lag": 8, "mode": "sequence_mask"},
}
LOGGED = ("reward", "grad_norm", "entropy", "completions/mean_length")
CODE = (
    "tinyworld", "evals.evaluation", "sampling.rollout", "sampling.decoding", "sampling.trl",
    "rewards", "course.extras.mismatch",
)  # fmt: skip


@cache
def sums(part: str) -> list[dict[str, Any]]:
    """Held-out sums for the results, or others for the choice of the rate."""
    from postlab.tinyworld.tasks import MOST_PROMPTS, heldout_suite

    suite = heldout_suite(n=MOST_PROMPTS)
    rows = [r for r in suite if r["family"] == "arithmetic" and r.get("temperature", 0) == 0]
    return (
        rows[-SETTINGS["tuning_sums"] :] if part == "tuning" else rows[: SETTINGS["heldout_sums"]]
    )


def run(arm: str, seed: int, *, rate: float, part: str = "sums") -> dict[str, Any]:
    """Train one arm with one seed; its log, its mismatch and the held-out sums."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.course.extras import OtherSampler, corrected
    from postlab.datasets import math_rows
    from postlab.evals import evaluate
    from postlab.rewards import math_reward

    how, begun = ARMS[arm], time.process_time()
    model, tokenizer = policy(shipped(SETTINGS["start"]))
    rows = math_rows("tinyworld", split="train", n=SETTINGS["rows"], seed=seed)
    kept = ("use_cpu", "bf16", "fp16", "gradient_checkpointing", "dataloader_pin_memory", "optim",
            "max_grad_norm", "weight_decay", "report_to", "disable_tqdm", "loss_type",
            "scale_rewards", "beta", "temperature", "max_completion_length")  # fmt: skip
    recipe = get_profile("tiny").grpo.trainer
    with tempfile.TemporaryDirectory() as folder:
        trainer = corrected(GRPOTrainer, mode=how.get("mode"), limit=SETTINGS["limit"])(
            model=model, processing_class=tokenizer, reward_funcs=math_reward,
            rollout_func=OtherSampler(bits=how.get("bits"), lag=how.get("lag", 0)),
            train_dataset=Dataset.from_list(
                [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
            ),
            args=GRPOConfig(
                output_dir=folder, seed=seed, max_steps=SETTINGS["steps"], learning_rate=rate,
                lr_scheduler_type="constant", per_device_train_batch_size=SETTINGS["completions"],
                num_generations=SETTINGS["group"], save_strategy="no", logging_steps=1,
                **{name: recipe[name] for name in kept},
            ),
        )  # fmt: skip
        trainer.train()
    took = round(time.process_time() - begun, 1)
    frame = evaluate(trainer.model.eval(), tokenizer, sums(part))
    kl, largest = zip(*trainer.mismatch, strict=True)
    return {
        "arm": arm, "seed": seed, "rate": rate, "right": listed(frame["arithmetic"]),
        "log": log_series(trainer.state.log_history, LOGGED), "kl": listed(kl),
        "largest": listed(largest), "train_s": took,
    }  # fmt: skip


def key_of(arm: str, rate: float) -> str:
    """What a run of an arm depends on, hashed."""
    settings = {
        "arm": ARMS[arm], "rate": rate, "settings": SETTINGS,
        "start": adapter_hash(SETTINGS["start"]),
    }  # fmt: skip
    return arm_key(settings, *CODE, own=__file__)


def score(trial: dict[str, Any]) -> float:
    """The share of the tuning sums that are right at the end."""
    return sum(trial["right"]) / len(trial["right"])


def main() -> None:
    arms, plain = Arms(__file__, limit=command_line(__doc__).runs), "no mismatch"
    trials = [
        arms.result(
            f"tuning {rate:g}", key_of(plain, rate),
            partial(run, plain, TUNING_SEED, rate=rate, part="tuning"),
        )
        for rate in RATES
    ]  # fmt: skip
    rate = max(trials, key=score)["rate"]
    print("rate chosen:", rate, flush=True)
    runs = arms.run_all(ARMS, SEEDS, partial(run, rate=rate), key=lambda arm: key_of(arm, rate))
    record = {
        "settings": SETTINGS, "arms": ARMS, "rates": RATES, "tuning_seed": TUNING_SEED,
        "tuning": trials, "chosen": rate, "runs": runs,
    }  # fmt: skip
    took = minutes(one["train_s"] for one in [*trials, *runs])
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
