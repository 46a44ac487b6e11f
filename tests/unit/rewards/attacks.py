"""Attacks on the sandbox, and what each mode claims to hold. As a script, it runs them in one mode.

Each is the body of a function in a program under test. It returns something true where it gets what
it wants, and then it is `open`; else, whether it raises or dies, it is `held`.
"""
# ruff: noqa: E501 - an attack, which reads best on a line

import ctypes
import json
import os
import platform
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from postlab.rewards import _filter
from postlab.rewards import _sandbox as sandbox

ROOT = Path(__file__).resolve().parents[3]
UID = 54321
MODES = ("namespaces", "bubblewrap", "weak")
WEAK = {"weak root", "weak user"}  # what plain limits do not stop
ALL = {f"{mode} {user}" for mode in MODES for user in ("root", "user")}
USER = {"weak user"}  # what they stop for root alone, whose programs get a user of their own
BUBBLEWRAP = {"bubblewrap root", "bubblewrap user"}
NEW = {"pidfd_open": 434, "pidfd_getfd": 438, "io_uring_setup": 425, "clone3": 435, "fsopen": 430}
NEW |= {"open_tree": 428, "move_mount": 429, "fsmount": 432, "mount_setattr": 442}
NEW |= {"memfd_secret": 447, "io_uring_register": 427, "landlock_create_ruleset": 444}

