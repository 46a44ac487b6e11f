"""The table of attacks in every mode, the filter, and what protects the side that judges."""

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import attacks
import pytest

from postlab.rewards import _filter, code_reward
from postlab.rewards import _sandbox as sandbox
from pace import within

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the jail is Linux's")
SQUARE = "assert f(2) == 4\nassert f(3) == 9"
PROGRAMS = ["def f(x): return x * x", "def f(x): return 0"]
PYTHON = (sys.executable,)


def outcomes(codes: list[str], mode: sandbox.Mode) -> list:
    step = ["call", [{"name": "f"}], {}]
    requests = [{"before": [], "code": code, "after": [], "steps": [step]} for code in codes]
    return sandbox.run_programs(requests, mode)


@linux
@pytest.mark.parametrize("user", ["root", "user"])
@pytest.mark.parametrize("mode", attacks.MODES)
def test_every_mode_holds_what_it_claims_and_no_more(mode, user):
    attacks.check("ATTACKS", mode, user)


ORDINARY = {
    "asyncio": "import asyncio\nasync def g(): await asyncio.sleep(0.001); return 7\n"
    "def f(): return asyncio.run(g())",
    "threads": "from concurrent.futures import ThreadPoolExecutor\n"
    "def f():\n    with ThreadPoolExecutor(2) as p: return sum(p.map(int, '34'))",
    "a child": "import os\ndef f():\n    if (p := os.fork()) == 0: os._exit(7)\n"
    "    return os.waitstatus_to_exitcode(os.waitpid(p, 0)[1])",
    "a subprocess": "import subprocess\n"
    "def f(): return subprocess.run(['/usr/bin/env', 'sh', '-c', 'exit 7']).returncode",
    "signals": "import os, signal\ndef f():\n    n = []\n"
    "    signal.signal(signal.SIGUSR1, lambda *a: n.append(7))\n"
    "    os.kill(os.getpid(), signal.SIGUSR1)\n    return n[0]",
    "files": "import tempfile, shutil\ndef f():\n"
    "    with tempfile.TemporaryDirectory() as d:\n        open(d + '/a', 'w').write('7')\n"
    "        shutil.copy(d + '/a', d + '/b')\n        return int(open(d + '/b').read())",
    "modules": "import bisect, decimal, fractions, hashlib, sqlite3, statistics, datetime\n"
    "def f(): return sqlite3.connect(':memory:').execute('select 7').fetchone()[0]",
    "chance": "import random, secrets, uuid\ndef f(): return [7, secrets.token_bytes(9)][0]",
}


@linux
@pytest.mark.parametrize("mode", attacks.MODES)
def test_ordinary_programs_run(mode):
    if reason := sandbox.fault(mode) if mode in sandbox.STRONG else "":
        pytest.skip(reason)
    expected = dict.fromkeys(ORDINARY, b'{"value": 7}')
    assert dict(zip(ORDINARY, outcomes([*ORDINARY.values()], sandbox.Mode(mode)), strict=True)) == (
        expected
    )


