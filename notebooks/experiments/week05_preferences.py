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

from collections.abc import Iterable
from typing import Any

from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week05" / "preferences.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld",
    "evals.evaluation",
    "sampling.rollout",
    "sampling.kl",
)  # an arm is trained again when one of them changes
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


def reply_logps(model: Any, tokenizer: Any, rows: list[dict], side: str) -> Any:
    """Log-probs (B,) in nats of whole replies, the token that ends the turn included."""
    import torch

    from postlab.sampling import end_of_turn, render
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
        logps = logits.log_softmax(-1).gather(-1, batch.completions[..., None])[..., 0]
    return (logps * batch.mask).sum(1)


def heldout_pairs(
    model: Any, tokenizer: Any, rows: list[dict], adapter: str
) -> dict[str, list[float]]:
    """Log-probs of every held-out pair's replies under one adapter, side by side."""
    model.set_adapter(adapter)
    twice = [said_twice(row) for row in rows]
    logps = {side: reply_logps(model, tokenizer, rows, side) for side in ("chosen", "rejected")}
    logps |= {"twice": reply_logps(model, tokenizer, twice, "chosen")}
    return {side: decimals(values.tolist()) for side, values in logps.items()}


def decimals(values: Iterable[float]) -> list[float]:
    """Numbers to three decimals."""
    return listed((round(value, 3) for value in values), digits=6)


def arguments(arm: str) -> dict[str, Any]:
    """All of the trainer's arguments but `output_dir` and `seed`."""
    return {
        **get_profile("tiny").dpo.trainer, "loss_weights": None, "save_strategy": "no",
        "max_steps": SETTINGS["steps"], "learning_rate": SETTINGS["lr"],
        "per_device_train_batch_size": SETTINGS["batch_size"],
        "warmup_steps": SETTINGS["warmup_steps"], "logging_steps": SETTINGS["logging_steps"],
        **{name: value for name, value in ARMS[arm].items() if name != "longer"},
    }  # fmt: skip


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed; its log, held-out pairs, answers' metrics, and seconds."""
    from postlab.datasets import preference_rows
    from postlab.evals import NON_METRICS, evaluate

    # 1. Train on this seed's pairs, the chosen replies said twice in the arms that are about that.
    which = {"arm": arm, "seed": seed}
    count = SETTINGS["steps"] * SETTINGS["batch_size"]
    rows = preference_rows("tinyworld", split="train", n=count, seed=seed)
    rows = [said_twice(row) for row in rows] if ARMS[arm].get("longer") else list(rows)
    model, tokenizer = policy(shipped("sft"))
    trained = train("dpo", model, tokenizer, rows, seed=seed, arguments=arguments(arm))
    model = trained.model.eval()

    # 2. Log-probs of the held-out pairs, before (the adapter "ref") and after.
    pairs = preference_rows("tinyworld", split="heldout", n=SETTINGS["heldout_pairs"], seed=100)
    before, after = (heldout_pairs(model, tokenizer, pairs, name) for name in ("ref", "default"))

    # 3. Answers to the held-out prompts.
    model.set_adapter("default")
    answers = evaluate(model, tokenizer, "tinyworld", n=SETTINGS["prompts_a_family"], ref="ref")
    metrics = [
        name for name in answers.columns if name not in NON_METRICS and answers[name].notna().any()
    ]
    per_prompt = answers.groupby("id", sort=False)[metrics].mean()
    log = [
        which | {"step": e["step"]} | {k: round(e[k], 4) for k in LOGGED}
        for e in trained.log
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
        "train_s": round(trained.seconds, 1),
    }


def key_of(arm: str) -> str:
    """What a run of the arm depends on, hashed."""
    settings = {
        "arm": ARMS[arm], "settings": SETTINGS, "arguments": arguments(arm), "logged": LOGGED,
        "start": adapter_hash("sft"),
    }  # fmt: skip
    return arm_key(settings, *CODE, own=__file__)


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    runs = arms.run_all(ARMS, SEEDS, run, key=key_of)
    for same in ("pairs_before", "pairs_family"):
        assert all(one[same] == runs[0][same] for one in runs), f"{same} differ between runs"
    kept = ("arm", "seed", "pairs", "prompts")
    record = {
        "settings": SETTINGS,
        "arms": ARMS,
        "logs": [row for one in runs for row in one["log"]],
        "pairs_family": runs[0]["pairs_family"],
        "pairs_before": runs[0]["pairs_before"],
        "runs": [{name: one[name] for name in kept} for one in runs],
        "samples": [row for one in runs for row in one["samples"]],
    }
    took = minutes(one["train_s"] for one in runs)
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
