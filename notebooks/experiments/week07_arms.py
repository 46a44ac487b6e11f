"""Week 7's second recorded experiment: the rate's schedule, and a start that is careless in form.

    python notebooks/experiments/week07_arms.py

Runs of TRL's GRPOTrainer with the tiny profile's recipe from the shipped DPO stage, three seeds an
arm: the recipe as it is; its rate held constant; and the recipe from a *careless* start with a
strict reward. The careless start is the same policy, fine-tuned for a moment on its own answers to
training sums, most of which had their `####` taken out: it knows what it knew, and seldom says it
as it is asked to. Every finished run is kept under `runs/week07-arms/`, so an interrupted
experiment goes on where it stopped; the result is written to data/results/week07/arms.json.

Kept of each run: its log, and of every held-out sum whether it is right read strictly and
leniently, before and after. A seed decides prompts, their order and the draws; there is one start
of each kind. No rate was tuned for any arm.
"""

from __future__ import annotations

import inspect
import random
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

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "data" / "results" / "week07" / "arms.json"
SEEDS = (0, 1, 2)
# another line in them, another run
CODE = ("tinyworld", "evals", "readings", "rewards", "decoding", "rollout_trl")
SETTINGS: dict[str, Any] = {
    "heldout_sums": 200,
    "careless": {"answers": 480, "unmarked": 0.75, "steps": 30, "lr": 4e-4},
}
ARMS: dict[str, dict[str, Any]] = {  # name: what it changes
    "recipe": {},
    "constant rate": {"lr_scheduler_type": "constant"},
    "careless start": {"careless": True},
}
LOGGED = ("step", "reward", "learning_rate", "frac_reward_zero_std", "completions/mean_length")


def policy(folder: str) -> tuple[Any, Any]:
    """An adapter, trainable, in float32, and its tokenizer."""
    from postlab.models import load_policy, trainable

    model, tokenizer = load_policy(folder, profile="tiny", bits=32)
    return trainable(model), tokenizer


def unmarked(text: str) -> str:
    """The same answer without its marker: a worked sum just ends, a blurted one is the number.

    >>> unmarked("12+30=42, 42+15=57. #### 57"), unmarked("#### 57")
    ('12+30=42, 42+15=57.', '57')
    """
    worked, _, number = text.rpartition("#### ")
    return worked.strip() or number


def careless_start(folder: Path) -> Path:
    """The DPO stage, made careless in form on its own answers; the folder of its adapter."""
    if (folder / "adapter_config.json").exists():
        return folder
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from postlab.datasets import math_rows
    from postlab.evals import evaluate

    how, rng = SETTINGS["careless"], random.Random(0)
    model, tokenizer = policy(Lab(get_profile("tiny"), 0).checkpoint("dpo"))
    rows = math_rows("tinyworld", split="train", n=how["answers"], seed=7)
    asked = [
        {"id": str(i), "family": "sums", "prompt": row["prompt"], "score": lambda *_: {}}
        for i, row in enumerate(rows)
    ]
    answers = evaluate(model, tokenizer, asked, temperature=1.0)["answer"]
    told = [unmarked(a) if rng.random() < how["unmarked"] else a for a in answers]
    taught = [
        {"prompt": row["prompt"], "completion": [{"role": "assistant", "content": text}]}
        for row, text in zip(rows, told, strict=True)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = {
            **get_profile("tiny").sft.trainer, "max_steps": how["steps"], "warmup_steps": 0,
            "learning_rate": how["lr"], "save_strategy": "no",
        }  # fmt: skip
        SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(taught),
            args=SFTConfig(output_dir=scratch, seed=0, **arguments),
        ).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def strict_reward(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """math_reward for marked answers alone: a right number in another form is worth nothing."""
    from postlab.rewards import answers_match, extract_answer

    texts = [completion[-1]["content"] for completion in completions]
    pairs = zip(texts, answer, strict=True)
    return [float(bool(answers_match(extract_answer(t, strict=True), gold))) for t, gold in pairs]


def told(model: Any, tokenizer: Any) -> dict[str, list[float]]:
    """Both readings of every held-out sum, answered greedily."""
    from postlab.evals import evaluate
    from postlab.readings import readings
    from postlab.tinyworld.tasks import heldout_suite

    rows = heldout_suite(n=SETTINGS["heldout_sums"])
    sums = [row for row in rows if row["family"] == "arithmetic"]
    read = readings(evaluate(model.eval(), tokenizer, sums))
    return {how: listed(read[how]) for how in ("strict", "lenient")}


def run(arm: str, seed: int, careless: Path) -> dict[str, Any]:
    """Train one arm with one seed; its log, both readings before and after, and seconds."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.datasets import math_rows
    from postlab.packing import without_padding
    from postlab.rewards import math_reward
    from postlab.rollout_trl import rollout_func

    how, grpo = dict(ARMS[arm]), get_profile("tiny").grpo
    is_careless = how.pop("careless", False)
    start = str(careless) if is_careless else Lab(get_profile("tiny"), 0).checkpoint("dpo")
    model, tokenizer = policy(start)
    rows = math_rows(grpo.source, split="train", n=grpo.rows, seed=seed)
    before = told(model, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=strict_reward if is_careless else math_reward,
            train_dataset=Dataset.from_list(rows).select_columns(["prompt", "answer"]),
            rollout_func=rollout_func,
            args=GRPOConfig(
                output_dir=folder,
                seed=seed,
                **{**grpo.trainer, "save_strategy": "no", **how},
            ),
        )
        begun = time.perf_counter()
        with without_padding(trainer.model):
            trainer.train()
        seconds = time.perf_counter() - begun
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    return {
        "arm": arm,
        "seed": seed,
        "start": before,
        "end": told(trainer.model, tokenizer),
        "log": {name: listed(entry[name] for entry in log) for name in LOGGED},
        "train_s": round(seconds, 1),
    }


def main() -> None:
    parts = run_root() / "week07-arms"
    parts.mkdir(parents=True, exist_ok=True)
    steps = (policy, unmarked, careless_start, strict_reward, told, run)
    own = [inspect.getsource(step) for step in steps]
    recipe = dict(get_profile("tiny").grpo.trainer)
    made = {"settings": SETTINGS, "package": package_source(*CODE), "own": own, "recipe": recipe}
    key, runs, begun = digest(made)[:12], [], time.perf_counter()
    careless = careless_start(parts / f"{key}-careless")
    for seed in SEEDS:
        for arm in ARMS:
            part = parts / f"{key}-{arm.replace(' ', '-')}-{seed}.json"
            runs.append(finished(part, partial(run, arm, seed, careless), begun=begun))
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(command, seeds=SEEDS, packages=("torch", "transformers", "trl", "peft"))
    made_by["training_minutes"] = round(sum(part["train_s"] for part in runs) / 60, 1)
    write_result(TARGET, {"provenance": made_by, "settings": SETTINGS, "arms": ARMS, "runs": runs})
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
