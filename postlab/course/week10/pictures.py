"""Week 10's picture: one reward for the answer, or one for each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = ("12+30=52,", "52+15=57.", "#### 57")  # two mistakes that cancel out
ON_TRACK = (False, False, False)
WRONG, RIGHT = "#f6d9cc", "#d5efe6"


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
