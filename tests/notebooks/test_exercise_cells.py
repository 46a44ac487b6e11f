"""Exercises in the notebooks: stub, hints, folded solution and check, and the week's counts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from exercise_tools import (
    IMPORTS,
    NAMES,
    SOURCES,
    ExerciseCell,
    answered,
    build,
    exercise,
    exercises_of,
    wrong_source,
)

from postlab.course import check as checks
from postlab.course.check._exercise import examine

# Weeks whose exercises are still to be written. A week leaves this list with its first exercise:
# the test below fails for one that has any.
LATER = {12}
HEADING = re.compile(
    r"^### Exercise (\d+)\.(\d+) · about (\d+) minutes · (easy|medium|hard)$", re.M
)
QUESTIONS = re.compile(r"^#{2,3} [^\n]*interview[^\n]*\n(.*?)(?=^#{2,3} |\Z)", re.M | re.S | re.I)


def stem(path: Path) -> str:
    return path.stem


def markdown(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def taught(week: int) -> list[str]:
    """The names of a week's checks, in order."""
    return [name for name, module in checks.WEEKS.items() if module == f"week{week:02d}"]


def faults_of_exercise(found: ExerciseCell, week: int, number: int) -> list[str]:
    """What an exercise of a notebook lacks."""
    said = []
    heading = HEADING.search(found.before)
    if not heading:
        said.append(f"no '### Exercise {week}.{number} · about N minutes · easy' before its cell")
    elif (int(heading[1]), int(heading[2])) != (week, number):
        said.append(f"its heading says {heading[1]}.{heading[2]}, it is {week}.{number}")
    if not re.search(r"<details><summary>Hint", found.before):
        said.append("no folded hint before it")
    if found.stub is None:
        said.append("its cell does not define the function")
    elif [*map(ast.unparse, found.stub.body)] != ["raise NotImplementedError"]:
        said.append("the stub is not `raise NotImplementedError` alone")
    if found.solution is None:
        return [*said, "no folded solution after it"]
    space: dict = {}
    exec(IMPORTS, space)
    exec(found.solution, space)
    if found.name not in space:
        return [*said, "the solution defines another name"]
    outcome = examine(exercise(found.name), space[found.name])
    return said if outcome.status == "right" else [*said, f"the solution fails: {outcome.message}"]


def faults_of_week(notebook: nbformat.NotebookNode, week: int) -> list[str]:
    """What a notebook lacks of the design's rhythm."""
    found, text = exercises_of(notebook), markdown(notebook)
    said = []
    if [e.name for e in found] != taught(week):
        said.append(f"exercises {[e.name for e in found]}, checks {taught(week)}")
    for number, one in enumerate(found, start=1):
        said += [f"{one.name}: {fault}" for fault in faults_of_exercise(one, week, number)]
    if not 2 <= len(found) <= 4:
        said.append(f"{len(found)} exercises; expected two to four")
    predictions = text.count("**Predict first.**")
    if not 3 <= predictions <= 5:
        said.append(f"{predictions} times 'Predict first.'; expected three to five")
    if sum("# NBVAL_CHECK_OUTPUT" in cell.source for cell in notebook.cells) < 5:
        said.append("fewer than five cells compare their output")
    questions = QUESTIONS.search(text)
    asked = questions[1] if questions else ""
    numbers = re.findall(r"(?:\*\*|<summary>)(\d)\.", asked)
    if numbers != list("12345") or asked.count("<details>") != 5:
        said.append(f"interview questions {numbers}, {asked.count('<details>')} folded; expected 5")
    if not re.search(r"^\*\*Papers\.\*\*", text, re.M):
        said.append("no '**Papers.**' that says what to read them for")
    return said


# --- the notebooks ---

WRITTEN = [source for source in SOURCES if build.week_number(source) not in LATER]


@pytest.mark.parametrize("source", WRITTEN, ids=stem)
def test_a_week_has_what_the_design_asks(source: Path):
    assert faults_of_week(build.notebook_of(source, None), build.week_number(source)) == []


@pytest.mark.parametrize("source", [s for s in SOURCES if build.week_number(s) in LATER], ids=stem)
def test_a_later_week_has_no_exercise_yet(source: Path):
    notebook = build.notebook_of(source, None)
    week = build.week_number(source)
    assert not exercises_of(notebook) and not taught(week), (
        f"week {week} has exercises now: take it out of LATER"
    )


def check_names(source: Path) -> list[str]:
    return [found.name for found in exercises_of(build.notebook_of(source, None))]


def test_every_check_is_some_weeks_exercise():
    weeks = {build.week_number(source) for source in WRITTEN if check_names(source)}
    assert {int(module.removeprefix("week")) for module in checks.WEEKS.values()} == weeks


# --- the tools, on a made-up week ---

