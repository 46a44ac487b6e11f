"""Week 2's pictures of ideas: an adapter beside its matrix, a block in NF4, and memory to add up.

Shapes and numbers are drawn from what the notebook hands over; nothing is typed in here. Left out:
proportions of the thin matrices, which would be hairlines; the numbers say how thin they are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK
from postlab.course.week02.figures import MEMORY_COLOURS, METHOD_COLOURS
from postlab.show import FROZEN, GREY, PALE, PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHARS = 54  # of a title, in a line as wide as a phone's picture
TRAINED = "#dbeaf6"  # the fill of what is trained: LoRA's blue, washed out
NAMES = {"optimizer": "Adam", "overhead": "rest"}


def draw_adapter(out_features: int, in_features: int, r: int) -> Figure:
    """Draw W + BA: the shapes, what is frozen, and what starts at zero.

    Args:
        out_features, in_features: of the frozen weight.
        r: rank.
    """
    frozen, trained = out_features * in_features, r * (out_features + in_features)
    title = f"At rank {r}, LoRA trains {trained:,} numbers beside {frozen:,} frozen ones"
    fig, axes = _titled(38, title)
    blue = METHOD_COLOURS["lora"]
    box(axes, (1, 12, 26, 15), f"W\n{out_features} × {in_features}", fill=FROZEN, size=14)
    note(axes, (14, 30), "frozen: no gradient,\nno Adam moments", centred=True)
    note(axes, (33, 19.5), r"$+\;\frac{\alpha}{r}$", size=17, colour=INK, centred=True)
    box(axes, (39, 12, 6, 15), f"B\n{out_features}\n×\n{r}", colour=blue, fill=TRAINED, size=12)
    box(axes, (47, 12, 22, 5), f"A   {r} × {in_features}", colour=blue, fill=TRAINED, size=12)
    note(axes, (58, 20.2), "trained, starts at random", colour=blue, centred=True)
    note(axes, (42, 30), "trained,\nstarts at zero", colour=blue, centred=True)
    note(axes, (1, 4), "x goes both ways; the two results are added:", colour=INK, size=12)
    note(axes, (1, 8), r"y  =  W x  +  $\frac{\alpha}{r}$ B (A x)", colour=INK, size=13)
    note(
        axes, (1, 36), "B = 0 at the start, so training begins exactly at the base model.",
        colour=INK, size=12,
    )  # fmt: skip
    return fig


def draw_nf4(weights: np.ndarray, codes: np.ndarray, codebook: np.ndarray) -> Figure:
    """Draw what NF4 stores for a block: its largest absolute value, and a code per weight.

    Args:
        weights: (block,) of one block.
        codes: (block,) positions in the codebook.
        codebook: (16,) ascending values in [-1, 1].
    """
    absmax = float(np.abs(weights).max())
    count = len(weights)
    fig, axes = _titled(52, f"NF4 stores {count} weights as {count} four-bit codes and one scale")
    shown, wide = slice(0, 5), 10.4
    rows = {
        "weights": [f"{w:.3f}" for w in weights[shown]],
        f"÷ {absmax:.3f}": [f"{w / absmax:.2f}".replace("-0.00", "0.00") for w in weights[shown]],
        "nearest level": [f"{codebook[c]:.2f}" for c in codes[shown]],
        "stored code": [f"{c:04b}" for c in codes[shown]],
    }
    for index, (name, texts) in enumerate(rows.items()):
        y, last = 1 + 5.6 * index, index == len(rows) - 1
        note(axes, (0.5, y + 1.9), name, colour=INK, size=11.5)
        for place, text in enumerate(texts):
            fill = TRAINED if last else "white"
            edge = METHOD_COLOURS["lora"] if last else PALE
            box(axes, (15.5 + wide * place, y, 9.4, 3.8), text, fill=fill, colour=edge, size=12)
        note(axes, (15.5 + wide * len(texts), y + 1.9), "…")
    note(
        axes, (0.5, 25), f"The scale, {absmax:.3f}, is the largest |weight| of the block; "
        "it is stored too.", colour=INK, size=11.5,
    )  # fmt: skip
    _levels(axes, weights[shown] / absmax, codes[shown], codebook)
    return fig


def _levels(axes: Any, scaled: np.ndarray, codes: np.ndarray, codebook: np.ndarray) -> None:
    """The levels under a normal curve, and where the first weights fall."""
    edge = 1 - (1 / 32 + 1 / 30) / 2
    reach = NormalDist().inv_cdf(edge)  # the outermost level, in standard deviations
    floor, tall, middle, half = 46.0, 15.0, 35.0, 32.0
    x = np.linspace(-1.06, 1.06, 200)
    axes.fill_between(
        middle + half * x, floor - tall * np.exp(-((x * reach) ** 2) / 2), floor,
        color=FROZEN, linewidth=0,
    )  # fmt: skip
    for code, level in enumerate(codebook):
        at = middle + half * level
        height = tall * np.exp(-((level * reach) ** 2) / 2)
        hit = code in codes
        colour = METHOD_COLOURS["lora"] if hit else GREY
        axes.plot([at, at], [floor, floor - height], color=colour, linewidth=3 if hit else 1.5)
    for value, code in zip(scaled, codes, strict=True):
        level = middle + half * codebook[code]
        arrow(axes, (middle + half * value, floor + 3.2), (level, floor + 0.3), colour=INK)
    for value in (-1, 0, 1):
        note(axes, (middle + half * value, 51), f"{value:g}".replace("-", "−"), centred=True)
    note(axes, (0.5, 29), "levels lie closer\nwhere weights are", size=11)


def draw_memory(
    parts: pd.DataFrame, title: str, *, cards: Sequence[tuple[str, float]] = ()
) -> Figure:
    """Draw memory as bars with their parts written under them, to be added up.

    Args:
        parts: a row per way of training; columns are parts, GiB.
        title: the finding; it has to say for which batch the activations are, or that they are
            left out.
        cards: (name, GiB) of devices, as lines across the bars.
    """
    rounded = parts.round(1)
    totals = rounded.sum(axis=1)
    wide = 64 / max(totals.max(), *(size for _, size in cards), 1e-9)
    fig, axes = _titled(6 + 13 * len(parts), title)
    for name, size in cards:
        note(axes, (1 + wide * size, 1.8), name, size=10.5, colour=INK, centred=True)
        for index in range(len(parts)):
            ends = [6.4 + 13 * index, 11.6 + 13 * index]
            axes.plot([1 + wide * size] * 2, ends, color=INK, linewidth=1.5, linestyle="--")
    for index, (way, row) in enumerate(rounded.iterrows()):
        y, x = 7 + 13 * index, 1.0
        note(axes, (1, y - 1.6), f"{way}: {totals[way]:.1f} GiB", bold=True, colour=INK, size=12.5)
        for part, size in row.items():
            if size > 0:
                axes.add_patch(_rectangle(x, y, wide * size, str(part)))
            x += wide * size
        sums = [f"{size:.1f} {NAMES.get(str(p), p)}" for p, size in row.items() if size > 0]
        half = 3 if len(sums) > 3 else len(sums)
        lines = [" + ".join(sums[:half]), " + ".join(sums[half:])]
        text = " +\n".join(filter(None, lines))
        note(axes, (1, y + 6.7 if len(sums) > 3 else y + 5.8), text, size=10.5)
    return fig


def _titled(height: float, title: str) -> tuple[Figure, Axes]:
    """A canvas as wide as a phone reads, its title broken into lines that fit."""
    fig, axes = canvas(PHONE, height, title)
    fig.suptitle(
        textwrap.fill(title, CHARS), x=0.01, ha="left", weight="bold", size=13.5, color=INK
    )
    return fig, axes


def _rectangle(x: float, y: float, width: float, part: str) -> Any:
    from matplotlib.patches import Rectangle

    colour = MEMORY_COLOURS.get(part, MEMORY_COLOURS["rest"])
    return Rectangle((x, y), width, 4, facecolor=colour, edgecolor="white", linewidth=1)
