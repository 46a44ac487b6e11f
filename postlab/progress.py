"""How far a long step has come: tqdm's bar in a terminal, one line anywhere else.

In a notebook one display is rewritten in place; it tells the time left, and its last state names no
time, so that a committed output does not change with the machine. In a log file a single line grows
by quarters, `sft 25% 50% 75% 100% loss 0.41`, and a step that takes long also tells the time left:
`evaluate 25% (about 6 min left) 50% (about 4 min left)`. Left out: rates, totals not known
beforehand.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

REFRESH_S = 0.5  # a notebook stores and sends every update, so they are rationed
LEFT = ", {remaining} left"
LONG_S = 60  # a step that has taken so long tells the time left in a log file too


class Bar(tqdm):
    """What `progress` yields; `total` counts steps, `done` those of an earlier session."""

    monitor_interval = 0  # no thread that watches for slow steps: each step looks at the clock

    def __init__(self, total: int, label: str, *, done: int = 0) -> None:
        steps = max(int(total), 1)
        self._begun = time.monotonic()
        self._notebook, self._quarter = _notebook_display(), 4 * done // steps
        terminal = self._notebook is None and sys.stdout.isatty()
        self._log = self._notebook is None and not terminal
        columns, lines = shutil.get_terminal_size()  # tqdm shows nothing in a terminal of no size
        if self._log:
            print(label, end="", flush=True)
        super().__init__(
            total=steps,
            initial=done,
            desc=label,
            file=sys.stdout if terminal else io.StringIO(),
            bar_format="{desc} " + "|{bar:20}| " * terminal + "{n_fmt}/{total_fmt}{postfix}" + LEFT,
            mininterval=0 if self._log else REFRESH_S,
            miniters=1,
            ncols=columns - 1,
            nrows=lines,
            disable=False,
        )

    def update(self, n: float | None = 1, note: str = "") -> None:
        """Count `n` more steps (an increment, as in tqdm) and show `note` beside them."""
        if note:
            self.set_postfix_str(note, refresh=False)
        super().update(n)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the present state; tqdm calls this when it is time to."""
        if self._notebook is not None:
            self._notebook.update({"text/plain": str(self)}, raw=True)
        elif not self._log:
            super().display(msg, pos)
        while self._log and self._quarter < min(4, 4 * self.n // (self.total or 1)):
            self._quarter += 1
            print(f" {25 * self._quarter}%{self._left()}", end="", flush=True)

    def _left(self) -> str:
        """The time left for a log file, once a step takes long; one time for quarters that pass
        together."""
        total, taken = self.total or 1, time.monotonic() - self._begun
        if taken < LONG_S or self.n >= total or self._quarter < 4 * self.n // total:
            return ""
        minutes = taken / (self.n - self.initial) * (total - self.n) / 60
        return f" (about {max(1, round(minutes))} min left)"

    def close(self) -> None:
        """Show the last state, without times, and end the line; again does nothing."""
        if self.disable:
            return
        self.bar_format = (self.bar_format or "").removesuffix(LEFT)
        super().close()
        if self._log:
            print(f" {self.postfix or ''}".rstrip(), flush=True)


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


def _notebook_display() -> Any:
    if not in_notebook():
        return None
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)
