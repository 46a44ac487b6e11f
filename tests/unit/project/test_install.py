"""What `postlab.install` repairs, when it asks for a restart, and how it ends when pip fails."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from postlab import install

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for made-up packages, which come before the installed ones."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def put(folder: Path, name: str, version: str) -> None:
    """Make a package installed at this version, as far as its metadata goes."""
    for old in folder.glob(f"{name}-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    importlib.invalidate_caches()


# --- torchao --------------------------------------------------------------------------------------


def test_the_oldest_torchao_that_we_leave_alone_is_the_oldest_that_peft_accepts(distributions):
    from peft import import_utils

    check = import_utils.is_torchao_available.__wrapped__
    (distributions / "torchao").mkdir()
    (distributions / "torchao" / "__init__.py").touch()
    for version in ("0.10.0", "0.15.0", "0.16.0", "0.18.0"):
        put(distributions, "torchao", version)
        assert metadata.version("torchao") == version
        if install.torchao_command(version):
            with pytest.raises(ImportError, match="incompatible version of torchao"):
                check()
        else:
            assert check()


@pytest.fixture
def pip(distributions: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of pip that `install.main` makes; one for torchao "installs" 0.18.0."""
    calls = []

    def pip_install(arguments: list[str]) -> None:
        calls.append(arguments)
        if any("torchao" in argument for argument in arguments):
            put(distributions, "torchao", "0.18.0")

    monkeypatch.setattr(install, "pip_install", pip_install)
    monkeypatch.setattr(install.shutil, "which", lambda _: None)
    return calls


def test_colabs_torchao_is_replaced_without_dependencies_and_once(distributions, pip, capsys):
    put(distributions, "torchao", "0.10.0")
    install.main([])
    assert pip[1:] == [["--no-deps", "torchao>=0.16,<0.19"]]
    assert "torchao 0.10.0 replaced by 0.18.0" in capsys.readouterr().out
    install.main([])
    assert len(pip) == 3 and capsys.readouterr().out == ""


@pytest.mark.parametrize("version", [None, "0.16.0", "0.18.0", "0.20.0+cpu"])
def test_no_torchao_or_a_newer_one_is_left_alone(distributions, pip, capsys, version: str | None):
    if version:
        put(distributions, "torchao", version)
    install.main([])
    assert len(pip) == 1 and capsys.readouterr().out == ""


def test_on_a_gpu_torchao_is_looked_at_after_unsloths_own_dependencies(
    distributions, pip, monkeypatch
):
    put(distributions, "torchao", "0.14.0")  # enough for Unsloth, which wants 0.13
    monkeypatch.setattr(install.shutil, "which", lambda _: "nvidia-smi")
    install.main([])
    assert [call[0] == "--no-deps" for call in pip] == [True, False, True]
    assert pip[-1] == ["--no-deps", "torchao>=0.16,<0.19"]


# --- restart --------------------------------------------------------------------------------------


def module(name: str, version: str | None) -> ModuleType:
    made = ModuleType(name)
    if version is not None:
        made.__version__ = version
    return made


def test_a_package_that_was_replaced_under_the_kernel_asks_for_a_restart(distributions):
    put(distributions, "numpy", "2.4.6")
    put(distributions, "pillow", "13.0.0")
    loaded = {"numpy": module("numpy", "2.1.3"), "PIL": module("PIL", "13.0.0")}
    sentence = install.restart_needed(loaded)
    assert "numpy 2.1.3 is in memory but 2.4.6 is installed" in sentence
    assert "Restart" in sentence and "pillow" not in sentence and "\n" not in sentence
    put(distributions, "pillow", "12.0.0")
    assert "pillow 13.0.0" in install.restart_needed(loaded)


def test_nothing_asks_for_a_restart_that_does_not_need_one(distributions):
    assert install.restart_needed({}) is None
    put(distributions, "torch", "2.11.0")
    put(distributions, "pandas", "2.2.3")
    put(distributions, "psutil", "7.2.2")
    loaded = {
        "torch": module("torch", "2.11.0+cu128"),  # how a build calls itself
        "pandas": module("pandas", None),
        "psutil": module("psutil", "5.9.5"),  # either version will do
        "peft": module("peft", "0.20.0"),
    }
    installed = install.installed_version("peft")
    sentence = install.restart_needed(loaded)
    assert sentence.count("is in memory") == 1 and f"but {installed} is installed" in sentence
    del loaded["peft"]
    assert install.restart_needed(loaded) is None


def test_no_package_names_itself_otherwise_in_memory_than_in_its_metadata():
    """In a process of its own: each is imported, and none may then ask for a restart."""
    names = [name for name, package in install.LOADED_EARLY.items()]
    code = (
        f"import importlib, sys\nfor name in {names}:\n    importlib.import_module(name)\n"
        "from postlab.install import restart_needed\nprint(restart_needed())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "None"


def test_asking_loads_no_package():
    code = (
        "import sys\nfrom postlab.install import restart_needed\nrestart_needed()\n"
        "print(sorted({'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# --- pip fails ------------------------------------------------------------------------------------


def test_when_pip_fails_a_sentence_says_at_what(monkeypatch):
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    run = subprocess.run
    monkeypatch.setattr(install.subprocess, "run", lambda command: run(failing))
    with pytest.raises(SystemExit) as error:
        install.pip_install(["--no-deps", "unsloth==1"])
    assert "status 3 at: pip install --no-deps unsloth==1;" in str(error.value)
