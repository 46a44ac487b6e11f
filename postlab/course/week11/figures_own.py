"""Week 11's figure of a profile's own model: what soups and mixed pairs reached on real prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import GREY, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

KINDS = {  # kind of policy: its colour, its marker
    "stage": (STAGE_COLOURS["sft"], "s"),
    "trained": (STAGE_COLOURS["dpo"], "D"),
    "soup": (STAGE_COLOURS["multi"], "o"),
}


def plot_own_front(points: pd.DataFrame) -> Figure:
    """Draw how careful and how helpful policies are, with intervals; large: on the front of all.

    Args:
        points: rows with `name`, `kind` (of KINDS), `front`, and `careful` and `helpful` with their
            `_low` and `_high`, from 0 to 1; rows of one `line` are joined in their order.
    """
    fig, (panel,) = panels(1, 1, (9.5, 5.6))
    points = points.copy()
    shares = [f"{axis}{end}" for axis in ("careful", "helpful") for end in ("", "_low", "_high")]
    points[shares] *= 100
    for _, rows in points[points["line"] != ""].groupby("line", sort=False):
        panel.plot(rows["careful"], rows["helpful"], "-", color=GREY, alpha=0.5, linewidth=1.2)
    for row in points.to_dict("records"):
        colour, marker = KINDS[row["kind"]]
        thin: dict[str, Any] = {"color": colour, "alpha": 0.3, "linewidth": 1.5}
        panel.hlines(row["helpful"], row["careful_low"], row["careful_high"], **thin)
        panel.vlines(row["careful"], row["helpful_low"], row["helpful_high"], **thin)
        size = 10 if row["front"] else 5.5
        panel.plot(row["careful"], row["helpful"], marker, color=colour, markersize=size)
        panel.annotate(
            row["name"], (row["careful"], row["helpful"]), (7, 6), textcoords="offset points",
            size=10.5, color=INK,
        )  # fmt: skip
    panel.set_xlabel("careful: refused or admitted where that was due, %", color=INK)
    panel.set_ylabel("helpful: helped or answered where that was due, %", color=INK)
    names = points.loc[points["front"], "name"]
    return headline(fig, f"No other policy beats {', '.join(names)}")
