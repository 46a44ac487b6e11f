"""Week 7's recorded experiment: the shipped GRPO recipe on five seeds, with mere format apart.

    python notebooks/experiments/week07_seeds.py

For each seed the whole chain of the tiny profile is trained as weeks 3, 5 and 7 train it, SFT, DPO
and GRPO, and DPO and GRPO answer the held-out prompts. Stages are kept in the run folder
(`POSTLAB_RUNS`), where `make stages SEED=n` puts its own: what is there with the same key is loaded
and not trained again, and seed 0 is the one that ships. So an interrupted experiment goes on where
it stopped. The result is written to data/results/week07/seeds.json.

Kept of each seed: the log of GRPO; of every held-out sum whether it is right read strictly and
leniently (`postlab.evals`, no code of the reward's), before and after; how often each of the
four sampled answers to it is right; and the mean of every metric of the evaluation.
"""

from __future__ import annotations

import time
from typing import Any

from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

# isort: split
from _common import PACKAGES, RESULTS, command_line, log_series, minutes, write_record

from postlab.course import listed
from postlab.lab import Lab
from postlab.profile import get_profile
from postlab.runs import Run, adopt_shipped

TARGET = RESULTS / "week07" / "seeds.json"
SEEDS = (0, 1, 2, 3, 4)
LOGGED = (
    *("step", "loss", "reward", "reward_std", "frac_reward_zero_std", "entropy", "grad_norm"),
    *("learning_rate", "completions/mean_length", "completions/clipped_ratio"),
)
TEXT = {"sft": ["prompt", "completion"], "dpo": ["prompt", "chosen", "rejected"]}


def load(lab: Lab, stage: str) -> tuple[Any, Any]:
    """Model and tokenizer of a stage, as the notebooks load them."""
    profile = lab.profile
    return FastLanguageModel.from_pretrained(
        lab.checkpoint(stage),
        max_seq_length=profile.max_length,
        dtype=profile.dtype,
        load_in_4bit=profile.load_in_4bit,
        use_gradient_checkpointing=profile.lora["use_gradient_checkpointing"],
    )


def train(lab: Lab, stage: str, parent: str) -> Run:
    """Train a stage as its notebook does, or load it where it is there; its run."""
    import trl
    from datasets import Dataset

    from postlab import datasets
    from postlab.models import float32_adapters
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    run, settings = lab.run(stage, parent=parent), getattr(lab.profile, stage)
    adopt_shipped(run)
    model, tokenizer = load(lab, parent)
    if parent == "base":
        model = FastLanguageModel.get_peft_model(model, **lab.profile.lora, random_state=lab.seed)
    rows = {
        "sft": datasets.instruction_rows,
        "dpo": datasets.preference_rows,
        "grpo": datasets.math_rows,
    }[stage](settings.source, split="train", n=settings.rows, seed=lab.seed)
    columns = TEXT.get(stage, ["prompt", "answer"])
    config = getattr(trl, f"{stage.upper()}Config")
    scored = {"reward_funcs": math_reward, "rollout_func": rollout_func}
    trainer = getattr(trl, f"{stage.upper()}Trainer")(
        model=float32_adapters(model),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows).select_columns(columns),
        args=config(output_dir=str(run.checkpoints), seed=lab.seed, **settings.trainer),
        **(scored if stage == "grpo" else {}),
    )
    run.train(trainer)
    if stage != "sft":
        lab.evaluate(run, trainer.model, tokenizer)
    return run


def measures(run: Run) -> dict[str, Any]:
    """Of a stage's evaluation: both readings of every held-out sum, and the mean of each metric."""
    from postlab.evals import NON_METRICS, readings

    frame = run.load_eval()
    values: dict[str, Any] = {}
    for family in ("arithmetic", "arithmetic_sampled"):
        read = readings(frame, family)
        values |= {f"{family}, {how}": listed(read[how]) for how in ("strict", "lenient")}
    sums = frame[frame["family"] == "arithmetic"]
    values["worked"] = listed(sums["answer"].str.contains("=").astype(float))
    values["tokens"] = listed(sums["length"])
    metrics = [
        name for name in frame.columns if name not in NON_METRICS and frame[name].notna().any()
    ]
    return values | {"means": {name: round(float(frame[name].mean()), 4) for name in metrics}}


def run_seed(seed: int) -> dict[str, Any]:
    """Train what is missing of one seed's chain; the start, the end and GRPO's log."""
    lab = Lab(get_profile("tiny"), seed)
    runs = {
        stage: train(lab, stage, parent)
        for stage, parent in (("sft", "base"), ("dpo", "sft"), ("grpo", "dpo"))
    }
    return {
        "seed": seed,
        "key": runs["grpo"].manifest["key"],
        "train_s": runs["grpo"].manifest["train_s"],
        "start": measures(runs["dpo"]),
        "end": measures(runs["grpo"]),
        "log": log_series(runs["grpo"].log, LOGGED),
    }


def main() -> None:
    command_line(__doc__, runs=False)
    chains, begun = [], time.perf_counter()
    for seed in SEEDS:
        chains.append(run_seed(seed))
        print(f"seed {seed}: {time.perf_counter() - begun:.0f} s", flush=True)
    took = minutes(chain["train_s"] for chain in chains)
    packages = (*PACKAGES, "unsloth")
    write_record(
        __file__, TARGET, {"seeds": chains}, seeds=SEEDS, packages=packages, training_minutes=took
    )


if __name__ == "__main__":
    main()
