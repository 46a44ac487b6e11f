"""The notebooks are their sources, executed; and their outputs are fit to be read by anybody."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import nbformat
import pytest
from modules import module_at

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted((NOTEBOOKS / "src").glob("week*.py"))
EXTRAS = sorted((NOTEBOOKS / "extras").glob("*.py"))
BUILT = sorted(NOTEBOOKS.glob("week*.ipynb")) + sorted((NOTEBOOKS / "extras").glob("*.ipynb"))
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
    assert set(BUILT) <= {build.notebook_path(source) for source in SOURCES + EXTRAS}


@pytest.mark.parametrize("source", SOURCES + EXTRAS, ids=stem)
def test_the_notebook_has_the_cells_of_its_source(source: Path):
    assert build.difference(source, build.repository()) is None


@pytest.mark.parametrize("source", SOURCES + EXTRAS, ids=stem)
def test_the_setup_cell_is_the_one_template(source: Path):
    text = source.read_text(encoding="utf-8")
    assert build.with_setup_cell(text, source, build.repository()) == text


@pytest.mark.parametrize("source", SOURCES + EXTRAS, ids=stem)
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
    path.write_text(build.with_setup_cell(SOURCE, path, None))
    return path


def test_the_setup_cell_replaces_an_older_one_and_nothing_else(source: Path):
    text = source.read_text()
    assert "an older setup cell" not in text
    assert text.replace(build.setup_cell(5, None), 'print("an older setup cell")\n') == SOURCE
    assert build.with_setup_cell(text, source, None) == text


def test_a_script_without_a_setup_cell_is_named(source: Path):
    with pytest.raises(ValueError, match=r"week05_dpo\.py: found 0 setup cells, expected one"):
        build.with_setup_cell("# %%\n1\n", source, None)


@pytest.mark.parametrize("url", [None, URL])
def test_the_setup_cell_is_short_and_the_same_but_for_the_week(url: str | None):
    cell = build.setup_cell(5, url)
    assert len(code_lines(cell)) <= 20
    assert cell.replace("week=5", "week=12") == build.setup_cell(12, url)
    extra = cell.replace("week=5", "").replace('Path("..")', 'Path("../..")')
    assert extra == build.setup_cell(None, url)
    assert code_lines(cell)[-1] == "lab = postlab.start(week=5)"
    assert "unsloth" not in cell and "trl" not in cell


@pytest.mark.parametrize("url", [None, URL])
def test_the_setup_cell_is_formatted(url: str | None):
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length=100", "-"]
    cell = build.setup_cell(5, url)
    done = subprocess.run(command, input=cell, capture_output=True, text=True, check=True)
    assert done.stdout == cell


def test_without_an_address_there_is_no_badge(tmp_path: Path, source: Path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\nname = "postlab"\n')
    assert build.repository(pyproject) is None
    cells = build.notebook_of(source, None).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code", "code"]
    assert "git+" not in cells[1].source


def test_with_an_address_there_is_a_badge_and_colab_installs_from_it(tmp_path: Path, source: Path):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(f'[project]\nname = "p"\n[project.urls]\nRepository = "{URL}"\n')
    url = build.repository(pyproject)
    source.write_text(build.with_setup_cell(SOURCE, source, url))
    cells = build.notebook_of(source, url).cells
    link = "/github/someone/postlab/blob/main/notebooks/week05_dpo.ipynb)"
    assert cells[0].source.startswith("[![Open in Colab](") and cells[0].source.endswith(link)
    assert f'"git+{URL}"' in cells[2].source


# --- the setup cell, run in an empty folder -------------------------------------------------------

# Stands in for pip: notes what it is asked for, and "installs" a small package beside itself.
PIP = """\
import json, os, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
with open(here / "log", "a") as log: print(json.dumps(sys.argv[1:]), file=log)
if os.environ.get("FAILS") == "pip":
    sys.exit("ERROR: no matching distribution")
