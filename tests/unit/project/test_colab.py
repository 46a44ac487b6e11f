"""`make colab` takes public addresses on GitHub only, and `make release` writes the same twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from modules import module_at

ROOT = Path(__file__).resolve().parents[3]
URL = "https://github.com/some-one/post.lab"

colab = module_at(ROOT / ".ci" / "colab.py", "make_colab")
release = module_at(ROOT / ".ci" / "release.py", "make_release")


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [URL, f"{URL}.git", f"{URL}/", f" {URL}\n"])
def test_an_address_comes_out_in_its_plain_form(address: str):
    assert colab.checked(address) == URL


@pytest.mark.parametrize(
    "address",
    [
        "http://github.com/some-one/post.lab",
        "git@github.com:some-one/post.lab.git",
        "ssh://git@github.com/some-one/post.lab",
        "file:///srv/post.lab",
        "/srv/post.lab",
        "some-one/post.lab",
        "https://gitlab.com/some-one/post.lab",
        "https://git.internal/some-one/post.lab",
        "https://github.com.evil.example/some-one/post.lab",
        "https://github.com/some-one",
        "https://github.com/some-one/..",
        "https://github.com/-one/post.lab",
        "https://github.com/some-one/post.lab/tree/main",
        "https://github.com/some-one/post.lab?x=1",
        'https://github.com/some-one/a");import os;os.system("x',
        "https://github.com/some-one/post.lab\nimport os",
        "https://github.com/some-one/post$(x)lab",
        "https://github.com/söme/lab",
        "None",
    ],
)
def test_anything_else_is_refused_in_a_sentence(address: str):
    with pytest.raises(colab.AddressError, match="expected an address such as") as error:
        colab.checked(address)
    assert len(str(error.value).splitlines()) == 1


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def set_origin(clone: Path, address: str) -> None:
    subprocess.run(["git", "-C", str(clone), "remote", "add", "origin", address], check=True)


def test_origin_is_taken_where_it_is_public(clone: Path):
    with pytest.raises(colab.AddressError, match="no git remote `origin`"):
        colab.origin(clone)
    set_origin(clone, f"{URL}.git")
    assert colab.origin(clone) == URL


@pytest.mark.parametrize("address", ["git@github.com:a/b.git", "/srv/b", "https://host.lan/a/b"])
def test_an_origin_that_colab_cannot_open_is_named(clone: Path, address: str):
    set_origin(clone, address)
    with pytest.raises(colab.AddressError, match="which Colab can't open; give REPO") as error:
        colab.origin(clone)
    assert address in str(error.value)


def test_a_password_in_an_address_is_refused_and_not_printed(clone: Path):
    set_origin(clone, "https://ada:hush@github.com/a/b.git")
    with pytest.raises(colab.AddressError) as error:
        colab.origin(clone)
    assert "hush" not in str(error.value) and "github.com/a/b.git" in str(error.value)


# --- pyproject.toml -------------------------------------------------------------------------------


def test_the_address_goes_into_pyproject_and_out_again(tmp_path: Path):
    pyproject = tmp_path / "pyproject.toml"
    colab_free = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pyproject.write_text(colab_free, encoding="utf-8")
    colab.set_address(pyproject, None)
    unset = pyproject.read_text(encoding="utf-8")
    for address in (URL, "https://github.com/other/name"):
        for _ in range(2):
            colab.set_address(pyproject, address)
            project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
            assert project["urls"] == {"Repository": address}
            assert project["optional-dependencies"]["train"]  # the table after it is a table yet
    colab.set_address(pyproject, None)
    assert pyproject.read_text(encoding="utf-8") == unset
    assert "urls" not in tomllib.loads(unset)["project"]


@pytest.mark.parametrize("text", ["[project]\n", '[project.urls]\nHome = "x"\n', colab.UNSET * 2])
def test_another_form_of_the_table_is_left_alone(tmp_path: Path, text: str):
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(text)
    with pytest.raises(colab.AddressError, match="holds . .project.urls. tables"):
        colab.set_address(pyproject, URL)
    assert pyproject.read_text() == text


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `make colab` reads and writes, in a folder of its own."""
    root = tmp_path / "a clone"
    for folder in ("src", "extras"):
        (root / "notebooks" / folder).mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", root)
    for name in ("week01_post*", "week12_portfolio*", "capstone.*"):
        for path in (ROOT / "notebooks").glob(f"**/{name}"):
            shutil.copy(path, root / path.relative_to(ROOT))
    build = module_at(ROOT / "notebooks" / "build.py", "notebook_build")
    monkeypatch.setattr(build, "NOTEBOOKS", root / "notebooks")
    monkeypatch.setitem(sys.modules, "build", build)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(colab, "ROOT", root)
    return root


