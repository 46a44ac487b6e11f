"""Untrusted programs, run in jails of their own, a few at a time; what is trusted stays here.

`run_programs` hands each program and its calls to `_jail` and brings back what the program wrote:
bytes that prove nothing but that it wrote them. Where the machine failed, and not the program, it
brings back a `JailFailure` instead. There are four modes:

- `namespaces`: the jail makes them itself, in a few milliseconds;
- `bubblewrap`: that program makes them, which some systems let no other do;
- `weak`: plain limits and, on Linux, the filter of system calls;
- `command`: a command of the user's isolates a Python, in a container for instance.

`fault` tells by trying why a mode can't be had on this machine.
"""

import base64
import json
import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from postlab.rewards._filter import seccomp_filter
from postlab.rewards._jail import KILLED, MOST_SECONDS, SECONDS, STARTED

JAIL = Path(__file__).with_name("_jail.py")
STRONG = ("namespaces", "bubblewrap")
GROUPS = "/sys/fs/cgroup"
MAX_OUTPUT = 256 << 10  # bytes of results, all calls of a program together
MAX_PARALLEL = 4  # programs at once, unless the caller says otherwise
DOCKER_FLAGS = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"

_PROBE = """
import os, socket, sys
def holes(home):
    found = []
    if os.getpid() != 1: found.append("it sees other processes")
    for name in os.listdir(home) if os.path.exists(home) else ():
        if not sys.base_prefix.startswith(os.path.join(home, name)):
            found.append("it sees the home folder")
    for folder in ("/", "/usr", os.path.dirname(os.__file__)):
        if os.access(folder, os.W_OK): found.append("it may write to " + folder)
    try:
        socket.create_connection(("127.0.0.1", 9), 0.1); found.append("it has a network")
    except OSError as error:
        if error.errno not in (1, 101, 99): found.append("it has a network: " + str(error))
    children = []
    try:
        while len(children) < 40:
            pid = os.fork()
            if pid == 0:
                os.read(hold, 1); os._exit(0)
            children.append(pid)
    except OSError: pass
    if not children: found.append("it can't start a process")
    if len(children) >= 40: found.append("it may start any number of processes")
    try:
        os.memfd_create(""); found.append("no system call is refused to it")
    except OSError: pass
    return found
hold, _ = os.pipe()
"""


class JailFailure(RuntimeError):
    """Why a program could not be run: the machine's fault, which says nothing about the program."""


Outcome = bytes | JailFailure | None


class Mode(NamedTuple):
    """How programs are isolated, and how many of them run at once."""

    name: str = "namespaces"
    command: tuple[str, ...] = ()
    parallel: int | None = None  # None: MAX_PARALLEL, but no more than there are processors


