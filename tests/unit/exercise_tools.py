"""Exercises for tests: their checks, their wrong answers, and their cells in a notebook."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from modules import module_at

from postlab.course import check as checks
from postlab.course.check._parts import Exercise

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks" / "src").glob("week*.py"))
NAMES = list(checks.WEEKS)
SOLUTION = re.compile(
    r"<details><summary>Solution</summary>\s*\n```python\n(.*?)\n```\s*\n</details>", re.S
)

IMPORTS = """import math, re, torch
import torch.nn.functional as F
from postlab.scratch.grpo import grpo_loss
from postlab.scratch.losses import sft_loss
from postlab.scratch.policy_gradient import group_advantages
from postlab.scratch.sampling import completion_states
from postlab.scratch.tokens import token_logps"""  # what a notebook has imported by an exercise
build = module_at(ROOT / "notebooks" / "build.py", "notebook_builder")


def exercise(name: str) -> Exercise:
    module = importlib.import_module(f"postlab.course.{checks.WEEKS[name]}.exercises")
    return getattr(module, name.upper())


def wrong_source(name: str) -> str:
    """The exercise's first wrong answer as a learner's cell has it, with the imports it needs."""
    text = exercise(name).wrong_answers[0].text
    return f"{IMPORTS}\n\n{text}"


@dataclass(frozen=True)
class ExerciseCell:
    """One exercise of a notebook.

    Args:
        name: of the function and its check.
        index: of its code cell.
        stub: the function's definition in that cell, None if it has none.
        before, after: the prose between this code cell and the ones around it.
    """

    name: str
    index: int
    stub: ast.FunctionDef | None
    before: str
    after: str

    @property
    def solution(self) -> str | None:
        """The folded solution which follows."""
        found = SOLUTION.search(self.after)
        return found[1] if found else None


def exercises_of(notebook: nbformat.NotebookNode) -> list[ExerciseCell]:
    """Every cell with `name = check.name(name)`, in order."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or "check." not in cell.source:
            continue
        body = ast.parse(cell.source).body
        stubs = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
        for node in body:
            call = re.fullmatch(r"(\w+) = check\.(\w+)\((\w+)\)", ast.unparse(node))
            if call and len(set(call.groups())) == 1:
                sides = (prose(notebook, index, step) for step in (-1, 1))
                found.append(ExerciseCell(call[1], index, stubs.get(call[1]), *sides))
    return found


def prose(notebook: nbformat.NotebookNode, index: int, step: int) -> str:
    """The markdown between a cell and the next code cell in a direction."""
    cells, parts = notebook.cells, []
    index += step
    while 0 <= index < len(cells) and cells[index].cell_type == "markdown":
        parts.append(cells[index].source)
        index += step
    return "\n\n".join(parts[::step])


def answered(notebook: nbformat.NotebookNode, answers: dict[str, str]) -> nbformat.NotebookNode:
    """A copy in which the stubs of the named exercises are replaced by these sources."""
    copy = nbformat.from_dict(notebook)
    for found in exercises_of(notebook):
        if found.name in answers:
            cell = copy.cells[found.index]
            lines = cell.source.splitlines()
            lines[found.stub.lineno - 1 : found.stub.end_lineno] = answers[found.name].splitlines()
            cell.source = "\n".join(lines)
    return copy
