"""Frames in, matplotlib figures out: what each stage did to one model, and what a trainer logged.

Titles are computed from the numbers drawn. Nothing here estimates anything: values, intervals and
p come with the frame, and several seeds are averaged for the eye only (the interval drawn is the
mean of the seeds' own, and each seed keeps its dot). Figures are closed for pyplot as soon as they
are made: they show as a cell's result, and no global state is left behind.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import (
    COUNTED,
    INK,
    MECHANISM,
    ORDER,
    STAGE_COLOURS,
    findings,
    in_order,
    is_share,
    merge_seeds,
    metric_label,
    stage_label,
)
from postlab.evals import METRICS
from postlab.show.layout import PALE, letter_for_letter, running_mean, strip

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = (0, (1.2, 1.6))
ROOMY = 5  # stages in a panel whose names and values fit in the usual size
LOGGED: dict[
    str, list[tuple[str, tuple[str, ...]]]
] = {  # kind of trainer: (what is drawn and its unit, its names in the log) per panel
    "dpo": [
        ("reward margin, nats times beta", ("rewards/margins",)),
        ("logps of a reply, nats", ("logps/chosen", "logps/rejected")),
    ],
    "grpo": [
        ("reward, mean of the batch", ("reward",)),
        ("completion length, tokens", ("completions/mean_length",)),
        ("entropy, nats per token", ("entropy",)),
        ("zero-variance groups, share", ("frac_reward_zero_std",)),
        ("KL to the reference, nats per token", ("kl",)),
    ],
    "sft": [("loss, nats a token", ("loss", "eval_loss"))],
}
_LINE_LABELS = {
    "loss": "train",
    "eval_loss": "held out",
    "logps/chosen": "chosen",
    "logps/rejected": "rejected",
}
_TITLES = {  # name in the log, words in the title, format, unit
    "sft": [("loss", "loss", "{:.2f}", "")],
    "dpo": [
        ("rewards/margins", "margin", "{:.2f}", ""),
        ("logps/chosen", "chosen logps", "{:.1f}", " nats"),
    ],
    "grpo": [
        ("reward", "reward", "{:.2f}", ""),
        ("completions/mean_length", "length", "{:.0f}", " tokens"),
    ],
}


@letter_for_letter
def plot_stages(
    frame: pd.DataFrame | Iterable[Mapping[str, Any]],
    *,
    profile: str | None = None,
    columns: int = 3,
) -> Figure:
    """Draw what each stage did to one model: a panel a metric, the stages from left to right.

    Args:
        frame: rows of `evals.compare`, or of `report.summary_frame`: stage, metric, value, low,
            high, n; and difference, difference_low, difference_high, p against the stage before,
            seed, parent and copied where known. Without differences no line is solid and no claim
            is made; a value that was copied from the parent is hollow, without interval or line.
        profile: "tiny" adds the footer that its results show mechanism, not capability.
        columns: panels side by side; 2 for a phone.
    Returns:
        A figure about 1,000 pixels wide (at 3 columns).
    Raises:
        ValueError: if there are no rows, or a column is missing.
    """
    from matplotlib import pyplot as plt

    table, sentences = merge_seeds(frame), findings(frame)
    metrics, stages = in_order(table["metric"], COUNTED), in_order(table["stage"], ORDER)
    width, panel = columns * 10 / 3, 2.75
    chars = int(width * 7.3) - 3
    title = [line for stage, text in sentences.items() for line in _wrapped(text, stage, chars)]
    if not title:
        only = ", ".join(stage_label(s) for s in stages)
        why = "measured, compared with nothing yet"
        if table["verdict"].ne("").any():  # a suite of one's own
            why = "which way is better isn't known; evals.METRICS can say it"
        title = [("", f"{only}: {why}")]
    count = math.ceil((len(metrics) + 1) / columns)
    head, foot = 0.34 * len(title) + 0.65, 0.55
    height = head + panel * count + foot
    fig = plt.figure(figsize=(width, height), dpi=100, facecolor="white")
    grid = fig.add_gridspec(
        count,
        columns,
        left=0.55 / width,
        right=1 - 0.12 / width,
        top=1 - (head + 0.3) / height,
        bottom=(foot + 0.2) / height,
        wspace=0.22,
        hspace=0.48,
    )
    _draw_title(fig, title)
    for index, metric in enumerate(metrics):
        axes = fig.add_subplot(grid[divmod(index, columns)])
        _draw_panel(axes, table[table["metric"] == metric], metric, stages)
    last = fig.add_subplot(grid[divmod(len(metrics), columns)])
    _draw_key(last, table)
    note = f"{MECHANISM.capitalize()}: a tiny model in a made-up world."
    fig.text(0.12 / width, 0.16 / height, note if profile == "tiny" else "", color=INK, size=12.5)
    plt.close(fig)
    return fig


@letter_for_letter
def plot_training(
    log_history: Sequence[Mapping[str, Any]], stage: str, *, columns: int = 2
) -> Figure:
    """Draw what a TRL trainer logged: loss (SFT), margins and log-probs (DPO), rewards (GRPO).

    Args:
        log_history: `trainer.state.log_history`, or what `Run.train` returns.
        stage: name of the stage, for colour and title; the panels follow from what was logged.
        columns: panels side by side; 1 makes a narrow figure, which a phone can show.
    Returns:
        Figure; thin lines are the log, thick ones its running mean over a tenth of the run. What
        wasn't logged has no panel: GRPO with a beta of 0 logs no KL.
    Raises:
        ValueError: if no step was logged.
    """
    from matplotlib import pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    keys = set().union(*log_history) if len(log_history) else set()
    kind = next((k for k in LOGGED if LOGGED[k][0][1][0] in keys), None)
    if kind is None:
        raise ValueError(
            f"the log of {stage!r} has {len(log_history)} entries and no logged training step; "
            "expected trainer.state.log_history after trainer.train(), with logging_steps > 0"
        )
    panels = [panel for panel in LOGGED[kind] if keys.intersection(panel[1])]
    rows = math.ceil(len(panels) / columns)
    title = _training_title(log_history, stage, kind)
    size = (7.5, 3.9) if len(panels) == 1 else (10, 1.1 + 2.9 * rows)
    if columns == 1:
        lines = textwrap.wrap(title, 33)
        title, size = "\n".join(lines), (4.6, 0.5 + 0.3 * len(lines) + 2.3 * rows)
    layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08)
    fig = plt.figure(figsize=size, dpi=100, facecolor="white", layout=layout)
    colour = STAGE_COLOURS.get(stage, INK)
    for place, (unit, names) in enumerate(panels, start=1):
        axes = fig.add_subplot(rows, min(columns, len(panels)), place)
        _draw_log(axes, log_history, names, unit, colour)
        last = place > len(panels) - columns
        axes.set_xlabel("optimiser step" if last else "", color=INK, size=12)
    fig.suptitle(
        title,
        x=0.01,
        ha="left",
        weight="bold",
        size=15,
        color=INK,
    )
    plt.close(fig)
    return fig


def _draw_title(fig: Figure, lines: Sequence[tuple[str, str]]) -> None:
    """The finding, a line a stage, each with its stage's colour at its head."""
    width, height = fig.get_size_inches()
    for row, (stage, text) in enumerate(lines):
        y = 1 - (0.32 + 0.34 * row) / height
        if stage:
            fig.text(
                0.12 / width, y, "\N{BLACK SQUARE}", color=_colour(stage), size=17, va="center"
            )
        fig.text(0.42 / width, y, text, color=INK, size=15.5, weight="bold", va="center")


