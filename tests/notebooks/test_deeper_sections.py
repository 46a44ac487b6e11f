"""Deeper sections can be skipped, and read in any order: each needs the core and itself only."""

from __future__ import annotations

import ast
import builtins
import re

import nbformat
import pytest
from exercise_tools import SOURCES, build

DEEPER = re.compile(r"^## Deeper: (.+)$", re.M)
ANY_ORDER = {2}  # weeks that promise it


def sections(notebook: nbformat.NotebookNode) -> dict[str, list[str]]:
    """Code cells by section: "core", then the title of each deeper one."""
    parts: dict[str, list[str]] = {"core": []}
    for cell in notebook.cells:
        heading = DEEPER.search(cell.source) if cell.cell_type == "markdown" else None
        if heading:
            parts[heading[1]] = []
        elif cell.cell_type == "code":
            parts[next(reversed(parts))].append(cell.source)
    return parts


def names(cells: list[str]) -> tuple[set[str], set[str]]:
    """The names that cells define, and those that they read."""
    defined, read = set(), set()
    for node in ast.walk(ast.parse("\n".join(cells))):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return defined, read


def missing(notebook: nbformat.NotebookNode) -> dict[str, set[str]]:
    parts = sections(notebook)
    core, _ = names(parts["core"])
    lacking = {}
    for title, cells in parts.items():
        defined, read = names(cells)
        lacking[title] = read - defined - core - set(dir(builtins))
    return {title: lacks for title, lacks in lacking.items() if lacks}


@pytest.mark.parametrize(
    "source", [s for s in SOURCES if build.week_number(s) in ANY_ORDER], ids=lambda path: path.stem
)
def test_a_deeper_section_needs_the_core_and_itself_only(source):
    notebook = build.notebook_of(source, None)
    assert len(sections(notebook)) > 3
    assert missing(notebook) == {}


def test_a_name_from_another_deeper_section_is_noticed():
    cells = ["a = 1", "## Deeper: one", "b = a", "## Deeper: two", "print(a, b)"]
    v4 = nbformat.v4
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell(text) if text.startswith("#") else v4.new_code_cell(text)
            for text in cells
        ]
    )
    assert missing(notebook) == {"two": {"b"}}
