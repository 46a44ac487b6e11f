"""Week 8's recorded experiment beyond sums: functions paid by tests, and JSON paid by a schema.

    python notebooks/experiments/week08_tasks.py

From the shipped DPO stage a short SFT on gold rows, one warm start a task, and then short runs of
TRL's GRPOTrainer, three seeds an arm. Functions are paid by all of a row's tests, or by its first
two alone, whose lists hold small numbers only. Records are paid by their schema, or by the same
schema with the true values as the only ones allowed. Every finished run is kept under
`runs/week08-tasks/`, so an interrupted experiment goes on where it stopped; the result is written
to data/results/week08/tasks.json.

Kept of each run: its log, and of every held-out prompt what the greedy reply is worth, before and
after: by the reward of either arm, and by something that neither saw (further tests; the true
record, compared field by field). A seed decides prompts, their order and the draws; warm starts are
the same for all. No rate was tuned for any arm.

Programs run in the sandbox of `code_reward`, which refuses where a machine gives no namespaces.
"""

from __future__ import annotations

import inspect
import json
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
from postlab.storage import weights_hash

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "data" / "results" / "week08" / "tasks.json"
SEEDS = (0, 1, 2)
CODE = ("tinyworld", "evals", "rollout", "rollout_trl", "decoding", "rewards.code")
CODE += ("rewards.schema", "rewards._asserts", "rewards._jail", "rewards._reply")
FEW = 2  # of a row's tests: those with small numbers
SETTINGS: dict[str, Any] = {
    "heldout": 150,
    "warm": {"code": {"rows": 96, "steps": 30}, "json": {"rows": 320, "steps": 70}, "lr": 2e-3},
    "steps": 24,
    "lr": 6e-4,
    "completion_tokens": 48,
    "few": FEW,
}
ARMS: dict[str, dict[str, str]] = {
    "all tests": {"task": "code", "column": "tests"},
    "two tests": {"task": "code", "column": "few"},
    "form": {"task": "json", "column": "schema"},
    "form and truth": {"task": "json", "column": "truth"},
}
LOGGED = ("step", "reward", "frac_reward_zero_std", "completions/mean_length")


def policy(folder: str | Path) -> tuple[Any, Any]:
    """An adapter, trainable, in float32, and its tokenizer."""
    from postlab.models import load_policy, trainable

    model, tokenizer = load_policy(str(folder), profile="tiny", bits=32)
    return trainable(model), tokenizer


def rows_of(task: str, split: str, n: int, seed: int) -> list[dict]:
    """Rows of a task with a column for each arm's reward."""
    from postlab.datasets import code_rows, json_rows

    if task == "code":
        rows = code_rows("tinyworld", split=split, n=n, seed=seed)
        return [row | {"few": row["tests"][:FEW]} for row in rows]
    rows = json_rows("tinyworld", split=split, n=n, seed=seed)
    return [row | {"truth": true_schema(row)} for row in rows]


def true_schema(row: dict) -> str:
    """The row's schema with the true values as the only ones allowed."""
    schema, record = json.loads(row["schema"]), json.loads(row["completion"][0]["content"])
    values = {field: {"const": value} for field, value in record.items()}
    return json.dumps(schema | {"properties": values})


def same_record(reply: str, gold: str) -> bool:
    """Whether a reply is the gold record, read without the reward's reader."""
    try:
        return json.loads(reply) == json.loads(gold)
    except ValueError:
        return False


