"""Puzzles of reasoning-gym as rows for GRPO: logic, constraints, plans of actions, and many more.

A row says which puzzle it is (task, seed, index), and `rewards.gym.gym_reward` makes it again: what
a verifier needs to know cannot always be stored in a column. Left out: a task's own settings of
difficulty, and curricula. Needs the package: `pip install "postlab[gym]"`.
"""

from __future__ import annotations

import json

from postlab.datasets import _rows
from postlab.rewards.gym import puzzles

HELDOUT_SEED = 1_000_003  # puzzles of another seed


def gym_rows(task: str, *, split: str, n: int = 100, seed: int = 0) -> list[dict]:
    """Rows for GRPOTrainer and gym_reward: `prompt`, a list of messages, and `puzzle`.

    Args:
        task: a name of reasoning-gym's, such as "knights_knaves".
        split: "train", or "heldout": puzzles from other seeds, and none whose question the same
            call with "train" gives.
        n: how many.
        seed: another seed, other puzzles.
    Raises:
        ImportError: if reasoning-gym is not installed.
        ValueError: for an unknown task or split, or a task whose verifier runs answers.
    Source: Stojanovski et al. 2025, arXiv 2505.24760. Taught in week 8.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"split {split!r} is unknown; expected 'train' or 'heldout'")
    seen = set()
    if split == "heldout":
        seen = {
            row["prompt"][0]["content"] for row in gym_rows(task, split="train", n=n, seed=seed)
        }
        seed += HELDOUT_SEED
    made, rows, index = puzzles(task, seed=seed, size=4 * n), [], 0
    while len(rows) < n and index < 4 * n:
        asked = made[index]["question"]
        if asked not in seen:
            puzzle = json.dumps({"task": task, "seed": seed, "index": index})
            rows.append({"prompt": [{"role": "user", "content": asked}], "puzzle": puzzle})
        index += 1
    return _rows.Rows(rows, f"reasoning-gym's {task}", {"asked in training too": index - len(rows)})
