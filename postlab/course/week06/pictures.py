"""Week 6's picture: which prompts of a paired comparison say anything about the difference."""

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
