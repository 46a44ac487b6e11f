"""Untrusted programs, run in jails of their own, a few at a time; what is trusted stays here.

`run_programs` hands each program and its calls to `_jail` and brings back what the program wrote:
bytes that prove nothing but that it wrote them. `missing` tells by trying whether this machine lets
us build the jail at all. Outside Linux there are plain limits only.
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

from postlab.rewards._jail import CPU_SECONDS

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


def run_programs(requests: list[dict[str, Any]], *, jailed: bool = True) -> list[bytes | None]:
    """What each program wrote, in their order; None where it wrote nothing or too much.

    Args:
        requests: `code`, and `calls`: a list of (function's name, encoded list of arguments).
        jailed: in namespaces; else under plain limits alone, which hold back accidents only.
    Raises:
        RuntimeError: if `jailed` outside Linux.
    """
    if not sys.platform.startswith("linux"):
        if jailed:
            raise RuntimeError(f"Programs can't be jailed here: {missing()}.")
        with ThreadPoolExecutor(min(MAX_PARALLEL, os.cpu_count() or 1)) as pool:
            return list(pool.map(_run_plainly, requests))
    written: list[bytes | None] = [None] * len(requests)
    if not requests:
        return written
    inside, outside = socket.socketpair()
    scratch = tempfile.mkdtemp(prefix="postlab-sandbox-")
    os.chmod(scratch, 0o711)
    command = [os.path.realpath(sys.executable), "-P", "-s", "-S", "-B"]
    command += [str(Path(__file__).with_name("_jail.py")), "jailed" if jailed else "weak", scratch]
    porter = subprocess.Popen(
        [*command, str(inside.fileno())],
        pass_fds=[inside.fileno()],
        env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},  # no token of the learner's
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    inside.close()
    try:
        _exchange(requests, outside, written)
        outside.close()
        porter.wait(6 * CPU_SECONDS)
    finally:
        outside.close()
        porter.kill()
        porter.wait()
        shutil.rmtree(scratch, ignore_errors=True)
    return written


def _run_plainly(request: dict[str, Any]) -> bytes | None:
    """Run one program in a process of its own, without any of Linux's calls."""
    # The base's Python: a venv's own on Windows starts that one as a child, which a kill would miss
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    command = [python, "-P", "-s", "-S", "-B", str(Path(__file__).with_name("_jail.py")), "plain"]
    environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}  # no token of the learner's
    if "SYSTEMROOT" in os.environ:  # without it, Windows starts no Python
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    scratch = tempfile.mkdtemp(prefix="postlab-sandbox-")
    try:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
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
        results = Path(scratch, "results")
        status = results.lstat()
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= MAX_OUTPUT:
            return None
        return results.read_bytes()
    except FileNotFoundError:
        return None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _exchange(requests: list[dict], door: socket.socket, written: list[bytes | None]) -> None:
    """Keep a few programs running until all are done, and read what they write."""
    parallel = min(MAX_PARALLEL, len(os.sched_getaffinity(0)))
    waiting = iter(enumerate(requests))
    running: dict[int, tuple[int, bytearray]] = {}
    poll = select.poll()
    try:
        while True:
            while len(running) < parallel and (following := next(waiting, None)):
                index, request = following
                fd = _start(request, door)
                running[fd] = index, bytearray()
                poll.register(fd, select.POLLIN)
            if not running:
                return
            events = poll.poll(10_000 * CPU_SECONDS)
            assert events, "the sandbox's porter does not answer: a warden ends every program"
            for fd, _ in events:
                index, output = running[fd]
                data = os.read(fd, 65536)
                output += data
                if data and len(output) <= MAX_OUTPUT:
                    continue
                if 0 < len(output) <= MAX_OUTPUT:
                    written[index] = bytes(output)
                poll.unregister(fd)
                os.close(fd)
                del running[fd]
    finally:
        for fd in running:
            os.close(fd)


def _start(request: dict, door: socket.socket) -> int:
    """Send a program and the writing end of a pipe to the porter; the reading end is returned."""
    program = os.memfd_create("program")
    reading, writing = os.pipe()
    try:
        with open(program, "wb", closefd=False) as file:
            file.write(json.dumps(request).encode())
        os.lseek(program, 0, os.SEEK_SET)
        socket.send_fds(door, [b"."], [program, writing])
    finally:
        os.close(program)
        os.close(writing)
    return reading


@cache
def missing() -> str:
    """Why programs cannot be jailed here, found out by jailing one; empty where they can."""
    if sys.platform == "win32":
        return "namespaces are Linux's, and this is Windows, which does not limit memory either"
    if not sys.platform.startswith("linux"):
        return f"namespaces are Linux's, and this is {sys.platform}"
    home = os.path.expanduser("~")
    (written,) = run_programs([{"code": _PROBE, "calls": [["holes", [home]]]}])
    if written is None or written.startswith(b"!"):
        reason = (written or b"!no answer").decode(errors="replace")[1:]
        if any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv"))):
            reason += f"; a container has to be started with {DOCKER_FLAGS}"
        return reason
    holes = json.loads(written).get("value", ["the probe failed"])
    return "; ".join(holes)