def _draw_panel(axes: Axes, part: pd.DataFrame, metric: str, stages: Sequence[str]) -> None:
    """One metric: points with intervals, joined to the parent, values written above them."""
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import MaxNLocator

    scale = 100.0 if is_share(metric) else 1.0
    rows = {row["stage"]: row for row in part.to_dict("records") if row["value"] == row["value"]}
    tops = [scale * np.nanmax([r["value"], r["high"], *r["seeds"]]) for r in rows.values()]
    top = 100.0 if scale == 100.0 else max([*tops, 1e-9])
    size = 12.5 if len(stages) <= ROOMY else 9.0
    for row in rows.values():
        x, y = stages.index(row["stage"]), scale * row["value"]
        before = rows.get(row["parent"])
        # Each KL has a start of its own, and a copied value was compared with nothing: no path.
        if before and metric != "kl" and not row["copied"]:
            supported = row["verdict"] not in ("", "inconclusive", "varies")
            axes.plot(
                [stages.index(row["parent"]), x],
                [scale * before["value"], y],
                color=INK if supported else PALE,
                linestyle="-" if supported else DOTS,
                linewidth=1.8,
                zorder=1,
            )
        _draw_point(axes, row, x, scale)
    for row in rows.values():
        x, text = stages.index(row["stage"]), _value(row["value"], metric)
        above = [] if row["copied"] else [row["high"], *row["seeds"]]
        label = scale * np.nanmax([row["value"], *above])
        halo = [Stroke(linewidth=4, foreground="white"), Normal()]  # lines may pass behind it
        axes.annotate(
            text,
            (x, label),
            xytext=(0, 6.5),
            textcoords="offset points",
            ha="center",
            size=size,
            color=INK,
            path_effects=halo,
        )
    if not rows:
        axes.text(
            0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=PALE, size=14
        )
    axes.set(xlim=(-0.5, len(stages) - 0.5), ylim=(-0.06 * top, 1.22 * top))
    axes.set_xticks(range(len(stages)), [stage_label(s) for s in stages], size=size, color=INK)
    percent = scale == 100.0
    ticks = (0, 50, 100) if percent else MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(0, top)
    ticks = [tick for tick in ticks if tick <= top]
    axes.set_yticks(ticks, [f"{t:g}{'%' if percent else ''}" for t in ticks], color="#6b6b6b")
    axes.set_title(metric_label(metric), loc="left", size=14, weight="bold", color=INK, pad=19)
    about = COUNTED.get(metric, METRICS[metric][2] if metric in METRICS else "mean")
    axes.text(0, 1.01, about, transform=axes.transAxes, size=11.5, color="#555555")
    strip(axes)


