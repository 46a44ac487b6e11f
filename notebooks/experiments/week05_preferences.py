"""Week 5's recorded experiment: what loss, beta and the length of the chosen replies do to DPO.

    python notebooks/experiments/week05_preferences.py

Short runs of TRL's DPOTrainer from the shipped tiny SFT adapter, each arm with the same seeds:
the preference loss with and without a likelihood term, three betas, and two losses on pairs whose
chosen replies were made longer on purpose. Every finished run is kept under
`runs/week05-preferences/`, so an interrupted experiment goes on where it stopped; the result is
written to data/results/week05/preferences.json.

Kept of each run: its log; of every held-out pair the log-probs in nats of the chosen reply, the
rejected one, and the chosen one said twice; and each metric of every held-out prompt. Pairs and
prompts are the same in all runs, and in the same order.

A seed decides rows and their order; all runs start from the one SFT of seed 0. No arm was tuned:
they share the rate, the batch and the steps, fewer than the stage's own, so nothing here says
which arm would be best with a rate of its own.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import time
from collections.abc import Iterable
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
TARGET = ROOT / "data" / "results" / "week05" / "preferences.json"
SEEDS = (0, 1, 2)
CODE = ("tinyworld", "evals", "rollout", "kl")  # a run is made again when a line in them changes
SETTINGS: dict[str, Any] = {
    "steps": 60,
    "batch_size": 16,
    "lr": 4e-4,
    "warmup_steps": 4,
    "logging_steps": 5,
    "heldout_pairs": 300,
    "prompts_a_family": 60,
}
ARMS: dict[str, dict[str, Any]] = {  # name: what it changes
    "sigmoid": {"loss_type": ["sigmoid"], "beta": 0.5},
    "sigmoid+sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 2.0], "beta": 0.5},
    "beta 0.05": {"loss_type": ["sigmoid"], "beta": 0.05},
    "beta 5": {"loss_type": ["sigmoid"], "beta": 5.0},
    # A mean over about ten tokens where `sigmoid` has their sum: ten times the beta.
    "longer, sigmoid": {"loss_type": ["sigmoid"], "beta": 0.5, "longer": True},
    "longer, sigmoid_norm": {"loss_type": ["sigmoid_norm"], "beta": 5.0, "longer": True},
}
LOGGED = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")


def said_twice(row: dict) -> dict:
    """The row with a chosen reply that says the same twice: longer, and no better."""
    text = row["chosen"][0]["content"]
    return row | {"chosen": [{"role": "assistant", "content": f"{text} {text}"}]}


def policy() -> tuple[Any, Any]:
    """The shipped SFT adapter, trainable, in float32, and its tokenizer."""
    from postlab.models import load_policy, trainable

    model, tokenizer = load_policy(
        Lab(get_profile("tiny"), 0).checkpoint("sft"), profile="tiny", bits=32
    )
    return trainable(model), tokenizer


def reply_logps(model: Any, tokenizer: Any, rows: list[dict], side: str) -> Any:
    """Log-probs (B,) in nats of whole replies, the token that ends the turn included."""
    import torch

    from postlab.rollout import end_of_turn, render
    from postlab.scratch.sampling import completion_states, pack

    end = end_of_turn(tokenizer)

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    batch = pack(
        [ids(render(tokenizer, row["prompt"])) for row in rows],
        [[*ids(row[side][0]["content"]), end] for row in rows],
    )
    with torch.no_grad():
        logits, _ = completion_states(model, batch)
        found = logits.log_softmax(-1).gather(-1, batch.completions[..., None])[..., 0]
    return (found * batch.mask).sum(1)


def heldout_pairs(
    model: Any, tokenizer: Any, rows: list[dict], adapter: str
) -> dict[str, list[float]]:
    """Log-probs of every held-out pair's replies under one adapter, side by side."""
    model.set_adapter(adapter)
    twice = [said_twice(row) for row in rows]
    found = {side: reply_logps(model, tokenizer, rows, side) for side in ("chosen", "rejected")}
    found |= {"twice": reply_logps(model, tokenizer, twice, "chosen")}
    return {side: decimals(values.tolist()) for side, values in found.items()}


