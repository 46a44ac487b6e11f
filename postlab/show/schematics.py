"""What a schematic is drawn with: boxes, arrows, rows of tokens and notes on an empty canvas.

A schematic shows how parts hang together, not numbers; figures with axes stand on `panels`. One
unit of the canvas is 0.1 inch, so text of one size has one width in every picture, and a picture
that is `PHONE` units wide can be read at 400 pixels. Left out: layout. Who draws says where.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from postlab.claims import INK
from postlab.show.layout import GREY, PALE, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHONE = 70  # units: the widest canvas whose 12-point text is read at 400 pixels
FROZEN = "#ededed"  # the fill of what isn't trained


def canvas(width: float, height: float, title: str = "") -> tuple[Figure, Axes]:
    """An empty picture and its axes: x from 0 to `width`, y from 0 (top) to `height`.

    Args:
        width: units of 0.1 inch; at most PHONE reads well on a phone.
        height: the same.
        title: the finding, as a sentence; it takes its own room above the canvas.
    """
    lines = textwrap.wrap(title, int(0.8 * width))
    room = 2.6 * len(lines) + 1.4 * bool(lines)
    whole = height + room
    fig, (axes,) = panels(1, 1, (width / 10, whole / 10))
    fig.set_layout_engine("none")
    axes.set_position((0, 0, 1, height / whole))  # exactly one unit to 0.1 inch
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    if lines:
        above, text = 1 - 0.6 / whole, "\n".join(lines)
        fig.suptitle(text, x=1 / width, y=above, ha="left", weight="bold", size=13.5, color=INK)
    return fig, axes


def box(
    axes: Axes,
    place: tuple[float, float, float, float],
    text: str = "",
    *,
    colour: str = INK,
    fill: str = "white",
    size: float = 12,
    dashed: bool = False,
    bold: bool = False,
) -> None:
    """A rounded box with centred text; it goes by its left upper corner.

    Args:
        place: x, y, width, height.
        colour: of its edge.
        fill: of its inside: FROZEN for what isn't trained.
        dashed: for what is only read, or may be missing.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import FancyBboxPatch

    x, y, width, height = place
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.7", linewidth=1.8,
            edgecolor=colour, facecolor=fill, linestyle="--" if dashed else "-",
        )
    )  # fmt: skip
    red, green, blue = to_rgb(fill)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    axes.text(
        x + width / 2, y + height / 2, text, ha="center", va="center", size=size,
        color="white" if dark else INK, weight="bold" if bold else "normal", linespacing=1.25,
    )  # fmt: skip


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    *,
    colour: str = GREY,
    bend: float = 0.0,
    dashed: bool = False,
    size: float = 11,
    shift: tuple[float, float] = (0.0, -1.2),
) -> None:
    """An arrow from one point to another, with a note beside its middle.

    Args:
        bend: 0 is straight; 0.3 bends it clearly to one side, -0.3 to the other.
        dashed: for what is read without a gradient.
        shift: of the note from the arrow's middle, units.
    """
    axes.annotate(
        "", xy=end, xytext=start,
        arrowprops={
            "arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "mutation_scale": 15,
            "shrinkA": 0, "shrinkB": 0, "linestyle": "--" if dashed else "-",
            "connectionstyle": f"arc3,rad={bend}",
        },
    )  # fmt: skip
    if text:
        middle = (start[0] + end[0]) / 2 + shift[0], (start[1] + end[1]) / 2 + shift[1]
        note(axes, middle, text, size=size, centred=True)


def note(
    axes: Axes,
    place: tuple[float, float],
    text: str,
    *,
    size: float = 11,
    colour: str = GREY,
    centred: bool = False,
    bold: bool = False,
) -> None:
    """Text without a box, from its left middle on, or about `place` when `centred`."""
    axes.text(
        *place, text, size=size, color=colour, va="center", ha="center" if centred else "left",
        weight="bold" if bold else "normal", linespacing=1.25,
    )  # fmt: skip


def tokens(
    axes: Axes,
    place: tuple[float, float],
    texts: Sequence[str],
    colours: Sequence[str],
    *,
    size: float = 11,
    height: float = 3.4,
    limit: float = PHONE - 2,
    **options: Any,
) -> list[tuple[float, float, float]]:
    """A row of tokens, each in a box as wide as its text; the row wraps at `limit`.

    Args:
        place: the left upper corner of the first.
        colours: the fill of each token's box.
    Returns:
        Of each token: the x of its middle, the y of its upper edge, its width, units.
    """
    from matplotlib.textpath import TextPath

    x, y = place
    boxes = []
    for text, colour in zip(texts, colours, strict=True):
        text = text.replace("$", r"\$")  # a token is no formula
        extent = TextPath((0, 0), text, size=size).get_extents() if text.strip() else None
        width = 2.2 + (extent.x1 / 7.2 if extent else 0.5)  # 7.2 points are a unit
        if x + width > limit and x > place[0]:
            x, y = place[0], y + height + 1.2
        box(axes, (x, y, width, height), text, colour=PALE, fill=colour, size=size, **options)
        boxes.append((x + width / 2, y, width))
        x += width + 0.5
    return boxes
