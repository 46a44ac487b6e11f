"""What every figure of the course is put on: panels without a frame, and a headline.

`draw_moves` and `draw_seeds` draw what several weeks show alike. Left out: what else is drawn, and
what the headline says. Figures are closed for pyplot as soon as they are made: they show as a
cell's result, and no global state is left behind.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from postlab.claims import INK, STAGE_COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE, GREY = "#b0b0b0", "#555555"  # of what stands behind, and of notes
CHARS = 84  # of a headline's line, in a figure 9 or 10 inches wide
MANNER_COLOURS = {  # what preferences move, and its colour wherever several are drawn together
    "safety": STAGE_COLOURS["sft"],
    "honesty": STAGE_COLOURS["cai"],
    "helpfulness": STAGE_COLOURS["dpo"],
    "over_refusal": STAGE_COLOURS["multi"],
}


Arguments = ParamSpec("Arguments")


def letter_for_letter(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Decorate a function whose figure has names in it: a `$` in a name begins no formula."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        from matplotlib import rc_context

        with rc_context({"text.parse_math": False}):
            return draw(*args, **kwargs)

    return drawn


def panels(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, list[Axes]]:
    """A closed figure and its panels, row by row.

    Args:
        size: width and height, inches; 100 pixels each.
        options: for `pyplot.subplots`, such as sharey.
    """
    from matplotlib import pyplot as plt

    fig, grid = plt.subplots(
        rows, columns, figsize=size, dpi=100, facecolor="white", layout="constrained",
        squeeze=False, **options,
    )  # fmt: skip
    for axes in grid.flat:
        strip(axes)
        axes.tick_params(labelsize=11, colors=GREY)
    plt.close(fig)
    return fig, list(grid.flat)


def headline(fig: Figure, text: str) -> Figure:
    """Write the finding above a figure, in lines that fit; returns the figure."""
    lines = textwrap.fill(re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text), CHARS)
    fig.suptitle(lines, x=0.01, ha="left", weight="bold", size=13.5, color=INK)
    return fig


def strip(axes: Axes) -> None:
    """Leave only what carries information: a light grid and the lower edge."""
    axes.grid(axis="y", color="#e6e6e6", linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE)


def draw_moves(panel: Axes, frame: pd.DataFrame, colours: dict[str, str], spread: float) -> None:
    """How far each arm moved each metric, a row an arm, with intervals and a legend.

    Args:
        frame: rows with `arm`, `metric` (of colours), `points`, `low`, `high`, against the start;
            with `seeds`, points each, a small stroke is drawn for every one.
        spread: between two metrics of one arm, in rows.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    for place, arm in enumerate(arms):
        rows = frame[frame["arm"] == arm].to_dict("records")
        for index, row in enumerate(rows):
            colour, label = colours[row["metric"]], row["metric"] if place == 0 else None
            at, seeds = place + spread * (index - (len(rows) - 1) / 2), row.get("seeds", [])
            panel.hlines(at, row["low"], row["high"], color=colour, linewidth=3, alpha=0.55)
            panel.plot(seeds, [at] * len(seeds), "|", color=colour, markersize=7)
            panel.plot(row["points"], at, "o", color=colour, markersize=7, label=label)
    panel.axvline(0, color=GREY, linewidth=1)
    panel.grid(visible=False, axis="y")
    panel.set_yticks(range(len(arms)), arms, size=11.5)
    panel.set_ylim(len(arms) - 0.45, -0.55)
    panel.set_xlabel("points on held-out prompts over the start, with 95% intervals", color=INK)
    panel.legend(
        frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, fontsize=11
    )


def draw_seeds(
    panel: Axes,
    runs: pd.DataFrame,
    name: str,
    *,
    colour: str,
    window: int = 1,
    alpha: float = 0.35,
    widths: tuple[float, float] = (1.2, 2.6),
    label: str | None = None,
) -> pd.Series:
    """A thin line over the steps for each seed and a thick one for their mean, which it returns.

    Args:
        runs: rows with `seed`, `step` and the column `name`.
        window: steps that a line is averaged over.
        alpha: of the thin lines.
        widths: of a thin line and of the thick one, points.
        label: of the thick line.
    """

    def smooth(values: pd.Series) -> pd.Series:
        return values.rolling(window, min_periods=1).mean() if window > 1 else values

    thin, thick = widths
    for _, run in runs.groupby("seed"):
        panel.plot(run["step"], smooth(run[name]), color=colour, alpha=alpha, linewidth=thin)
    mean = smooth(runs.groupby("step")[name].mean())
    panel.plot(mean.index, mean, color=colour, linewidth=thick, label=label)
    return mean


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of each `width` values in a row: `width` - 1 fewer than came in."""
    return np.convolve(values, np.ones(width) / width, mode="valid")
