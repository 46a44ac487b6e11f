"""Puzzles of reasoning-gym as rows for GRPO, and their verifiers as a reward in TRL's protocol.

reasoning-gym generates any number of puzzles, and each one has a `score_answer`. These verifiers
give partial credit for form and for half-right answers. Some raise an error if they get an answer
they didn't expect, some refuse answers in a code fence, and some pass the answer to `eval`.
So here a puzzle is either solved or not, an answer that makes its verifier raise is wrong, a fence
around the whole reply is removed, and tasks whose verifier executes answers are refused.

A row says which puzzle it is (task, seed, index), and the reward generates the puzzle again,
because what a verifier needs can't always be stored in a column.

Left out: the difficulty settings of a task, and wrong answers that a verifier accepts as solved
(week 8 probes some). Needs the package: `pip install "postlab[gym]"`.
"""

from __future__ import annotations

import importlib
import json
from functools import lru_cache
from typing import Any

from postlab.datasets import Rows
from postlab.rewards import after_thinking, fenced, reply_text

HELDOUT_SEED = 1_000_003  # puzzles of another seed
# Their score_answer hands the answer to eval, or to sympy's parse_expr, which is eval as well.
RUNS_ANSWERS = {
    *("binary_matrix", "countdown", "intermediate_integration", "n_queens", "puzzle24"),
    *("polynomial_multiplication", "simple_integration", "spiral_matrix", "string_insertion"),
}


def gym_rows(task: str, *, split: str, n: int = 100, seed: int = 0) -> list[dict]:
    """Rows for GRPOTrainer and gym_reward: `prompt`, a list of messages, and `puzzle`.

    Args:
        task: a name of reasoning-gym's, such as "knights_knaves".
        split: "train", or "heldout": puzzles from other seeds, without any question that the same
            call with "train" returns.
        n: number of rows.
        seed: another seed gives other puzzles.
    Raises:
        ImportError: if reasoning-gym is not installed.
        ValueError: for an unknown task or split, or a task whose verifier runs answers.
    Source: Stojanovski et al. 2025, arXiv 2505.24760. Taught in week 8.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"split {split!r} is unknown; expected 'train' or 'heldout'")
    training: set[str] = set()
    if split == "heldout":
        training = {
            row["prompt"][0]["content"] for row in gym_rows(task, split="train", n=n, seed=seed)
        }
        seed += HELDOUT_SEED
    dataset, index = puzzles(task, seed=seed, size=4 * n), 0
    rows: list[dict] = []
    while len(rows) < n and index < 4 * n:
        question = dataset[index]["question"]
        if question not in training:
            puzzle = json.dumps({"task": task, "seed": seed, "index": index})
            rows.append({"prompt": [{"role": "user", "content": question}], "puzzle": puzzle})
        index += 1
    return Rows(rows, f"reasoning-gym's {task}", {"asked in training too": index - len(rows)})


def gym_reward(completions: list, puzzle: list, **columns: Any) -> list[float | None]:
    """1.0 if reasoning-gym gives a completion full marks for its puzzle, else 0.0.

    Args:
        completions: strings, or lists of messages, as TRL passes them.
        puzzle: which puzzle each of them answers, as written by `gym_rows`.
        columns: the other columns of the batch, which are not used.
    Returns:
        One reward per completion; None if `puzzle` doesn't say which puzzle it is.
    Raises:
        ImportError: if reasoning-gym is not installed.
        ValueError: if the numbers of puzzles and completions differ, or a task's verifier would
            execute the answer as a program.
    Source: Stojanovski et al. 2025, arXiv 2505.24760. Taught in week 8.
    """
    if len(completions) != len(puzzle):
        raise ValueError(
            f"gym_reward got {len(completions)} completions and {len(puzzle)} puzzles; the "
            "dataset's column `puzzle` must contain what gym_rows put there, one per row"
        )
    return [
        _solved(_answer(after_thinking(reply_text(completion)).strip()), text)
        for completion, text in zip(completions, puzzle, strict=True)
    ]


def puzzles(task: str, *, seed: int, size: int) -> Any:
    """reasoning-gym's dataset for a task; the same seed gives the same puzzles.

    Raises:
        ImportError, ValueError: as `gym_reward` does, and for an unknown task.
    """
    try:
        gym = importlib.import_module("reasoning_gym")
    except ImportError:
        raise ImportError(
            "reasoning-gym is not installed, and its puzzles need it: "
            'pip install "postlab[gym]", or pip install reasoning-gym==0.1.25'
        ) from None
    if task in RUNS_ANSWERS:
        raise ValueError(
            f"{task!r} is refused: its verifier runs the model's answer as Python, outside any "
            "sandbox. Take another task"
        )
    if task not in gym.factory.DATASETS:
        known = ", ".join(sorted(set(gym.factory.DATASETS) - RUNS_ANSWERS))
        raise ValueError(f"reasoning-gym has no task {task!r}; it has {known}")
    return gym.create_dataset(task, seed=seed, size=size)


@lru_cache(maxsize=4096)
def _entry(text: str) -> tuple[Any, dict] | None:
    """The verifier and the puzzle that a row names; the puzzle is generated again, not stored."""
    try:
        named = json.loads(text)
        task, seed, index = named["task"], int(named["seed"]), int(named["index"])
    except (ValueError, TypeError, KeyError):
        return None
    dataset = puzzles(task, seed=seed, size=index + 1)
    return dataset.score_answer, dataset[index]


def _answer(reply: str) -> str:
    """The reply without its code fence: some questions ask for one, but no verifier reads it."""
    blocks = fenced(reply)
    whole = len(blocks) == 1 and reply.startswith("```") and reply.endswith("```")
    return blocks[0][1].strip() if whole else reply


def _solved(answer: str, text: str) -> float | None:
    verifier = _entry(text)
    if verifier is None:
        return None
    score, entry = verifier
    try:
        return float(score(answer, entry) >= 1.0)
    except Exception:  # the verifier didn't expect such an answer, so it counts as wrong
        return 0.0
