"""postlab where Linux's calls are missing: Windows and macOS, emulated in a Python of their own.

What those systems lack is taken away before postlab is imported; libraries are imported before,
since theirs is another question. Emulation shows that nothing of ours calls what isn't there. It
doesn't show what the real systems answer: the workflow's smoke jobs do.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import postlab

ROOT = Path(postlab.__file__).resolve().parents[1]
DOORS = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in (ROOT / "postlab").rglob("__init__.py")
    if path.parent != ROOT / "postlab"
)
DOORS += ["postlab.lab", "postlab.profile", "postlab.storage", "postlab.install"]
EMULATED = """
import asyncio, concurrent.futures, ctypes, importlib, os, platform, select, socket
import subprocess, sys, tempfile
from pathlib import Path

system, doors = sys.argv[1], sys.argv[2].split()
for door in doors:
    importlib.import_module(door)
import psutil, postlab.rewards._sandbox, postlab.rewards._jail
for name in [name for name in sys.modules if name.split(".")[0] == "postlab"]:
    del sys.modules[name]

windows = system == "win32"
missing = {os: ["sched_getaffinity", "memfd_create", "pidfd_open", "unshare", "setresuid"]}
if windows:
    missing[os] += ["fork", "killpg", "geteuid", "getuid", "sysconf", "uname", "setsid", "waitid"]
    # signal.SIGKILL stays: subprocess needs it here, and Windows's own doesn't
    missing |= {select: ["poll"], socket: ["send_fds", "recv_fds"]}
    for module in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[module] = None
for module, names in missing.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


class Library:
    def __init__(self, name, *arguments, **options):
        if windows:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")

    def __getattr__(self, name):
        raise AttributeError(name)  # no prctl, no mallopt, no renameat2


ctypes.CDLL = Library
plain_exists = Path.exists
Path.exists = lambda path, **how: not str(path).startswith("/proc") and plain_exists(path, **how)
sys.platform = system
platform.system = lambda: "Windows" if windows else "Darwin"

for door in doors:
    importlib.import_module(door)

from postlab import preflight, profile, runs, storage
from postlab.rewards import code_reward, format_reward, math_reward, schema_reward
from postlab.runs import machine, space
from postlab.stats import bootstrap_interval

folder = Path(tempfile.mkdtemp())
for text in ("old", "new"):
    storage.atomic_text(folder / "a.json", text)
    with storage.atomic_folder(folder / "model") as inside:
        (inside / "w").write_text(text, "utf-8")
assert (folder / "model" / "w").read_text("utf-8") == "new"
storage.seal(folder / "model")
assert storage.sealed(folder / "model")
with storage.locked(folder / "lock", "busy"):
    try:
        with storage.locked(folder / "lock", "busy"):
            raise SystemExit("locked twice")
    except storage.StageBusy:
        pass
assert sorted(path.name for path in folder.iterdir()) == ["a.json", "lock", "model"]

device = profile.describe_machine()
assert device["cpus"] >= 1 and device["ram_gib"] > 0, device
assert machine.spent({})["wall_s"] > 0
with runs.freed_memory_kept() as kept:
    assert not kept
assert profile.get_profile("tiny").name == "tiny"
preflight.estimate("sft", model="Qwen/Qwen2.5-0.5B", device="cpu", batch=1, length=64, bits=4)
os.environ["POSTLAB_RUNS"] = str(folder / "runs")
assert runs.find_stage("tiny", 0, "sft").is_dir()  # the shipped stage, copied
assert space.advice(folder).startswith("then run this again")
assert 0 <= bootstrap_interval([0.0, 1.0, 1.0]).low <= 1
assert math_reward(["The answer is 4."], answer=["4"]) == [1.0]
assert schema_reward(["3"], schema=['{"type": "integer"}']) == [1.0]
try:
    code_reward(["def f(x): return x"], ["assert f(1) == 1"])
    raise SystemExit("not refused")
except RuntimeError as error:
    assert "namespaces are Linux's" in str(error), error
weak = code_reward(
    ["def f(x): return x", "def f(x): return 0"], ["assert f(1) == 1"] * 2, allow_weak_sandbox=True
)
assert weak == [1.0, 0.0], weak
print("portable")
"""


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_every_door_opens_and_storage_and_rewards_work(system, tmp_path):
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", EMULATED, system, " ".join(DOORS)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "portable"


def without_encoding(text: str) -> list[int]:
    """Lines that read or write text in whatever encoding the system prefers (cp1252 on Windows)."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        attribute = isinstance(node.func, ast.Attribute)
        name = node.func.attr if attribute else getattr(node.func, "id", "")
        position = {"read_text": 0, "write_text": 1}.get(name)
        if position is not None and len(node.args) <= position:
            lines.append(node.lineno)
        if name == "open" and not (attribute and ast.unparse(node.func.value) in ("os", "Image")):
            words = [a.value for a in node.args if isinstance(a, ast.Constant)]
            modes = [w for w in words if isinstance(w, str) and set(w) <= set("rwaxbt+")]
            if not any("b" in mode for mode in modes) and "opener" not in ast.unparse(node):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("folder", ["postlab", ".ci"])
def test_text_is_utf_8_on_every_system(folder):
    places = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := without_encoding(path.read_text(encoding="utf-8")))
    }
    assert places == {}


def test_the_rule_about_text_sees_what_it_should():
    bad = ["p.read_text()", "p.write_text(t)", "open(p)", "open(p, 'w')", "p.open('a')"]
    good = ["p.read_text('utf-8')", "p.write_text(t, 'utf-8')", "open(p, 'rb')", "os.open(p, 1)"]
    good += ["open(p, encoding='utf-8')", "p.open('ab+')"]
    assert [without_encoding(line) for line in bad + good] == [[1]] * 5 + [[]] * 6


# ---- the workflow


def test_the_smoke_jobs_cover_both_systems_with_files_that_exist():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    smoke = jobs["smoke"]
    assert set(smoke["strategy"]["matrix"]["os"]) == {"macos-latest", "windows-latest"}
    script = "\n".join(step.get("run", "") for step in smoke["steps"])
    named = [word for word in script.split() if word.startswith(("tests/", "notebooks/", ".ci/"))]
    assert named and all((ROOT / name).exists() for name in named), named
    for needed in ("storage", "stats", "rewards", "datasets", "chat", "doctor", "preflight"):
        assert any(name.startswith(f"tests/unit/{needed}") for name in named), needed
