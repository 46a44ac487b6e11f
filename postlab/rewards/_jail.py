"""The inside of the sandbox: run as a script of its own, it starts each program in a jail.

One process a batch, outside the jail (the porter), receives three descriptors a program: the
program to read, its results to write and its status to write. It forks a warden, who makes
namespaces and forks the first process in them. That one builds a root of its own (Python and the
system's libraries, read-only, and a small scratch folder; no /proc, no /dev), gives up every
privilege, closes most of the kernel to itself (see `_filter`), and runs the program. When it ends,
or its time is over, all that it started ends too. In the mode `bubblewrap`, that program makes the
namespaces and the root.

The status says whether the program was started at all, and whether the system ended it. It is
closed before the program begins, so a program can't blame a failure of its own on the machine.

The porter never reads a program, and no expected value comes near here, so a program finds neither
another program nor the right results. This file runs without site-packages.

`alone` runs one program from stdin, where a command of the user's own isolates it. On macOS and
Windows, which have neither namespaces nor the calls above, `plain` does so in one process, under
the limits that the system knows, and the caller ends it by the clock.

Left out: a kernel of the program's own, as gVisor or a virtual machine has. A hole in one of the
calls that the filter lets through is a hole in this sandbox.
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
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CPU_SECONDS = 2  # of a program
SECONDS = 3 * CPU_SECONDS  # by the wall, not counting the time that it waits for a processor
MOST_SECONDS = 15 * CPU_SECONDS  # by the wall, on however busy a machine
MEMORY = 256 << 20  # bytes of address space, each process
PROCESSES = 8
# Of a program as a whole, where a control group may be made; else only the limits above hold.
GROUP_LIMITS = {
    "memory.max": str(2 * MEMORY),
    "memory.swap.max": "0",
    "memory.oom.group": "1",
    "pids.max": str(PROCESSES + 3),  # with bubblewrap's own two
}
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
_PDEATHSIG, _SECCOMP, _SUBREAPER, _NO_NEW_PRIVS = 1, 22, 36, 38
_OWN_PID = (0x7FFFFFF1).to_bytes(4, sys.byteorder)  # in a filter: see `_filter`
_KEYCTL, _JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}, 1


class Cell(NamedTuple):
    """How the programs of a batch are confined."""

    mode: str  # namespaces, bubblewrap, weak or alone
    path: str  # of a folder to mount a root on, or for the programs' own; or of bubblewrap
    filter: bytes = b""  # see `_filter`
    group: str = ""  # a folder for control groups; empty where none can be made
    processes: int = PROCESSES


def porter(cell: Cell, door: socket.socket) -> None:
    """Fork a warden for every three descriptors that arrive, until the other side hangs up."""
    libc = _libc()
    libc.prctl(_PDEATHSIG, signal.SIGKILL)
    if number := _KEYCTL.get(os.uname().machine):  # a keyring without the learner's keys
        libc.syscall(number, _JOIN_SESSION_KEYRING, None)
    if cell.mode == "weak" and _unused_user() is None:  # the limit counts what the user has running
        cell = cell._replace(processes=_running() + 2 * PROCESSES)  # of a few programs at once
    while True:
        message, fds, _, _ = socket.recv_fds(door, 1, 3)
        if not message:
            break
        program, results, status = fds
        try:
            if os.fork() == 0:
                door.close()
                os._exit(_warden(cell, program, results, status))
        except OSError as error:  # the limit on processes, or memory
            os.write(status, f"{error}".encode())
        for fd in fds:
            os.close(fd)
        while _reap(os.WNOHANG):
            pass
    while _reap(0):
        pass


def alone() -> None:
    """Run the program that stands on stdin, and end; status and results go to stdout."""
    if not sys.platform.startswith("linux"):
        plain()
        return
    results, status = os.dup(1), os.dup(1)
    os.close(1)
    os._exit(_warden(Cell("alone", "/tmp"), 0, results, status))


def plain() -> None:
    """Run the program that stands on stdin, in this process; as `alone`."""
    request = json.loads(sys.stdin.buffer.read())
    if resource is not None:
        for limit, value in _limits():
            with suppress(ValueError, OSError):  # macOS refuses some of them
                resource.setrlimit(limit, (value, value))
    os.dup2(1, 3)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.write(3, STARTED)
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


def _warden(cell: Cell, program: int, results: int, status: int) -> int:
    """Start one program, and end it and all that it started when its time is over."""
    libc = _libc()
    libc.prctl(_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_SUBREAPER, 1)  # without namespaces, what the program leaves behind comes here
    uid = None if cell.mode == "alone" else _unused_user()
    group = ""
    try:
        group = _make_group(cell.group)
        if cell.mode == "namespaces" and not _unshare():
            uid = None
        first = os.fork()
    except OSError as error:
        os.write(status, f"{error}".encode())
        return 1
    if first == 0:
        try:
            libc.prctl(_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            if group:
                _write(f"{group}/cgroup.procs", "0")
            if cell.mode == "bubblewrap":
                _wrap(cell, uid, program, results, status)
            _enter(cell, uid, program, results, status)
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
    killed = os.WIFSIGNALED(how) and os.WTERMSIG(how) == signal.SIGKILL
    out_of_time = not ended or used.ru_utime + used.ru_stime > CPU_SECONDS - 0.1
    within_limits = not out_of_time and not _out_of_memory(group)
    if cell.mode in ("namespaces", "bubblewrap") and killed and within_limits:
        os.write(status, KILLED)
    _sweep(group)
    return 0


def _make_group(parent: str) -> str:
    """A control group for one program; empty without a parent."""
    if not parent:
        return ""
    group = f"{parent}/{os.getpid()}"
    os.mkdir(group)
    for name, value in GROUP_LIMITS.items():
        if os.path.exists(f"{group}/{name}"):  # there may be no swap
            _write(f"{group}/{name}", value)
    return group


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _out_of_memory(group: str) -> bool:
    """Whether a program has been ended for the memory of its group."""
    with suppress(OSError), open(f"{group}/memory.events", encoding="utf-8") as file:
        return any(line.startswith("oom_kill ") and line != "oom_kill 0\n" for line in file)
    return False


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


def _sweep(group: str = "") -> None:
    """End the orphans that came here; with namespaces there are none."""
    if group:
        with suppress(OSError):
            _write(f"{group}/cgroup.kill", "1")
    until = time.monotonic() + MOST_SECONDS
    stopped: set[int] = set()
    # A fork bomb outruns one kill at a time, so all of it is stopped first.
    while (running := _descendants(os.getpid()) - stopped) and time.monotonic() < until:
        for pid in running:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
        stopped |= running
    for pid in stopped:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    while time.monotonic() < until:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="utf-8") as children:
                for pid in map(int, children.read().split()):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
        except (ChildProcessError, FileNotFoundError):
            break
    while group and time.monotonic() < until:
        try:
            os.rmdir(group)
            break
        except OSError:  # what was killed is still ending
            time.sleep(0.001)


def _descendants(pid: int) -> set[int]:
    """The processes that a process has started, and that they have started."""
    family: set[int] = set()
    parents = [pid]
    while parents:
        parent = parents.pop()
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children", encoding="utf-8") as file:
                    children = set(map(int, file.read().split())) - family
                family |= children
                parents += children
    return family


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
        _write(f"/proc/self/{name}", text)
    return False


def _enter(cell: Cell, uid: int | None, program: int, results: int, status: int) -> None:
    """Become the program: its own root and folder, no privileges, limits, no other descriptor."""
    with open(program, "rb") as file:
        request = json.loads(file.read())
    if cell.mode != "bubblewrap":  # which has no devices, and has been given this one
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if cell.mode == "namespaces":
        _build_root(cell.path)
        os.chdir("/tmp")
    elif cell.mode != "bubblewrap":
        place = f"{cell.path}/{os.getpid()}"
        os.mkdir(place)
        if uid is not None:
            os.chown(place, uid, uid)
        os.chdir(place)
    python = -1 if uid is None or cell.mode != "weak" else os.open(sys.base_prefix, os.O_PATH)
    for limit, value in _limits(cell.processes):
        if limit != resource.RLIMIT_NPROC or cell.mode != "alone":  # may count the user's others
            resource.setrlimit(limit, (value, value))
    _give_up(uid)
    printed = os.open("printed", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target in (1, 2):
        os.dup2(printed, target)
    if cell.filter:  # bubblewrap has installed its own
        _install(cell.filter, required=cell.mode != "weak")
    os.write(status, STARTED)
    os.close(status)
    os.dup2(results, 3)
    first_free = 4
    if python >= 0 and not os.access(os.__file__, os.R_OK):
        os.dup2(python, 4)
        first_free = 5
        _import_from("/proc/self/fd/4")
    os.closerange(first_free, 4096)
    _run(request)


def _import_from(prefix: str) -> None:
    """Find modules by another way, as Python is in a folder of root's that no other may enter."""
    for module in (sys, *sys.modules.values()):
        name = "path" if module is sys else "__path__"
        if isinstance(places := getattr(module, name, None), list):
            places[:] = [
                prefix + place.removeprefix(sys.base_prefix)
                if place.startswith(sys.base_prefix)
                else place
                for place in places
            ]