MADE_UP = """\
# %% [markdown]
# # Week 4
#
# **Predict first.** One.
#
# ### Exercise 4.1 · about 5 minutes · easy
#
# The loss of a pair.
#
# <details><summary>Hint 1</summary>A difference.</details>

# %%
from postlab import check


def bradley_terry_loss(chosen_rewards, rejected_rewards):
    raise NotImplementedError


bradley_terry_loss = check.bradley_terry_loss(bradley_terry_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def bradley_terry_loss(chosen_rewards, rejected_rewards):
#     return -F.logsigmoid(chosen_rewards - rejected_rewards)
# ```
#
# </details>
#
# **Predict first.** Two.

# %%
# NBVAL_CHECK_OUTPUT
1 + 1

# %% [markdown]
# **Predict first.** Three.
#
# ### Exercise 4.2 · about 5 minutes · medium
#
# <details><summary>Hint</summary>Backwards.</details>

# %%
def gae(rewards, values, mask, *, gamma, lam):
    raise NotImplementedError


gae = check.gae(gae)
"""


@pytest.fixture
def made_up(tmp_path: Path) -> nbformat.NotebookNode:
    path = tmp_path / "week04_made_up.py"
    path.write_text(MADE_UP, encoding="utf-8")
    return build.notebook_of(path, None)


def test_exercises_are_found_with_their_solutions(made_up: nbformat.NotebookNode):
    first, second = exercises_of(made_up)
    assert (first.name, first.index, second.name, second.index) == (
        "bradley_terry_loss",
        1,
        "gae",
        5,
    )
    assert first.solution.endswith("    return -F.logsigmoid(chosen_rewards - rejected_rewards)")
    assert second.solution is None
    assert faults_of_exercise(first, 4, 1) == []
    assert faults_of_exercise(second, 4, 2) == ["no folded solution after it"]


def test_what_a_week_lacks_is_said(made_up: nbformat.NotebookNode):
    assert faults_of_week(made_up, 4) == [
        f"exercises ['bradley_terry_loss', 'gae'], checks {taught(4)}",
        "gae: no folded solution after it",
        "fewer than five cells compare their output",
        "interview questions [], 0 folded; expected 5",
        "no '**Papers.**' that says what to read them for",
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("    raise NotImplementedError\n\n\nb", "    pass\n\n\nb", "the stub is not"),
        ("Exercise 4.1 ·", "Exercise 4.3 ·", "its heading says 4.3, it is 4.1"),
        ("about 5 minutes · easy", "easy", "no '### Exercise 4.1"),
        ("Hint 1", "Solution", "no folded hint"),
        ("-F.logsigmoid", "F.logsigmoid", "the solution fails: It looks as if the minus"),
        ("# def bradley", "# def my_bradley", "the solution defines another name"),
    ],
)
def test_a_fault_in_an_exercise_is_seen(tmp_path: Path, old: str, new: str, fault: str):
    assert old in MADE_UP
    path = tmp_path / "week04_made_up.py"
    path.write_text(MADE_UP.replace(old, new, 1), encoding="utf-8")
    found = exercises_of(build.notebook_of(path, None))[0]
    said = faults_of_exercise(found, 4, 1)
    assert len(said) == 1 and said[0].startswith(fault), said


ANSWERED = "**{n}.** Why?\n\n<details><summary>Answer</summary>x</details>"
FOLDED = "<details><summary>{n}. Why?</summary>\n\nx\n</details>"


@pytest.mark.parametrize("fold", [ANSWERED, FOLDED])
def test_folded_questions_are_counted_in_both_forms(made_up: nbformat.NotebookNode, fold: str):
    asked = "\n\n".join(fold.format(n=n) for n in range(1, 6))
    made_up.cells[-2].source = f"## Five interview questions\n\n{asked}\n\n## What you have now\n"
    assert not [fault for fault in faults_of_week(made_up, 4) if "interview" in fault]
    made_up.cells[-2].source = made_up.cells[-2].source.replace("5.", "6.")
    assert [fault for fault in faults_of_week(made_up, 4) if "interview" in fault]


def test_answers_replace_stubs_and_nothing_else(made_up: nbformat.NotebookNode):
    first, second = exercises_of(made_up)
    copy = answered(made_up, {"bradley_terry_loss": first.solution})
    assert copy.cells[1].source == made_up.cells[1].source.replace(
        "    raise NotImplementedError",
        "    return -F.logsigmoid(chosen_rewards - rejected_rewards)",
    )
    assert copy.cells[5].source == made_up.cells[5].source
    assert "raise NotImplementedError" in made_up.cells[1].source


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_answer_can_stand_in_a_cell(name: str):
    space: dict = {}
    exec(wrong_source(name), space)
    assert examine(exercise(name), space[name]).code == exercise(name).mistakes[0].code
