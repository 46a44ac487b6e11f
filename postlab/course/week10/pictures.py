"""Week 10's pictures: a reward for the answer or for each step, and the credit that steps get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure


STEPS = ("12+30=52,", "52+15=57.", "#### 57")  # two mistakes that cancel out
ON_TRACK = (False, False, False)
WRONG, RIGHT = "#f6d9cc", "#d5efe6"
SLIP = ("12+30=42,", "42+15=67.", "#### 67")  # one mistake, and it goes on rightly from there
CREDIT = {  # the group's other solution is right: its three steps score 1
    "outcome": (-0.71, -0.71, -0.71),
    "to go": (-1.22, -1.63, 0.41),
    "lowest to go": (-0.71, -0.71, 0.71),
    "own step": (0.41, -2.04, 0.41),
}


def draw_rewards() -> Figure:
    """Draw a solution whose mistakes cancel out, read by an outcome and by a process reward."""
    prm = STAGE_COLOURS["prm"]
    fig, axes = canvas(PHONE, 33, "Only step labels catch two mistakes that cancel out")
    note(axes, (1, 1.8), "What is 12+30+15?", size=12, colour="#222222")
    for place, (step, good) in enumerate(zip(STEPS, ON_TRACK, strict=True)):
        x = 16 + 18 * place
        box(axes, (x, 4, 16, 5), step)
        arrow(axes, (x + 8, 9), (x + 8, 12.5))
        box(axes, (x, 12.5, 16, 5), "right" if good else "wrong", fill=RIGHT if good else WRONG)
        arrow(axes, (x + 8, 17.5), (42 + 3 * (place - 1), 21))
    note(axes, (1, 6.5), "solution", size=12)
    note(axes, (1, 15), "process:\neach step", size=12)
    box(axes, (24, 21, 36, 4.5), "one score: the minimum, or the product", colour=prm)
    note(axes, (1, 30), "outcome:\nthe end", size=12)
    box(axes, (24, 27.8, 36, 4.5), "57 is the sum, so the reward is 1", fill=RIGHT)
    return fig


def draw_credit() -> Figure:
    """Draw the advantages that three steps of a solution get under four forms of credit."""
    fig, axes = canvas(
        PHONE, 34, "Summing to the end also punishes the right step before the mistake"
    )
    note(axes, (1, 3), "solution", size=12)
    note(axes, (1, 9), "scores", size=12)
    for place, (step, score) in enumerate(zip(SLIP, (1, 0, 1), strict=True)):
        box(axes, (17 + 18 * place, 1, 16, 4), step)
        fill = RIGHT if score else WRONG
        box(axes, (17 + 18 * place, 7, 16, 4), str(score), fill=fill)
    for row, (name, values) in enumerate(CREDIT.items()):
        y = 14.2 + 5 * row
        note(axes, (1, y + 2), name, size=12)
        for place, value in enumerate(values):
            fill = RIGHT if value > 0 else WRONG
            text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
            box(axes, (17 + 18 * place, y, 16, 4), text, fill=fill)
    return fig