def decimals(values: Iterable[float]) -> list[float]:
    """Numbers to three decimals."""
    return listed((round(value, 3) for value in values), digits=6)


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed; its log, held-out pairs, answers' metrics, and seconds."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from postlab.datasets import preference_rows
    from postlab.evals import TEXT, evaluate

    which, how = {"arm": arm, "seed": seed}, dict(ARMS[arm])
    longer = how.pop("longer", False)
    count = SETTINGS["steps"] * SETTINGS["batch_size"]
    rows = preference_rows("tinyworld", split="train", n=count, seed=seed)
    rows = [said_twice(row) for row in rows] if longer else list(rows)
    model, tokenizer = policy()
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            **get_profile("tiny").dpo.trainer, "loss_weights": None, "save_strategy": "no",
            "max_steps": SETTINGS["steps"], "learning_rate": SETTINGS["lr"],
            "per_device_train_batch_size": SETTINGS["batch_size"],
            "warmup_steps": SETTINGS["warmup_steps"], "logging_steps": SETTINGS["logging_steps"],
            **how,
        }  # fmt: skip
        trainer = DPOTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows).select_columns(["prompt", "chosen", "rejected"]),
            args=DPOConfig(output_dir=folder, seed=seed, **arguments),
        )
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    trained = trainer.model.eval()
    pairs = preference_rows("tinyworld", split="heldout", n=SETTINGS["heldout_pairs"], seed=100)
    before, after = (heldout_pairs(trained, tokenizer, pairs, name) for name in ("ref", "default"))
    trained.set_adapter("default")
    n = SETTINGS["prompts_a_family"]
    answers = evaluate(trained, tokenizer, "tinyworld", n=n, ref="ref")
    metrics = [name for name in answers.columns if name not in TEXT and answers[name].notna().any()]
    per_prompt = answers.groupby("id", sort=False)[metrics].mean()
    log = [
        which | {"step": e["step"]} | {k: round(e[k], 4) for k in LOGGED}
        for e in trainer.state.log_history
        if "rewards/margins" in e
    ]
    shown = answers.groupby("family", sort=False).head(2)[["family", "prompt", "answer"]]
    return which | {
        "log": log,
        "pairs": after,
        "pairs_before": before,
        "pairs_family": [row["family"] for row in pairs],
        "prompts": {name: decimals(per_prompt[name].dropna()) for name in metrics},
        "samples": [which | row for row in shown.to_dict("records")] if seed == 0 else [],
        "train_s": round(seconds, 1),
    }


def main() -> None:
    parts = run_root() / "week05-preferences"
    parts.mkdir(parents=True, exist_ok=True)
    steps = (said_twice, policy, reply_logps, heldout_pairs, decimals, run)
    own = [inspect.getsource(step) for step in steps]
    made = {"settings": SETTINGS, "package": package_source(*CODE), "own": own}
    runs, begun = [], time.perf_counter()
    for seed in SEEDS:
        for arm, how in ARMS.items():
            name = "".join(c if c.isalnum() else "-" for c in arm)
            part = parts / f"{digest(made | {'arm': how})[:12]}-{name}-{seed}.json"
            runs.append(finished(part, partial(run, arm, seed), begun=begun))
    for same in ("pairs_before", "pairs_family"):
        assert all(part[same] == runs[0][same] for part in runs), f"{same} differ between runs"
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(command, seeds=SEEDS, packages=("torch", "transformers", "trl", "peft"))
    made_by["training_minutes"] = round(sum(part["train_s"] for part in runs) / 60, 1)
    kept = ("arm", "seed", "pairs", "prompts")
    result = {
        "provenance": made_by,
        "settings": SETTINGS,
        "arms": ARMS,
        "logs": [row for part in runs for row in part["log"]],
        "pairs_family": runs[0]["pairs_family"],
        "pairs_before": runs[0]["pairs_before"],
        "runs": [{name: part[name] for name in kept} for part in runs],
        "samples": [row for part in runs for row in part["samples"]],
    }
    write_result(TARGET, result)
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
