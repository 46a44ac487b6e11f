"""The inside of the sandbox: run as a script of its own, it starts each program in a jail.

One process a batch, outside the jail (the porter), receives three descriptors a program: the
program to read, its results to write and its status to write. It forks a warden, who makes
namespaces and forks the first process in them. That one builds a root of its own (Python and the
system's libraries, read-only, and a small scratch folder; no /proc, no /dev), gives up every
privilege, and runs the program. When it ends, or its time is over, all that it started ends too.

The status says whether the program was started at all, and whether the system ended it. It is
closed before the program begins, so a program can't blame a failure of its own on the machine.

The porter never reads a program, and no expected value comes near here, so a program finds neither
another program nor the right results. This file runs without site-packages.

On macOS and Windows, which have neither namespaces nor the calls above, `plain` runs one program in
one process, under the limits that the system knows, and the caller ends it by the clock.

Left out: a filter of system calls. A hole in the kernel is a hole in this sandbox.
"""

import atexit
import bisect  # noqa: F401 - what programs import most is loaded once, before the fork
import builtins
import collections  # noqa: F401
import ctypes
import functools  # noqa: F401
import heapq  # noqa: F401
import itertools
import json
import operator
import os
import random
import re  # noqa: F401
import select
import signal
import socket
import string  # noqa: F401
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CPU_SECONDS = 2  # of a program
SECONDS = 3 * CPU_SECONDS  # by the wall, not counting the time that it waits for a processor
MOST_SECONDS = 15 * CPU_SECONDS  # by the wall, on however busy a machine
MEMORY = 256 << 20  # bytes of address space, each process
PROCESSES = 8
OPEN_FILES = 32
FILE_BYTES = 4 << 20  # what it prints goes to a file as well
SCRATCH_BYTES = 16 << 20
LONGEST_ITERATOR = 10_000
LONGEST_RANGE = 100_000
MOST_COLLISIONS = 1000  # keys of one set or dict with the same hash: adding one compares it to all
DEEPEST = 50
STARTED, KILLED = b"+", b"k"  # of a status; anything else is why the jail could not be built

_NEWNS, _NEWUSER = 0x20000, 0x10000000
_NEW_PID_NET_IPC_UTS = 0x20000000 | 0x40000000 | 0x8000000 | 0x4000000
_NOSUID, _NODEV, _BIND, _REC, _PRIVATE = 2, 4, 4096, 16384, 1 << 18
_DETACH, _AT_FDCWD, _AT_RECURSIVE, _RDONLY_NOSUID_NODEV = 2, -100, 0x8000, 7
_PDEATHSIG, _SUBREAPER, _NO_NEW_PRIVS = 1, 36, 38


def porter(jailed: bool, scratch: str, door: socket.socket) -> None:
    """Fork a warden for every three descriptors that arrive, until the other side hangs up."""
    _libc().prctl(_PDEATHSIG, signal.SIGKILL)
    while True:
        message, fds, _, _ = socket.recv_fds(door, 1, 3)
        if not message:
            break
        program, results, status = fds
        try:
            if os.fork() == 0:
                door.close()
                os._exit(_warden(jailed, scratch, program, results, status))
        except OSError as error:  # the limit on processes, or memory
            os.write(status, f"{error}".encode())
        for fd in fds:
            os.close(fd)
        while _reap(os.WNOHANG):
            pass
    while _reap(0):
        pass