def _install(code: bytes, *, required: bool) -> None:
    """Install a seccomp filter, for good, for this process and all that it starts."""
    own = code.replace(_OWN_PID, os.getpid().to_bytes(4, sys.byteorder))
    array = ctypes.create_string_buffer(own, len(own))
    header = struct.pack("HP", len(own) // 8, ctypes.addressof(array))  # struct sock_fprog
    answer = _libc().prctl(_SECCOMP, 2, ctypes.c_char_p(header), 0, 0)
    if required:
        _must("seccomp", answer)


def _wrap(cell: Cell, uid: int | None, program: int, results: int, status: int) -> None:
    """Become bubblewrap, which starts Python with `_enter` in a root like that of `_build_root`."""
    code = os.memfd_create("filter")
    os.write(code, cell.filter)
    os.lseek(code, 0, os.SEEK_SET)
    command = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if uid is None:
        command += ["--unshare-user"]
    else:  # root may become the program's user, inside
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for folder in _folders():
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
            continue
        for depth in range(2, folder.count("/") + 1):  # open to the program's user
            command += ["--perms", "755", "--dir", "/".join(folder.split("/")[:depth])]
        command += ["--ro-bind", folder, folder]
    command += ["--ro-bind", os.path.abspath(__file__), "/jail.py", "--perms", "1777"]
    command += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp", "--remount-ro", "/"]
    command += ["--chdir", "/tmp", "--seccomp", str(code), "--", sys.executable]
    command += ["-P", "-s", "-S", "-B", "/jail.py", "inside", str(-1 if uid is None else uid)]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for target in (1, 2):  # why it could not be started; the program never has this one
        os.dup2(status, target)
    for fd in (code, program, results, status):
        os.set_inheritable(fd, True)
    os.execv(cell.path, [*command, str(program), str(results), str(status)])


def _running() -> int:
    """How many threads this user has, in all processes."""
    threads, uid = 0, os.getuid()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == uid:
                threads += len(os.listdir(f"/proc/{pid}/task"))
    return threads


def _limits(processes: int = PROCESSES) -> list[tuple[int, int]]:
    return [
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ]


def _folders() -> list[str]:
    """What a root needs to start Python and its libraries."""
    folders = ["/usr", "/lib", "/lib64", "/bin"]
    if not sys.base_prefix.startswith("/usr"):
        folders.append(sys.base_prefix)
    return [folder for folder in folders if os.path.exists(folder)]


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
    for folder in _folders():
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


def _main(mode: str, *arguments: str) -> None:
    if mode == "plain":
        plain()
    elif mode == "alone":
        alone()
    elif mode == "inside":
        uid, program, results, status = map(int, arguments)
        try:
            _enter(Cell("bubblewrap", ""), None if uid < 0 else uid, program, results, status)
        except BaseException as error:
            with suppress(OSError):  # closed, if it is the program's own
                os.write(status, f"{error}".encode())
        finally:
            os._exit(1)
    else:
        path, door, code, group = arguments
        cell = Cell(mode, path, bytes.fromhex(code), group)
        porter(cell, socket.socket(fileno=int(door)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
