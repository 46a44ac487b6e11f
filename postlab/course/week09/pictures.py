"""Week 9's picture: who writes, who judges and who learns in the two halves of the method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import FROZEN, PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_halves() -> Figure:
    """Draw the supervised half (criticise and revise) beside the preference half (compare)."""
    sft, cai = STAGE_COLOURS["sft"], STAGE_COLOURS["cai"]
    fig, axes = canvas(PHONE, 42, "People write the rules; a model writes the data")
    for x, head in ((17, "supervised half"), (53, "preference half")):
        note(axes, (x, 1.4), head, size=12, centred=True, bold=True, colour="#222222")
    # 1. The policy answers: one reply to criticise, or two to compare.
    for x, replies in ((1, "reply"), (37, "two replies")):
        box(axes, (x, 3.4, 14, 5), "policy", colour=sft)
        arrow(axes, (x + 14, 5.9), (x + 18, 5.9))
        box(axes, (x + 18, 3.4, 14, 5), replies, dashed=True)
        arrow(axes, (x + 25, 8.4), (x + 25, 12))
    # 2. A judge reads the replies by the rules.
    box(axes, (11, 12, 20, 5.5), "critic: does it\nbreak a rule?")
    box(axes, (49, 12, 20, 5.5), "labeller: which one\nkeeps the rules?")
    box(axes, (35.5, 12.2, 9, 5), "rules", fill=FROZEN, bold=True)
    arrow(axes, (35.5, 14.7), (31, 14.7), dashed=True)
    arrow(axes, (44.5, 14.7), (49, 14.7), dashed=True)
    # 3. What it says becomes training data.
    arrow(axes, (26, 17.5), (26, 21.5), "if so", shift=(-3.5, 0))
    box(axes, (11, 21.5, 20, 5), "revised reply", dashed=True)
    arrow(axes, (62, 17.5), (62, 21.5))
    box(axes, (49, 21.5, 20, 5), "chosen, rejected", dashed=True)
    # 4. Training: the second half starts where the first one ends.
    arrow(axes, (26, 26.5), (26, 30.5), "SFT", shift=(-3.5, 0))
    box(axes, (11, 30.5, 20, 5), "revised policy", colour=cai)
    arrow(axes, (62, 26.5), (62, 30.5), "DPO or RL", shift=(-6, 0))
    box(axes, (49, 30.5, 20, 5), "aligned policy", colour=cai, bold=True)
    arrow(axes, (31, 33), (49, 33), "the start")
    text = (
        "Dashed boxes are data. The critic and the labeller may be the policy\n"
        "itself, another model, or a server."
    )
    note(axes, (1, 39.2), text, size=11)
    return fig