def plain() -> None:
    """Run the program that stands on stdin; its results go to the file `results` in this folder.

    The status goes to stdout, which the program then no longer has.
    """
    request = json.loads(sys.stdin.buffer.read())
    if resource is not None:
        for limit, value in _limits():
            with suppress(ValueError, OSError):  # macOS refuses some of them
                resource.setrlimit(limit, (value, value))
    os.dup2(os.open("results", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 3)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.write(1, STARTED)
    os.dup2(nothing, 1)
    _run(request)


def encode(value: Any, depth: int = 0) -> Any:
    """Plain data as JSON that tells its types apart; else a TypeError or ValueError.

    >>> encode((1, {2}, {"a": b"\\0"}, 1 + 2j, 2**70))
    {'tuple': [1, {'set': [2]}, {'dict': [['a', {'bytes': '00'}]]}, {'complex': [1.0, 2.0]}, \
{'int': '0x400000000000000000'}]}
    """
    if depth > DEEPEST:
        raise ValueError(f"data nested deeper than {DEEPEST}")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):  # in decimal, Python refuses large ones
        value = int(value)
        return value if value.bit_length() <= 64 else {"int": hex(value)}
    for kind in (float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {"bytes" if isinstance(value, bytes) else "bytearray": value.hex()}
    if isinstance(value, range):
        return {"range": [encode(each) for each in (value.start, value.stop, value.step)]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, depth + 1), encode(value[key], depth + 1)] for key in value]}
    for container in (list, tuple, set, frozenset, *_VIEWS):
        if isinstance(value, container):
            items = [encode(item, depth + 1) for item in value]
            return items if container is list else {container.__name__: items}
    if _is_iterator(value):
        items = list(itertools.islice(value, LONGEST_ITERATOR + 1))
        if len(items) <= LONGEST_ITERATOR:
            return {"iterator": [encode(item, depth + 1) for item in items]}
    raise TypeError(f"a {type(value).__name__} is no plain data")


def decode(data: Any, leaf: Callable[[str, Any], Any] | None = None, depth: int = 0) -> Any:
    """What `encode` wrote, or a ValueError or TypeError: the data may be forged.

    Args:
        data: JSON.
        leaf: what stands for {"ref": 0}, {"name": "f"} and {"source": "len"}, from kind and value;
            only the sandbox has it.

    >>> decode(encode((1, {2}, {"a": None}, b"x")))
    (1, {2}, {'a': None}, b'x')
    """
    if depth > 3 * DEEPEST:  # a dict's pairs are lists of their own
        raise ValueError("too deep")
    if isinstance(data, list):
        return [decode(item, leaf, depth + 1) for item in data]
    if not isinstance(data, dict):
        return data
    ((kind, items),) = data.items()
    if leaf and kind in ("ref", "name", "source"):
        return leaf(kind, items)
    if kind in _SCALARS:
        return _SCALARS[kind](items)
    if kind not in _CONTAINERS or not isinstance(items, list):
        raise ValueError("no plain data")
    values = [decode(item, leaf, depth + 1) for item in items]
    keys = [key for key, _ in values] if kind in ("dict", "dict_items") else values
    hashed = kind in ("dict", "dict_items", "dict_keys", "set", "frozenset")
    if hashed and len(keys) - len(set(map(hash, keys))) > MOST_COLLISIONS:
        raise ValueError("too many keys with the same hash")
    return _CONTAINERS[kind](values)


def _range(bounds: list) -> range:
    numbers = range(*map(decode, bounds))
    if len(numbers) > LONGEST_RANGE:
        raise ValueError("too long a range")
    return numbers


_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_SCALARS: dict[str, Callable] = {
    "int": lambda digits: int(digits, 16),
    "complex": lambda parts: complex(*map(float, parts)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": _range,
}
_CONTAINERS: dict[str, Callable] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "iterator": iter,
    "dict": dict,
    "dict_keys": lambda keys: dict.fromkeys(keys).keys(),
    "dict_values": lambda values: dict(enumerate(values)).values(),
    "dict_items": lambda items: dict(items).items(),
}


def _warden(jailed: bool, scratch: str, program: int, results: int, status: int) -> int:
    """Start one program, and end it and all that it started when its time is over."""
    libc = _libc()
    libc.prctl(_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_SUBREAPER, 1)  # without namespaces, what the program leaves behind comes here
    uid = _unused_user()
    try:
        if jailed and not _unshare():
            uid = None
        first = os.fork()
    except OSError as error:
        os.write(status, f"{error}".encode())
        return 1
    if first == 0:
        try:
            os.setsid()
            _enter(jailed, scratch, uid, program, results, status)
        except BaseException as error:
            with suppress(OSError):  # closed, if it is the program's own
                os.write(status, f"{error}".encode())
        finally:
            os._exit(1)
    os.close(program)
    os.close(results)
    ended = _wait(first)
    os.kill(first, signal.SIGKILL)  # in a namespace this ends every process of it
    _, how, used = os.wait4(first, 0)
    # The first process of a namespace can't be killed from inside: its time was up, or the system
    # has killed it.
    out_of_time = not ended or used.ru_utime + used.ru_stime > CPU_SECONDS - 0.1
    if jailed and os.WIFSIGNALED(how) and os.WTERMSIG(how) == signal.SIGKILL and not out_of_time:
        os.write(status, KILLED)
    _sweep()
    return 0


