"""Prose is shown as it was written: two dollar amounts don't make a formula."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from exercise_tools import SOURCES
from modules import module_at

cells_of = module_at(Path(__file__).with_name("test_stages.py"), "test_stages").stages.cells_of
CODE = re.compile(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$", re.S)
# What JupyterLab sets as a formula: from one dollar sign to the next in a paragraph.
SPAN = re.compile(r"(?<!\\)\$([^$]+?)(?<!\\)\$")
PROSE = re.compile(r"^[\d.,]+ (?:[a-z]{3,}|a|of|on|to|for)\b")


def amounts_as_formulas(text: str) -> list[str]:
    found = []
    for cell in cells_of(text):
        if cell.startswith("# %% [markdown]"):
            shown = CODE.sub(" ", re.sub(r"(?m)^# ?", "", cell))
            paragraphs = re.split(r"\n\s*\n", shown)
            found += [s for part in paragraphs for s in SPAN.findall(part) if PROSE.match(s)]
    return found


EXTRAS = sorted((Path(__file__).resolve().parents[2] / "notebooks" / "extras").glob("*.py"))


@pytest.mark.parametrize("source", [*SOURCES, *EXTRAS], ids=lambda path: path.stem)
def test_no_amounts_are_set_as_a_formula(source):
    assert amounts_as_formulas(source.read_text(encoding="utf-8")) == []


def test_amounts_that_would_be_a_formula_are_found():
    cell = "# %% [markdown]\n# The same $150 spent on labels covers 50 pairs. At $268 a point\n"
    assert amounts_as_formulas(cell) == ["150 spent on labels covers 50 pairs. At "]
    assert amounts_as_formulas("# %% [markdown]\n# At $0.5$ and $2 \\pi$, $150 is enough.\n") == []
