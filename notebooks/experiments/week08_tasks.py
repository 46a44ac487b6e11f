"""Week 8's recorded experiment beyond sums: functions paid by tests, and JSON paid by a schema.

    python notebooks/experiments/week08_tasks.py

From the shipped DPO stage a short SFT on gold rows, one warm start a task, and then short runs of
TRL's GRPOTrainer, three seeds an arm. Functions are paid by all of a row's tests, or by its first
two alone, whose lists hold small numbers only. Records are paid by their schema, or by the same
schema with the true values as the only ones allowed. Every finished run is kept under
`runs/week08-tasks/`, so an interrupted experiment goes on where it stopped; the result is written
to data/results/week08/tasks.json.

Kept of each run: its log, and of every held-out prompt what the greedy reply is worth, before and
after: by the rewards of its task, and by a stricter check (further tests; the true record, compared
field by field, which is also what the second arm on records is paid by). A seed decides prompts,
their order and the draws; warm starts are the same for all. No rate was tuned for any arm.

Programs run in the sandbox of `code_reward`, which refuses where a machine gives no namespaces.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
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
    train,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week08" / "tasks.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld",
    "evals.evaluation",
    "sampling.rollout",
    "sampling.trl",
    "sampling.decoding",
    "rewards.code",
)
CODE += ("rewards.schema", "rewards._asserts", "rewards._tests", "rewards._jail", "rewards._reply")
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
    how = SETTINGS["warm"]
    model, tokenizer = policy(shipped("dpo"))
    arguments = {
        **get_profile("tiny").sft.trainer, "max_steps": how[task]["steps"], "warmup_steps": 0,
        "learning_rate": how["lr"], "save_strategy": "no",
    }  # fmt: skip
    rows = rows_of(task, "train", how[task]["rows"], seed=7)
    train("sft", model, tokenizer, rows, seed=0, arguments=arguments)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def worth(task: str, model: Any, tokenizer: Any) -> dict[str, Any]:
    """What the greedy reply to every held-out prompt is worth, by each measure; some replies."""
    from postlab.evals import evaluate
    from postlab.rewards import code_reward, schema_reward

    rows = rows_of(task, "heldout", SETTINGS["heldout"], seed=100)
    prompts = [
        {"id": str(i), "family": task, "prompt": row["prompt"], "score": lambda *_: {}}
        | {"max_new_tokens": SETTINGS["completion_tokens"]}
        for i, row in enumerate(rows)
    ]
    replies = list(evaluate(model.eval(), tokenizer, prompts)["answer"])
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


def start(task: str, folder: Path) -> dict[str, Any]:
    """What the replies of a warm start are worth."""
    return worth(task, *policy(folder))


def run(arm: str, seed: int, *, starts: dict[str, Path]) -> dict[str, Any]:
    """Train one arm with one seed; its log, what held-out replies are worth after, and seconds."""
    from postlab.rewards import code_reward, schema_reward
    from postlab.sampling import rollout_func

    task, column = ARMS[arm]["task"], ARMS[arm]["column"]
    rewarded = "tests" if task == "code" else "schema"
    grpo = get_profile("tiny").grpo
    model, tokenizer = policy(starts[task])
    trained = train(
        "grpo", model, tokenizer,
        [
            {"prompt": row["prompt"], rewarded: row[column]}
            for row in rows_of(task, "train", grpo.rows, seed)
        ],
        seed=seed,
        arguments={
            **grpo.trainer, "max_steps": SETTINGS["steps"], "learning_rate": SETTINGS["lr"],
            "max_completion_length": SETTINGS["completion_tokens"], "save_strategy": "no",
        },
        reward_funcs=code_reward if task == "code" else schema_reward,
        rollout_func=rollout_func,
    )  # fmt: skip
    return {
        "arm": arm,
        "task": task,
        "seed": seed,
        "end": worth(task, trained.model, tokenizer),
        "log": log_series(trained.log, LOGGED),
        "train_s": round(trained.seconds, 1),
    }


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    profile = get_profile("tiny")
    settings = {
        "settings": SETTINGS, "arms": ARMS, "logged": LOGGED, "start": adapter_hash("dpo"),
        "recipes": {"sft": dict(profile.sft.trainer), "grpo": dict(profile.grpo.trainer)},
    }  # fmt: skip
    key = arm_key(settings, *CODE, own=__file__)
    warm, before = {}, {}
    for task in ("code", "json"):
        warm[task] = warm_start(task, arms.folder / f"{key}-{task}")
        before[task] = arms.result(f"{task} start", key, partial(start, task, warm[task]))
    runs = arms.run_all(ARMS, SEEDS, partial(run, starts=warm), key=lambda arm: key)
    for one in runs[len(ARMS) :]:  # replies of the first seed are kept, as samples
        one["end"].pop("replies", None)
    record = {"settings": SETTINGS, "arms": ARMS, "start": before, "runs": runs}
    took = minutes(one["train_s"] for one in runs)
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