PRELUDE = """
import ctypes, os, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    answer = libc.syscall(ctypes.c_long(NR[name] if isinstance(name, str) else name), *arguments)
    if answer < 0: raise OSError(ctypes.get_errno(), name)
    return [answer]
def reached(name, *arguments):  # whether the kernel looks at a call before it refuses
    try: return call(name, *arguments)
    except OSError as error: return [error.errno] if error.errno not in (1, 38) else None
def connect(family, kind, address):
    with socket.socket(family, kind) as s: s.connect(address); return True
def count(start, most=100):
    n = 0
    try:
        while n < most: start(); n += 1
    except (OSError, RuntimeError): pass
    return n >= 60
def hold():
    if os.fork() == 0: time.sleep(60); os._exit(0)
def fill(size, most):
    n = 0
    try:
        while n < most: open(f"f{n}", "wb").write(b"x" * size); n += 1
    except OSError: pass
    return n >= most
"""
_REACH = "return reached({!r}, 0, 0, 0, 0, 0, 0)"
# area, attack, body, and where it is known to be open
ATTACKS: list[tuple[str, str, str, set[str]]] = [
    ("control", "an honest program", "return sum(range(4)) == 6", ALL),
    ("files", "read a secret", "return open(SECRET).read()", WEAK),
    ("files", "read a secret through a link", "os.symlink(SECRET, 'l')\nreturn open('l').read()", WEAK),
    ("files", "list its folder", "return os.listdir(os.path.dirname(SECRET))", WEAK),
    ("files", "read the project", "return open(PROJECT).read()", WEAK),
    ("files", "read /etc/passwd", "return open('/etc/passwd').read()", WEAK),
    ("files", "write to a secret", "return open(SECRET, 'a').write('x')", USER),
    ("files", "delete another's file", "os.remove(VICTIM)\nreturn True", USER),
    ("files", "write to /", "return open('/postlab-x', 'w').write('x')", set()),
    ("files", "write to /usr", "return open('/usr/postlab-x', 'w').write('x')", set()),
    ("files", "make a device", "os.mknod('d', 0o60600, os.makedev(8, 0))\nreturn True", set()),
    ("files", "read a device", "return os.listdir('/dev')", WEAK),
    ("files", "a file by its handle", _REACH.format("open_by_handle_at"), set()),
    ("files", "a large file", "return open('f', 'wb').write(b'x' * (5 << 20))", set()),
    ("files", "fill the disk", "return fill(4 << 20, 10)", WEAK),
    ("files", "thousands of files", "return fill(0, 2000)", WEAK | BUBBLEWRAP),
    ("network", "TCP to this machine", "return connect(2, 1, ('127.0.0.1', PORT))", set()),
    ("network", "TCP outside", "return connect(2, 1, ('1.1.1.1', 53))", set()),
    ("network", "UDP outside", "return connect(2, 2, ('1.1.1.1', 53))", set()),
    ("network", "a socket's path", "return connect(1, 1, UNIX)", set()),
    ("network", "an abstract socket", "return connect(1, 1, ABSTRACT)", set()),
    *(
        ("network", f"a socket of {name}", f"return [socket.socket({family}, {kind}).fileno()]", set())
        for name, family, kind in (
            *(("AF_UNIX", 1, 1), ("AF_INET", 2, 1), ("AF_INET6", 10, 1), ("AF_NETLINK", 16, 3)),
            *(("AF_PACKET", 17, 3), ("AF_VSOCK", 40, 1), ("AF_ALG", 38, 5), ("AF_TIPC", 30, 2)),
            *(("AF_BLUETOOTH", 31, 3), ("AF_XDP", 44, 3)),
        )
    ),
    ("network", "a pair of AF_INET", "return reached('socketpair', 2, 1, 0, (ctypes.c_int * 2)())", set()),
    ("network", "a pair of AF_TIPC", "return reached('socketpair', 30, 1, 0, (ctypes.c_int * 2)())", set()),
    ("memory", "10 GB", "return len(bytearray(10 ** 10))", set()),
    ("memory", "10 GB by and by", "x = []\nwhile len(x) < 1000: x.append(bytearray(10 ** 7))\nreturn x[:0] or 1", set()),
    ("memory", "System V shared memory", "return call('shmget', 0, ctypes.c_size_t(150 << 20), 0o1600)[0] + 1", set()),
    ("memory", "a file in memory", "return call('memfd_create', b'm', 0)", set()),
    ("memory", "a secret file in memory", "return call('memfd_secret', 0)", set()),
    ("memory", "pages in a pipe", _REACH.format("vmsplice"), set()),
    ("memory", "shared pages", "import mmap\nreturn len(mmap.mmap(-1, 300 << 20))", set()),
    ("memory", "lift its limits", "import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))\nreturn 1", set()),
    ("memory", "page faults by hand", _REACH.format("userfaultfd"), set()),
    ("memory", "pages moved", _REACH.format("move_pages"), set()),
    ("memory", "an AIO ring", _REACH.format("io_setup"), set()),
    ("processes", "many processes", "return count(hold)", set()),
    ("processes", "many threads", "import threading\nreturn count(lambda: threading.Thread(target=time.sleep, args=(60,), daemon=True).start())", set()),
    ("processes", "become root", "os.setuid(0)\nreturn os.getuid() == 0", set()),
    ("processes", "capabilities", "h = (ctypes.c_uint32 * 2)(0x20080522, 0)\nd = (ctypes.c_uint32 * 6)()\nlibc.capget(h, d)\nreturn any(d)", set()),
    ("processes", "privileges by a set-uid file", "return libc.prctl(39, 0, 0, 0, 0) != 1", set()),
    ("processes", "see its starter", "os.kill(PID, 0)\nreturn True", set()),
    ("processes", "kill its starter", "os.kill(PID, 18)\nreturn True", set()),
    ("processes", "kill its parent", "return os.getppid() and (os.kill(os.getppid(), 18) or 1)", set()),
    ("processes", "kill everyone", "return reached('kill', -1, 0) if os.getpid() != 1 else None", set()),
    ("processes", "a signal with data", "return reached('rt_sigqueueinfo', PID, 18, None) if os.getppid() else None", set()),
    ("processes", "a signal to a thread", "return call('tgkill', PID, PID, 0)[0] + 1", set()),
    ("processes", "a signal by a file", "import fcntl\nr, w = os.pipe()\nfcntl.fcntl(r, 8, PID)\nreturn True", set()),
    ("processes", "a descriptor of a process", "return call('pidfd_open', PID, 0)", set()),
    ("processes", "take a descriptor", _REACH.format("pidfd_getfd"), set()),
    ("processes", "limits of its starter", "return reached('prlimit64', PID, 7, None, None)", set()),
    ("processes", "priority of its starter", "os.setpriority(0, PID, os.getpriority(0, PID))\nreturn 1", USER),
    ("processes", "trace its starter", "return reached('ptrace', 16, PID, 0, 0)", set()),
    ("processes", "be traced", "return call('ptrace', 0, 0, 0, 0)[0] + 1", set()),
    ("processes", "read memory", "return reached('process_vm_readv', PID, 0, 0, 0, 0, 0)", set()),
    ("processes", "write memory", "return reached('process_vm_writev', PID, 0, 0, 0, 0, 0)", set()),
    ("processes", "compare processes", "return reached('kcmp', PID, PID, 0, 0, 0)", set()),
    ("processes", "leave a process", "if os.fork() == 0:\n    os.setsid()\n    libc.prctl(15, b'postlab-left')\n    if os.fork() == 0: time.sleep(60)\n    os._exit(0)", set()),
    ("keyring", "read the session's key", "k = call('keyctl', 10, -3, b'user', b'postlab-secret', 0)[0]\nreturn call('keyctl', 11, k, ctypes.create_string_buffer(99), 99)", set()),
    ("keyring", "list the user's keys", "return call('keyctl', 11, -4, ctypes.create_string_buffer(99), 99)[0] + 1", set()),
    ("keyring", "add a key", "return call('add_key', b'user', b'x', b'y', 1, -3)", set()),
    ("keyring", "ask for a key", _REACH.format("request_key"), set()),
    *(("IPC", name, f"return call('{name}', {arguments})[0] + 1", set()) for name, arguments in (("msgget", "0, 0o1600"), ("semget", "0, 9, 0o1600"))),
    ("IPC", "a POSIX queue", "return call('mq_open', b'postlab', 0o102, 0o600, None)", set()),
    ("IPC", "POSIX shared memory", "open('/dev/shm/postlab-x', 'w').write('x')\nos.remove('/dev/shm/postlab-x')\nreturn 1", WEAK),
    *(
        ("namespaces", f"unshare {name}", f"return reached('unshare', {flag})", set())
        for name, flag in (("users", 1 << 28), ("mounts", 1 << 17), ("network", 1 << 30), ("time", 1 << 7))
    ),
    ("namespaces", "clone users", "p = call('clone', 0x10000011, 0, 0, 0, 0)[0]\nif p == 0: os._exit(0)\nreturn p", set()),
    ("namespaces", "clone3", "return reached('clone3', 0, 0)", set()),
    ("namespaces", "setns", "return reached('setns', 0, 0)", set()),
    ("namespaces", "a root of its own", "return reached('chroot', b'/tmp')", set()),
    ("mounts", "a tmpfs in a user namespace", "call('unshare', 0x10020000)\nreturn call('mount', b'n', b'/tmp', b'tmpfs', 0, None)[0] + 1", set()),
    ("mounts", "make /usr writable", "return reached('mount', None, b'/usr', None, 32 | 4096, None)", set()),
    *(("mounts", name, _REACH.format(name), set()) for name in ("umount2", "pivot_root", "fsopen", "fsmount", "move_mount", "open_tree", "mount_setattr")),
    *(
        ("kernel", name, _REACH.format(name), set())
        for name in (
            *("bpf", "perf_event_open", "syslog", "init_module", "finit_module", "delete_module"),
            *("kexec_load", "reboot", "swapon", "quotactl", "acct", "personality", "fanotify_init"),
            *("clock_settime", "adjtimex", "sethostname", "lookup_dcookie", "mbind", "remap_file_pages"),
            *("io_uring_setup", "io_uring_register", "landlock_create_ruleset", "vhangup"),
            *("name_to_handle_at", "settimeofday", "swapoff", "iopl", "modify_ldt"),
        )
    ),
    ("kernel", "type on a terminal", "return reached('ioctl', 0, 0x5412, 0)", set()),
    ("kernel", "calls of x32", "return reached(0x40000000 + 39) if MACHINE == 'x86_64' else None", set()),
    ("kernel", "calls of i386", "import mmap\nif MACHINE != 'x86_64': return\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
     "a = ctypes.addressof(ctypes.c_char.from_buffer(m))\nreturn ctypes.CFUNCTYPE(ctypes.c_int)(a)()", set()),
    ("/proc", "list it", "return os.listdir('/proc')", WEAK),
    ("/proc", "its starter's environment", "return open(f'/proc/{PID}/environ').read()", USER),
    ("/proc", "/sys", "return os.listdir('/sys')", WEAK),
    ("secrets", "environment", "return 'postlab-token' in str(os.environ)", set()),
    ("secrets", "arguments", "return [a for a in sys.argv if 'secret' in a]", set()),
    ("secrets", "input", "return sys.stdin.read()", set()),
    ("secrets", "open descriptors", "f = []\nfor fd in range(4, 4096):\n    try: f += [fd] * (os.fstat(fd).st_mode >> 12 != 4)\n    except OSError: pass\nreturn f", set()),
    ("output", "flood the results", "while True: os.write(3, b'x' * 65536)", set()),
    ("output", "a result of 10 MB", "return 'x' * 10 ** 7", set()),
    ("output", "flood what is printed", "while True: print('x' * 10 ** 6)", set()),
    ("output", "blame the machine", "for fd in range(30):\n    try: os.write(fd, b'k')\n    except OSError: pass\nos._exit(1)", set()),
    ("output", "end in the call", "raise SystemExit(0)", set()),
    ("output", "end hard", "os._exit(0)", set()),
    ("signals", "kill all that it sees", "if os.getppid() == 0: os.kill(-1, 9)\nos._exit(1)", set()),
    ("signals", "kill its group", "os.kill(0, 9)\nos._exit(1)", set()),
    ("signals", "crash", "ctypes.string_at(0)", set()),
    ("signals", "abort", "os.abort()", set()),
    ("control", "an honest program, last", "return open('n', 'w').write('x')", ALL),
]  # fmt: skip
# Ended by the clock alone, so they take seconds each.
BY_THE_CLOCK: list[tuple[str, str, str, set[str]]] = [
    ("time", "sleep", "time.sleep(600)", set()),
    ("time", "an endless loop", "while True: pass", set()),
    ("time", "no signal counts", "import signal\nfor n in range(1, 64):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass", set()),
    ("time", "stop", "os.kill(os.getpid(), 19)\ntime.sleep(600)", set()),
    ("time", "close all and sleep", "os.closerange(0, 99)\ntime.sleep(600)", set()),
    ("processes", "a fork bomb", "while True:\n    try: os.fork()\n    except OSError: pass", set()),
    ("processes", "busy processes", "for _ in range(5): os.fork()\nwhile True: pass", set()),
    ("files", "a flood of files", "n = 0\nwhile True:\n    open(str(n), 'w')\n    n += 1", set()),
]  # fmt: skip