def run_programs(requests: list[dict[str, Any]], mode: Mode = Mode()) -> list[Outcome]:  # noqa: B008
    """What each program wrote, in their order; None where it wrote nothing or too much.

    A program that the machine could not run, say at its limit on processes, is tried again alone.
    If that fails as well, its place holds the JailFailure.

    Args:
        requests: as `_jail._run` reads them.
        mode: weak holds back accidents only.
    Raises:
        RuntimeError: if namespaces are asked for outside Linux.
    """
    linux = sys.platform.startswith("linux")
    if not linux and mode.name in STRONG:
        raise RuntimeError(f"Programs can't be jailed here: {missing()}.")
    run = _run_batch if linux and mode.name != "command" else _run_each
    outcomes = run(requests, mode)
    return [
        run([request], mode)[0] if isinstance(outcome, JailFailure) else outcome
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


def _run_batch(requests: list[dict[str, Any]], mode: Mode) -> list[Outcome]:
    """The outcomes of one porter's programs."""
    if not requests:
        return []
    scratch, group, porter = "", "", None
    try:
        inside, outside = socket.socketpair()
        with inside, outside:
            scratch, group = tempfile.mkdtemp(prefix="postlab-sandbox-"), _make_group()
            os.chmod(scratch, 0o711)
            path = shutil.which("bwrap") or "" if mode.name == "bubblewrap" else scratch
            code = seccomp_filter(platform.machine(), weak=mode.name == "weak").hex()
            command = [os.path.realpath(sys.executable), "-P", "-s", "-S", "-B", str(JAIL)]
            command += [mode.name, path, str(inside.fileno()), code, group]
            porter = subprocess.Popen(
                command,
                pass_fds=[inside.fileno()],
                env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},  # no token of the learner's
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            inside.close()
            outcomes = _exchange(requests, outside, _parallel(mode))
        porter.wait(MOST_SECONDS)
        return outcomes
    except (OSError, subprocess.TimeoutExpired) as error:  # processes, memory, descriptors, disk
        return [JailFailure(f"the sandbox could not be started or reached: {error}")] * len(
            requests
        )
    finally:
        if porter:
            porter.kill()
            porter.wait()
        shutil.rmtree(scratch, ignore_errors=True)
        if group:
            _remove_group(group)


def _parallel(mode: Mode) -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return mode.parallel or min(MAX_PARALLEL, processors)


def _make_group() -> str:
    """A folder for the control groups of a batch, beside this process's own; empty without one.

    That takes version 2 with its memory controller, and the right to make groups there, which root
    has, and a user to whom systemd has delegated the group above.
    """
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as lines:
            own = next(line[3:].rstrip() for line in lines if line.startswith("0::"))
        parent = GROUPS + os.path.dirname(own)
        with open(f"{parent}/cgroup.subtree_control", encoding="utf-8") as file:
            shared = {"memory", "pids"} & set(file.read().split())
        if own == "/" or "memory" not in shared:
            return ""
        group = tempfile.mkdtemp(prefix="postlab-sandbox-", dir=parent)
    except (OSError, StopIteration):
        return ""
    try:
        with open(f"{group}/cgroup.subtree_control", "w", encoding="utf-8") as file:
            file.write(" ".join(f"+{controller}" for controller in sorted(shared)))
        # A process may go there only with the right to write to the group above both.
        return group if os.access(f"{parent}/cgroup.procs", os.W_OK) else _remove_group(group)
    except OSError:
        return _remove_group(group)


def _remove_group(group: str) -> str:
    """Remove a batch's control group, and those of programs whose warden was killed."""
    for folder in (*(entry.path for entry in os.scandir(group) if entry.is_dir()), group):
        with suppress(OSError):
            os.rmdir(folder)
    return ""


def _run_each(requests: list[dict[str, Any]], mode: Mode) -> list[Outcome]:
    """The outcomes of programs that each have a process started from here, or a command."""
    with ThreadPoolExecutor(_parallel(mode)) as pool:
        return list(pool.map(lambda request: _run_alone(request, mode.command), requests))


def _run_alone(request: dict[str, Any], isolation: tuple[str, ...]) -> Outcome:
    """Run one program by a command that ends in a Python, or in a plain process without one."""
    if isolation:  # this file may not be there, and old systems take few characters
        source = base64.b85encode(zlib.compress(JAIL.read_bytes(), 9)).decode()
        unpack = f"import base64,zlib;exec(zlib.decompress(base64.b85decode({source!r})))"
        command = [*isolation, "-I", "-S", "-B", "-c", unpack, "alone"]
        environment = None
    else:
        # The base's Python: a venv's own on Windows starts it as a child, which a kill would miss
        python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
        command = [python, "-P", "-s", "-S", "-B", str(JAIL), "plain"]
        environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}  # no token of the learner's
        if "SYSTEMROOT" in os.environ:  # without it, Windows starts no Python
            environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    scratch = ""
    try:
        with tempfile.TemporaryFile() as program, tempfile.TemporaryFile() as complaint:
            program.write(json.dumps(request).encode())
            program.seek(0)
            scratch = tempfile.mkdtemp(prefix="postlab-sandbox-")
            process = subprocess.Popen(
                command,
                cwd=None if isolation else scratch,
                env=environment,
                stdin=program,
                stdout=subprocess.PIPE,
                stderr=complaint if isolation else subprocess.DEVNULL,
                start_new_session=True,
            )
            written = _read(process)
            complaint.seek(0)
            reason = complaint.read(500).decode(errors="replace").strip()
        if not written.startswith(STARTED):
            reason = bytes(written[:500]).decode(errors="replace") or reason
            return JailFailure(f"Python did not start ({process.returncode}): {reason}")
        return bytes(written[1:]) if 1 < len(written) <= MAX_OUTPUT else None
    except OSError as error:
        return JailFailure(f"{command[0]} could not be started: {error}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read(process: subprocess.Popen) -> bytearray:
    """What a process writes until it ends, its time is over, or it has written too much."""
    written, begun = bytearray(), threading.Event()
    assert process.stdout is not None
    out = process.stdout.fileno()

    def read() -> None:
        with suppress(OSError):
            while len(written) <= MAX_OUTPUT and (data := os.read(out, 65536)):
                written.extend(data)
                begun.set()
        begun.set()
        if len(written) > MAX_OUTPUT:
            process.kill()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        begun.wait(MOST_SECONDS)  # a container may take long to start
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS + 1)
    finally:
        if hasattr(os, "killpg"):  # and what it has started
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        reader.join(1)  # longer only where something of the program's is left that writes
        if not reader.is_alive():
            process.stdout.close()
    return written