shutil.copytree(here / "package", here, dirs_exist_ok=True)
"""
INSTALL = """\
import os, sys
print("torchao replaced")
if os.environ.get("FAILS") == "install": sys.exit("postlab.install: no network")
"""


class Machine:
    """A folder that a notebook lies in, and a Python that has no package but the pip above."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder, self.site, self.week = folder, site, 5
        folder.mkdir(parents=True)
        for name, text in {
            "pip.py": PIP,
            "package/postlab/__init__.py": "def start(week=None): return week",
            "package/postlab/install.py": INSTALL,
            "package/postlab-1.dist-info/METADATA": "Name: postlab\nVersion: 1\n",
        }.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, url: str | None = None, fails: str = "") -> subprocess.CompletedProcess[str]:
        script = self.site / "script.py"
        script.write_text(build.setup_cell(self.week, url) + 'print("week", lab, flush=True)\n')
        environment = {"PYTHONPATH": str(self.site), "FAILS": fails, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-S", str(script)]  # -S: no site-packages, so no postlab
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )

    def asked(self) -> list[list[str]]:
        """What pip was asked for, call by call."""
        log = self.site / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def source(self) -> Path:
        """The file or folder that pip was given, once, as a URI."""
        ((install, quiet, requirement),) = self.asked()
        assert (install, quiet) == ("install", "-q")
        name, _, uri = requirement.partition(" @ ")
        assert name == "postlab[train]" and uri.startswith("file:///")
        assert not re.search(r"[ \[\]#]", uri)  # pip would end the address there
        return Path(url2pathname(urlsplit(uri).path))

    def put(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.fixture(params=["plain", "a b [c] #1 100% é's"])
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Machine:
    return Machine(tmp_path / request.param / "notebooks", tmp_path / "site")


def installed_from(machine: Machine, place: Path, url: str | None = None) -> None:
    done = machine.run(url)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.source().resolve() == place.resolve()
    first = f"Installing postlab from {place.resolve().as_uri()}"
    assert done.stdout.splitlines() == [first, "torchao replaced", f"week {machine.week}"]
    again = machine.run(url)  # it is installed now
    assert (again.returncode, again.stdout, again.stderr) == (0, f"week {machine.week}\n", "")
    assert len(machine.asked()) == 1


def test_an_installed_package_is_taken_as_it_is(machine: Machine):
    machine.put("../postlab/install.py", "postlab-9.0.0-py3-none-any.whl")
    shutil.copytree(machine.site / "package", machine.site, dirs_exist_ok=True)
    done = machine.run(URL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "week 5\n", "")
    assert machine.asked() == []


def test_a_clone_around_the_notebook_comes_before_a_wheel(machine: Machine):
    machine.put("../postlab/install.py", "postlab-9.0.0-py3-none-any.whl")
    installed_from(machine, machine.folder.parent, URL)


def test_a_clone_may_be_the_current_folder(machine: Machine):
    machine.put("postlab/install.py", "postlab-9.0.0.zip")
    installed_from(machine, machine.folder)


def test_a_folder_that_is_only_called_postlab_is_no_clone(machine: Machine):
    """As on a Drive that holds a folder `postlab` of runs: Python would import that, as empty."""
    machine.put("postlab/votes.jsonl", "postlab-runs/summary.json", "postlab-1.2.3.zip")
    installed_from(machine, machine.folder / "postlab-1.2.3.zip")


@pytest.mark.parametrize(
    ("older", "newer"), [("0.9.0", "0.10.0"), ("0.1.9", "0.1.10"), ("9.0.0", "10.0.0")]
)
def test_versions_are_compared_as_numbers(tmp_path: Path, older: str, newer: str):
    for suffix in ("-py3-none-any.whl", ".zip"):
        machine = Machine(tmp_path / suffix / "folder", tmp_path / suffix / "site")
        machine.put(f"postlab-{newer}{suffix}", f"postlab-{older}{suffix}")
        installed_from(machine, machine.folder / f"postlab-{newer}{suffix}")


def test_of_several_wheels_the_newest_version_is_taken_and_before_any_zip(machine: Machine):
    machine.put("postlab-0.9.0-py3-none-any.whl", "postlab-0.10.0-py3-none-any.whl")
    machine.put("postlab-0.10.0-py3-none-any (1).whl", "postlab-2.0.0.zip", "other-9.whl")
    installed_from(machine, machine.folder / "postlab-0.10.0-py3-none-any.whl", URL)


@pytest.mark.parametrize(
    "names",
    [["postlab-0.10.0.zip", "postlab-0.9.1.zip", "my-postlab.zip"], ["postlab-main.zip"]],
)
def test_a_zip_is_taken_where_there_is_no_wheel(machine: Machine, names: list[str]):
    machine.put(*names)
    installed_from(machine, machine.folder / names[0], URL)


def test_the_address_is_the_last_place(machine: Machine):
    done = machine.run(URL)
    assert done.returncode == 0 and f"Installing postlab from git+{URL}\n" in done.stdout
    assert machine.asked() == [["install", "-q", f"postlab[train] @ git+{URL}"]]


def test_with_nothing_to_install_from_one_sentence_says_what_to_do(machine: Machine):
    done = machine.run()
    assert (done.returncode, done.stdout, machine.asked()) == (1, "", [])
    assert len(done.stderr.splitlines()) == 1
    assert "upload its wheel or zip to" in done.stderr and str(machine.folder) in done.stderr


@pytest.mark.parametrize(
    ("fails", "reason"),
    [("pip", "ERROR: no matching distribution"), ("install", "postlab.install: no network")],
)
def test_a_failed_installation_stops_the_notebook_and_shows_why(
    machine: Machine, fails: str, reason: str
):
    machine.put("postlab-1.0.0.zip")
    done = machine.run(fails=fails)
    assert done.returncode == 1 and "week 5" not in done.stdout
    assert done.stderr.startswith(reason) and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pip failed:")


def test_in_a_notebook_the_sentence_comes_without_a_traceback(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import importlib.metadata\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "importlib.metadata.distributions = lambda **_: []\n"
        f"result = InteractiveShell.instance().run_cell({build.setup_cell(5, None)!r})\n"
        "assert isinstance(result.error_in_exec, SystemExit)\n"
    )
    environment = {"IPYTHONDIR": str(tmp_path / "ipython"), "HOME": str(tmp_path), "NO_COLOR": "1"}
    command = [sys.executable, "-P", str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "upload its wheel or zip to" in done.stdout
    assert "Traceback" not in done.stdout and len(done.stdout.splitlines()) <= 4


# --- extras ---------------------------------------------------------------------------------------


def first_section(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cells up to the second heading, or further, until two cells of code are among them."""
    code, headings = 0, 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            code += 1
        else:
            headings += len(re.findall("^## ", cell.source, re.M))
            if headings > 1 and code > 1:
                notebook.cells = notebook.cells[:index]
                break
    return notebook


@pytest.mark.parametrize("source", EXTRAS, ids=stem)
def test_the_first_cells_of_an_extra_run(source: Path, tmp_path: Path, monkeypatch):
    """What needs no minutes; `make test-all` runs the whole notebook."""
    monkeypatch.setenv("POSTLAB_PROFILE", "tiny")
    notebook = first_section(build.notebook_of(source, None))
    assert 2 <= len(build.code_cells(notebook)) < 20
    build.execute(notebook, tmp_path / "runs", folder=source.parent)
    assert unfit(notebook) == []


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script of an extra, in a folder as this project's."""
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path / "notebooks")
    path = tmp_path / "notebooks" / "extras" / "sampler_mismatch.py"
    path.parent.mkdir(parents=True)
    path.write_text(build.with_setup_cell(SOURCE, path, None))
    return path


def test_an_extra_is_built_beside_its_script(extra: Path, tmp_path: Path):
    assert build.chosen(None, "sampler_mismatch") == build.all_sources() == [extra]
    assert build.difference(extra, None).endswith("notebooks/build.py --extra sampler_mismatch")
    text = extra.read_text().replace("lab = postlab.start()", "import os; print(os.getcwd())")
    notebook = build.jupytext.reads(text, fmt="py:percent")
    build.execute(notebook, tmp_path / "runs", folder=extra.parent)
    assert output_texts(notebook)[0].strip().endswith("notebooks/extras")
    nbformat.write(build.notebook_of(extra, URL), extra.with_suffix(".ipynb"))
    assert build.difference(extra, URL) is None
    extra.write_text(extra.read_text() + "\n# %%\n2\n")
    assert "differ from cell 4 on" in build.difference(extra, URL)
    with pytest.raises(SystemExit, match="there are: sampler_mismatch"):
        build.chosen(None, "week05_dpo")


def test_an_extra_is_installed_from_the_clone_two_folders_up(machine: Machine):
    machine.put("../../postlab/install.py", "postlab-9.0.0-py3-none-any.whl")
    machine.week = None
    installed_from(machine, machine.folder.parent.parent, URL)


# --- what needs no execution ----------------------------------------------------------------------


@pytest.fixture
def built(source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook with outputs beside its source."""
    monkeypatch.setattr(build, "NOTEBOOKS", source.parent)
    notebook = build.notebook_of(source, None)
    for number, cell in enumerate(build.code_cells(notebook), start=1):
        output = nbformat.v4.new_output("stream", name="stdout", text=f"output {number}\n")
        cell.outputs, cell.execution_count = [output], number
    path = source.with_suffix(".ipynb")
    path.write_text(nbformat.writes(notebook, indent=1) + "\n", encoding="utf-8")
    return path


def test_sync_brings_badge_setup_cell_and_prose_and_keeps_the_outputs(source: Path, built: Path):
    before = built.read_text()
    assert not build.sync(source, None) and built.read_text() == before
    source.write_text(source.read_text().replace("# Prose.", "# Other prose."))
    assert build.sync(source, URL) and build.difference(source, URL) is None
    notebook = nbformat.read(built, as_version=4)
    assert notebook.cells[0].source.startswith("[![Open in Colab]")
    assert "Other prose." in notebook.cells[1].source and f"git+{URL}" in notebook.cells[2].source
    assert output_texts(notebook) == ["output 1\n", "output 2\n"]
    assert [cell.execution_count for cell in build.code_cells(notebook)] == [1, 2]
    synced = built.read_text()
    assert not build.sync(source, URL) and built.read_text() == synced
    other = URL.replace("someone", "another")
    assert build.sync(source, other) and "someone" not in built.read_text() + source.read_text()
    source.write_text(source.read_text().replace("# Other prose.", "# Prose."))
    assert build.sync(source, None) and built.read_text() == before


@pytest.mark.parametrize("new", ["1 + 2\n", "1 + 1\n\n# %%\n2\n", "", "# %% [markdown]\n# 1 + 1\n"])
def test_sync_refuses_changed_code(source: Path, built: Path, new: str):
    before = built.read_text()
    source.write_text(source.read_text().replace("# %%\n1 + 1\n", f"# %%\n{new}".rstrip() + "\n"))
    with pytest.raises(ValueError, match="run: make notebooks N=05"):
        build.sync(source, URL)
    assert built.read_text() == before


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


def test_a_stored_chart_keeps_pale_tints_apart():
    from base64 import b64decode, b64encode
    from io import BytesIO

    from PIL import Image

    tints = [(223, 236, 245), (246, 222, 204), (213, 239, 230), (255, 255, 255), (237, 237, 237)]
    tints += [(34, 34, 34)]
    picture, png = Image.new("RGB", (60, 10), "white"), BytesIO()
    for place, tint in enumerate(tints):
        picture.paste(tint, (10 * place, 0, 10 * place + 10, 10))
    picture.save(png, "PNG")
    stored = Image.open(BytesIO(b64decode(build.shrunk(b64encode(png.getvalue()).decode()))))
    kept = [stored.convert("RGB").getpixel((10 * place + 5, 5)) for place in range(len(tints))]
    assert kept[:5] == tints[:5] and max(kept[5]) < 60
