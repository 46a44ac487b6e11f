"""Week 5's pictures: how UltraFeedback's pairs are made, and what DPO's loss is made of."""

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


def draw_ultrafeedback() -> Figure:
    """Draw how four rated replies become one pair: the best against a random one of the rest."""
    fig, axes = canvas(PHONE, 40, "UltraFeedback keeps two of four rated replies")
    dpo = STAGE_COLOURS["dpo"]
    box(axes, (10, 0.4, 50, 4), "prompt: How do I keep basil alive?", bold=True)
    replies = (
        ("gpt-4", "5 5 5 5", 8.5), ("vicuna-33b", "4 5 5 3", 7.0),
        ("alpaca-7b", "3 2 1 1", 3.0), ("pythia-12b", "1 1 3 1", 2.0),
    )  # fmt: skip
    for place, (model, ratings, overall) in enumerate(replies):
        x = 1 + 17.2 * place
        arrow(axes, (35, 4.4), (x + 8, 8.8))
        box(axes, (x, 8.8, 16, 4), model)
        arrow(axes, (x + 8, 12.8), (x + 8, 14.3))
        arrow(axes, (x + 8, 17.9), (x + 8, 19.4))
        box(axes, (x, 19.4, 16, 6.4), f"{ratings}\noverall {overall}")
    box(axes, (1, 14.3, 68, 3.6), "GPT-4 rates four aspects (1 to 5) and the whole (1 to 10)")
    arrow(axes, (9, 25.8), (9, 33.6))
    arrow(axes, (43.4, 25.8), (43.4, 33.6))
    note(axes, (11, 29.4), "the highest\noverall score")
    note(axes, (45.4, 29.4), "one of the other\nthree, at random")
    box(axes, (1, 33.6, 24, 5), "chosen", colour=dpo, bold=True)
    box(axes, (32, 33.6, 24, 5), "rejected", colour=dpo, bold=True)
    return fig
