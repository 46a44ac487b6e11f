"""Untrusted programs, run in jails of their own, a few at a time; what is trusted stays here.

`run_programs` hands each program and its calls to `_jail` and brings back what the program wrote:
bytes that prove nothing but that it wrote them. Where the machine failed, and not the program, it
brings back a `JailFailure` instead. `missing` tells by trying whether this machine lets us build
the jail at all. Outside Linux there are plain limits only.
"""

import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from postlab.rewards._jail import CPU_SECONDS, KILLED, MOST_SECONDS, STARTED

JAIL = Path(__file__).with_name("_jail.py")
MAX_OUTPUT = 256 << 10  # bytes of results, all calls of a program together
MAX_PARALLEL = 4
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
        if error.errno not in (101, 99): found.append("it has a network: " + str(error))
    children = []
    try:
        while len(children) < 40:
            pid = os.fork()
            if pid == 0:
                os.read(hold, 1); os._exit(0)
            children.append(pid)
    except OSError: pass
    if len(children) >= 40: found.append("it may start any number of processes")
    return found
hold, _ = os.pipe()
"""


class JailFailure(RuntimeError):
    """Why a program could not be run: the machine's fault, which says nothing about the program."""


Outcome = bytes | JailFailure | None


def run_programs(requests: list[dict[str, Any]], *, jailed: bool = True) -> list[Outcome]:
    """What each program wrote, in their order; None where it wrote nothing or too much.

    A program that the machine could not run, say at its limit on processes, is tried again alone.
    If that fails as well, its place holds the JailFailure.

    Args:
        requests: as `_jail._run` reads them.
        jailed: in namespaces; else under plain limits alone, which hold back accidents only.
    Raises:
        RuntimeError: if `jailed` outside Linux.
    """
    if not sys.platform.startswith("linux"):
        if jailed:
            raise RuntimeError(f"Programs can't be jailed here: {missing()}.")
        with ThreadPoolExecutor(min(MAX_PARALLEL, os.cpu_count() or 1)) as pool:
            return list(pool.map(_run_plainly, requests))
    outcomes = _run_batch(requests, jailed)
    return [
        _run_batch([request], jailed)[0] if isinstance(outcome, JailFailure) else outcome
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


def _run_batch(requests: list[dict[str, Any]], jailed: bool) -> list[Outcome]:
    """The outcomes of one porter's programs."""
    if not requests:
        return []
    scratch, porter = "", None
    try:
        inside, outside = socket.socketpair()
        with inside, outside:
            scratch = tempfile.mkdtemp(prefix="postlab-sandbox-")
            os.chmod(scratch, 0o711)
            command = [os.path.realpath(sys.executable), "-P", "-s", "-S", "-B", str(JAIL)]
            command += ["jailed" if jailed else "weak", scratch, str(inside.fileno())]
            porter = subprocess.Popen(
                command,
                pass_fds=[inside.fileno()],
                env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},  # no token of the learner's
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            inside.close()
            outcomes = _exchange(requests, outside)
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


def _run_plainly(request: dict[str, Any]) -> Outcome:
    """Run one program in a process of its own, without any of Linux's calls."""
    # The base's Python: a venv's own on Windows starts that one as a child, which a kill would miss
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    command = [python, "-P", "-s", "-S", "-B", str(JAIL), "plain"]
    environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}  # no token of the learner's
    if "SYSTEMROOT" in os.environ:  # without it, Windows starts no Python
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    scratch = ""
    try:
        with tempfile.TemporaryFile() as status:
            scratch = tempfile.mkdtemp(prefix="postlab-sandbox-")
            process = subprocess.Popen(
                command,
                cwd=scratch,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=status,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(json.dumps(request).encode(), timeout=3 * CPU_SECONDS)
            finally:
                if hasattr(os, "killpg"):  # and what it has started
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
                process.kill()
                process.communicate()
            status.seek(0)
            if status.read(1) != STARTED:
                return JailFailure(f"Python did not start, or ended with {process.returncode}")
        return _written(Path(scratch, "results"))
    except OSError as error:
        return JailFailure(f"Python could not be started: {error}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _written(results: Path) -> bytes | None:
    """What a program left in its file of results; None for nothing, too much, or no plain file."""
    try:
        mode = results.lstat()
        if not stat.S_ISREG(mode.st_mode) or not 0 < mode.st_size <= MAX_OUTPUT:
            return None
        return results.read_bytes()
    except OSError:
        return None


class _Streams:
    """What comes back from one program: its results, and what its warden says of it."""

    def __init__(self) -> None:
        self.results, self.status = bytearray(), bytearray()

    def outcome(self) -> Outcome:
        if self.status.endswith(KILLED):
            return JailFailure("the system ended a program within its limits; is memory short?")
        if not self.status.startswith(STARTED):
            return JailFailure(self.status.decode(errors="replace") or "the sandbox ended early")
        return bytes(self.results) if 0 < len(self.results) <= MAX_OUTPUT else None


def _exchange(requests: list[dict], door: socket.socket) -> list[Outcome]:
    """Keep a few programs running until all are done, and read what comes back."""
    parallel = min(MAX_PARALLEL, len(os.sched_getaffinity(0)))
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
def missing() -> str:
    """Why programs cannot be jailed here, found out by jailing one; empty where they can."""
    if sys.platform == "win32":
        return "namespaces are Linux's, and this is Windows, which does not limit memory either"
    if not sys.platform.startswith("linux"):
        return f"namespaces are Linux's, and this is {sys.platform}"
    home = os.path.expanduser("~")
    step = ["call", [{"name": "holes"}, home], {}]
    probe = {"before": [], "code": _PROBE, "after": [], "steps": [step]}
    (outcome,) = run_programs([probe])
    if not isinstance(outcome, bytes):
        reason = str(outcome or "no answer")
        if any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv"))):
            reason += f"; a container has to be started with {DOCKER_FLAGS}"
        return reason
    holes = json.loads(outcome).get("value", ["the probe failed"])
    return "; ".join(holes)
