"""Recorded experiment of the extra on samplers that differ from the trainer.

    python notebooks/experiments/extra_mismatch.py

GRPO on the shipped SFT stage, on sums of tinyworld, one update per batch. The policy is trained in
float32 throughout; its completions come from a copy of the weights (`OtherSampler`):

- `same`: the policy itself
- `8 bits`, `3 bits`: its matrices rounded, one scale per row
- `stale`: the weights of `lag` updates ago, as in asynchronous training

`3 bits` and `stale` are used without a correction, with truncated importance weights per token
(TIS) and with masked weights per answer (MIS, TRL's default), both with TRL's own limit; `8 bits`
without a correction only. All arms train at the rate that the extra on distillation chose for GRPO;
`stale` also at a third of it. `same` and `stale` ran with two seeds at three times that rate, which
was added when nothing had collapsed at the others; there, `same` collapsed as well. Before, three
arms (`same`, `3 bits`, `stale`, all uncorrected) ran once with seed 100 at 1e-3, to see how many
updates are enough.

Recorded for each step: the KL from sampler to policy per token and the largest log-ratio
(`corrected` measures both before the update), the share of right answers among the sampler's, the
length of the answers. And at the measured steps every held-out sum right or wrong, answered
greedily by the policy itself.

Every finished run is kept under `runs/extra-mismatch/`, and the record is written after each seed
to data/results/extras/mismatch.json.
"""

from __future__ import annotations

import time
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
    metric_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "extras" / "mismatch.json"
SEEDS = (0, 1, 2, 3, 4)
CODE = (
    "tinyworld", "evals.evaluation", "sampling.rollout", "sampling.decoding", "sampling.trl",
    "rewards", "course.extras.mismatch",
)  # fmt: skip
SAMPLERS: dict[str, dict[str, int]] = {
    "same": {}, "8 bits": {"bits": 8}, "3 bits": {"bits": 3}, "stale": {"lag": 8},
}  # fmt: skip
CORRECTIONS = {"none": None, "TIS": "token_truncate", "MIS": "sequence_mask"}
BOTH = tuple(CORRECTIONS)
ARMS: dict[float, dict[str, tuple[str, ...]]] = {  # rate -> sampler -> corrections
    3e-3: {"same": ("none",), "stale": BOTH},
    1e-3: {"same": ("none",), "stale": BOTH, "8 bits": ("none",), "3 bits": BOTH},
    3e-4: {"stale": ("none",)},
}
FEWER = {3e-3: SEEDS[:2]}  # the seeds of a rate, where not all
SETTINGS: dict[str, Any] = {
    "start": "sft", "steps": 24, "completions": 16, "group": 4, "rows": 900, "heldout": 60,
    "measured": [2, 4, 8, 12, 16, 20, 24], "limit": 3.0,
}  # fmt: skip


@cache
def heldout() -> list[dict[str, Any]]:
    return heldout_prompts(SETTINGS["heldout"], ["arithmetic"])


def run(sampler: str, correction: str, rate: float, seed: int) -> dict[str, Any]:
    """Train one arm with one seed; its mismatch at each step, and what the policy can do."""
    import transformers
    import trl

    from postlab.course.extras import OtherSampler, corrected
    from postlab.datasets import math_rows
    from postlab.evals import evaluate
    from postlab.rewards import math_reward

    model, tokenizer = policy(shipped(SETTINGS["start"]))
    rows = math_rows("tinyworld", split="train", n=SETTINGS["rows"], seed=seed)
    rows = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
    right: list[list] = []
    trainers: list[Any] = []
    spent = 0.0

    def after_step(trainer: Any, step: int) -> None:
        nonlocal spent
        if step == 1:
            trainers.append(trainer)
        if step in SETTINGS["measured"]:
            begun = time.process_time()
            frame = evaluate(trainer.model, tokenizer, heldout())
            right.append(metric_series(frame, ["arithmetic"])["arithmetic"])
            spent += time.process_time() - begun

    plain = trl.GRPOTrainer
    weighed = corrected(plain, mode=CORRECTIONS[correction], limit=SETTINGS["limit"])
    trl.GRPOTrainer = weighed  # the trainer that `train` builds
    begun = time.process_time()
    try:
        trained = train(
            "grpo", model, tokenizer, rows, seed=seed, reward_funcs=math_reward,
            rollout_func=OtherSampler(**SAMPLERS[sampler]), after_step=after_step,
            callbacks=[transformers.TrainerCallback()],
            arguments=get_profile("tiny").grpo.trainer | {
                "max_steps": SETTINGS["steps"], "learning_rate": rate,
                "lr_scheduler_type": "constant", "save_strategy": "no",
                "per_device_train_batch_size": SETTINGS["completions"],
                "num_generations": SETTINGS["group"],
            },
        )  # fmt: skip
    finally:
        trl.GRPOTrainer = plain
    kl, largest = zip(*trainers[0].mismatch, strict=True)
    names = {"reward": "reward", "length": "completions/mean_length", "grad_norm": "grad_norm"}
    return {
        "sampler": sampler, "correction": correction, "rate": rate, "seed": seed,
        "kl": listed(kl), "largest": listed(largest), "right": right,
        **log_series(trained.log, names),
        "train_s": round(time.process_time() - begun - spent, 1),
    }  # fmt: skip


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    runs = []
    for seed in SEEDS:
        for rate, samplers in ARMS.items():
            if seed not in FEWER.get(rate, SEEDS):
                continue
            for sampler, correction in [(s, c) for s, cs in samplers.items() for c in cs]:
                settings = {
                    "arm": [SAMPLERS[sampler], CORRECTIONS[correction], rate],
                    "settings": SETTINGS, "start": adapter_hash(SETTINGS["start"]),
                }  # fmt: skip
                runs.append(
                    arms.result(
                        f"{sampler} {correction} {rate:g} {seed}",
                        arm_key(settings, *CODE, own=__file__),
                        partial(run, sampler, correction, rate, seed),
                    )
                )
        record = {
            "settings": SETTINGS, "samplers": SAMPLERS, "corrections": CORRECTIONS,
            "rates": list(ARMS), "runs": runs,
        }  # fmt: skip
        took = minutes(one["train_s"] for one in runs)
        write_record(__file__, TARGET, record, seeds=SEEDS[: seed + 1], training_minutes=took)


if __name__ == "__main__":
    main()