def _wait(pid: int) -> bool:
    """Wait for a process as long as it may take; whether it has ended."""
    begun, ready = time.monotonic(), select.poll()
    ready.register(os.pidfd_open(pid), select.POLLIN)
    left: float = SECONDS
    while left > 0 and not ready.poll(1000 * left + 1):
        passed, idle = time.monotonic() - begun, 0.0
        try:
            with open(f"/proc/{pid}/schedstat", encoding="utf-8") as file:
                idle = int(file.read().split()[1]) / 1e9  # nanoseconds ready to run
        except (OSError, ValueError):  # a kernel that doesn't count them
            pass
        left = min(SECONDS + idle, MOST_SECONDS) - passed
    return left > 0


def _unused_user() -> int | None:
    """A user of the program's own, where root may choose one: limits on processes count by user.

    They don't hold for root. Where only root is mapped, as in a rootless container, there is no
    other user to be, and the limits hold for this one.
    """
    if os.geteuid() != 0:
        return None
    with open("/proc/self/uid_map", encoding="utf-8") as lines:
        length, inside = max((int(line.split()[2]), int(line.split()[0])) for line in lines)
    for wanted in (10**9 + os.getpid(), inside + length // 2 + os.getpid() % max(1, length // 2)):
        if max(inside, 1000) <= wanted < inside + length:
            return wanted
    return None


def _sweep() -> None:
    """End the orphans that came here; with namespaces there are none."""
    until = time.monotonic() + CPU_SECONDS
    while time.monotonic() < until:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="utf-8") as children:
                for pid in map(int, children.read().split()):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
        except (ChildProcessError, FileNotFoundError):
            return


def _reap(how: int) -> bool:
    try:
        return os.waitpid(-1, how)[0] > 0
    except ChildProcessError:
        return False


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _must(what: str, answer: int) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare() -> bool:
    """New namespaces; True if root made them, False if it took a user namespace."""
    libc = _libc()
    if libc.unshare(_NEWNS | _NEW_PID_NET_IPC_UTS) == 0:
        return True
    uid, gid = os.geteuid(), os.getegid()
    _must("unshare", libc.unshare(_NEWUSER | _NEWNS | _NEW_PID_NET_IPC_UTS))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    return False


