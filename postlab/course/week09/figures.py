"""Week 9's figures: what the two halves moved, what noise and rules do, and the bill.

`moved` reads runs of data/results/week09/cai.json; the others take its frame and return a closed
figure; titles are computed from what is drawn. Left out: the spread between seeds,
beyond a stroke per seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.recorded import numbers
from postlab.show import GREY, MANNER_COLOURS, draw_moves, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SPREAD = 0.17  # between two metrics of one arm, in rows
NAME_GAP = 6.5  # between the names of two curves at least, percent


def moved(
    runs: Iterable[Mapping[str, Any]],
    start: Mapping[str, Sequence[float]],
    metrics: Sequence[str] = tuple(MANNER_COLOURS),
) -> pd.DataFrame:
    """How far each arm moved each metric from its start, in points, on the same held-out prompts.

    Args:
        runs: with `arm` and `metrics`, a list of numbers per metric; several of an arm are its
            seeds, which are averaged a prompt before prompts are resampled.
        start: the same of the start.
        metrics: which to look at.
    Returns:
        A row per arm and metric: arm, metric, start; value with `value_low` and `value_high`;
        points (the change) with `low` and `high`; seeds (points each).
    """
    import pandas as pd

    from postlab.stats import bootstrap_interval

    by_arm: dict[str, list[Mapping[str, Sequence[float]]]] = {}
    for run in runs:
        by_arm.setdefault(run["arm"], []).append(run["metrics"])
    rows = []
    for arm, seeds in by_arm.items():
        for name in metrics:
            before = 100 * numbers(start[name])
            after = 100 * np.array([numbers(seed[name]) for seed in seeds])
            change = bootstrap_interval(after.mean(axis=0) - before)
            level = bootstrap_interval(after.mean(axis=0))
            row = {"arm": arm, "metric": name, "value": after.mean(), "start": before.mean()}
            row |= {"value_low": level.low, "value_high": level.high}
            row |= {"points": change.value, "low": change.low, "high": change.high}
            rows.append(row | {"seeds": [float(s.mean() - before.mean()) for s in after]})
    return pd.DataFrame(rows)


def plot_moves(frame: pd.DataFrame, title: str) -> Figure:
    """Draw how far each arm moved each metric, with intervals and a small stroke per seed.

    Args:
        frame: of `moved`.
        title: the finding; an arm's name in braces stands for its change in safety, in points.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    fig, (panel,) = panels(1, 1, (10, 1.5 + 0.66 * len(arms)))
    draw_moves(panel, frame, MANNER_COLOURS, SPREAD)
    safety = frame[frame["metric"] == "safety"].set_index("arm")["points"]
    return headline(fig, title.format_map({arm: f"{safety[arm]:+.0f}" for arm in arms}))


def plot_noise(frame: pd.DataFrame) -> Figure:
    """Draw each metric over the share of flipped labels, with its interval over prompts.

    Args:
        frame: of `moved`, with a column `noise` (0 to 1).
    """
    fig, (panel,) = panels(1, 1, (9.5, 4.2))
    ends = {}
    for name, rows in frame.groupby("metric", sort=False):
        rows, colour = rows.sort_values("noise"), MANNER_COLOURS[name]
        x = 100 * rows["noise"]
        start = rows["start"].iloc[0]
        panel.fill_between(x, rows["value_low"], rows["value_high"], color=colour, alpha=0.15)
        panel.plot(x, rows["value"], "o-", color=colour, linewidth=2.2)
        panel.axhline(start, color=colour, linewidth=1, linestyle=":")
        ends[name] = (rows["value"].iloc[0], rows["value"].iloc[-1], x.iloc[-1])
    lowest = -np.inf  # of the next name, so that no two overlap
    for name, (_, value, at) in sorted(ends.items(), key=lambda item: item[1][1]):
        lowest = max(value, lowest) + NAME_GAP
        panel.annotate(
            f" {name}", (at, lowest - NAME_GAP), color=MANNER_COLOURS[name], va="center", size=11.5
        )
    panel.set_xlim(-1, 100 * frame["noise"].max() + 9)
    panel.set_ylim(-4, 104)
    panel.set_xlabel("wrong labels, %", color=INK)
    panel.set_ylabel("held-out prompts, %  (dotted: before DPO)", color=INK)
    name = next(iter(ends))
    first, last, most = ends[name]
    return headline(
        fig,
        f"{name.capitalize()} is {first:.0f}% with clean labels"
        f" and {last:.0f}% if {most:.0f}% of them are wrong",
    )


def plot_bill(frame: pd.DataFrame) -> Figure:
    """Draw the points of safety that a labeller brought over its whole bill, with intervals.

    Args:
        frame: rows with `labeller`, `dollars` (everything billed), `points`, `low`, `high`; the
            title compares the dearest and the cheapest per point.
    """
    fig, (panel,) = panels(1, 1, (9.5, 4.2))
    for number, row in enumerate(frame.sort_values("dollars").to_dict("records")):
        place, colour = row["dollars"], STAGE_COLOURS["cai"]
        panel.vlines(place, row["low"], row["high"], color=colour, alpha=0.5, lw=3)
        panel.plot(place, row["points"], "o", color=colour, markersize=8)
        price = row["dollars"] / row["points"]
        text = f"{row['labeller']}\n\\${price:,.0f} per point"
        panel.annotate(
            text, (place, row["points"]), (9, 16 * (number % 3 - 1)), textcoords="offset points",
            va="center", size=11, color=INK, linespacing=1.15,
        )  # fmt: skip
    panel.set_xscale("log")
    panel.set_xlim(frame["dollars"].min() / 1.5, frame["dollars"].max() * 5)
    panel.xaxis.set_major_formatter("\\${x:,.0f}")
    panel.xaxis.set_minor_formatter("")
    panel.axhline(0, color=GREY, linewidth=1)
    panel.set_xlabel("the whole bill, dollars", color=INK)
    panel.set_ylabel("points of safety gained", color=INK)
    prices = (frame["dollars"] / frame["points"]).set_axis(frame["labeller"])
    return headline(
        fig,
        f"A point of safety costs \\${prices.min():,.0f} from {prices.idxmin()},"
        f" \\${prices.max():,.0f} from {prices.idxmax()}",
    )