class _Streams:
    """What comes back from one program: its results, and what its warden says of it."""

    def __init__(self) -> None:
        self.results, self.status = bytearray(), bytearray()

    def outcome(self) -> Outcome:
        if self.status in (KILLED, STARTED + KILLED):
            return JailFailure("the system ended a program within its limits; is memory short?")
        if not self.status.startswith(STARTED):
            return JailFailure(self.status.decode(errors="replace") or "the sandbox ended early")
        return bytes(self.results) if 0 < len(self.results) <= MAX_OUTPUT else None


def _exchange(requests: list[dict], door: socket.socket, parallel: int) -> list[Outcome]:
    """Keep a few programs running until all are done, and read what comes back."""
    programs = [_Streams() for _ in requests]
    waiting = iter(zip(requests, programs, strict=True))
    reading: dict[int, bytearray] = {}  # by descriptor; two a program
    alive: set[int] = set()  # the descriptor of the status, which closes when all of it has ended
    poll = select.poll()
    try:
        while True:
            while len(alive) < parallel and (following := next(waiting, None)):
                request, streams = following
                results, status = _start(request, door)
                reading |= {results: streams.results, status: streams.status}
                alive.add(status)
                for fd in (results, status):
                    poll.register(fd, select.POLLIN)
            if not reading:
                return [streams.outcome() for streams in programs]
            if not (events := poll.poll(2000 * MOST_SECONDS)):  # a warden ends every program
                raise TimeoutError("the sandbox does not answer")
            for fd, _ in events:
                data = os.read(fd, 65536)
                reading[fd] += data
                if not data or len(reading[fd]) > MAX_OUTPUT:
                    poll.unregister(fd)
                    os.close(fd)
                    del reading[fd]
                    alive.discard(fd)
    finally:
        for fd in reading:
            os.close(fd)


def _start(request: dict, door: socket.socket) -> tuple[int, int]:
    """Send a program, and where it writes, to the porter; the ends to read are returned."""
    ours, theirs = [], []
    try:
        program = os.memfd_create("program")
        theirs.append(program)
        with open(program, "wb", closefd=False) as file:
            file.write(json.dumps(request).encode())
        os.lseek(program, 0, os.SEEK_SET)
        for _ in range(2):  # results, status
            end, other = os.pipe()
            ours.append(end)
            theirs.append(other)
        socket.send_fds(door, [b"."], theirs)
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return ours[0], ours[1]


@cache
def fault(name: str) -> str:
    """Why a strong mode can't be had here, found out by running a program; empty if it can."""
    if sys.platform == "win32":
        return "namespaces are Linux's, and this is Windows, which does not limit memory either"
    if not sys.platform.startswith("linux"):
        return f"namespaces are Linux's, and this is {sys.platform}"
    if not seccomp_filter(platform.machine()):
        return f"no filter of system calls is known for {platform.machine()}"
    if name == "bubblewrap" and not shutil.which("bwrap"):
        return "bubblewrap is not installed"
    home = os.path.expanduser("~")
    step = ["call", [{"name": "holes"}, home], {}]
    probe = {"before": [], "code": _PROBE, "after": [], "steps": [step]}
    (outcome,) = run_programs([probe], Mode(name))
    if not isinstance(outcome, bytes):
        reason = str(outcome or "no answer")
        if any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv"))):
            reason += f"; a container has to be started with {DOCKER_FLAGS}"
        return reason
    holes = json.loads(outcome).get("value", ["the probe failed"])
    return "; ".join(holes)


def missing() -> str:
    """Why no strong mode can be had here; empty where one can."""
    reason = fault("namespaces")
    return reason and fault("bubblewrap") and reason


def best_mode() -> str:
    """The first strong mode that can be had here, else weak."""
    return next((name for name in STRONG if not fault(name)), "weak")


@cache
def check(mode: Mode) -> None:
    """Run a right program of our own, so that a mode that runs none scores none wrong.

    Raises:
        RuntimeError: if it does not come out right. That is not remembered.
    """
    code = (
        "import decimal\nopen('note', 'w').write('2')\n"  # a module that isn't there from the start
        "def f(x): return x ** int(open('note').read())"
    )
    step = ["call", [{"name": "f"}, 3], {}]
    request = {"before": [], "code": code, "after": [], "steps": [step]}
    (outcome,) = run_programs([request], mode)
    if outcome != b'{"value": 9}':
        how = " ".join(mode.command) or "plain limits"
        raise RuntimeError(
            f"code_reward can't run programs by {how}: one that imports decimal, writes 2 to "
            f"a file and returns 3 ** 2 gave {outcome!r}. That is this machine's fault, so "
            "nothing has been scored."
        )
