"""code_reward where Linux's calls are missing, as on macOS and Windows; both are emulated."""

import os
import sys
import time
from functools import partial

import pytest
from test_rewards_code import FORGED, RIGHT, SQUARE, WRONG

import postlab.rewards._sandbox as sandbox
from postlab.rewards import code_reward

weak = partial(code_reward, allow_weak_sandbox=True)
LINUX_ONLY = ("memfd_create", "pidfd_open", "sched_getaffinity", "unshare", "fork")


@pytest.fixture(autouse=True, params=["darwin", "win32"])
def elsewhere(request, monkeypatch):
    """A system without namespaces; win32's has no process groups either."""
    for name in (*LINUX_ONLY, *(["killpg"] if request.param == "win32" else [])):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.delattr(sandbox.select, "poll")
    monkeypatch.setattr(sys, "platform", request.param)
    for cached in (sandbox.fault, sandbox.check):
        cached.cache_clear()
    yield
    for cached in (sandbox.fault, sandbox.check):
        cached.cache_clear()


def test_it_refuses_in_a_sentence_unless_weakness_is_allowed():
    with pytest.raises(RuntimeError, match="needs namespaces.*namespaces are Linux's"):
        code_reward(RIGHT[:1], [SQUARE])
    with pytest.raises(RuntimeError, match="can't be jailed here"):
        sandbox.run_programs([{"code": "", "calls": []}])


def test_programs_are_scored_as_on_linux():
    programs = [*RIGHT, *WRONG, *FORGED.values()]
    rewards = weak(programs, [SQUARE] * len(programs))
    assert rewards == [1.0] * len(RIGHT) + [0.0] * (len(programs) - len(RIGHT))


def test_a_program_that_does_not_end_is_ended_and_another_is_not_disturbed():
    begun = time.monotonic()
    programs = ["import time\ntime.sleep(600)", RIGHT[0], "while True: pass"]
    assert weak(programs, [SQUARE] * 3) == [0.0, 1.0, 0.0]
    assert time.monotonic() - begun < 2 * sandbox.SECONDS


@pytest.mark.parametrize("how", ["os.ftruncate(fd, 0)", "os.write(fd, b'k')", "os.close(fd)"])
def test_a_program_cannot_take_back_that_it_was_started(how):
    program = (
        f"import os\nfor fd in range(9):\n    try: {how}\n    except OSError: pass\nos._exit(0)"
    )
    assert weak([program, RIGHT[0]], [SQUARE] * 2) == [0.0, 1.0]


def test_results_that_are_too_long_count_for_nothing():
    assert weak(["def f(x): return 'x' * 300_000"], ["assert f(1) == 'x' * 300_000"]) == [0.0]
    assert weak(["def f(x): return 'x' * 30_000"], ["assert f(1) == 'x' * 30_000"]) == [1.0]


def test_the_learners_environment_and_packages_are_not_there(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    program = "import os, sys\ndef f(x): return 'HF_TOKEN' in os.environ or 'site' in sys.modules"
    assert weak([program], ["assert f(1) == False"]) == [1.0]


def test_scratch_folders_and_processes_are_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    assert weak(RIGHT[:3] + WRONG[2:4], [SQUARE] * 5) == [1.0] * 3 + [0.0] * 2
    assert list(tmp_path.iterdir()) == []
