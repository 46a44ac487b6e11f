"""Week 8's recorded experiment: GRPO with one of its parts changed at a time.

    python notebooks/experiments/week08_ablations.py

Runs of TRL's GRPOTrainer with the tiny profile's recipe from the shipped DPO stage, the same seeds
in every arm: a seed decides prompts, their order and the draws. Every arm trains on 64 completions
a batch and 12 batches, where the recipe takes 40: in a first trial of 40 the arms all ended at the
ceiling, and nothing could be told apart. So this compares how fast they learn. `base` names the arm
that differs from it in one thing: the recipe, or, for what acts only where the policy has left its
sampler, five batches each taken in four steps.

Every finished run is kept under `runs/week08-ablations/`, so an interrupted experiment goes on
where it stopped; the result is written to data/results/week08/ablations.json. Kept of each run: its
log, a point a batch; the completions drawn for each batch; and of every held-out prompt its
metrics, answered greedily. No arm was tuned: all share the recipe's rate, so nothing here says
which arm would be best with a rate of its own.
"""

from __future__ import annotations

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

TARGET = RESULTS / "week08" / "ablations.json"
SEEDS = (0, 1, 2, 3, 4)
CODE = (
    "tinyworld",
    "evals.evaluation",
    "sampling.rollout",
    "sampling.decoding",
    "sampling.trl",
    "course.week08.resampling",
    "rewards",
)
SETTINGS: dict[str, Any] = {"heldout_sums": 200, "heldout_others": 60, "batches": 12}
MINIBATCHES = {"per_device_train_batch_size": 16, "steps_per_generation": 4}
FEW = {**MINIBATCHES, "max_steps": 20}  # five batches: after twelve these are at the ceiling too
ARMS: dict[str, dict[str, Any]] = {  # name: the arm it is compared with, and what it changes
    "recipe": {"base": None, "how": {}},
    "groups of 2": {"base": "recipe", "how": {"num_generations": 2}},
    "groups of 4": {"base": "recipe", "how": {"num_generations": 4}},
    "groups of 16": {"base": "recipe", "how": {"num_generations": 16}},
    "no scaling": {"base": "recipe", "how": {"scale_rewards": "none"}},
    "batch scaling": {"base": "recipe", "how": {"scale_rewards": "batch"}},
    "answer means": {"base": "recipe", "how": {"loss_type": "grpo"}},
    "Dr. GRPO": {"base": "recipe", "how": {"loss_type": "dr_grpo", "scale_rewards": "none"}},
    "KL 0.04": {"base": "recipe", "how": {"beta": 0.04}},
    "dynamic sampling": {"base": "recipe", "how": {}, "dynamic": True},
    "four steps": {"base": "recipe", "how": MINIBATCHES},
    "four steps, 5 batches": {"base": None, "how": FEW},
    "clip-higher": {"base": "four steps, 5 batches", "how": {**FEW, "epsilon_high": 0.28}},
    "no clip": {"base": "four steps, 5 batches", "how": {**FEW, "epsilon": 10.0}},
    # its ratio is a mean over an answer's tokens, near 1: the paper's own, much narrower clip
    "GSPO": {
        "base": "four steps, 5 batches",
        "how": {
            **FEW, "importance_sampling_level": "sequence", "loss_type": "grpo",
            "epsilon": 3e-4, "epsilon_high": 4e-4,
        },
    },
}  # fmt: skip
LOGGED = (
    *("reward", "reward_std", "frac_reward_zero_std", "entropy", "grad_norm", "kl"),
    *("completions/mean_length", "completions/clipped_ratio", "clip_ratio/region_mean"),
)
METRICS = ("arithmetic", "facts", "helpfulness", "safety", "over_refusal", "honesty")


def heldout(model: Any, tokenizer: Any) -> dict[str, list]:
    """Each metric of every held-out prompt it applies to, and the tokens of the worked sums.

    There are more sums than prompts of any other family.
    """
    from postlab.evals import evaluate
    from postlab.tinyworld.tasks import FAMILIES

    others = [family for family in FAMILIES if family != "arithmetic"]
    prompts = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    prompts += heldout_prompts(SETTINGS["heldout_others"], others)
    frame = evaluate(model.eval(), tokenizer, prompts)
    tokens = listed(frame[frame["family"] == "arithmetic"]["length"])
    return metric_series(frame, METRICS) | {"tokens": tokens}


def start() -> dict[str, list]:
    """The shipped DPO stage on the held-out prompts."""
    return heldout(*policy(shipped("dpo")))


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed; its log, batch sizes, the held-out prompts, and seconds."""
    from postlab.course.week08 import dynamic_sampling
    from postlab.datasets import math_rows
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    grpo, how = get_profile("tiny").grpo, ARMS[arm]["how"]
    steps_per_batch = how.get("steps_per_generation", 1)
    arguments = {
        **grpo.trainer, "max_steps": SETTINGS["batches"] * steps_per_batch,
        "logging_steps": steps_per_batch, "save_strategy": "no", **how,
    }  # fmt: skip
    model, tokenizer = policy(shipped("dpo"))
    rows = math_rows(grpo.source, split="train", n=grpo.rows, seed=seed)
    rows = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
    rollout, reward = rollout_func, math_reward
    if ARMS[arm].get("dynamic"):
        rollout, reward = dynamic_sampling(
            list({str(row["prompt"]): row for row in rows}.values()), math_reward
        )
    trained = train(
        "grpo", model, tokenizer, rows, seed=seed, arguments=arguments, packed=True,
        reward_funcs=reward, rollout_func=rollout,
    )  # fmt: skip
    size = arguments["per_device_train_batch_size"] * steps_per_batch
    log = log_series(trained.log, LOGGED)
    sampled = getattr(rollout, "sampled", None) or [size] * SETTINGS["batches"]
    return {
        "arm": arm,
        "seed": seed,
        "sampled": sampled[: len(log["reward"])],  # an arm may stop before the others
        "log": log,
        "end": heldout(trained.model, tokenizer),
        "train_s": round(trained.seconds, 1),
    }


def key_of(arm: str) -> str:
    """What a run of the arm depends on, hashed."""
    settings = {
        "arm": ARMS[arm], "settings": SETTINGS, "recipe": dict(get_profile("tiny").grpo.trainer),
        "start": adapter_hash("dpo"), "kept": [LOGGED, METRICS],
    }  # fmt: skip
    return arm_key(settings, *CODE, own=__file__)


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    before = arms.result("start", key_of("recipe"), start)
    runs = arms.run_all(ARMS, SEEDS, run, key=key_of)
    record = {"settings": SETTINGS, "arms": ARMS, "start": before, "runs": runs}
    took = minutes(one["train_s"] for one in runs)
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
