"""Week 5's picture: the four log-probs that DPO's loss is made of, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import FROZEN, PHONE, arrow, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_loss() -> Figure:
    """Draw how two models read one pair: four log-probs, two gains, one margin, one loss."""
    fig, axes = canvas(PHONE, 48, "DPO compares two gains over the reference")
    dpo = STAGE_COLOURS["dpo"]
    note(axes, (1, 2.4), "two replies to $x$:", size=11)
    for x, reply in ((22, "chosen $y_c$"), (46, "rejected $y_r$")):
        box(axes, (x, 0.4, 20, 4), reply, bold=True)
        for y in (8, 15):
            arrow(axes, (x + 10, y - 1 if y == 15 else 4.4), (x + 10, y))
    for y, name, fill, edge in (
        (8, "policy\n(trained)", "white", dpo),
        (15, "reference\n(frozen)", FROZEN, "#222222"),
    ):
        box(axes, (1, y, 17, 6), name, colour=edge, fill=fill)
        for x, reply in ((22, "c"), (46, "r")):
            symbol = r"\pi" if y == 8 else r"\pi_{\mathrm{ref}}"
            box(axes, (x, y, 20, 6), rf"$\log\, {symbol}(y_{reply}\,|\,x)$", colour=edge, fill=fill)
    for x, reply in ((22, "chosen"), (46, "rejected")):
        arrow(axes, (x + 10, 21), (x + 10, 24))
        box(axes, (x, 24, 20, 6), f"gain of the\n{reply} reply")
        arrow(axes, (x + 10, 30), (44, 34))
    note(axes, (1, 27), "upper minus lower:", size=11)
    note(axes, (1, 36.5), "left minus right:", size=11)
    box(axes, (22, 34, 44, 5), r"margin = $\beta\;\times$ (gain of chosen $-$ gain of rejected)")
    arrow(axes, (44, 39), (44, 42))
    box(axes, (22, 42, 44, 5), r"loss = $-\log\,\sigma$(margin)", colour=dpo, bold=True)
    return fig
