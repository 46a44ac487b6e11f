"""Call a learner's function so that it can hurt nothing, whatever it does.

Each call gets copies of the inputs, so that an edit in place cannot reach another case, and is
noticed. What it prints and warns of is caught, and cut; random states, grad mode and default dtype
are put back; an exception, `sys.exit()` included, becomes a value. A call that does not end is
stopped after TIME_LIMIT seconds of work, in the main thread of a Unix system; elsewhere the learner
has to.

Not contained: files it writes, threads it starts, memory it fills, and IPython's `exit()`.
"""

from __future__ import annotations

import inspect
import io
import linecache
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

TIME_LIMIT = 2.0  # of processor time, so that a busy machine stops nobody early
PRINTED = 300  # characters kept of what a function prints


class TookTooLong(BaseException):
    """Not an Exception, so that a learner's `except Exception` does not swallow it."""


@dataclass(frozen=True)
class Call:
    """What came of one call.

    Args:
        value: what was returned; tensors detached, dense and on the CPU.
        error: the exception instead of a value.
        line: the learner's line in which it was raised, where that is known.
        edited: names of the inputs which the function changed in place.
        printed: the beginning of what it printed.
    """

    value: Any = None
    error: BaseException | None = None
    line: str = ""
    edited: tuple[str, ...] = ()
    printed: str = ""


class _Sink(io.TextIOBase):
    """Keeps the beginning of what is written, and forgets the rest."""

    def __init__(self) -> None:
        self.text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text = (self.text + text)[:PRINTED]
        return len(text)


def call(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    positional: Sequence[str],
    require_grad: Sequence[str] = (),
) -> Call:
    """Call a function with copies of the inputs.

    Args:
        inputs: every argument by name: tensors, lists or numbers.
        positional: names of the arguments that are passed by position, in that order.
        require_grad: names of the tensors that ask for a gradient.

    >>> call(lambda x: x + 1, {"x": torch.zeros(2)}, positional=["x"]).value
    tensor([1., 1.])
    >>> call(lambda x: x.add_(1), {"x": torch.zeros(2)}, positional=["x"]).edited
    ('x',)
    """
    copies: dict[str, Any] = {}
    printed = _Sink()
    try:
        with _contained(printed):  # copies too: a tensor made in inference mode has no gradient
            copies |= {name: _copy(value) for name, value in inputs.items()}
            for name in require_grad:
                copies[name].requires_grad_()
            by_name = {name: value for name, value in copies.items() if name not in positional}
            value = _plain(function(*(copies[name] for name in positional), **by_name))
    except KeyboardInterrupt:  # the learner's own: stop the cell
        raise
    except BaseException as error:
        line = _line(function, error)
        error.__traceback__ = None  # it would keep alive whatever the function had made
        return Call(error=error, line=line, printed=printed.text)
    edited = tuple(name for name in copies if not _unchanged(copies[name], inputs[name]))
    return Call(value=value, edited=edited, printed=printed.text)


@contextmanager
def _contained(printed: _Sink) -> Iterator[None]:
    """Leave the process as it was found: random states, modes, output, warnings."""
    states = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.inference_mode(False),
            torch.enable_grad(),
            warnings.catch_warnings(),
            redirect_stdout(printed),
            redirect_stderr(printed),
            _time_limit(TIME_LIMIT),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_default_dtype(states[2])


@contextmanager
def other_chance(seed: int) -> Iterator[None]:
    """Other random numbers than before, to see whether a function depends on them."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the block after some seconds of work; put an older timer back."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise TookTooLong

    handler = signal.signal(signal.SIGPROF, stop)
    left, repeat = signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler or signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, left, repeat)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Tensors without graph, device or subclass, so that comparing them can call no code of theirs.

    Raises:
        TypeError: if a tensor holds no values (the meta device).
    """
    if isinstance(value, Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            dense = value.detach().to_dense() if value.is_sparse else value.detach()
            if dense.is_meta:
                raise TypeError("the tensor returned is on the meta device and holds no values")
            return dense.cpu().as_subclass(Tensor).clone()
    if type(value) in (tuple, list):
        return type(value)(_plain(item) for item in value[:10_000])
    return value


def _unchanged(now: Any, before: Any) -> bool:
    if isinstance(before, Tensor):
        return now.shape == before.shape and torch.equal(now.detach(), before)
    return now == before


def _line(function: Callable[..., Any], error: BaseException) -> str:
    """The last line of the traceback that stands in the file, or the cell, of the function."""
    file = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
    line, step = "", error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == file:
            line = linecache.getline(file, step.tb_lineno).strip()
        step = step.tb_next
    return line