def _draw_point(axes: Axes, row: Mapping[str, Any], x: float, scale: float) -> None:
    """A value in its interval, each seed's own value to the right; hollow and alone if copied."""
    colour = _colour(row["stage"])
    if row["copied"]:
        axes.plot(x, scale * row["value"], "o", color=colour, markersize=7.5, mfc="white", zorder=3)
        return
    low, high = scale * row["low"], scale * row["high"]
    axes.bar(x, high - low, bottom=low, width=0.3, color=colour, alpha=0.35, zorder=2)
    axes.plot(x, scale * row["value"], "o", color=colour, markersize=7.5, zorder=3)
    if len(row["seeds"]) > 1:
        dots = [scale * value for value in row["seeds"]]
        axes.plot([x + 0.25] * len(dots), dots, "o", color=colour, markersize=4, zorder=3)


def _draw_key(axes: Axes, table: pd.DataFrame) -> None:
    """How to read a panel, drawn with the panels' own marks in the first free place."""
    axes.set(xlim=(0, 10), ylim=(0, 10))
    axes.axis("off")
    axes.text(0, 10, "How to read", size=14, weight="bold", color=INK, va="bottom")
    axes.bar(0.7, 1.6, bottom=7.5, width=1.0, color=INK, alpha=0.35)
    axes.plot(0.7, 8.3, "o", color=INK, markersize=7.5)
    low, high = int(table["n"].min()), int(table["n"].max())
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    lines = [(8.3, "mean, 95% interval"), (6.9, f"over {count} prompts")]
    axes.plot([0.1, 1.3], [5.1, 5.1], color=INK, linewidth=1.8)
    lines += [(5.1, "supported change (paired)")]
    axes.plot([0.1, 1.3], [3.4, 3.4], color=PALE, linewidth=1.8, linestyle=DOTS)
    # A change that some seeds support and others don't is dotted too.
    disputed = any(len(set(verdicts)) > 1 for verdicts in table["verdicts"])
    lines += [(3.4, "not by every seed" if disputed else "inconclusive")]
    y = 1.7
    fewest, most = table["seeds"].map(len).min(), table["seeds"].map(len).max()
    if most > 1:
        axes.plot(0.7, y, "o", color=INK, markersize=4)
        count = f"{most}" if fewest == most else f"{fewest} to {most}"
        lines, y = [*lines, (y, f"each of {count} seeds")], y - 1.7
    if table["copied"].any():
        axes.plot(0.7, y, "o", color=INK, markersize=7.5, mfc="white", clip_on=False)
        lines += [(y, "copied from its parent")]
    for y, text in lines:
        axes.text(1.7, y, text, size=11.5, color=INK, va="center")