def _enter(
    jailed: bool, scratch: str, uid: int | None, program: int, results: int, status: int
) -> None:
    """Become the program: its own root and folder, no privileges, limits, no other descriptor."""
    with open(program, "rb") as file:
        request = json.loads(file.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if jailed:
        _build_root(scratch)
        os.chdir("/tmp")
    else:
        place = f"{scratch}/{os.getpid()}"
        os.mkdir(place)
        if uid is not None:
            os.chown(place, uid, uid)
        os.chdir(place)
    for limit, value in _limits():
        resource.setrlimit(limit, (value, value))
    _give_up(uid)
    printed = os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target in (1, 2):
        os.dup2(printed, target)
    os.write(status, STARTED)
    os.close(status)
    os.dup2(results, 3)
    os.closerange(4, 4096)
    _run(request)


def _limits() -> list[tuple[int, int]]:
    return [
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ]


def _build_root(scratch: str) -> None:
    """A root that holds Python and the system's libraries, read-only, and a scratch folder."""
    libc = _libc()

    def mount(source: str, target: str, kind: bytes | None, flags: int, data: bytes = b"") -> None:
        target_, source_ = os.fsencode(target), os.fsencode(source)
        _must(f"mount {target}", libc.mount(source_, target_, kind, ctypes.c_ulong(flags), data))

    os.umask(0o022)
    mount("none", "/", None, _REC | _PRIVATE)
    mount("tmpfs", scratch, b"tmpfs", _NOSUID | _NODEV, b"size=1m,mode=755")
    os.mkdir(f"{scratch}/tmp")
    folders = ["/usr", "/lib", "/lib64", "/bin"]
    if not sys.base_prefix.startswith("/usr"):
        folders.append(sys.base_prefix)
    for folder in filter(os.path.exists, folders):
        if os.path.islink(folder):
            os.symlink(os.readlink(folder), scratch + folder)
            continue
        os.makedirs(scratch + folder, exist_ok=True)
        mount(folder, scratch + folder, None, _BIND | _REC)
    attributes = (ctypes.c_uint64 * 4)(_RDONLY_NOSUID_NODEV, 0, 0, 0)
    # mount_setattr, by its number, which is the same on every machine: older glibcs lack the name
    done = libc.syscall(442, _AT_FDCWD, os.fsencode(scratch), _AT_RECURSIVE, attributes, 32)
    _must("mount_setattr", done)
    size = f"size={SCRATCH_BYTES},nr_inodes=1000,mode=1777".encode()
    mount("tmpfs", f"{scratch}/tmp", b"tmpfs", _NOSUID | _NODEV, size)
    os.chdir(scratch)
    _must("pivot_root", libc.pivot_root(b".", b"."))
    _must("umount", libc.umount2(b".", _DETACH))


def _give_up(uid: int | None) -> None:
    """No user that owns anything, no capability, and none to be had again."""
    libc = _libc()
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _must("capset", libc.capset(header, (ctypes.c_uint32 * 6)()))
    _must("prctl", libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    libc.prctl(_PDEATHSIG, signal.SIGKILL)  # again: a change of user forgets it


_STEPS: dict[str, Callable] = {"get": getattr, "set": setattr, "name": lambda value: value}


def _run(request: dict) -> None:
    """Run the program, then each step; a line a result, whatever it is. Nothing here is trusted."""
    random.seed(0)
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment] # `site` would bring them
    if "stdin" in request:
        _run_script(request["code"], request["stdin"])
        return
    namespace: dict[str, Any] = {"__name__": "solution"}
    for source in (*request["before"], request["code"], *request["after"]):
        exec(compile(source, "solution", "exec"), namespace)
    arguments: list[tuple[list, dict]] = []
    results: list[Any] = []
    lines: list[dict] = []

    def leaf(kind: str, value: Any) -> Any:
        if kind == "ref":
            return results[value]
        if kind == "source":
            return eval(value, namespace)
        if value in namespace:
            return namespace[value]
        if "Solution" in namespace:  # as on LeetCode
            return getattr(namespace["Solution"](), value)
        raise NameError(value)

    for do, data, keywords in request["steps"]:
        arguments.append(([], {}))
        results.append(None)
        try:
            if do == "argument":  # what an argument of an earlier call has become
                step, place = data
                result = arguments[step][isinstance(place, str)][place]
            else:
                values = [decode(operand, leaf) for operand in data]
                named = {name: decode(value, leaf) for name, value in keywords.items()}
                arguments[-1] = values, named
                function = _STEPS.get(do) or getattr(operator, do)
                result = function(*values, **named)
        except Exception as error:
            lines.append({"error": [kind.__name__ for kind in type(error).__mro__]})
            continue
        copy = result
        if _is_iterator(result):
            result, copy = itertools.tee(result)
        results[-1] = result
        try:
            lines.append({"value": encode(copy)})
        except Exception:
            lines.append({"object": type(result).__name__})
    with open(3, "w", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, lines)))


def _run_script(code: str, text: str) -> None:
    """Run a program that reads `text` on stdin; what it prints is its result, \0 a failure."""
    with open("input", "w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)
    os.dup2(os.open("input", os.O_RDONLY), 0)
    os.dup2(3, 1)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    printed = sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    failed = False
    try:
        exec(compile(code, "solution", "exec"), {"__name__": "__main__"})
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except SystemExit:
        pass
    except BaseException:
        failed = True
    with suppress(BaseException):  # what fast printing leaves to the end
        atexit._run_exitfuncs()
    for stream in (sys.stdout, printed):
        with suppress(BaseException):
            stream.flush()
    if failed:
        os.write(1, b"\0")


def _is_iterator(value: Any) -> bool:
    """Whether a value is one of Python's own iterators, which can only be iterated."""
    return hasattr(value, "__next__") and type(value).__module__ in ("builtins", "itertools")


if __name__ == "__main__" and sys.argv[1] == "plain":
    plain()
elif __name__ == "__main__":
    porter(sys.argv[1] == "jailed", sys.argv[2], socket.socket(fileno=int(sys.argv[3])))
