"""The notebooks are their sources, executed; and their outputs are fit to be read by anybody."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from modules import module_at

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted((NOTEBOOKS / "src").glob("week*.py"))
BUILT = sorted(NOTEBOOKS.glob("week*.ipynb"))
URL = "https://github.com/someone/postlab"

build = module_at(NOTEBOOKS / "build.py", "notebook_build")

SOURCE = """\
# %% [markdown]
# # Week 5
#
# Prose.

# %% tags=["setup"]
print("an older setup cell")

# %%
1 + 1
"""


def stem(path: Path) -> str:
    return path.stem


def code_lines(cell: str) -> list[str]:
    return [
        line for line in cell.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]


# --- the committed notebooks ----------------------------------------------------------------------


@pytest.mark.parametrize("week", ["03", "05", "07", "12"])
def test_every_stage_has_a_source(week: str):
    assert len(list((NOTEBOOKS / "src").glob(f"week{week}_*.py"))) == 1


def test_every_notebook_has_a_source():
    assert {path.stem for path in BUILT} <= {path.stem for path in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=stem)
def test_the_notebook_has_the_cells_of_its_source(source: Path):
    assert build.difference(source, build.repository()) is None


@pytest.mark.parametrize("source", SOURCES, ids=stem)
def test_the_setup_cell_is_the_one_template(source: Path):
    text = source.read_text(encoding="utf-8")
    week = build.week_number(source)
    assert build.with_setup_cell(text, week, build.repository()) == text


@pytest.mark.parametrize("source", SOURCES, ids=stem)
def test_the_source_compiles_and_ends_cleanly(source: Path):
    """No magics that only a notebook knows, no debugger, no empty last cell, no merge marks."""
    text = source.read_text(encoding="utf-8")
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert not {"breakpoint", "get_ipython"} & {getattr(call, "id", "") for call in calls}
    assert not re.search(r"^(<{7}|={7}|>{7})|^# [%!]\w", text, re.M)
    cells = build.notebook_of(source, None).cells
    assert [i for i, cell in enumerate(cells) if not cell.source.strip()] == []
    assert text.endswith("\n") and not text.endswith("\n\n")


def output_texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What the outputs of a notebook say, pictures left out."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.text for output in outputs if output.output_type == "stream"]
    for output in outputs:
        data = output.get("data", {})
        kinds = [kind for kind in data if not kind.startswith("image/")]
        texts += [json.dumps(data[kind], ensure_ascii=False) for kind in kinds]
    return texts


def unfit(notebook: nbformat.NotebookNode) -> list[str]:
    """What a reader should not meet in the outputs of a notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = ["a traceback"] * any(output.output_type == "error" for output in outputs)
    text = "\n".join(output_texts(notebook))
    found += ["a traceback in text"] * ("Traceback (most recent call last)" in text)
    found += re.findall(r"(?<![\w.~>-])/(?:home|work|Users|tmp|root|var/folders)/\S*", text)
    found += re.findall(r"\b[A-Z]:\\Users\\\S*", text)
    warnings = [line for line in text.splitlines() if re.search(r"warning", line, re.I)]
    return found + [f"a warning storm: {line}" for line in warnings[3:4]]


