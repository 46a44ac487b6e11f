"""Week 8's figures of the ablations: what each change did, and zero-variance groups by size.

Each takes a frame and returns a closed figure; titles are computed from what is drawn. Left out:
any estimate. Values and intervals come with the frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import GREY, PALE, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OUR_COLOUR = STAGE_COLOURS["grpo"]


def plot_ablations(frame: pd.DataFrame) -> Figure:
    """Draw each arm's difference from the arm it is compared with: every seed, and the interval.

    Args:
        frame: a row per arm, with `arm`, `base`, `seeds` (a difference per seed, in points), their
            mean `points`, its interval `low` and `high`, and `shown`: whether it differs from 0
            after the correction for many comparisons.
    """
    fig, (panel,) = panels(1, 1, (10, 0.36 * len(frame) + 1.4))
    panel.axvline(0, color=GREY, linewidth=1)
    for y, row in enumerate(frame.itertuples()):
        colour = OUR_COLOUR if row.shown else GREY
        panel.hlines(y, row.low, row.high, color=colour, linewidth=7, alpha=0.3)
        panel.plot(row.seeds, [y] * len(row.seeds), "o", color=PALE, markersize=5)
        panel.plot(row.points, y, "o", color=colour, markersize=8)
    panel.set_yticks(
        range(len(frame)), [f"{row.arm} vs. {row.base}" for row in frame.itertuples()], size=11.5
    )
    panel.set_ylim(len(frame) - 0.5, -0.5)
    ends = [value for row in frame.itertuples() for value in (row.low, row.high, *row.seeds)]
    panel.set_xlim(min(ends) - 2, max(ends) + 2)
    panel.set_xlabel(
        "difference in held-out accuracy, points; pale: each seed; band: 95% interval", color=INK
    )
    shown = [row.arm for row in frame.itertuples() if row.shown]
    names, verb = ", ".join(shown) or "none", "makes" if len(shown) == 1 else "make"
    return headline(
        fig, f"Of {len(frame)} changes, {len(shown)} {verb} a significant difference: {names}"
    )


def plot_groups(frame: pd.DataFrame) -> Figure:
    """Draw the share of zero-variance groups by size: measured, and for equally hard prompts.

    Args:
        frame: a row per size, with `size`, `measured`, its interval `low` and `high`, and `alike`
            (one chance of being right for all prompts of a batch), shares.
    """
    fig, (panel,) = panels(1, 1, (9, 3.2))
    places = list(range(len(frame)))
    panel.fill_between(
        places, frame["low"], frame["high"], color=OUR_COLOUR, alpha=0.2, linewidth=0
    )
    panel.plot(places, frame["measured"], "-o", color=OUR_COLOUR, linewidth=2.4)
    panel.plot(places, frame["alike"], "--o", color=GREY)
    for name, colour, label in (
        ("measured", OUR_COLOUR, "in the runs"),
        ("alike", GREY, "equally hard prompts"),
    ):
        panel.annotate(
            label, (places[-1], frame[name].iloc[-1]), (8, -4), textcoords="offset points",
            color=colour, size=12,
        )  # fmt: skip
    panel.set_xticks(places, [str(size) for size in frame["size"]])
    panel.set_xlim(-0.2, places[-1] + 0.9)
    panel.set_ylim(0, 1.02)
    panel.set(xlabel="answers per group", ylabel="zero-variance groups")
    first, last = frame.iloc[0], frame.iloc[-1]
    return headline(
        fig,
        f"{first['measured']:.0%} of the groups of {first['size']:.0f} have zero variance, and "
        f"{last['measured']:.0%} of those of {last['size']:.0f} (equally hard prompts: "
        f"{last['alike']:.0%})",
    )
