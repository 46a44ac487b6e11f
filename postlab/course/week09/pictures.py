"""Week 9's pictures: the two halves of the method, and three ways from a labeller to a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import FROZEN, GREY, PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


def draw_routes() -> Figure:
    """Draw DPO, a preference model with GRPO, and GRPO on the labeller's own score."""
    cai = STAGE_COLOURS["cai"]
    fig, axes = canvas(PHONE, 38.5, "Three ways from an AI labeller to a policy")
    for y, head in (
        (1.6, "DPO: labels of old replies"),
        (12.4, "RLAIF: a model of the labels scores new replies"),
        (26.2, "Direct RLAIF: the labeller scores new replies"),
    ):
        note(axes, (1, y), head, size=12, bold=True, colour="#222222")
    # 1. DPO reads the pairs once.
    box(axes, (1, 3.6, 15, 5), "labelled\npairs", dashed=True)
    arrow(axes, (16, 6.1), (55, 6.1), "DPO")
    box(axes, (55, 3.6, 14, 5), "policy", colour=cai, bold=True)
    # 2. RLAIF: labels, preference model, RL with a loop of new replies.
    box(axes, (1, 14.4, 15, 5), "labelled\npairs", dashed=True)
    arrow(axes, (16, 16.9), (22, 16.9))
    box(axes, (22, 14.4, 17, 5), "preference\nmodel")
    arrow(axes, (39, 16.9), (55, 16.9), "scores, GRPO")
    box(axes, (55, 14.4, 14, 5), "policy", colour=cai, bold=True)
    _loop(axes, 30.5, 62, 19.4)
    # 3. Direct: no labels are stored, and the labeller answers at every step.
    box(axes, (22, 28.2, 17, 5), "labeller\nwith rules")
    arrow(axes, (39, 30.7), (55, 30.7), "scores, GRPO")
    box(axes, (55, 28.2, 14, 5), "policy", colour=cai, bold=True)
    _loop(axes, 30.5, 62, 33.2)
    return fig


def _loop(axes: Axes, left: float, right: float, top: float) -> None:
    """New replies, from under the policy back to under what scores them."""
    low = top + 2.8
    axes.plot([right, right], [top, low], color=GREY, linewidth=1.8)
    axes.plot([right, left], [low, low], color=GREY, linewidth=1.8)
    arrow(axes, (left, low), (left, top))
    note(axes, ((left + right) / 2, low - 1.3), "new replies, every step", centred=True)
