"""The figures of the extra on pairs from the policy itself; titles are findings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import GREY, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOURCE_COLOURS = {"offline": "#94602a", "on-policy": "#005f73"}
LOWEST = -15.0  # nats; a reply that is less likely is drawn here


def plot_likelihoods(frame: pd.DataFrame) -> Figure:
    """Draw how likely the replies of two sources of pairs are under the policy, by family.

    Args:
        frame: rows with `family`, `source` ("offline" or "on-policy"), `side` ("chosen" or
            "rejected") and `logp`, the log-prob of the whole reply in nats. The title names the
            family whose median chosen replies are furthest apart.
    """
    families = list(dict.fromkeys(frame["family"]))
    medians = frame.groupby(["side", "family", "source"])["logp"].median()
    colours = SOURCE_COLOURS.items()
    fig, both = panels(1, 2, (10, 0.52 * len(families) + 1.7), sharey=True)
    for panel, side in zip(both, ("chosen", "rejected"), strict=True):
        for row, family in enumerate(families):
            rows = frame[(frame["side"] == side) & (frame["family"] == family)]
            for y, (source, colour) in zip((row - 0.17, row + 0.17), colours, strict=True):
                logps = rows.loc[rows["source"] == source, "logp"].clip(lower=LOWEST)
                median = max(LOWEST, medians[side, family, source])
                panel.plot(logps, [y] * len(logps), "|", color=colour, ms=7, alpha=0.45)
                panel.plot(median, y, "o", color=colour, ms=9,
                           label=f"{source} pairs" if row == 0 else None)  # fmt: skip
        panel.set_title(f"{side} replies", loc="left", size=12.5, color=INK)
        panel.set(xlim=(LOWEST - 0.6, 0.8), ylim=(len(families) - 0.5, -0.6))
        panel.grid(visible=False, axis="y")
        panel.set_xlabel("log-prob under the SFT policy, nats; dot: median", color=INK)
    counts = frame[frame["side"] == "chosen"].groupby("family").size() // 2
    labels = [f"{family} ({counts[family]})" for family in families]
    both[0].set_yticks(range(len(families)), labels, size=11.5)
    both[0].legend(frameon=False, fontsize=11, loc="lower left")
    chosen = medians["chosen"].unstack()
    family = (chosen["on-policy"] - chosen["offline"]).idxmax()
    once = {source: math.exp(-chosen.loc[family, source]) for source in SOURCE_COLOURS}
    return headline(
        fig,
        f"{family.capitalize()}: the policy would give the median chosen reply of the offline "
        f"pairs once in {once['offline']:.0f} samples, its own once in {once['on-policy']:.0f}",
    )


def plot_sources(frame: pd.DataFrame, title: str) -> Figure:
    """Draw held-out shares by source of the pairs, a panel per metric.

    Args:
        frame: rows with `metric`, `arm`, `seeds` (the share of every seed), `mean`, `low`, `high`
            (an interval over seeds) and `start` (the share before training).
        title: the finding.
    """
    metrics, arms = (list(dict.fromkeys(frame[name])) for name in ("metric", "arm"))
    fig, places = panels(2, -(-len(metrics) // 2), (10, 0.95 * len(arms) + 2.4), sharey=True)
    for panel in places[len(metrics) :]:
        panel.axis("off")
    for panel, metric in zip(places, metrics, strict=False):
        rows = frame[frame["metric"] == metric].set_index("arm")
        panel.axvline(rows["start"].iloc[0], color=GREY, linewidth=1.2, linestyle="--")
        for y, arm in enumerate(arms):
            colour = GREY if arm == "offline" else STAGE_COLOURS["dpo"]
            row = rows.loc[arm]
            panel.hlines(y, row["low"], row["high"], color=colour, linewidth=4, alpha=0.45)
            panel.plot(row["seeds"], [y] * len(row["seeds"]), "|", color=INK, ms=9, mew=1.2)
            panel.plot(row["mean"], y, "o", color=colour, ms=8)
            side = "right" if row["mean"] > 0.8 else "center"
            panel.annotate(f"{row['mean']:.0%}", (row["mean"], y), (0, 9), size=11, color=INK,
                           textcoords="offset points", ha=side)  # fmt: skip
        panel.set(xlim=(-0.05, 1.05), ylim=(len(arms) - 0.6, -0.75))
        panel.set_xticks([0, 0.5, 1], ["0", "50%", "100%"], size=11)
        panel.set_yticks(range(len(arms)), arms, size=11.5)
        panel.grid(visible=False, axis="y")
        panel.set_title(metric, loc="left", size=12.5, color=INK)
    return headline(fig, title)
