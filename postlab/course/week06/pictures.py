"""Week 6's pictures: which prompts tell two models apart, and what a table of runs holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import PHONE, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# An invented example: 1 is a good answer. Two prompts are lost and five are gained.
SFT = (1, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1)
DPO = (1, 1, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1)


def draw_pairs() -> Figure:
    """Draw 14 invented prompts answered by two models, and the few on which they differ."""
    gained = sum(after > before for before, after in zip(SFT, DPO, strict=True))
    lost = sum(after < before for before, after in zip(SFT, DPO, strict=True))
    fig, axes = canvas(PHONE, 26, "Only the prompts on which the two models differ tell them apart")
    for y, stage, answers in ((2, "sft", SFT), (8, "dpo", DPO)):
        note(axes, (1, y + 2), stage.upper(), size=12, bold=True, colour=STAGE_COLOURS[stage])
        for place, good in enumerate(answers):
            decides = SFT[place] != DPO[place]
            fill = STAGE_COLOURS[stage] if good and decides else "white"
            cell = (8 + 4.4 * place, y, 3.8, 4)
            box(axes, cell, "✓" if good else "✗", fill=fill, dashed=not decides)
    note(axes, (1, 14.5), "change", size=12)
    for place, (before, after) in enumerate(zip(SFT, DPO, strict=True)):
        if before != after:
            sign = "+1" if after > before else "\N{MINUS SIGN}1"
            note(axes, (9.9 + 4.4 * place, 14.5), sign, size=12, centred=True, bold=True)
        else:
            note(axes, (9.9 + 4.4 * place, 14.5), "0", size=12, centred=True)
    text = (
        f"An invented example: {gained} gained, {lost} lost, {len(SFT) - gained - lost} the same.\n"
        f"If the models were equally good, each of the {gained + lost} would be a fair coin flip."
    )
    note(axes, (1, 21.5), text, size=12, colour="#222222")
    return fig


# Invented changes: rows are runs, columns prompts. Column 1 is easy to gain, row 4 does worse.
CHANGES = ((1, 1, 0, 0, 1, 0), (1, 0, 1, 0, 1, 0), (1, 1, 0, 0, 0, 1), (1, 0, 0, -1, 0, 0))
GAINED_FILL, LOST_FILL = "#d5efe6", "#f6d9cc"


def draw_sources() -> Figure:
    """Draw a table of changes by run and prompt, and what its margins and its cells tell."""
    fig, axes = canvas(PHONE, 35, "Rows differ by the seed, columns by the prompt, cells by both")
    for place in range(len(CHANGES[0])):
        note(axes, (16.9 + 6.4 * place, 1.5), f"{place + 1}", size=12, centred=True)
    note(axes, (1, 1.5), "prompt", size=12)
    note(axes, (55, 1.5), "mean of the run", size=12)
    for row, changes in enumerate(CHANGES):
        y = 4 + 5 * row
        note(axes, (1, y + 2), f"run {row + 1}", size=12, bold=True, colour="#222222")
        for place, change in enumerate(changes):
            fill = GAINED_FILL if change > 0 else LOST_FILL if change < 0 else "white"
            box(axes, (14 + 6.4 * place, y, 5.8, 4), _signed(change), fill=fill)
        box(axes, (57, y, 9, 4), _signed(sum(changes) / len(changes)), bold=True)
    note(axes, (1, 26), "mean", size=12)
    for place, column in enumerate(zip(*CHANGES, strict=True)):
        mean = _signed(sum(column) / len(column))
        note(axes, (16.9 + 6.4 * place, 26), mean, size=11, centred=True, bold=True)
    text = (
        "Invented changes: +1 gained, \N{MINUS SIGN}1 lost. A run's mean holds the seed's\n"
        "effect, but also luck: which prompts this run happened to gain."
    )
    note(axes, (1, 32), text, size=12, colour="#222222")
    return fig


def _signed(value: float) -> str:
    """A number with its sign, and 0 without one."""
    text = f"{value:+.2f}".rstrip("0").rstrip(".") if value else "0"
    return text.replace("-", "\N{MINUS SIGN}")
