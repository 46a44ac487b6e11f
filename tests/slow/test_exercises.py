"""Every notebook with exercises runs to its end, solved, half solved and all wrong.

Solutions are the notebook's own folded ones, wrong answers from its mistakes. A check returns
a function that is right in each case, so the cells that compare their output say in all variants
what the committed notebook says.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from exercise_tools import (
    SOURCES,
    ExerciseCell,
    answered,
    build,
    exercises_of,
    wrong_source,
)

WITH_EXERCISES = [s for s in SOURCES if exercises_of(build.notebook_of(s, None))]
SAYS = {
    "right": "✓ {name}: right",
    "wrong": "✗ {name}: Not yet. ",
    "untouched": "· {name}: not attempted, going on with the reference",
}


def plan(variant: str, found: list[ExerciseCell]) -> dict[str, str]:
    """Exercise -> what its check should say of it."""
    if variant == "half":
        half = (len(found) + 1) // 2
        return {e.name: "right" if i < half else "untouched" for i, e in enumerate(found)}
    return {e.name: {"solved": "right", "wrong": "wrong"}[variant] for e in found}


def answer(found: ExerciseCell, planned: str) -> str | None:
    """The source that goes in place of the stub."""
    if planned == "right":
        return found.solution
    return wrong_source(found.name) if planned == "wrong" else None


def said(cell: nbformat.NotebookNode) -> str:
    """What a cell says; pictures, HTML and warnings, which depend on the processor, left out."""
    texts = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout"]
    texts += [o.data.get("text/plain", "") for o in cell.outputs if "data" in o]
    return "".join(texts)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("variant", ["solved", "wrong", "half"])
@pytest.mark.parametrize("source", WITH_EXERCISES, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(
    source: Path, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POSTLAB_PROFILE", "tiny")
    untouched = build.notebook_of(source, build.repository())
    found = exercises_of(untouched)
    planned = plan(variant, found)
    answers = {e.name: text for e in found if (text := answer(e, planned[e.name]))}
    notebook = answered(untouched, answers)
    build.execute(notebook, tmp_path / "runs")  # raises at the first cell that does
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    for one in found:
        expected = SAYS[planned[one.name]].format(name=one.name)
        assert expected in said(notebook.cells[one.index])
    built = build.NOTEBOOKS / f"{source.stem}.ipynb"
    committed = nbformat.read(built, as_version=4)
    exercises = {one.index for one in found}
    for index, (ours, theirs) in enumerate(zip(notebook.cells, committed.cells, strict=True)):
        if ours.source.startswith("# NBVAL_CHECK_OUTPUT") and index not in exercises:
            assert said(ours) == said(theirs), ours.source
