"""Week 11's figures of all methods together: what each reached, and its hypervolume.

Each takes frames and returns a closed figure; titles are computed from what is drawn, or given.
Left out: any estimate. Values and intervals come with the frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postlab.claims import INK
from postlab.course.week11.record import METHODS
from postlab.show import GREY, PALE, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_front(points: pd.DataFrame, levels: pd.DataFrame, *, about: str) -> Figure:
    """Draw what each method reached, and what is left of helpfulness where safety is held.

    Args:
        points: rows with `method`, `safety`, `helpfulness` and, for those to draw as crosses, their
            `*_low` and `*_high`, all in %; `front` says which are on their method's front. A method
            that is not in METHODS is drawn as a star with its name.
        levels: rows with `method`, `held`, `value`, `low`, `high` in %, in the order in which more
            was asked for; without a value: a gap.
        about: the headline.
    """
    fig, (left, right) = panels(1, 2, (10.5, 5.2), gridspec_kw={"width_ratios": [1.25, 1]})
    for method, rows in points.groupby("method", sort=False):
        if method not in METHODS:
            _star(left, rows, str(method))
            continue
        colour, marker, _ = METHODS[method]
        left.plot(
            rows["safety"], rows["helpfulness"], marker, color=colour, alpha=0.35, markersize=5
        )
        best = rows[rows["front"]].sort_values("safety")
        _cross(left, best, colour)
        left.plot(best["safety"], best["helpfulness"], marker, color=colour, markersize=7.5)
        _stairs(left, best, colour)
    left.set_xlabel("safety: unsafe requests refused, %", color=INK)
    left.set_ylabel("helpfulness: safe how-to's answered well, %", color=INK)
    left.set_xlim(-3, 109)
    left.set_ylim(-3, 107)
    left.set_title("every policy; large: on its method's front", loc="left", size=12, color=INK)
    for method, rows in levels.groupby("method", sort=False):
        colour, marker, label = METHODS[method]
        right.fill_between(rows["held"], rows["low"], rows["high"], color=colour, alpha=0.12)
        right.plot(rows["held"], rows["value"], marker, ls="-", color=colour, label=label)
    right.set_xlabel("safety of those chosen, where they were not chosen, %", color=INK)
    right.set_title("best helpfulness left, %, with 95% bands", loc="left", size=12, color=INK)
    right.set_ylim(-3, 107)
    right.legend(frameon=False, loc="lower left", fontsize=10.5)
    return headline(fig, about)


def plot_volumes(frame: pd.DataFrame) -> Figure:
    """Draw each method's hypervolume, as measured and chosen elsewhere, with intervals.

    Args:
        frame: rows with `method`, `how` ('as measured' or 'chosen elsewhere'), `value`, `low`,
            `high`, and `seeds`, a value each.
    """
    methods = list(dict.fromkeys(frame["method"]))
    fig, (panel,) = panels(1, 1, (10, 1.6 + 0.55 * len(methods)))
    for place, method in enumerate(methods):
        rows = frame[frame["method"] == method].set_index("how")
        for how, shift, face in (("as measured", -0.17, "white"), ("chosen elsewhere", 0.17, None)):
            row, colour = rows.loc[how], METHODS[method][0]
            panel.hlines(place + shift, row["low"], row["high"], color=colour, lw=3, alpha=0.5)
            panel.plot(row["seeds"], [place + shift] * len(row["seeds"]), "|", color=colour, ms=9)
            panel.plot(
                row["value"], place + shift, "o", color=colour, markersize=8,
                markerfacecolor=face or colour,
            )  # fmt: skip
    for how, face in (("as measured", "white"), ("chosen elsewhere", GREY)):
        panel.plot([], [], "o", color=GREY, markerfacecolor=face, label=how)
    panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=10.5)
    panel.set_yticks(range(len(methods)), [METHODS[m][2] for m in methods], size=11.5)
    panel.set_ylim(len(methods) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel("share of the unit cube, with 95% intervals; a bar a seed", color=INK)
    table = frame.pivot(index="method", columns="how", values="value")
    phrases = []
    for how in ("as measured", "chosen elsewhere"):
        first = table[how].idxmax()
        phrases.append(f"{how} {METHODS[first][2]} ({table.loc[first, how]:.2f})")
    return headline(fig, f"Largest hypervolume: {', '.join(phrases)}")


def _stairs(panel: Axes, best: pd.DataFrame, colour: str) -> None:
    """The edge of what a front covers: down from each point to the height of the next."""
    x = [0.0, *best["safety"], best["safety"].iloc[-1]]
    y = [best["helpfulness"].iloc[0], *best["helpfulness"], 0.0]
    panel.step(x, y, where="pre", color=colour, linewidth=1.6, alpha=0.8)


def _cross(panel: Axes, rows: pd.DataFrame, colour: str) -> None:
    """The intervals of both metrics."""
    how: dict[str, Any] = {"color": colour, "alpha": 0.3, "linewidth": 1.5}
    panel.hlines(rows["helpfulness"], rows["safety_low"], rows["safety_high"], **how)
    panel.vlines(rows["safety"], rows["helpfulness_low"], rows["helpfulness_high"], **how)


def _star(panel: Axes, rows: pd.DataFrame, name: str) -> None:
    colour = PALE if name == "start" else INK
    panel.plot(rows["safety"], rows["helpfulness"], "*", color=colour, markersize=14, mec=INK)
    for row in rows.itertuples():
        panel.annotate(
            name, (row.safety, row.helpfulness), (0, 9 if name == "start" else -16), ha="center",
            textcoords="offset points", size=10.5, color=INK,
        )  # fmt: skip
