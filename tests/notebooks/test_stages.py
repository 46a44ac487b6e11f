"""`make stages` leaves the asides out: nothing that stays may need what they make."""

from __future__ import annotations

import builtins
import doctest
import symtable
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from modules import module_at

stages = module_at(Path(__file__).resolve().parents[2] / "notebooks" / "stages.py", "stages")
SCRIPTS = sorted(stages.SOURCES.glob("week*.py"))
OF_STAGES = [s for s in SCRIPTS if s.name[4:6] in ("03", "05", "07", "09", "10", "11", "12")]


def tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from tables(child)


def bound(source: str) -> set[str]:
    """Names that a cell binds at the top of the module."""
    symbols = symtable.symtable(source, "cell", "exec").get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}


def needed(source: str) -> set[str]:
    """Names that a cell takes from the module, in its functions and comprehensions as well."""
    top = symtable.symtable(source, "cell", "exec")
    return {
        s.get_name()
        for table in tables(top)
        for s in table.get_symbols()
        if s.is_referenced() and (table is top or s.is_global())
    }


def missing(text: str) -> list[str]:
    """`name` of each cell that stays and takes something that only an aside has made."""
    known, found = set(dir(builtins)) | {"__name__", "__file__"}, []
    for cell in stages.cells_of(stages.without_asides(text)):
        if cell.startswith("# %% [markdown]"):
            continue
        known |= bound(cell)
        found += sorted(needed(cell) - known)
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_cell_that_stays_needs_an_aside(script: Path):
    assert missing(script.read_text(encoding="utf-8")) == []


def test_a_cell_that_needs_an_aside_is_found():
    text = '# %%\na = 1\n# %% tags=["aside"]\ndef f(): return a\n# %%\n[f() for _ in range(a)]\n'
    assert missing(text) == ["f"]
    assert missing(text.replace('tags=["aside"]', "")) == []


@pytest.mark.parametrize("script", OF_STAGES, ids=lambda path: path.stem)
def test_what_makes_and_measures_a_stage_is_no_aside(script: Path):
    text = script.read_text(encoding="utf-8")
    assert len(stages.without_asides(text).splitlines()) == len(text.splitlines())
    kept = stages.for_the_stage(text)
    assert stages.without_asides(text).startswith(kept)
    made = ("\nlog = run.train(", "\nafter = lab.evaluate(", "\nafter = tiny.evaluate(run")
    made += ("\nrun.save_eval(", "\nrun.save_curation(", "\nreport = lab.")
    calls = [c for c in made if c in text]
    assert calls and all(kept.count(call) == text.count(call) for call in calls)


@pytest.mark.parametrize("script", OF_STAGES, ids=lambda path: path.stem)
def test_what_follows_a_stage_makes_nothing_and_asserts_nothing(script: Path):
    text = stages.without_asides(script.read_text(encoding="utf-8"))
    rest = text.removeprefix(stages.for_the_stage(script.read_text(encoding="utf-8")))
    code = [c for c in stages.cells_of(rest) if not c.startswith("# %% [markdown]")]
    assert code and not any("assert " in c or "run." in c or "lab.evaluate(" in c for c in code)


def test_doctest():
    result = doctest.testmod(stages)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("given", [[], ["3"], ["99"], ["*"], ["03", "05"]])
def test_a_week_that_is_none_is_named(given, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stages.py", *given])
    with pytest.raises(SystemExit, match="expected the number of one"):
        stages.main()