@pytest.mark.parametrize("path", BUILT, ids=stem)
def test_the_outputs_are_fit_to_be_read(path: Path):
    assert unfit(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", BUILT, ids=stem)
def test_every_code_cell_was_executed_in_order(path: Path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@pytest.mark.parametrize("path", BUILT, ids=stem)
def test_the_notebook_is_small_and_without_noise(path: Path):
    assert path.stat().st_size <= 400 * 1024
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)


# --- the builder ----------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "week05_dpo.py"
    path.write_text(build.with_setup_cell(SOURCE, 5, None))
    return path


def test_the_setup_cell_replaces_an_older_one_and_nothing_else(source: Path):
    text = source.read_text()
    assert "an older setup cell" not in text
    assert text.replace(build.setup_cell(5, None), 'print("an older setup cell")\n') == SOURCE
    assert build.with_setup_cell(text, 5, None) == text


def test_a_script_without_a_setup_cell_is_named():
    with pytest.raises(ValueError, match="week 5: found 0 setup cells, expected one"):
        build.with_setup_cell("# %%\n1\n", 5, None)


@pytest.mark.parametrize("url", [None, URL])
def test_the_setup_cell_is_short_and_the_same_but_for_the_week(url: str | None):
    cell = build.setup_cell(5, url)
    assert len(code_lines(cell)) <= 8
    assert cell.replace("week=5", "week=12") == build.setup_cell(12, url)
    assert code_lines(cell)[-1] == "lab = postlab.start(week=5)"
    assert "unsloth" not in cell and "trl" not in cell


@pytest.mark.parametrize("url", [None, URL])
def test_the_setup_cell_is_formatted(url: str | None):
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length=100", "-"]
    cell = build.setup_cell(5, url)
    done = subprocess.run(command, input=cell, capture_output=True, text=True, check=True)
    assert done.stdout == cell


def test_without_an_address_there_is_no_badge_and_the_clone_is_installed(
    tmp_path: Path, source: Path
):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\nname = "postlab"\n')
    assert build.repository(pyproject) is None
    cells = build.notebook_of(source, None).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code", "code"]
    assert '"..[train]"' in cells[1].source


def test_with_an_address_there_is_a_badge_and_colab_installs_from_it(tmp_path: Path, source: Path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(f'[project]\nname = "p"\n[project.urls]\nRepository = "{URL}"\n')
    url = build.repository(pyproject)
    source.write_text(build.with_setup_cell(SOURCE, 5, url))
    cells = build.notebook_of(source, url).cells
    link = "/github/someone/postlab/blob/main/notebooks/week05_dpo.ipynb)"
    assert cells[0].source.startswith("[![Open in Colab](") and cells[0].source.endswith(link)
    assert f'"postlab[train] @ git+{URL}"' in cells[2].source


# Stands in for pip: writes down what it was asked for, and "installs" a small package.
PIP = """\
import pathlib, sys
here = pathlib.Path(__file__).parent
with open(here / "log", "a") as log: print(*sys.argv[1:], file=log)
(here / "postlab").mkdir()
(here / "postlab/__init__.py").write_text("def start(week): return week")
(here / "postlab/install.py").write_text("print('unsloth', file=open(__file__ + '.log', 'a'))")
"""


def test_the_setup_cell_installs_only_where_the_package_is_missing(tmp_path: Path):
    (tmp_path / "pip.py").write_text(PIP)
    script = tmp_path / "script.py"
    script.write_text(build.setup_cell(5, None) + "print(lab)\n")
    command = [sys.executable, "-S", str(script)]  # -S: no site-packages, so no postlab
    for printed in ("5\n", "5\n"):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == printed
    assert (tmp_path / "log").read_text() == "install -q ..[train]\n"
    assert (tmp_path / "postlab" / "install.py.log").read_text() == "unsloth\n"


def test_a_build_is_the_same_twice_and_holds_no_trace_of_the_machine(tmp_path: Path):
    cells = [
        "import os, sys",
        "print(os.environ['POSTLAB_RUNS'] + '/tiny', os.getcwd())",
        "object()",
        "print('50%', end='\\r'); print('100%')",
        "import matplotlib.pyplot as plt; plt.figure();",
    ]
    path = tmp_path / "week05_x.py"
    path.write_text("".join(f"# %%\n{cell}\n\n" for cell in cells))
    runs = tmp_path / "runs"
    builds = []
    for _ in range(2):
        notebook = build.notebook_of(path, None)
        build.execute(notebook, runs)
        builds.append(nbformat.writes(notebook))
    assert builds[0] == builds[1]
    notebook = nbformat.reads(builds[0], as_version=4)
    assert notebook.cells[1].outputs[0].text == "runs/tiny ./notebooks\n"
    assert notebook.cells[2].outputs[0].data["text/plain"] == "<object at 0x…>"
    assert notebook.cells[3].outputs[0].text == "100%\n"
    assert unfit(notebook) == []


def test_unfit_outputs_are_seen():
    def notebook(text: str) -> nbformat.NotebookNode:
        cell = nbformat.v4.new_code_cell("1")
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        return nbformat.v4.new_notebook(cells=[cell])

    assert unfit(notebook("saved in /ho" + "me/ada/runs")) == ["/ho" + "me/ada/runs"]
    assert unfit(notebook("saved in runs/tiny/seed-0, https://example.com/home/x")) == []
    assert unfit(notebook("FutureWarning: old\n" * 3)) == []
    assert unfit(notebook("FutureWarning: old\n" * 4)) == ["a warning storm: FutureWarning: old"]
    assert unfit(notebook("Traceback (most recent call last):")) == ["a traceback in text"]


def test_check_names_a_notebook_that_differs(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "NOTEBOOKS", source.parent)
    assert "week05_dpo.ipynb is missing" in build.difference(source, None)
    notebook = build.notebook_of(source, None)
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    assert build.difference(source, None) is None
    notebook.cells[2].source = "1 + 2"
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    assert "differ from cell 2 on" in build.difference(source, None)
