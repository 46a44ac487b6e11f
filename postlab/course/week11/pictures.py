"""Week 11's picture: where several objectives can be combined, from data to weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLACES = (
    ("the data", "mixed pairs: each judge labels\na share of the pairs", "one run per mix"),
    ("the reward", "weights: one sum of\nall the judges' scores", "one run per weighting"),
    (
        "the goal",
        "constraints: a level for one,\nwith a multiplier that adapts",
        "one run per level",
    ),
    ("the prompt", "targeted RLHF: the judge\ndepends on the prompt", "one run"),
    ("the weights", "soups: average specialists\nafter training", "one run per judge, any mix"),
)


def draw_places() -> Figure:
    """Draw the places at which judges who disagree can be combined, with what a change costs."""
    multi = STAGE_COLOURS["multi"]
    fig, axes = canvas(
        PHONE, 44, "Disagreeing judges can be combined in five places, at five prices"
    )
    for x, head in ((8, "combined in"), (34, "how"), (60, "what it takes")):
        note(axes, (x, 1.6), head, size=12, centred=True)
    for row, (place, how, price) in enumerate(PLACES):
        y = 4 + 8 * row
        box(axes, (1, y, 14, 6.4), place, bold=True)
        arrow(axes, (15, y + 3.2), (19, y + 3.2))
        box(axes, (19, y, 30, 6.4), how, colour=multi, size=11.5)
        box(
            axes,
            (51, y, 18, 6.4),
            price.replace(" per ", "\nper ").replace(", any", ",\nany"),
            size=11,
            dashed=True,
        )
    return fig