def programs(table: list, **names: object) -> list[dict]:
    """Requests for the sandbox, one an attack."""
    column = list(_filter.ARCHITECTURES).index(platform.machine())
    numbers = {name: pair[column] for name, pair in _filter._REFUSED.items()} | NEW
    numbers |= {rule[0]: rule[1 + column] for rule in _filter._CONDITIONS + _filter._SIGNALS}
    numbers = {name: -1 if number is None else number for name, number in numbers.items()}
    names |= {"NR": numbers, "MACHINE": platform.machine()}
    set_up = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    step = ["call", [{"name": "attack"}], {}]
    return [
        {"before": [PRELUDE, set_up], "after": [], "steps": [step], "code": f"# {name}\n{source}"}
        for _, name, body, _ in table
        for source in [f"def attack():\n{textwrap.indent(body, '    ')}"]
    ]


def seen(outcome: object) -> str:
    """What came of an attack: held, open or, if the machine is blamed, why."""
    if isinstance(outcome, RuntimeError):
        return str(outcome)
    try:
        return "open" if json.loads(outcome or b"{}").get("value") else "held"  # type: ignore
    except ValueError:  # no results at all
        return "held"


def run(table: list, mode: str, run_programs=None) -> dict[str, str]:
    """What comes of each attack when this process scores the programs."""
    os.environ["HF_TOKEN"] = "postlab-token"
    folder = Path(tempfile.mkdtemp(prefix="postlab-attacks-"))
    folder.chmod(0o755)
    secret, victim = folder / "secret", folder / "victim"
    secret.write_text("kept", encoding="utf-8")
    victim.write_text("kept", encoding="utf-8")
    libc, keyctl = ctypes.CDLL(None), _filter._REFUSED["keyctl"]
    add_key = _filter._REFUSED["add_key"]
    column = list(_filter.ARCHITECTURES).index(platform.machine())
    libc.syscall(keyctl[column], 1, None)
    libc.syscall(add_key[column], b"user", b"postlab-secret", b"kept", 4, -3)
    path, abstract = str(folder / "socket"), f"\0postlab-{os.getpid()}"
    server = socket.create_server(("127.0.0.1", 0))
    others = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for unix, address in zip(others, (path, abstract), strict=True):
        unix.bind(address)
        unix.listen()
    os.chmod(path, 0o777)
    names = {"SECRET": str(secret), "VICTIM": str(victim), "PROJECT": sandbox.__file__}
    names |= {"PORT": server.getsockname()[1], "UNIX": path, "ABSTRACT": abstract}
    requests = programs(table, PID=os.getpid(), **names)
    outcomes = (run_programs or sandbox.run_programs)(requests, sandbox.Mode(mode, parallel=2))
    for each in (server, *others):
        each.close()
    until = time.monotonic() + 3
    while (left := _left_behind()) and time.monotonic() < until:
        time.sleep(0.01)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    verdicts = {row[1]: seen(outcome) for row, outcome in zip(table, outcomes, strict=True)}
    return verdicts | ({"leave a process": "open"} if left else {})