@linux
def test_a_user_with_many_processes_may_have_a_program_with_threads():
    """The limit on processes counts all that a user has."""
    crowd = "import threading\nfor _ in range(50):\n"
    crowd += "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    code = (
        f"import attacks, os\nif os.geteuid() == 0: attacks.become_a_user()\n{crowd}"
        "import test_rewards_attacks as t\n"
        "print(t.outcomes([t.ORDINARY['threads']], t.sandbox.Mode('weak')))"
    )
    paths = [str(attacks.ROOT), str(Path(__file__).parent), *sys.path[1:]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "[b'{\"value\": 7}']\n", done.stderr


@linux
def test_numpy_runs_behind_the_filter():
    code = (
        "import os; from postlab.rewards import _filter, _jail\n"
        "_jail._must('prctl', _jail._libc().prctl(38, 1, 0, 0, 0))\n"
        "_jail._install(_filter.seccomp_filter(os.uname().machine, weak=True), required=True)\n"
        "import numpy as np\na = np.random.default_rng(0).normal(size=(300, 300))\n"
        "np.save('/dev/null', np.linalg.svd(a @ a.T)[1] + np.fft.fft(a).real.sum())\nprint('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def verdict(code: bytes, arch: int, number: int, *arguments: int) -> int | str:
    """What the kernel would do with a call: an errno, 0 to let it through, or kill."""
    arguments += (0,) * (6 - len(arguments))
    memory = struct.pack("<iIQ6Q", number, arch, 0, *arguments)
    place, loaded = 0, 0
    while True:
        op, then, otherwise, operand = struct.unpack_from("<HBBI", code, 8 * place)
        place += 1
        if op == 0x20:
            (loaded,) = struct.unpack_from("<I", memory, operand)
        elif op == 0x06:
            return {0x7FFF0000: 0, 0x80000000: "kill"}.get(operand, operand & 0xFFFF)
        else:
            holds = {
                0x15: loaded == operand,
                0x35: loaded >= operand,
                0x45: bool(loaded & operand),
            }[op]
            place += then if holds else otherwise


@pytest.mark.parametrize("machine", _filter.ARCHITECTURES)
def test_the_filter_refuses_what_it_lists_on_both_machines(machine):
    arch = _filter.ARCHITECTURES[machine]
    column = list(_filter.ARCHITECTURES).index(machine)
    strong, weak = (_filter.seccomp_filter(machine, weak=each) for each in (False, True))
    kill = _filter._SIGNALS[0][1 + column]
    clone, pair, limits = (rule[1 + column] for rule in _filter._CONDITIONS[:3])
    for code in (strong, weak):
        assert len(code) % 8 == 0 and len(code) // 8 < 4096
        for other in (0x40000003, 0x40000028, arch ^ 1):  # i386, arm, none
            assert verdict(code, other, 39) == "kill"
        refused = {pair[column] for pair in _filter._REFUSED.values()} - {None}
        for number in refused - {294}:
            assert verdict(code, arch, number) == errno.EPERM
        for number in (425, 435, 442, 447, 461, 600, 0x40000000, 0x40000000 + 39, 2**31 - 1):
            assert verdict(code, arch, number) == errno.ENOSYS
        assert verdict(code, arch, 436) == verdict(code, arch, 439) == 0
        assert verdict(code, arch, clone, 0x3D0F00) == verdict(code, arch, clone, 17) == 0
        for bit in (17, 25, 26, 27, 28, 29, 30):
            assert verdict(code, arch, clone, 17 | 1 << bit) == errno.EPERM
        assert verdict(code, arch, pair, 1, 1) == 0 and verdict(code, arch, pair, 2, 1)
        assert verdict(code, arch, limits, 0, 9) == 0 and verdict(code, arch, limits, 9, 9)
    assert verdict(strong, arch, kill, 99) == 0 and verdict(weak, arch, kill, 99) == errno.EPERM
    assert verdict(weak, arch, kill, _filter.OWN_PID) == 0
    assert verdict(weak, arch, kill, 2**32 - 1) == errno.EPERM
    assert _filter.seccomp_filter("riscv64") == b""


@linux
def test_a_program_has_no_keys_even_without_the_filter(monkeypatch):
    monkeypatch.setattr(sandbox, "seccomp_filter", lambda machine, weak=False: b"")
    verdicts = attacks.run([row for row in attacks.ATTACKS if "session's key" in row[1]], "weak")
    assert verdicts == {"read the session's key": "held"}


M = "(2**61 - 1)"  # ints that differ by it have the same hash
SLOW_TO_JUDGE = {
    "a set": (f"def f(x): return {{k * {M} for k in range(1, 5000)}}", "assert f(2) == {4}"),
    "a dict": (f"def f(x): return {{k * {M}: 0 for k in range(1, 5000)}}", "assert f(2) == {4: 0}"),
    "a set made here": (
        f"def f(x): return [k * {M} for k in range(1, 7000)]",
        "assert len(set(f(2)) | {1}) == 4",
    ),
    "round": ("def f(x): return -900_000", "assert round(7, f(2)) == 4"),
    "round by keyword": ("def f(x): return -900_000", "assert round(7, ndigits=f(2)) == 4"),
    "a modular power": ("def f(x): return 3 ** 30_000", "assert pow(7, f(2), f(3)) == 4"),
    "a loop over a result": (
        "def f(x): return list(range(3000))",
        "y = f(1)\nassert all(y.count(k % 9 + z) for k in range(99) for z in y) and y == 4",
    ),
    "deep JSON": ("import os\nos.write(3, b'[' * 100000)\nos._exit(0)", "assert f(2) == 4"),
    "a long number": (
        "import os\nos.write(3, b'{\"value\": ' + b'9' * 200000 + b'}')\nos._exit(0)",
        "assert f(2) == 4",
    ),
    "a long float": ("print('1.' + '1' * 200000)", {"inputs": ["1"], "outputs": ["0.5"]}),
}


@pytest.mark.parametrize("name", SLOW_TO_JUDGE)
def test_results_that_are_slow_to_judge_take_no_time_here(name):
    program, tests = SLOW_TO_JUDGE[name]
    begun = time.process_time()
    assert code_reward([program], [tests], allow_weak_sandbox=True) == [0.0]
    assert within(time.process_time() - begun, 0.5)


def test_long_results_are_judged_as_short_ones(monkeypatch):
    right = "def f(x): return list(range(x))"
    tests = ["r = f(9000)\nassert len(r) == 9000 and r[-1] == 8999", {1, 2}]
    long = ["def f(x): return list(range(x)) + [1]", right]
    assert code_reward(long, tests[:1] * 2, allow_weak_sandbox=True) == [0.0, 1.0]
    from postlab.rewards import code

    def refuse(*arguments, **options):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(code.subprocess, "run", refuse)
    with pytest.warns(RuntimeWarning, match="no process to compare"):
        assert code_reward([right], tests[:1], allow_weak_sandbox=True) == [None]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"allow_weak_sandbox": [True] * 2}, TypeError, "must be a bool.*rename the column"),
        ({"command": ["sh", "-c"]}, TypeError, "must be a tuple of strings.*rename the column"),
        ({"command": (1,)}, TypeError, "must be a tuple"),
        ({"command": "docker"}, TypeError, "must be a tuple"),
        ({"max_parallel": [2, 2]}, TypeError, "must be an int or None"),
        ({"max_parallel": True}, TypeError, "must be an int or None"),
        ({"max_parallel": 0}, ValueError, "at least 1, not 0"),
    ],
)
def test_a_column_of_the_dataset_cannot_loosen_the_sandbox(options, error, text):
    with pytest.raises(error, match=text):
        code_reward(PROGRAMS, [SQUARE] * 2, **options)


