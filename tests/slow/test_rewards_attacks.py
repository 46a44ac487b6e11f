"""What the table of attacks has that takes long, and what a thousand programs leave behind."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "rewards"))
import attacks

from postlab.rewards import _sandbox as sandbox

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the jail is Linux's")


@linux
@pytest.mark.parametrize("user", ["root", "user"])
@pytest.mark.parametrize("mode", attacks.MODES)
def test_the_clock_ends_what_does_not_end(mode, user):
    attacks.check("BY_THE_CLOCK", mode, user)


def things() -> dict[str, list[str]]:
    """What a program could leave: children, descriptors, files, keys, IPC and control groups."""
    groups = [place for place, _, _ in os.walk("/sys/fs/cgroup") if "postlab-" in place]
    return {
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(),
        "processes": [str(path) for path in attacks._left_behind()],
        "descriptors": os.listdir("/proc/self/fd"),
        "files": os.listdir(tempfile.gettempdir()),
        # A new session keyring lives as long as its processes, so keys are named, not counted.
        "keys": [line for line in Path("/proc/keys").read_text().splitlines() if "postlab" in line],
        "IPC": [
            line
            for kind in ("shm", "msg", "sem")
            for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        ],
        "control groups": groups,
    }


@linux
@pytest.mark.parametrize("mode", attacks.MODES)
def test_a_thousand_programs_leave_nothing_behind(mode, tmp_path, monkeypatch):
    if reason := sandbox.fault(mode) if mode in sandbox.STRONG else "":
        pytest.skip(reason)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    quick = ("System V", "a file in memory", "leave a process", "add a key", "msgget", "semget")
    table = [row for row in attacks.ATTACKS if row[1].startswith((*quick, "an honest program"))]
    attacks.programs(table, PID=os.getpid())
    before = things()
    requests = attacks.programs(table * (1000 // len(table)), PID=os.getpid())
    requests += attacks.programs(table[:1] * (1000 - len(requests)), PID=os.getpid())
    outcomes = sandbox.run_programs(requests, sandbox.Mode(mode))
    assert len(outcomes) == 1000
    verdicts = {attacks.seen(outcome) for outcome in outcomes}
    assert verdicts == {"open", "held"}  # the honest ones, and the others
    assert things() == before