def check(which: str, mode: str, user: str) -> None:
    """Run a table in a process of its own, and compare what came of it with what is claimed."""
    if user == "root" and os.geteuid() != 0:
        pytest.skip("only root can score as root")
    command = [sys.executable, __file__, which, mode, user]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    if "fault" in verdicts:
        pytest.skip(f"no {mode} here: {verdicts['fault']}")
    combination = f"{mode} {user}"
    claimed = {
        name: "open" if combination in known else "held" for _, name, _, known in globals()[which]
    }
    assert verdicts == claimed


def _left_behind() -> list[Path]:
    """Processes of the attack that leaves one."""
    left = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if path.read_bytes() == b"postlab-left\n":
                left.append(path)
    return left


def become_a_user() -> None:
    """Give up root, in a mount namespace where Python can still be reached if it is root's own."""
    closed = {
        parent
        for path in (sys.base_prefix, sys.prefix, str(ROOT))
        for parent in Path(path).parents
        if not parent.stat().st_mode & stat.S_IXOTH
    }
    if closed:
        sandbox_libc = ctypes.CDLL(None, use_errno=True)
        assert sandbox_libc.unshare(0x20000) == 0, "root without the right to mount"
        mount = ["mount", "--make-rprivate", "/"]
        subprocess.run(mount, check=True)
        for parent in sorted(closed)[:1]:
            needed = [
                p
                for p in {sys.base_prefix, sys.prefix, str(ROOT)}
                if Path(p).is_relative_to(parent)
            ]
            places = {path: tempfile.mkdtemp() for path in needed}
            for path, place in places.items():
                subprocess.run(["mount", "--rbind", path, place], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", parent], check=True)
            for path, place in places.items():
                os.makedirs(path, exist_ok=True)
                subprocess.run(["mount", "--rbind", place, path], check=True)
                subprocess.run(["umount", "-l", place], check=True)
                os.rmdir(place)
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    os.environ["HOME"] = "/nonexistent"
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable again, as a user's own process is


if __name__ == "__main__":
    which, mode, user = sys.argv[1:]
    signal.signal(signal.SIGCONT, signal.SIG_IGN)
    if user == "user" and os.geteuid() == 0:
        become_a_user()
    reason = sandbox.fault(mode) if mode in sandbox.STRONG else ""
    print(json.dumps({"fault": reason} if reason else run(globals()[which], mode)))