@linux
@pytest.mark.parametrize("mode", attacks.MODES)
@pytest.mark.parametrize("parallel", [1, 3])
def test_no_more_programs_run_at_once_than_allowed(mode, parallel):
    """One that closes its results is still there."""
    if reason := sandbox.fault(mode) if mode in sandbox.STRONG else "":
        pytest.skip(reason)
    program = "import os, time\nos.closerange(0, 99)\ntime.sleep(0.4)\nos._exit(0) #"
    begun = time.monotonic()
    codes = [f"{program}{k}" for k in range(6)]
    assert outcomes(codes, sandbox.Mode(mode, parallel=parallel)) == [None] * 6
    passed = time.monotonic() - begun
    assert passed > 0.4 * 6 / parallel - 0.1


def test_a_command_of_the_users_runs_the_programs():
    wrong = ["def f(x): raise SystemExit", "import os\nos.write(3, b'k' * 10**6)", "while True: 1"]
    wrong += ["import os\nfor fd in range(9):\n    try: os.ftruncate(fd, 0)\n    except OSError: 1"]
    rewards = code_reward([*PROGRAMS, *wrong], [SQUARE] * 6, command=PYTHON, max_parallel=2)
    assert rewards == [1.0] + [0.0] * 5


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("postlab-no-such-command",), "postlab-no-such-command could not be started"),
        ((sys.executable, "-c", "import sys; sys.exit('no daemon')"), "no daemon"),
        ((sys.executable, "-c", "print('+')"), "gave b"),
    ],
)
def test_a_command_that_runs_nothing_scores_nothing(command, text):
    with pytest.raises(RuntimeError, match=f"can't run programs by(?s:.)*{text}"):
        code_reward(PROGRAMS, [SQUARE] * 2, command=command)


