"""Week 8's figures of the ablations: what each change did.

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


def plot_variants(frame: pd.DataFrame, questions: dict[str, str]) -> Figure:
    """Draw each arm's difference from its base, grouped by the question that it belongs to.

    Args:
        frame: as `paired_differences` returns it; where there's no interval, none is drawn.
        questions: {group: its question}, in their order.
    """
    fig, (panel,) = panels(1, 1, (10, 0.36 * (len(frame) + 1.6 * len(questions)) + 1.6))
    panel.axvline(0, color=GREY, linewidth=1)
    panel.grid(visible=False, axis="y")
    places, names, y = [], [], 0.0
    for group, question in questions.items():
        rows = frame[frame["group"] == group]
        panel.annotate(
            f"{question} (compared with {rows['base'].iloc[0]})", (0, y), (4, 0),
            xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            size=12, weight="bold", color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        for row in rows.to_dict("records"):
            y += 1
            places.append(y)
            names.append(row["arm"])
            colour = OUR_COLOUR if row["shown"] else GREY
            if row["low"] == row["low"]:  # not NaN
                panel.hlines(y, row["low"], row["high"], color=colour, linewidth=7, alpha=0.3)
            panel.plot(
                row["seeds"],
                [y] * len(row["seeds"]),
                "o",
                color="white",
                markeredgecolor=GREY,
                markersize=5,
            )
            panel.plot(row["points"], y, "o", color=colour, markersize=8)
            panel.annotate(
                f"{row['right']:.1f}%", (1, y), (4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", size=11, color=GREY,
            )  # fmt: skip
        y += 1.6
    panel.set_yticks(places, names, size=11.5)
    panel.set_ylim(y - 0.9, -0.7)
    panel.annotate(
        "right", (1, -0.1), (4, 0), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="center", size=11, color=GREY,
    )  # fmt: skip
    ends = [
        value for row in frame.itertuples() for value in (row.low, row.high, *row.seeds)
        if value == value  # not NaN
    ]  # fmt: skip
    panel.set_xlim(min(ends) - 1, max(ends) + 1)
    panel.set_xlabel(
        "difference in held-out accuracy, points; open circles: seeds; band: 95% interval",
        color=INK,
    )
    shown, seeds = frame.loc[frame["shown"], "arm"], frame["seeds"].map(len).max()
    verb = "makes" if len(shown) == 1 else "make"
    what = (
        f"None of {len(frame)} changes to GRPO makes a difference that {seeds} seeds can establish"
        if shown.empty
        else f"Of {len(frame)} changes to GRPO, {len(shown)} {verb} a difference that {seeds} "
        f"seeds can establish: {', '.join(shown)}"
    )
    low, high = frame["right"].min(), frame["right"].max()
    return headline(fig, f"{what}; all end with {low:.0f}% to {high:.0f}% of the sums right")
