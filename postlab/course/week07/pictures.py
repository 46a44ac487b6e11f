"""Week 7's picture: groups of answers to two prompts, their rewards and advantages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from postlab.claims import STAGE_COLOURS
from postlab.show import PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALE_GREEN, PALE_RED = "#d5efe6", "#f6d9cc"
ANSWERS = {"What is 12+30?": ("42", "41", "42", "52"), "What is 5+4?": ("9", "9", "9", "9")}
RIGHT = {"What is 12+30?": "42", "What is 5+4?": "9"}


def draw_groups() -> Figure:
    """Draw two groups of four answers: one whose rewards differ, and one that teaches nothing."""
    fig, axes = canvas(
        PHONE, 43.5, "An answer is compared with its own group, so equal rewards teach nothing"
    )
    for x, head in ((24.5, "answers"), (42.5, "reward"), (58, "advantage")):
        note(axes, (x, 1.6), head, size=12, centred=True)
    for top, (prompt, answers) in zip((4, 24), ANSWERS.items(), strict=True):
        rewards = np.array([answer == RIGHT[prompt] for answer in answers], dtype=float)
        spread = rewards.std(ddof=1)
        advantages = (rewards - rewards.mean()) / (spread + 1e-4)
        box(axes, (1, top + 5, 14, 6), prompt.replace(" is ", " is\n"))
        for place, answer in enumerate(answers):
            y = top + 4.2 * place
            arrow(axes, (15, top + 8), (19, y + 1.8), colour="#b0b0b0")
            box(axes, (19, y, 11, 3.6), answer, colour=STAGE_COLOURS["grpo"])
            arrow(axes, (30, y + 1.8), (38, y + 1.8))
            box(axes, (38, y, 9, 3.6), f"{rewards[place]:.0f}")
            arrow(axes, (47, y + 1.8), (53, y + 1.8))
            value = advantages[place]
            fill = PALE_GREEN if value > 0 else PALE_RED if value < 0 else "white"
            text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") if value else "0"
            box(axes, (53, y, 10, 3.6), text, fill=fill, bold=value != 0)
        low = top + 17.6
        mean = f"mean {rewards.mean():.1f}, standard deviation {spread:.2f}"
        note(axes, (42.5, low), mean, size=11, centred=True)
    return fig
