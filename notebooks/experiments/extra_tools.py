"""Recorded experiment of the extra on tools: when does a policy learn to call one?

    python notebooks/experiments/extra_tools.py

The shipped GRPO stage first learns the form of a call from rows that call in half of the cases,
needed or not (TRL's SFTTrainer, once: `start`). From there, every arm and seed trains with TRL's
GRPOTrainer and its `environment_factory`, on five kinds of question (postlab.course.extras.KINDS):

- `free`: a right answer earns 1, calls cost nothing
- `0.2`, `0.6`: each call costs that much
- `liar`: calls cost nothing, but half of the calculator's results are wrong
- `0.2 by turn`: as `0.2`, but each turn has an advantage of its own

Recorded: for each step, what the sampled episodes called and got right, by kind; and at the end,
episodes on held-out questions, sampled at temperature 1, with honest tools and with a calculator
that is always wrong. One rate and one number of steps for all arms; neither was tuned.

Every finished run is kept under `runs/extra-tools/`. The result is data/results/extras/tools.json;
its runs are kept when seeds are added, and `earlier` says where they were made. Added seeds begin
with the same SFT trained again, which on another processor gives slightly different weights:
`later_starts` has what that start called and got right.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
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
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "extras" / "tools.json"
SEEDS = (0, 1, 2, 3, 4)
CODE = ("tinyworld", "sampling.rollout", "sampling.decoding", "rewards", "course.extras.tools")
ARMS: dict[str, dict[str, Any]] = {
    "free": {"price": 0.0}, "0.2": {"price": 0.2}, "0.6": {"price": 0.6},
    "liar": {"price": 0.0, "lies": 0.5}, "0.2 by turn": {"price": 0.2, "by_turn": True},
}  # fmt: skip
SFT: dict[str, Any] = {
    "stage": "grpo", "rows": 3200, "steps": 200, "batch": 16, "rate": 2e-3, "called": 0.5,
    "seed": 0,
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "steps": 12, "completions": 40, "group": 8, "rate": 3e-4, "rows": 600, "heldout": 75,
    "new_tokens": 80, "most_calls": 3,
}  # fmt: skip
KEPT = ("use_cpu", "bf16", "fp16", "gradient_checkpointing", "dataloader_pin_memory", "optim",
        "max_grad_norm", "weight_decay", "report_to", "disable_tqdm")  # fmt: skip


def start(folder: Path) -> None:
    """Train the shipped stage on rows that show the form of a call, and save its adapter."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from postlab.course.extras import tool_rows, with_tools

    model, tokenizer = policy(shipped(SFT["stage"]))
    rows = tool_rows(SFT["rows"], seed=SFT["seed"], called=SFT["called"])
    tiny = {name: get_profile("tiny").grpo.trainer[name] for name in KEPT}
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model, processing_class=with_tools(tokenizer),
            train_dataset=Dataset.from_list(rows),
            args=SFTConfig(
                output_dir=scratch, seed=SFT["seed"], packing=False, assistant_only_loss=True,
                max_length=256, max_steps=SFT["steps"], learning_rate=SFT["rate"],
                per_device_train_batch_size=SFT["batch"], lr_scheduler_type="linear",
                warmup_steps=8, logging_steps=20, save_strategy="no", **tiny,
            ),
        )  # fmt: skip
        trainer.train()
    trainer.model.save_pretrained(str(folder))


