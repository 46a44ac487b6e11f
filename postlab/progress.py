"""How far a long step has come: a bar in a terminal, one line anywhere else.

In a notebook one display is rewritten in place and its last state names no time, so that a
committed output does not change with the machine. In a log file a single line grows by quarters:
`sft 25% 50% 75% 100% loss 0.41`. Left out: nested bars, rates, totals not known beforehand.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

REFRESH_S = 0.5  # a notebook stores and sends every update, so they are rationed


class Bar:
    """What `progress` yields; `total` counts steps, `done` those of an earlier session."""

    def __init__(self, total: int, label: str, *, done: int = 0) -> None:
        self.total, self.label, self.done, self.note = max(int(total), 1), label, done, ""
        self._start, self._first, self._shown = time.monotonic(), done, 0.0
        self._quarter, self._closed = 4 * done // self.total, False
        self._display = _notebook_display()
        self._terminal = self._display is None and sys.stdout.isatty()
        if self._display is None and not self._terminal:
            print(label, end="", flush=True)

    def update(self, n: int = 1, note: str = "") -> None:
        """Count `n` more steps (an increment, as in tqdm) and show `note` beside them."""
        self.done, self.note = self.done + n, note or self.note
        if self._display is not None or self._terminal:
            now = time.monotonic()
            if now - self._shown >= REFRESH_S:
                self._shown = now
                self._show(self._line(left=True))
            return
        while self._quarter < min(4, 4 * self.done // self.total):
            self._quarter += 1
            print(f" {25 * self._quarter}%", end="", flush=True)

    def close(self) -> None:
        """Show the last state, without times, and end the line; again does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._display is not None:
            self._show(self._line(left=False))
        elif self._terminal:
            self._show(self._line(left=False))
            print(flush=True)
        else:
            print(f" {self.note}".rstrip(), flush=True)

    def _line(self, *, left: bool) -> str:
        parts = [f"{self.label} {self.done}/{self.total}"]
        if self._terminal:
            filled = 20 * min(self.done, self.total) // self.total
            parts[0] = f"{self.label} {'█' * filled}{'░' * (20 - filled)} {self.done}/{self.total}"
        if self.note:
            parts.append(self.note)
        if left and self.done > self._first:
            pace = (time.monotonic() - self._start) / (self.done - self._first)
            parts.append(f"{pace * max(self.total - self.done, 0):.0f} s left")
        return ", ".join(parts)

    def _show(self, line: str) -> None:
        if self._display is not None:
            self._display.update({"text/plain": line}, raw=True)
        else:
            print(f"\r\x1b[K{line}", end="", flush=True)


@contextmanager
def progress(total: int, label: str) -> Iterator[Bar]:
    """Show the progress of `total` steps; use it round every loop of more than a few seconds.

    >>> with progress(4, "evaluate") as bar:
    ...     for step in range(4):
    ...         bar.update(1, f"prompt {step + 1}")
    evaluate 25% 50% 75% 100% prompt 4
    """
    bar = Bar(total, label)
    try:
        yield bar
    finally:
        bar.close()


def in_notebook() -> bool:
    """True under a Jupyter or Colab kernel, False in a terminal, a script or a log."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def _notebook_display() -> object | None:
    if not in_notebook():
        return None
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)
