"""Week 11's figures of all methods together: which is best where, at what cost, and hypervolumes.

Each takes frames and returns a closed figure; titles are computed from what is drawn. Left out: any
estimate. Values and intervals come with the frame.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from postlab.claims import INK
from postlab.course.week11.record import METHODS, METRIC_COLOURS
from postlab.show import GREY, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FOUR = ("safety", "helpfulness", "honesty", "facts")
MISSED = 5  # points below the level that was asked for


def plot_front(levels: pd.DataFrame, balanced: pd.DataFrame) -> Figure:
    """Draw which method is best where, by safety level, and what its most balanced policy costs.

    Args:
        levels: rows of `best_rows`: `method`, `level`, `held`, `value` (the worst of the other
            metrics), `low`, `high` in %, and `seeds`; without a value: a gap.
        balanced: a row for each method and reference: `method`, FOUR in %, `value` (the worst of
            them), `low`, `high`, `seeds`, and `cost`, in words. A method that isn't in METHODS is a
            reference and named as it is.
    """
    fig, (top, bottom) = panels(
        2, 1, (8.8, 8.8), gridspec_kw={"height_ratios": [1, 0.24 + 0.13 * len(balanced)]}
    )
    for method, rows in levels.dropna(subset="value").groupby("method", sort=False):
        colour, marker, label = METHODS[method]
        top.fill_between(rows["level"], rows["low"], rows["high"], color=colour, alpha=0.1)
        top.plot(rows["level"], rows["value"], "-", color=colour, lw=1.8)
        kept = rows["held"] >= rows["level"] - MISSED
        for part, face, order in ((rows[kept], colour, 3), (rows[~kept], "white", 4)):
            at = part["level"], part["value"]
            top.plot(*at, marker, color=colour, mfc=face, ms=8, zorder=order)
        top.plot([], [], marker, ls="-", color=colour, ms=8, label=label)
    references = balanced[~balanced["method"].isin(METHODS)]
    safest = references["safety"].max()  # its name goes below, as stars may stand side by side
    for row in references.itertuples():
        weakest = min(row.helpfulness, row.honesty, row.facts)
        top.plot(row.safety, weakest, "*", color=INK, ms=13)
        top.annotate(
            row.method, (row.safety, weakest), (8, -14) if row.safety == safest else (-8, 0),
            ha="right", va="center", size=10.5,
            textcoords="offset points", color=INK,
        )  # fmt: skip
    top.set_xlim(min(levels["level"].min(), references["safety"].min()) - 4, 101)
    top.set_ylim(-3, 103)
    top.set_xlabel("safety level asked for, %", color=INK)
    top.set_title(
        "Where: the weakest of helpfulness, honesty and facts, %", loc="left", size=12.5, color=INK
    )
    top.plot([], [], "o", color=GREY, mfc="white", ms=8, label=f"missed the level by over {MISSED}")
    top.legend(
        frameon=False, fontsize=10.5, ncols=3, loc="upper center", bbox_to_anchor=(0.46, -0.14)
    )
    names = [METHODS[m][2] if m in METHODS else m for m in balanced["method"]]
    for place, row in enumerate(balanced.to_dict("records")):
        bottom.hlines(place, row["low"], row["high"], color=GREY, lw=7, alpha=0.25)
        bottom.plot(row["seeds"], [place] * len(row["seeds"]), "|", color=INK, ms=13, mew=1.3)
        bottom.plot(row["value"], place + 0.33, "^", color=INK, ms=5)
        for metric in FOUR:
            bottom.plot(row[metric], place, "o", color=METRIC_COLOURS[metric], ms=8)
        bottom.annotate(row["cost"], (103, place), va="center", size=10.5, annotation_clip=False)
    for metric in FOUR:
        bottom.plot([], [], "o", color=METRIC_COLOURS[metric], ms=8, label=metric)
    bottom.plot([], [], "|", color=INK, ms=13, mew=1.3, label="weakest, by seed")
    bottom.plot([], [], "^", color=INK, ms=5, label="weakest, mean of seeds")
    bottom.hlines([], [], [], color=GREY, lw=7, alpha=0.25, label="its 95% interval")
    bottom.legend(
        frameon=False, fontsize=10.5, ncols=4, loc="upper center", bbox_to_anchor=(0.4, -0.09),
        columnspacing=1.2, handletextpad=0.2,
    )  # fmt: skip
    bottom.set_yticks(range(len(names)), names, size=11.5)
    bottom.set_ylim(len(names) - 0.5, -0.5)
    bottom.set_xlim(0, 101)
    bottom.grid(visible=False, axis="y")
    bottom.set_title(
        "At what cost: the most balanced policy of each, %", loc="left", size=12.5, color=INK
    )
    return headline(fig, _front_title(levels, balanced))


def _front_title(levels: pd.DataFrame, balanced: pd.DataFrame) -> str:
    """Who leads at some level on every seed, and how good the worst of four metrics gets."""
    leaders = []
    for level, rows in levels.dropna(subset="value").groupby("level"):
        by_seed = zip(*rows["seeds"], strict=True)
        first = {rows["method"].iloc[values.index(max(values))] for values in by_seed}
        if len(first) == 1:
            leaders.append(f"{METHODS[first.pop()][2]} at {level:.0f}%")
    who = "No method leads on every seed at any safety level"
    if leaders:
        who = f"First on every seed: {', '.join(leaders)}"
    ours = balanced[balanced["method"].isin(METHODS)]["value"]
    said = f"{who}. In balance, the weakest of four metrics is at {ours.min():.0f}"
    said += f"\N{EN DASH}{ours.max():.0f}%"
    others = balanced[~balanced["method"].isin(METHODS)].nlargest(1, "value")
    for row in others.itertuples():
        said += f"; for {row.method}, at {row.value:.0f}%"
    return said


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
    panel.set_xlabel("hypervolume, with 95% intervals over prompts; ticks are the seeds", color=INK)
    phrases = []
    for how, rows in frame.groupby("how", sort=False):
        by_seed = zip(*rows["seeds"], strict=True)
        first = Counter(rows["method"].iloc[values.index(max(values))] for values in by_seed)
        wins = [f"{METHODS[m][2].partition(',')[0]} on {n}" for m, n in first.most_common()]
        phrases.append(f"{how}, {' and '.join(wins)}")
    many = len(frame["seeds"].iloc[0])
    return headline(fig, f"Who comes first, out of {many} seeds: {'; '.join(phrases)}")
