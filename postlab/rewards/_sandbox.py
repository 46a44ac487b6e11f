"""Untrusted programs, run in jails of their own, a few at a time; what is trusted stays here.

`run_programs` hands each program and its calls to `_jail` and brings back what the program wrote:
bytes that prove nothing but that it wrote them. `missing` tells by trying whether this machine lets
us build the jail at all.
"""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from postlab.rewards._jail import CPU_SECONDS

MAX_OUTPUT = 256 << 10  # bytes of results, all calls of a program together
MAX_PARALLEL = 4

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
    """
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
    if not sys.platform.startswith("linux"):
        return f"namespaces are Linux's, and this is {sys.platform}"
    home = os.path.expanduser("~")
    (written,) = run_programs([{"code": _PROBE, "calls": [["holes", [home]]]}])
    if written is None or written.startswith(b"!"):
        return (written or b"!no answer").decode(errors="replace")[1:]
    holes = json.loads(written).get("value", ["the probe failed"])
    return "; ".join(holes)
