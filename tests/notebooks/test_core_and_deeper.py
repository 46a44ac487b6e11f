"""A notebook's core runs alone, and each deeper section needs the core and nothing else."""

from __future__ import annotations

import builtins
import re
from pathlib import Path

import pytest
from exercise_tools import SOURCES
from modules import module_at

cells_test = module_at(Path(__file__).with_name("test_stages.py"), "test_stages")
bound, needed = cells_test.bound, cells_test.needed  # names that a cell makes, and takes
cells_of = cells_test.stages.cells_of
DEEPER = re.compile(r"^# ## Deeper: ", re.M)
SECTION = re.compile(r"^# ## ", re.M)
LINK = re.compile(r"\]\(#([\w-]+)\)")
SPLIT = [source for source in SOURCES if DEEPER.search(source.read_text(encoding="utf-8"))]


def sections(text: str) -> list[tuple[bool, list[str]]]:
    """The cells of each section in order, and whether it is a deeper one."""
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    for cell in cells_of(text):
        if cell.startswith("# %% [markdown]") and SECTION.search(cell):
            parts.append((bool(DEEPER.search(cell)), []))
        parts[-1][1].append(cell)
    return parts


def missing(text: str) -> list[str]:
    """What core cells, and each deeper section after them, take from elsewhere."""
    known, faults = set(dir(builtins)) | {"__name__", "__file__"}, []

    def walk(cells: list[str], known: set[str]) -> set[str]:
        for cell in cells:
            if not cell.startswith("# %% [markdown]"):
                known = known | bound(cell)
                faults.extend(sorted(needed(cell) - known))
        return known

    for deeper, cells in sections(text):
        if not deeper:
            known = walk(cells, known)
    for deeper, cells in sections(text):
        if deeper:
            walk(cells, known)
    return faults


@pytest.mark.parametrize("source", SPLIT, ids=lambda path: path.stem)
def test_the_core_and_each_deeper_section_run_without_the_others(source):
    assert missing(source.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source", SPLIT, ids=lambda path: path.stem)
def test_the_table_of_contents_links_to_every_deeper_section(source):
    text = source.read_text(encoding="utf-8")
    links, anchors = set(LINK.findall(text)), re.findall(r'<a id="([\w-]+)"', text)
    assert links <= set(anchors) and len(set(anchors)) == len(anchors)
    targets = re.findall(r'^# <a id="([\w-]+)"[^\n]*\n# ## Deeper: ', text, re.M)
    assert len(targets) == len(DEEPER.findall(text)) and set(targets) <= links


TEXT = """\
# %% [markdown]
# # Week
# %%
a = 1
# %% [markdown]
# ## Deeper: one
# %%
b = a
# %% [markdown]
# ## Deeper: two
# %%
c = b + a
# %% [markdown]
# ## The end
# %%
a + c
"""


def test_a_cell_that_needs_a_deeper_section_is_found():
    assert missing(TEXT) == ["c", "b"]
    assert missing(TEXT.replace("a + c", "a").replace("b + a", "a")) == []
