"""The Dockerfile and the devcontainer fit the project. No image is built: that needs Docker."""

import fnmatch
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from modules import module_at

from postlab.rewards._sandbox import DOCKER_FLAGS

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Each instruction as one line: its name, and the rest.
LINES = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
STEPS = [line.split(maxsplit=1) for line in "\n".join(LINES).replace("\\\n", " ").splitlines()]
DEVCONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
IGNORED = [
    line
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


def steps(name: str) -> list[str]:
    return [rest for step, rest in STEPS if step == name]


def copied_before_setup() -> set[str]:
    before = STEPS[: next(i for i, (_, rest) in enumerate(STEPS) if "make setup" in rest)]
    words = [word for step, rest in before if step == "COPY" for word in rest.split()[:-1]]
    return {word for word in words if not word.startswith("--")}


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves out a file; it knows no more than these two kinds of pattern."""
    parts = path.split("/")
    folders = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(
        any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        if pattern.startswith("**/")
        else pattern in folders
        for pattern in IGNORED
    )


def test_every_make_target_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())
    text = DOCKERFILE + json.dumps(DEVCONTAINER)
    assert {"setup", "stages", "test"} <= set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    assert json.loads(steps("CMD")[0]) == ["make", "lab"]


def test_setup_has_all_it_needs_and_only_what_is_there():
    copied = copied_before_setup()
    assert all((ROOT / name).exists() and not ignored(name) for name in copied)
    setup_env = module_at(ROOT / ".ci" / "setup_env.py", "setup_env_of_the_image")
    needed = {path.name for path in setup_env.LOCKS} | {"Makefile", "pyproject.toml", ".ci"}
    needed |= {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "postlab"}
    needed |= set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert needed <= copied


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git clone: no list of its files")
def test_the_image_gets_every_tracked_file_and_none_that_git_ignores():
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [name for name in listed.split("\0") if name and ignored(name)] == []
    for line in (ROOT / ".gitignore").read_text("utf-8").split():
        name = line.strip("/").replace("*.", "a.")
        assert ignored(name), line


def test_it_runs_as_a_user_without_rights_on_a_python_that_is_supported():
    user = steps("USER")[-1]
    assert user != "root" and f" {user} " in next(run for run in steps("RUN") if "useradd" in run)
    assert all(f"--chown={user}" in copy for copy in steps("COPY"))
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=3.")
    assert int(re.fullmatch(r"python:3\.(\d+)-slim", steps("FROM")[0])[1]) >= int(oldest)


def test_the_devcontainer_is_the_same_container():
    folder, user = steps("WORKDIR")[-1], steps("USER")[-1]
    assert (ROOT / ".devcontainer" / DEVCONTAINER["build"]["dockerfile"]).resolve() == (
        ROOT / "Dockerfile"
    )
    assert DEVCONTAINER["remoteUser"] == user and DEVCONTAINER["workspaceFolder"] == folder
    assert f"target={folder}," in DEVCONTAINER["workspaceMount"]
    # The host's own .venv is for the host's system: the container keeps the image's in a volume.
    assert f"target={folder}/.venv,type=volume" in DEVCONTAINER["mounts"][0]
    settings = DEVCONTAINER["customizations"]["vscode"]["settings"]
    assert settings["python.defaultInterpreterPath"] == f"{folder}/.venv/bin/python"
    assert DEVCONTAINER["forwardPorts"] == [int(port) for port in steps("EXPOSE")]


def test_what_starts_jupyter_and_the_sandbox_know_the_container():
    assert "POSTLAB_CONTAINER=1" in " ".join(steps("ENV"))
    assert "POSTLAB_CONTAINER" in (ROOT / ".ci" / "lab.py").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert DOCKER_FLAGS in DOCKERFILE and DOCKER_FLAGS in readme
