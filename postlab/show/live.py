"""A training run while it trains: its curves and what the doctor finds, in one output of a cell.

The output is a page without a script, rewritten in place. So it needs no widget, looks the same in
JupyterLab, VS Code and Colab, and its last state stays in the saved notebook when the kernel is
gone. Outside of a notebook nothing is shown. Left out: curves of several runs.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from postlab.claims import INK, STAGE_COLOURS
from postlab.doctor import Finding, Watcher, diagnose, finite
from postlab.progress import in_notebook
from postlab.show.pages import shown

EVERY_S = 2.0  # each state is sent to the browser, and on Colab over the network
POINTS = 200  # of a curve: more cannot be seen in a panel of this width
WIDTH, HEIGHT = 210, 84  # of a panel's drawing area, in CSS pixels
FRAME = f"color:{INK};background:#fff;padding:8px;max-width:940px;font-family:sans-serif"
CURVES = {  # name in the log: what it is called, its unit
    "loss": ("loss", "nats a token"),
    "eval_loss": ("held-out loss", "nats a token"),
    "reward": ("reward", "mean of the batch"),
    "rewards/margins": ("reward margin", "nats times beta"),
    "logps/chosen": ("chosen log-prob", "nats a reply"),
    "logps/rejected": ("rejected log-prob", "nats a reply"),
    "completions/mean_length": ("completion length", "tokens"),
    "entropy": ("entropy", "nats a token"),
    "frac_reward_zero_std": ("groups without a signal", "share"),
    "kl": ("KL to the reference", "nats a token"),
    "grad_norm": ("gradient norm", ""),
    "learning_rate": ("learning rate", ""),
}


class LiveView(Watcher):
    """A callback for any Hugging Face trainer: `Trainer(..., callbacks=[LiveView()])`.

    Args:
        stage: its colour in all figures; any other name has the colour of text.
        every_s: seconds between two states, at least.
        names: of the log's values, in this order; by default those of `CURVES` that are logged.
        keys: as for `postlab.doctor.diagnose`.
    """

    def __init__(
        self,
        stage: str = "",
        *,
        every_s: float = EVERY_S,
        names: Sequence[str] | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.stage, self.every_s, self.names, self.keys = stage, every_s, names, keys
        self.page = ""
        self._display: Any = None
        self._next = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._display, self._next = None, 0.0
        if state.is_world_process_zero and in_notebook():
            from IPython.display import display

            self._show(state)
            self._display = display(self, display_id=True)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._display is not None and time.monotonic() >= self._next:
            begun = time.monotonic()
            self._show(state)
            # Reading a long log takes longer than sending it: at most a twentieth of the run.
            self._next = begun + max(self.every_s, 20 * (time.monotonic() - begun))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._display is not None:
            self._show(state)
            self._display = None

    def _show(self, state: Any) -> None:
        self.page = page(
            state.log_history,
            step=state.global_step,
            steps=state.max_steps,
            stage=self.stage,
            names=self.names,
            keys=self.keys,
        )
        if self._display is not None:
            self._display.update(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": f"LiveView({self.stage!r})", "text/html": self.page}


def page(
    log_history: Sequence[Mapping[str, Any]],
    *,
    step: int,
    steps: int,
    stage: str = "",
    names: Sequence[str] | None = None,
    keys: Mapping[str, str] | None = None,
) -> str:
    """The curves and the findings as HTML, every name and number of the log escaped.

    Args:
        log_history: `trainer.state.log_history`.
        step, steps: optimizer steps so far, and in all.
    """
    wanted = list(names) if names is not None else list(CURVES)
    curves = [(name, _points(log_history, name)) for name in wanted]
    panels = [_panel(name, points, stage, steps) for name, points in curves if points]
    waiting = "" if panels else "<p>Nothing has been logged yet.</p>"
    head = html.escape(shown(stage)) + ", " if stage else ""
    row = "display:flex;flex-wrap:wrap;gap:4px 16px;margin:6px 0"
    return (
        f'<div style="{FRAME}"><b>{head}step {step:,} of {steps:,}</b>{waiting}'
        f'<div style="{row}">{"".join(panels)}</div>'
        f"{_findings(log_history, keys)}</div>"
    )


def _points(log_history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, value) of the finite values, thinned out evenly, with the last one."""
    found = []
    for place, entry in enumerate(log_history):
        value: Any = entry.get(name)
        if finite(value):
            step: Any = entry.get("step")
            found.append((float(step if finite(step) else place), float(value)))
    stride = math.ceil(len(found) / POINTS) or 1
    return found[::-1][::stride][::-1]


def _panel(name: str, points: Sequence[tuple[float, float]], stage: str, steps: int) -> str:
    """One curve, with its range at the left and its last value in the title."""
    label, unit = CURVES.get(name, (name, ""))
    low, high = min(y for _, y in points), max(y for _, y in points)
    last, span = max(steps, points[-1][0], 1), (high - low) or 1.0
    at = [(WIDTH * x / last, HEIGHT * (1 - (y - low) / span)) for x, y in points]
    colour = STAGE_COLOURS.get(stage, INK)
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    title = f"<b>{html.escape(shown(label))}</b> {_number(points[-1][1])}"
    unit = f' <span style="color:#555">{html.escape(unit)}</span>' if unit else ""
    described = f"{label}, last value {_number(points[-1][1])}"
    # A flat curve lies on the axis, and so does its one label.
    marks = [(12, high)] * (high > low) + [(HEIGHT + 6, low)]
    range_of = "".join(f'<text x="52" y="{y}">{_number(value)}</text>' for y, value in marks)
    return (
        f'<div style="font-size:13px"><div>{title}{unit}</div>'
        f'<svg width="{WIDTH + 60}" height="{HEIGHT + 12}" role="img" '
        f'aria-label="{html.escape(shown(described))}" style="max-width:100%">'
        f'<g font-size="11" fill="#555" text-anchor="end">{range_of}</g>'
        f'<g transform="translate(56,6)"><path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" '
        f'stroke="#b0b0b0"/><polyline points="{line}" fill="none" stroke="{colour}" '
        f'stroke-width="2"/><circle cx="{at[-1][0]:.1f}" cy="{at[-1][1]:.1f}" r="3" '
        f'fill="{colour}"/></g></svg></div>'
    )


def _findings(log_history: Sequence[Mapping[str, Any]], keys: Mapping[str, str] | None) -> str:
    """What the doctor says, faults before what only explains."""
    found: list[Finding] = [f for f in diagnose(log_history, keys=keys) if f.code != "too_short"]
    if not found:
        return '<div style="font-size:13px;color:#555">The doctor has nothing to say so far.</div>'
    lines = "".join(f"<li>{html.escape(shown(str(finding)))}</li>" for finding in found)
    return f'<div style="font-size:13px"><b>The doctor:</b><ul>{lines}</ul></div>'


def _number(value: float) -> str:
    """Three significant digits, as short as they go.

    >>> [_number(v) for v in (0.4312, 12.04, 5e-06, 0.0, -1234.5)]
    ['0.431', '12', '5e-06', '0', '-1,234']
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
