"""A machine that fails is no wrong answer: code_reward gives None or an error, never 0.0."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

import postlab.rewards._sandbox as sandbox
from postlab.rewards import code_reward

WHY = sandbox.missing()
needs_namespaces = pytest.mark.skipif(bool(WHY), reason=f"the jail's probe says: {WHY}")
TESTS = ["assert f(2) == 4"]
PROGRAMS = ["def f(x): return x * x", "def f(x): return 0"]
AGAIN = "raise OSError(11, 'Resource temporarily unavailable')"
BROKEN = {
    "the porter can't fork": f"def fork(): {AGAIN}\njail.os.fork = fork",
    "a warden can't fork": "porter, real = os.getpid(), os.fork\n"
    f"def fork():\n    if os.getpid() != porter: {AGAIN}\n    return real()\njail.os.fork = fork",
    "no memory for a root": "def build(*a): raise MemoryError\n"
    "jail._build_root = jail.os.mkdir = build",
    "no user to become": "def chown(*a): raise OSError(22, 'Invalid argument')\n"
    "jail._give_up = chown",
    "the porter dies": "os._exit(1)",
    "the porter dies later": "def fork(): os._exit(1)\njail.os.fork = fork",
}


@pytest.fixture
def jail(tmp_path, monkeypatch):
    """Puts a jail in the place of the real one that is changed by some lines of Python."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the jail is Linux's")

    def change(lines):
        script = tmp_path / "changed.py"
        script.write_text(
            "import importlib.util, os, sys\n"
            f"spec = importlib.util.spec_from_file_location('jail', {str(sandbox.JAIL)!r})\n"
            "jail = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(jail)\n"
            f"{textwrap.dedent(lines)}\njail._main(*sys.argv[1:])\n"
        )
        monkeypatch.setattr(sandbox, "JAIL", script)

    return change


@pytest.mark.parametrize("name", BROKEN)
def test_a_jail_that_cannot_be_built_is_an_error(name, jail):
    sandbox.missing()  # before it breaks
    jail(BROKEN[name])
    with pytest.raises(RuntimeError, match="could run none of 2 programs.*this machine's fault"):
        code_reward(PROGRAMS, [TESTS] * 2, allow_weak_sandbox=True)


def test_what_fails_now_and_then_is_tried_again(jail, tmp_path):
    jail(
        f"once, real = {str(tmp_path / 'once')!r}, jail._enter\n"
        "def enter(*a):\n    try: os.mkdir(once)\n    except FileExistsError: real(*a)\n"
        f"    {AGAIN}\njail._enter = enter"
    )
    assert code_reward(PROGRAMS, [TESTS] * 2, allow_weak_sandbox=True) == [1.0, 0.0]


def test_a_program_that_cannot_be_run_is_none_beside_others_that_can(jail):
    jail(
        "real = jail._run\ndef enter(cell, uid, program, results, status):\n"
        "    request = jail.json.loads(os.read(program, 9999))\n"
        "    if 'cursed' in request['code']: raise OSError(12, 'Cannot allocate memory')\n"
        "    os.write(status, jail.STARTED)\n    os.close(status)\n    os.dup2(results, 3)\n"
        "    real(request)\njail._enter = enter"
    )
    programs = [*PROGRAMS, "cursed = True\n" + PROGRAMS[0]]
    with pytest.warns(
        RuntimeWarning, match="could not be run .1 in this batch.: .*allocate memory"
    ):
        rewards = code_reward(programs, [TESTS] * 3, allow_weak_sandbox=True)
    assert rewards == [1.0, 0.0, None]


@needs_namespaces
def test_a_program_that_the_system_kills_is_no_wrong_answer(jail):
    jail(
        "real = jail._wait\ndef wait(pid):\n    os.kill(pid, 9)\n    return real(pid)\n"
        "jail._wait = wait"
    )
    with pytest.raises(RuntimeError, match="is memory short"):
        code_reward(PROGRAMS, [TESTS] * 2)


@pytest.mark.parametrize(
    "call", ["subprocess.Popen", "os.memfd_create", "tempfile.mkdtemp", "os.pipe"]
)
def test_a_failed_call_of_this_process_is_an_error(call, monkeypatch):
    sandbox.missing()
    module, name = call.split(".")

    def refuse(*arguments, **options):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    if not hasattr(getattr(sandbox, module), name):
        pytest.skip("Linux only")
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with monkeypatch.context() as patched:
        patched.setattr(getattr(sandbox, module), name, refuse)
        with pytest.raises(RuntimeError, match="could run none of 2 programs"):
            code_reward(PROGRAMS, [TESTS] * 2, allow_weak_sandbox=True)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    assert code_reward(PROGRAMS, [TESTS] * 2, allow_weak_sandbox=True) == [1.0, 0.0]


def test_programs_of_a_mapped_root_are_scored():
    """As in a rootless container, where root is the only user there is."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("needs unshare and user namespaces")
    script = (
        "from postlab.rewards import code_reward\n"
        f"print(code_reward({PROGRAMS!r}, [{TESTS!r}] * 2, allow_weak_sandbox=True))"
    )
    command = [unshare, "-Ur", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[1.0, 0.0]", done.stderr


def test_a_program_cannot_blame_the_machine():
    programs = [
        "import os\nfor fd in range(3, 30):\n    try: os.write(fd, b'k')\n"
        "    except OSError: pass\nos._exit(1)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
        "import os\nos.closerange(0, 99)",
        "raise MemoryError",
    ]
    assert code_reward(programs, [TESTS] * 4, allow_weak_sandbox=True) == [0.0] * 4