@linux
def test_without_namespaces_it_refuses_and_the_weak_sandbox_still_judges():
    """In a user namespace that may make no others."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("needs unshare and user namespaces")
    code = (
        "import postlab.rewards as r\ntry: print(r.code_reward(*a))\n"
        "except RuntimeError as e: print('needs namespaces' in str(e))\n"
        "print(r.code_reward(*a, allow_weak_sandbox=True))"
    )
    off = "for f in /proc/sys/user/max_*_namespaces; do echo 0 > $f; done; exec "
    code = f"a = {PROGRAMS!r}, [{SQUARE!r}] * 2\n{code}"
    script = f'{off} "$@"'
    command = [unshare, "-Ur", "sh", "-c", script, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n[1.0, 0.0]\n", done.stderr


@linux
def test_control_groups_hold_a_program_and_are_removed(monkeypatch, tmp_path):
    """In a real hierarchy of version 2; where it has no memory controller, with another limit."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next((m[1] for m in mounts if m[2] == "cgroup2" and os.access(m[1], os.W_OK)), "")
    if not root:
        pytest.skip("no control groups of version 2 that may be written to")
    parent = f"{root}/postlab-test-{os.getpid()}"
    os.mkdir(parent)
    try:
        script = tmp_path / "changed.py"
        script.write_text(
            "import importlib.util, sys\n"
            f"spec = importlib.util.spec_from_file_location('jail', {str(sandbox.JAIL)!r})\n"
            "jail = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(jail)\n"
            "jail.GROUP_LIMITS = {'cgroup.max.depth': '0'}\njail._main(*sys.argv[1:])\n",
            encoding="utf-8",
        )
        monkeypatch.setattr(sandbox, "JAIL", script)
        monkeypatch.setattr(sandbox, "_make_group", lambda: parent)
        monkeypatch.setattr(sandbox, "_remove_group", lambda group: "")
        code = "def f(): return open('/proc/self/cgroup').read()"
        (outcome,) = outcomes([code], sandbox.Mode("weak"))
        assert f"0::/{os.path.basename(parent)}/" in json.loads(outcome)["value"]
        left = [entry.name for entry in os.scandir(parent) if entry.is_dir()]
        assert not left  # removed by the warden
    finally:
        os.rmdir(parent)


@linux
def test_a_program_that_takes_its_groups_memory_is_no_fault_of_the_machine(tmp_path):
    from postlab.rewards import _jail

    for count, expected in ((0, False), (3, True)):
        text = f"low 0\noom 9\noom_kill {count}\noom_group_kill 0\n"
        (tmp_path / "memory.events").write_text(text, encoding="utf-8")
        assert _jail._out_of_memory(str(tmp_path)) is expected
    assert _jail._out_of_memory("") is False


@linux
def test_a_weak_sandbox_that_runs_nothing_scores_nothing(monkeypatch, tmp_path):
    sandbox.missing()
    sandbox.check.cache_clear()
    script = tmp_path / "silent.py"  # every program starts, and nothing comes of it
    script.write_text(
        sandbox.JAIL.read_text(encoding="utf-8").replace("    _run(request)\n", "", 2)
    )
    monkeypatch.setattr(sandbox, "JAIL", script)
    monkeypatch.setattr(sandbox, "missing", lambda: "none")
    with pytest.raises(RuntimeError, match="plain limits.*nothing has been scored"):
        code_reward(PROGRAMS, [SQUARE] * 2, allow_weak_sandbox=True)