def warm_start(task: str, folder: Path) -> Path:
    """The DPO stage after a short SFT on a task's gold rows; the folder of its adapter."""
    if (folder / "adapter_config.json").exists():
        return folder
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    how = SETTINGS["warm"]
    model, tokenizer = policy(Lab(get_profile("tiny"), 0).checkpoint("dpo"))
    rows = rows_of(task, "train", how[task]["rows"], seed=7)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = {
            **get_profile("tiny").sft.trainer, "max_steps": how[task]["steps"], "warmup_steps": 0,
            "learning_rate": how["lr"], "save_strategy": "no",
        }  # fmt: skip
        SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
            args=SFTConfig(output_dir=scratch, seed=0, **arguments),
        ).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def worth(task: str, model: Any, tokenizer: Any) -> dict[str, Any]:
    """What the greedy reply to every held-out prompt is worth, by each measure; some replies."""
    from postlab.evals import evaluate
    from postlab.rewards import code_reward, schema_reward

    rows = rows_of(task, "heldout", SETTINGS["heldout"], seed=100)
    asked = [
        {"id": str(i), "family": task, "prompt": row["prompt"], "score": lambda *_: {}}
        | {"max_new_tokens": SETTINGS["completion_tokens"]}
        for i, row in enumerate(rows)
    ]
    replies = list(evaluate(model.eval(), tokenizer, asked)["answer"])
    if task == "code":
        measures = {
            name: code_reward(replies, tests=[row[name] for row in rows])
            for name in ("few", "tests", "held_back")
        }
    else:
        gold = [row["completion"][0]["content"] for row in rows]
        measures = {"schema": schema_reward(replies, schema=[row["schema"] for row in rows])}
        measures["true"] = [float(same_record(*pair)) for pair in zip(replies, gold, strict=True)]
    shown = [[row["prompt"][0]["content"], r] for row, r in zip(rows, replies, strict=True)]
    return {name: listed(values) for name, values in measures.items()} | {"replies": shown[:40]}


def run(arm: str, seed: int, start: Path) -> dict[str, Any]:
    """Train one arm with one seed; its log, what held-out replies are worth after, and seconds."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.rewards import code_reward, schema_reward
    from postlab.rollout_trl import rollout_func

    task, column = ARMS[arm]["task"], ARMS[arm]["column"]
    model, tokenizer = policy(start)
    rewarded = "tests" if task == "code" else "schema"
    grpo = get_profile("tiny").grpo
    rows = [
        {"prompt": row["prompt"], rewarded: row[column]}
        for row in rows_of(task, "train", grpo.rows, seed)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            **grpo.trainer, "max_steps": SETTINGS["steps"], "learning_rate": SETTINGS["lr"],
            "max_completion_length": SETTINGS["completion_tokens"], "save_strategy": "no",
        }  # fmt: skip
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=code_reward if task == "code" else schema_reward,
            train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(output_dir=folder, seed=seed, **arguments),
            rollout_func=rollout_func,
        )
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    after = worth(task, trainer.model, tokenizer)
    return {
        "arm": arm,
        "task": task,
        "seed": seed,
        "end": after,
        "log": {name: listed(entry[name] for entry in log) for name in LOGGED},
        "train_s": round(seconds, 1),
    }


def main() -> None:
    parts = run_root() / "week08-tasks"
    parts.mkdir(parents=True, exist_ok=True)
    steps = (policy, rows_of, true_schema, same_record, warm_start, worth, run)
    made = {
        "settings": SETTINGS,
        "arms": ARMS,
        "package": package_source(*CODE),
        "own": [inspect.getsource(step) for step in steps],
        "recipe": {
            name: dict(getattr(get_profile("tiny"), name).trainer) for name in ("sft", "grpo")
        },
        "start": weights_hash(Path(Lab(get_profile("tiny"), 0).checkpoint("dpo"))),
    }
    key, begun = digest(made)[:12], time.perf_counter()
    warm, starts = {}, {}
    for task in ("code", "json"):
        warm[task] = warm_start(task, parts / f"{key}-{task}")
        part = parts / f"{key}-{task}-start.json"
        starts[task] = finished(
            part, lambda task=task: worth(task, *policy(warm[task])), begun=begun
        )
    runs = []
    for seed in SEEDS:
        for arm, how in ARMS.items():
            part = parts / f"{key}-{arm.replace(' ', '-')}-{seed}.json"
            runs.append(finished(part, partial(run, arm, seed, warm[how["task"]]), begun=begun))
    for one in runs[len(ARMS) :]:  # replies of the first seed are kept, as samples
        one["end"].pop("replies", None)
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(command, seeds=SEEDS, packages=("torch", "transformers", "trl", "peft"))
    made_by["training_minutes"] = round(sum(part["train_s"] for part in runs) / 60, 1)
    result = {"provenance": made_by, "settings": SETTINGS, "arms": ARMS, "start": starts}
    write_result(TARGET, result | {"runs": runs})
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