def files(root: Path) -> dict[str, bytes]:
    notebooks = [p for p in root.glob("notebooks/**/*") if p.is_file()]
    names = ["pyproject.toml", *(str(p.relative_to(root)) for p in notebooks)]
    return {name: (root / name).read_bytes() for name in names}


def test_badges_and_setup_cells_follow_the_address_there_and_back(copy: Path, capsys):
    colab.main("none")
    before = files(copy)
    capsys.readouterr()
    colab.main(f"{URL}.git")
    assert f"{URL}: 3 of the notebooks changed" in capsys.readouterr().out
    first = files(copy)
    assert len(first) == 7 and all(before[name] != first[name] for name in before)
    assert all(URL.encode() in content for content in first.values())
    colab.main(URL)
    assert "0 of the" in capsys.readouterr().out and files(copy) == first
    colab.main("https://github.com/other/name")
    assert not any(URL.encode() in content for content in files(copy).values())
    colab.main("none")
    assert files(copy) == before


def test_a_refused_address_changes_nothing(copy: Path):
    before = files(copy)
    with pytest.raises(SystemExit, match="^make colab: REPO is 'git@github.com:a/b.git'"):
        colab.main("git@github.com:a/b.git")
    assert files(copy) == before


def test_the_command_takes_the_address_from_its_environment():
    command = [sys.executable, str(ROOT / ".ci" / "colab.py")]
    environment = os.environ | {"REPO": "/srv/$(touch x)'"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("make colab: REPO is")
    assert len(done.stderr.splitlines()) == 1


# --- release --------------------------------------------------------------------------------------


def test_the_zip_holds_what_pip_and_a_learner_need_and_is_the_same_twice(tmp_path: Path):
    names = [f"{folder}.zip" for folder in ("one", "two")]
    for name in names:
        release.write_zip(ROOT, tmp_path / name, "postlab-9")
    assert (tmp_path / names[0]).read_bytes() == (tmp_path / names[1]).read_bytes()
    inside = zipfile.ZipFile(tmp_path / names[0]).namelist()
    assert {name.split("/")[0] for name in inside} == {"postlab-9"}  # as pip wants it
    notebooks = {name.split("/", 1)[1] for name in inside if name.endswith(".ipynb")}
    assert len([name for name in notebooks if name.startswith("notebooks/week")]) == 12
    extras = {f"notebooks/extras/{p.stem}.ipynb" for p in ROOT.glob("notebooks/extras/*.py")}
    assert "notebooks/extras/capstone.ipynb" in extras and extras < notebooks
    for needed in ("pyproject.toml", "requirements-nodeps.txt", "LICENSE", "README.md"):
        assert f"postlab-9/{needed}" in inside
    assert not [name for name in inside if "__pycache__" in name]


# --- what the texts say ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.md", "notebooks/src/week01_post_training_map.py"])
def test_the_weeks_and_minutes_on_a_gpu_are_those_of_the_profile(name: str):
    from postlab.lab import BOTH_WEEKS, EMBEDDED_WEEKS, WEEKS
    from postlab.profile import STAGE_WEEKS, get_profile

    t4 = get_profile("t4")
    minutes = [t4.sft.minutes, t4.dpo.minutes, t4.grpo.minutes + t4.grpo.warm_start.minutes]
    text = " ".join((ROOT / name).read_text(encoding="utf-8").replace("\n#", "\n").split())
    assert "Only weeks 3, 5, 6, 7, 9, 10 and 11 use a GPU" in text
    others = {*range(1, WEEKS + 1)} - {3, 5, 6, 7, *BOTH_WEEKS}
    assert others == {*EMBEDDED_WEEKS, 12}  # week 12 compares what is stored
    assert [STAGE_WEEKS[stage] for stage in ("sft", "dpo", "grpo")] == ["03", "05", "07"]
    first, second, third = (f"{value:g}" for value in minutes)
    short = f"takes about {first}, {second} and {third} minutes"
    long = f"about {first} minutes in week 3, {second} in week 5 and {third} in week 7"
    assert short in text or long in text
