"""A seccomp filter for untrusted programs: which system calls the kernel refuses them.

It is a program in classic BPF that the kernel runs on every call: an array of `struct sock_filter`,
which bubblewrap reads from a file and `_jail` installs by prctl. What a pure computation in Python
or numpy may need is let through, and everything newer than Linux 5.0 that isn't listed gets ENOSYS,
so that the C library falls back on what it used before.

Refused is what reaches other processes or outlives the program's own memory: sockets, keys, System
V and POSIX IPC, memory held by a descriptor alone (`memfd_create`, `vmsplice`, `io_setup`), new
namespaces and mounts, tracing, io_uring, BPF, modules, clocks. Only x86_64 and aarch64 are known.

Source: Documentation/userspace-api/seccomp_filter.rst and the system call tables of Linux 6.12.
"""

import errno
import struct

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
OWN_PID = 0x7FFFFFF1  # stands for the program's process in a weak filter, until that is known

# From here on numbers are newer than Linux 5.0; on x86_64 those of x32 (bit 30) come last.
_FIRST_NEW = {"x86_64": 335, "aarch64": 294}
_NEW = (436, 439)  # close_range, faccessat2
# Numbers on x86_64 and on aarch64; None where a call doesn't exist.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    **{"shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197)},
    **{"semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192)},
    **{"msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187)},
    **{"mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182)},
    **{"mq_timedreceive": (243, 183), "mq_notify": (244, 184), "mq_getsetattr": (245, 185)},
    **{"memfd_create": (319, 279), "vmsplice": (278, 75), "remap_file_pages": (216, 234)},
    **{"io_setup": (206, 0), "io_submit": (209, 2), "userfaultfd": (323, 282)},
    **{"socket": (41, 198), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51)},
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
    **{"swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60), "acct": (163, 89)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"kcmp": (312, 272), "bpf": (321, 280), "perf_event_open": (298, 241)},
    **{"name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265)},
    **{"fanotify_init": (300, 262), "lookup_dcookie": (212, 18), "syslog": (103, 116)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142)},
    **{"settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171)},
    **{"clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162)},
    **{"mbind": (237, 235), "set_mempolicy": (238, 237), "get_mempolicy": (239, 236)},
    **{"migrate_pages": (256, 238), "move_pages": (279, 239), "vhangup": (153, 58)},
    **{"personality": (135, 92), "nfsservctl": (180, 42), "iopl": (172, None)},
    **{"ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None)},
}
# A call, its numbers, the argument that decides, how it is tested, and with what: it is refused
# where the argument "has" a bit of the values, "is" one of them, or "is not" the only value.
_NAMESPACES = 0x7E020000  # every CLONE_NEW* that clone takes
_CONDITIONS: tuple[tuple[str, int, int, int, str, tuple[int, ...]], ...] = (
    ("clone", 56, 220, 0, "has", (_NAMESPACES,)),
    ("socketpair", 53, 199, 0, "is not", (1,)),  # AF_UNIX, which asyncio needs
    ("prlimit64", 302, 261, 0, "is not", (0,)),  # the limits of another process
    ("ioctl", 16, 29, 1, "is", (0x5412, 0x541C, 0x8901, 0x8902)),  # typing, and signals by files:
    ("fcntl", 72, 25, 1, "is", (8, 10, 15)),  # F_SETOWN, F_SETSIG, F_SETOWN_EX
)
# Without a process namespace, these would reach every process of the same user.
_SIGNALS = (
    ("kill", 62, 129, 0, "is not", (OWN_PID,)),
    ("tkill", 200, 130, 0, "is not", (OWN_PID,)),
    ("tgkill", 234, 131, 0, "is not", (OWN_PID,)),
    ("rt_sigqueueinfo", 129, 138, 0, "is not", (OWN_PID,)),
    ("rt_tgsigqueueinfo", 297, 240, 0, "is not", (OWN_PID,)),
)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; both machines little-endian


def seccomp_filter(machine: str, *, weak: bool = False) -> bytes:
    """The filter for a machine, as an array of `struct sock_filter`; empty for an unknown one.

    Args:
        machine: as `os.uname().machine` has it.
        weak: also refuse signals to other processes; OWN_PID in it has yet to be replaced.
    """
    if machine not in ARCHITECTURES:
        return b""
    column = list(ARCHITECTURES).index(machine)
    code = [
        *(_op(_LOAD, _ARCH), _op(_EQUAL, ARCHITECTURES[machine], 1, 0), _op(_RETURN, _KILL)),
        _op(_LOAD, _NR),
    ]
    new = [_op(_EQUAL, number, len(_NEW) - place) for place, number in enumerate(_NEW)]
    new += [_op(_RETURN, _ERRNO | errno.ENOSYS), _op(_RETURN, _ALLOW)]
    code += [_op(_AT_LEAST, _FIRST_NEW[machine], 0, len(new)), *new]
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            code += [_op(_EQUAL, number, 0, 1), _REFUSE]
    for _, *both, argument, test, values in (*_CONDITIONS, *(_SIGNALS if weak else ())):
        body = [_op(_LOAD, _ARGUMENTS + 8 * argument)]  # its low half, which is all the kernel uses
        skips = (1, 0) if test == "is not" else (0, 1)  # of the refusal, if the test holds or not
        for value in values:
            body += [_op(_ANY_BIT if test == "has" else _EQUAL, value, *skips), _REFUSE]
        body.append(_op(_RETURN, _ALLOW))
        code += [_op(_EQUAL, both[column], 0, len(body)), *body]
    return b"".join([*code, _op(_RETURN, _ALLOW)])


def _op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction: a code, how many to skip if its test holds or not, and its operand."""
    return struct.pack("<HBBI", code, then, otherwise, value)


_REFUSE = _op(_RETURN, _ERRNO | errno.EPERM)