class Episodes:
    """What episodes called and got right, by kind; emptied whenever it's read."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def lists(self) -> dict[str, dict[str, list]]:
        """{"right" or "calls": {kind: a number per episode}}."""
        kinds = dict.fromkeys(row["kind"] for row in self.rows)
        columns = {
            name: {kind: [row[name] for row in self.rows if row["kind"] == kind] for kind in kinds}
            for name in ("right", "calls")
        }
        self.rows.clear()
        return columns

    def means(self) -> dict[str, dict[str, float]]:
        """The same, with a mean per kind."""
        return {
            name: {kind: round(sum(v) / len(v), 4) for kind, v in column.items()}
            for name, column in self.lists().items()
        }


def run(arm: str | None, seed: int, folder: Path) -> dict[str, Any]:
    """Train one arm with one seed from a folder's adapter; without an arm, only measure it."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from _common import calling
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.course.extras import (
        World,
        credited_by_turn,
        questions,
        right_minus_price,
        sample_turns_with_engine,
        with_tools,
    )

    how = {"price": 0.0, "lies": 0.0, "by_turn": False} | ARMS.get(arm or "", {})
    model, tokenizer = policy(folder)
    episodes, curve = Episodes(), []
    trainer_class = credited_by_turn(GRPOTrainer) if how["by_turn"] else GRPOTrainer
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_class(
            model=model, processing_class=with_tools(tokenizer), environment_factory=World,
            reward_funcs=right_minus_price(how["price"], episodes.rows.append),
            train_dataset=Dataset.from_list(
                questions(SETTINGS["rows"], split="train", seed=seed, lies=how["lies"])
            ),
            args=GRPOConfig(
                **get_profile("tiny").grpo.trainer | {
                    "output_dir": scratch, "seed": seed, "save_strategy": "no",
                    "max_steps": SETTINGS["steps"], "learning_rate": SETTINGS["rate"],
                    "lr_scheduler_type": "constant", "num_generations": SETTINGS["group"],
                    "per_device_train_batch_size": SETTINGS["completions"],
                    "max_completion_length": SETTINGS["new_tokens"],
                    "max_tool_calling_iterations": SETTINGS["most_calls"],
                    "num_generations_eval": 1, "per_device_eval_batch_size": 75,
                },
            ),
        )  # fmt: skip
        sample_turns_with_engine(trainer)
        trainer.add_callback(calling(lambda trainer, step: curve.append(episodes.means()), trainer))
        begun = time.process_time()
        if arm is not None:
            trainer.train()
        took = round(time.process_time() - begun, 1)
        heldout = {}
        for name, lies in {"honest": 0.0, "lying": 1.0}.items():
            rows = questions(SETTINGS["heldout"], split="heldout", seed=0, lies=lies)
            trainer.evaluate(Dataset.from_list(rows))
            heldout[name] = {key: {k: listed(v) for k, v in column.items()}
                             for key, column in episodes.lists().items()}  # fmt: skip
    lengths = [
        entry["completions/mean_length"] for entry in trainer.state.log_history
        if "completions/mean_length" in entry
    ]  # fmt: skip
    return {
        "arm": arm or "start", "seed": seed, **how, "curve": curve, "length": listed(lengths),
        "heldout": heldout, "train_s": took,
    }  # fmt: skip


def key_of(arm: str | None, taught: dict[str, Any]) -> str:
    """What a run of an arm depends on, hashed."""
    settings = taught | {"arm": ARMS.get(arm or ""), "settings": SETTINGS}
    return arm_key(settings, *CODE, own=__file__)


def main() -> None:
    weights = {SFT["stage"]: adapter_hash(SFT["stage"])}
    settings = {
        "settings": SETTINGS, "sft": SFT, "arms": ARMS,
        "recipe": dict(get_profile("tiny").grpo.trainer), "weights": weights,
    }  # fmt: skip
    limit = command_line(__doc__).runs
    arms = Arms(__file__, limit=limit, record=TARGET, settings=settings)
    taught = {"sft": SFT, "stage": weights[SFT["stage"]]}
    folder = arms.folder / f"{arm_key(taught, *CODE, own=__file__)}-start"

    def result(arm: str | None, seed: int) -> dict[str, Any]:
        if not (folder / "adapter_model.safetensors").exists():
            start(folder)
        name = "start" if arm is None else f"{arm} {seed}"
        return arms.result(name, key_of(arm, taught), partial(run, arm, seed, folder))

    kept_seeds = {run["seed"] for run in arms.record.get("runs", [])}
    runs = [
        arms.kept("runs", {"arm": arm or "start", "seed": seed}) or result(arm, seed)
        for arm, seed in [(None, SEEDS[0]), *((arm, seed) for seed in SEEDS for arm in ARMS)]
    ]
    later_starts = arms.record.get("later_starts", [])
    added = [seed for seed in SEEDS if seed not in kept_seeds]
    if kept_seeds and added:
        later_starts = [*later_starts, {"seeds": added} | result(None, SEEDS[0])]
    took = minutes(one["train_s"] for one in runs)
    record = settings | {"runs": runs, "later_starts": later_starts} | arms.history()
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
