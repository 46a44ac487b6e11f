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

import inspect
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from postlab.fingerprint import digest
from postlab.lab import Lab
from postlab.machine import run_root
from postlab.profile import get_profile
from postlab.recorded import finished, listed, provenance, write_result
from postlab.sourcecode import package_source
from postlab.storage import files_hash

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "data" / "results" / "week08" / "ablations.json"
SEEDS = (0, 1, 2, 3, 4)
CODE = ("tinyworld", "evals", "rollout", "decoding", "rollout_trl", "dynamic_sampling", "rewards")
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


def policy() -> tuple[Any, Any]:
    """The shipped DPO adapter, trainable, in float32, and its tokenizer."""
    from postlab.models import load_policy, trainable

    start = Lab(get_profile("tiny"), 0).checkpoint("dpo")
    model, tokenizer = load_policy(start, profile="tiny", bits=32)
    return trainable(model), tokenizer


def asked() -> list[dict[str, Any]]:
    """The held-out prompts: more sums than of any other family."""
    from postlab.tinyworld.tasks import heldout_suite

    sums = heldout_suite(n=SETTINGS["heldout_sums"])
    others = heldout_suite(n=SETTINGS["heldout_others"])
    return [row for row in sums if row["family"] == "arithmetic"] + [
        row for row in others if not row["family"].startswith("arithmetic")
    ]


def told(model: Any, tokenizer: Any) -> dict[str, list[float]]:
    """Each metric of every held-out prompt it applies to, and the tokens of the worked sums."""
    from postlab.evals import evaluate

    frame = evaluate(model.eval(), tokenizer, asked())
    found = {name: listed(frame[name].dropna().astype(float)) for name in METRICS}
    return found | {"tokens": listed(frame[frame["family"] == "arithmetic"]["length"])}


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed; its log, what was drawn, the held-out prompts, and seconds."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.datasets import math_rows
    from postlab.dynamic_sampling import dynamic_sampling
    from postlab.packing import without_padding
    from postlab.rewards import math_reward
    from postlab.rollout_trl import rollout_func

    grpo, how = get_profile("tiny").grpo, ARMS[arm]["how"]
    a_batch = how.get("steps_per_generation", 1)
    settings = {
        **grpo.trainer, "max_steps": SETTINGS["batches"] * a_batch, "logging_steps": a_batch,
        "save_strategy": "no", **how,
    }  # fmt: skip
    model, tokenizer = policy()
    rows = math_rows(grpo.source, split="train", n=grpo.rows, seed=seed)
    rows = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
    sample, reward = rollout_func, math_reward
    if ARMS[arm].get("dynamic"):
        sample, reward = dynamic_sampling(
            list({str(row["prompt"]): row for row in rows}.values()), math_reward
        )
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward,
            rollout_func=sample,
            train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(output_dir=folder, seed=seed, **settings),
        )
        begun = time.perf_counter()
        with without_padding(trainer.model):
            trainer.train()
        seconds = time.perf_counter() - begun
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    size = settings["per_device_train_batch_size"] * a_batch
    return {
        "arm": arm,
        "seed": seed,
        "sampled": getattr(sample, "sampled", None) or [size] * SETTINGS["batches"],
        "log": {
            name: listed(entry[name] for entry in log) for name in LOGGED if name in log[0]
        },
        "end": told(trainer.model, tokenizer),
        "train_s": round(seconds, 1),
    }  # fmt: skip


def key_of(arm: str) -> str:
    """What a run of the arm depends on, hashed: settings, code, recipe and the start's weights."""
    steps = (policy, asked, told, run)
    start = Path(Lab(get_profile("tiny"), 0).checkpoint("dpo")) / "adapter_model.safetensors"
    return digest({
        "arm": ARMS[arm], "settings": SETTINGS, "own": [inspect.getsource(step) for step in steps],
        "package": package_source(*CODE), "recipe": dict(get_profile("tiny").grpo.trainer),
        "start": files_hash([start]),
    })[:12]  # fmt: skip


def main() -> None:
    parts = run_root() / "week08-ablations"
    parts.mkdir(parents=True, exist_ok=True)
    runs, begun = [], time.perf_counter()
    start = finished(parts / f"{key_of('recipe')}-start.json", lambda: told(*policy()), begun=begun)
    for seed in SEEDS:
        for arm in ARMS:
            name = arm.replace(" ", "-")
            part = parts / f"{key_of(arm)}-{name}-{seed}.json"
            done = finished(part, partial(run, arm, seed), begun=begun)
            batches = len(done["log"]["reward"])  # an arm may stop before the others
            runs.append(done | {"sampled": done["sampled"][:batches]})
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(command, seeds=SEEDS, packages=("torch", "transformers", "trl", "peft"))
    made_by["training_minutes"] = round(sum(part["train_s"] for part in runs) / 60, 1)
    found = {"provenance": made_by, "settings": SETTINGS, "arms": ARMS, "start": start}
    write_result(TARGET, found | {"runs": runs})
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