def _draw_log(
    axes: Axes, log: Sequence[Mapping[str, Any]], names: Sequence[str], unit: str, colour: str
) -> None:
    """One panel of a log: each name raw (thin) and smoothed (thick), labelled at its end."""
    from matplotlib.ticker import MaxNLocator

    line_count = 0
    for name, shade in zip(names, (colour, "#6b6b6b"), strict=False):
        steps, values = _series(log, name)
        if not len(steps):
            continue
        line_count += 1
        width = max(1, len(values) // 10)
        thick, at = running_mean(values, width), running_mean(steps, width)
        axes.plot(steps, values, color=shade, linewidth=1, alpha=0.35)
        held_out = name.startswith("eval_")  # few points, near the other line: named at its start
        axes.plot(at, thick, "o--" if held_out else "-", color=shade, linewidth=2.5)
        end, offset = (0, (0, 9)) if held_out else (-1, (8, 0))
        axes.annotate(
            _LINE_LABELS.get(name, ""),
            (at[end], thick[end]),
            xytext=offset,
            textcoords="offset points",
            va="bottom" if held_out else "center",
            color=shade,
            size=12,
            weight="bold",
        )
    if not line_count:  # the name is there, and every value is NaN
        axes.text(0.5, 0.5, "no numbers", transform=axes.transAxes, ha="center", color="#777777")
        axes.set(xticks=[], yticks=[])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if unit.endswith("share"):
        axes.set_ylim(-0.03, 1.03)
    axes.set_title(unit, loc="left", size=13, color=INK)
    axes.tick_params(labelsize=11, colors="#555555")
    strip(axes)


def _training_title(log: Sequence[Mapping[str, Any]], stage: str, kind: str) -> str:
    """From where to where: means of the first and the last tenth of the log."""
    phrases = []
    for name, words, form, unit in _TITLES[kind]:
        values = _series(log, name)[1]
        if not len(values):
            continue
        part = max(1, len(values) // 10)
        old, new = (form.format(values[s].mean()) for s in (slice(part), slice(-part, None)))
        moved = f"stayed at {new}" if old == new else f"{old} \N{RIGHTWARDS ARROW} {new}"
        phrases.append(f"{words} {moved}{unit}".replace("-", "\N{MINUS SIGN}"))
    last = int(max(entry.get("step", 0) for entry in log))
    return f"{stage_label(stage)}: {', '.join(phrases)} in {last} step{'s'[: last != 1]}"


def _series(log: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(e["step"], e[name]) for e in log if name in e and "step" in e and e[name] is not None]
    pairs = [(s, v) for s, v in pairs if math.isfinite(v)]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.asarray(steps, dtype=float), np.asarray(values, dtype=float)


def _value(value: float, metric: str) -> str:
    if is_share(metric):
        return f"{100 * value:.0f}%"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _wrapped(text: str, stage: str, chars: int) -> list[tuple[str, str]]:
    lines = textwrap.wrap(text, chars)
    return [(stage if i == 0 else "", line) for i, line in enumerate(lines)]


def _colour(stage: str) -> str:
    return STAGE_COLOURS.get(stage, INK)
