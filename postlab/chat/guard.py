"""Templates that never end: a chat template is a program, and may be anybody's.

A part of `postlab.chat`. Jinja's sandbox, in which transformers renders, keeps a template away from
files and attributes, and not from nested loops, `9**9**9` or a text of ten gigabytes. So a template
is rendered once in a child process that has limits. Left out: systems without `os.fork` (Windows),
where nothing is tried, a limit of memory elsewhere than on Linux, and templates that behave in the
trial and not afterwards.
"""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress

SECONDS = 5  # of processor time; a usual template takes a thousandth of one
MEMORY = 2**30  # bytes beyond what the process has
LENGTH = 2_000_000  # characters of one rendering
_WALL = 60  # seconds, for a template that sleeps
_TOO_MUCH, _TOO_LONG = 3, 4  # exit codes of the child


def runs_away(write: Callable[[], int]) -> str | None:
    """What a template exceeds when `write` renders it, or None; `write` returns characters."""
    if not hasattr(os, "fork"):
        return None
    child = _fork()
    if child is None:
        return None
    if child == 0:
        _attempt(write)
    status, deadline = _wait(child), time.monotonic() + _WALL
    while status is None:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"{_WALL} seconds"
        time.sleep(0.002)
        status = _wait(child)
    if os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == _TOO_MUCH:
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        return f"{SECONDS} seconds" if killed else f"{MEMORY >> 20:,} MiB of memory"
    return f"{LENGTH:,} characters" if os.WEXITSTATUS(status) == _TOO_LONG else None


def _fork() -> int | None:
    """Fork; tokenizers would write a warning into the child unless told about parallelism."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ.setdefault(name, "true")
    try:
        with warnings.catch_warnings():  # Python 3.12 warns of threads; the child uses none
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()
    except OSError:  # no more processes or memory: then there is no trial
        return None
    finally:
        if before is None:
            del os.environ[name]


def _wait(child: int) -> int | None:
    done, status = os.waitpid(child, os.WNOHANG)
    return status if done else None


def _attempt(write: Callable[[], int]) -> None:
    """In the child: render under limits, and leave without any of Python's farewells."""
    code = 0
    try:
        _limit()
        code = _TOO_LONG if write() > LENGTH else 0
    except MemoryError:
        code = _TOO_MUCH
    except BaseException:  # a template's own exceptions are judged by the parent
        code = 0
    finally:
        os._exit(code)


def _limit() -> None:
    import resource

    with suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, hard))  # a child starts at zero
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    if sys.platform == "linux":
        with suppress(ValueError, OSError):
            with open("/proc/self/statm", encoding="utf-8") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
