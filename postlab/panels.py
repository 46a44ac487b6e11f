"""What every figure of the course is put on: panels without a frame, and a headline.

Left out: what is drawn, and what the headline says. Figures are closed for pyplot as soon as they
are made: they show as a cell's result, and no global state is left behind.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.comparison import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE, GREY = "#b0b0b0", "#555555"
CHARS = 84  # of a headline's line, in a figure 9 or 10 inches wide


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


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of each `width` values in a row: `width` - 1 fewer than came in."""
    return np.convolve(values, np.ones(width) / width, mode="valid")
