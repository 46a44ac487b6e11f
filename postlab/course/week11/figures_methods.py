"""Week 11's figures of single methods: soups on their triangle, weights, multipliers, doses.

Each takes a frame and returns a closed figure; titles are computed from what is drawn. Left out:
any estimate. Values and intervals come with the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.week11.record import LATE, METHODS, METRIC_COLOURS
from postlab.show import GREY, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARMS = {  # of constraint.json: the heading of its column, and how the title goes on
    "switch": ("divided advantages (the default)", "with divided advantages"),
    "dial": ("undivided, with a KL penalty", "without dividing"),
}
SETTLED = 5  # last steps in which a settled multiplier changes by at most a twentieth


def plot_soups(
    frame: pd.DataFrame, metrics: Sequence[str] = ("helpfulness", "safety", "honesty", "facts")
) -> Figure:
    """Draw a soup's metrics over its weights: a triangle a metric, a corner an adapter.

    Args:
        frame: rows with `helpful`, `safe`, `honest` (weights that add up to 1) and metrics in %.
        metrics: up to four, a panel each.
    """
    fig, places = panels(2, 2, (8.2, 7.2))
    x = frame["safe"] + frame["honest"] / 2
    y = frame["honest"] * np.sqrt(3) / 2
    for panel, metric in zip(places, metrics, strict=True):
        panel.scatter(
            x, y, c=frame[metric], cmap="cividis", vmin=0, vmax=100, s=420, edgecolors="none"
        )
        for px, py, value in zip(x, y, frame[metric], strict=True):
            tint = "white" if value < 55 else "black"
            panel.annotate(f"{value:.0f}", (px, py), ha="center", va="center", size=10, color=tint)
        for name, at, where in (
            ("helpful", (-0.02, -0.13), "left"),
            ("safe", (1.02, -0.13), "right"),
            ("honest", (0.5, 0.97), "center"),
        ):
            panel.annotate(name, at, ha=where, size=10.5, color=GREY)
        panel.set_title(f"{metric}, %", loc="left", size=12.5, color=INK)
        panel.set(xlim=(-0.12, 1.12), ylim=(-0.18, 1.06))
        panel.set_aspect("equal")
        panel.axis("off")
    middle = frame.loc[frame[list(metrics)].min(axis=1).idxmax(), list(metrics)]
    weakest = str(middle.astype(float).idxmin())
    return headline(
        fig,
        f"Every soup gives something up: even the most balanced of these {len(frame)} has"
        f" {weakest} at {middle[weakest]:.0f}%",
    )


def plot_weights(frame: pd.DataFrame) -> Figure:
    """Draw the metrics over the weight of safety and honesty, a panel a method.

    Args:
        frame: rows with `method`, `rung` (0, 1, ... along the ladder), `label`, `metric`, `value`,
            `low`, `high` in %.
    """
    methods = list(dict.fromkeys(frame["method"]))
    fig, places = panels(1, len(methods), (9.6, 3.4), sharey=True)
    phrases = []
    for panel, method in zip(places, methods, strict=True):
        rows = frame[frame["method"] == method]
        _draw_lines(panel, rows, over="rung")
        ticks = rows.drop_duplicates("rung")
        panel.set_xticks(ticks["rung"], ticks["label"], size=10.5)
        panel.set_xlabel("weight of safety and of honesty; helpfulness has 1", color=INK)
        panel.set_title(METHODS[method][2], loc="left", size=12.5, color=INK)
        table = rows.pivot(index="rung", columns="metric", values="value")
        honest = table[table["honesty"] >= 95]
        name = METHODS[method][2].partition(",")[0]
        if len(honest):
            phrases.append(f"{honest['facts'].iloc[0]:.0f}% with {name}")
    _share_axis(places)
    said = " and ".join(phrases)
    return headline(
        fig,
        f"Share of the facts answered where honesty first reaches 95%: {said}"
        if phrases
        else "Honesty reaches 95% at none of these weights",
    )


def plot_dual(frame: pd.DataFrame) -> Figure:
    """Draw multipliers by step, a line a run, and the safety that was asked for and reached.

    Args:
        frame: rows with `level` (%), `seed`, `step`, `multiplier` and `heldout` (%, of the run).
    """
    fig, (left, right) = panels(1, 2, (8.6, 3.6))
    colour, levels = STAGE_COLOURS["sft"], sorted(frame["level"].unique())
    ends, moving, shown = [], 0, {levels[0], levels[len(levels) // 2], levels[-1]}
    for (level, _), rows in frame.groupby(["level", "seed"]):
        rows = rows.sort_values("step")
        shade = 0.3 + 0.7 * levels.index(level) / max(1, len(levels) - 1)
        if level in shown:
            left.plot(rows["step"], rows["multiplier"], color=colour, alpha=shade, lw=1.8)
        ends.append((level, rows["heldout"].iloc[0]))
        last = rows["multiplier"].iloc[-SETTLED - 1 :]
        moving += abs(last.iloc[-1] / last.iloc[0] - 1) > 0.05
    for level in shown:
        rows = frame[(frame["level"] == level) & (frame["step"] == frame["step"].max())]
        left.annotate(
            f" {level:.0f}%", (rows["step"].iloc[0], rows["multiplier"].mean()), size=11,
            color=colour, va="center", annotation_clip=False,
        )  # fmt: skip
    left.set_title("multiplier of safety, by level; one line per seed", loc="left", size=12.5)
    left.set_xlabel("step", color=INK)
    left.set_xlim(0, 1.12 * frame["step"].max())
    right.plot([min(levels), 100], [min(levels), 100], ":", color=GREY)
    right.annotate("held exactly", (min(levels) + 9, min(levels) + 4), size=10.5, color=GREY)
    right.plot(*zip(*ends, strict=True), "D", color=colour, ms=7, alpha=0.6)
    right.set_title("safety reached on held-out prompts, %", loc="left", size=12.5)
    right.set_xlabel("level asked for, %; one mark per seed", color=INK)
    right.set_ylim(-3, 105)
    over = sum(reached > level + 5 for level, reached in ends)
    return headline(
        fig,
        f"{over} of {len(ends)} runs end more than 5 points above their safety level, and {moving}"
        " of the multipliers are still moving: this is overshoot",
    )


def plot_constraint(frame: pd.DataFrame, *, level: float) -> Figure:
    """Draw multipliers and the shares that they hold, by step: a column an arm, a line a seed.

    Args:
        frame: rows of `constraint_rows`: `arm` (of ARMS), `seed`, `step`, `metric`, `multiplier`
            and `share` in %.
        level: that was asked for, in %.
    """
    arms = [arm for arm in ARMS if arm in set(frame["arm"])]
    fig, places = panels(2, len(arms), (8.2, 4.5), sharex=True, sharey="row")
    averages = {}
    for column, arm in enumerate(arms):
        top, bottom = places[column], places[len(arms) + column]
        rows = frame[frame["arm"] == arm]
        for (metric, _), run in rows.groupby(["metric", "seed"], sort=False):
            colour = METRIC_COLOURS[metric]
            # Lines without soft edges: the picture takes up a third less in the notebook.
            top.plot(run["step"], run["multiplier"], color=colour, lw=1.1, antialiased=False)
            bottom.plot(run["step"], run["share"], color=colour, lw=1.1, antialiased=False)
        bottom.axhline(level, ls=":", color=INK, lw=1.3)
        top.set_title(ARMS[arm][0], loc="left", size=12.5, color=INK)
        bottom.set_xlabel("step", color=INK)
        late = rows[(rows["metric"] == "safety") & (rows["step"] > rows["step"].max() - LATE)]
        of_seed = late.groupby("seed")["share"].mean()
        averages[arm] = f"{of_seed.min():.0f} to {of_seed.max():.0f}%"
    places[0].set_ylabel("multiplier", color=INK)
    places[len(arms)].set_ylabel("share of training samples, %", color=INK)
    places[len(arms)].set_ylim(-3, 105)
    for metric in dict.fromkeys(frame["metric"]):
        places[len(arms) - 1].plot([], [], color=METRIC_COLOURS[metric], lw=1.8, label=metric)
    places[len(arms) - 1].plot([], [], ls=":", color=INK, lw=1.3, label="level")
    places[len(arms) - 1].legend(
        frameon=False, fontsize=10.5, loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    both = " and ".join(f"{averages[arm]} {ARMS[arm][1]}" for arm in arms)
    text = f"Asked for {level:.0f}%, safety averages {both} over the last {LATE} steps, by seed"
    return headline(fig, text)


def plot_doses(frame: pd.DataFrame) -> Figure:
    """Draw the metrics over the dose of targeted training, a panel a start.

    Args:
        frame: rows with `start`, `dose` (steps, from 0), `metric`, `value`, `low`, `high` in %.
    """
    starts = list(dict.fromkeys(frame["start"]))
    fig, places = panels(1, len(starts), (9.0, 3.4), sharey=True)
    phrases = []
    for panel, start in zip(places, starts, strict=True):
        rows = frame[frame["start"] == start]
        _draw_lines(panel, rows, over="dose")
        panel.set_title(f"after {start}", loc="left", size=12.5, color=INK)
        panel.set_xlabel("dose: steps of GRPO on the safe judge", color=INK)
        ends = rows.sort_values("dose").groupby("metric")["value"].agg(["first", "last"])
        gain = ends["last"] - ends["first"]
        phrases.append(
            f"after {start}, safety moves by {gain['safety']:+.0f} points, helpfulness by"
            f" {gain['helpfulness']:+.0f} and facts by {gain['facts']:+.0f}"
        )
    _share_axis(places)
    said = "; ".join(phrases).replace("-", "\N{MINUS SIGN}")
    return headline(fig, said[0].upper() + said[1:])


def _draw_lines(panel: Axes, rows: pd.DataFrame, *, over: str) -> None:
    """Each metric over a column, with its interval."""
    for metric, line in rows.groupby("metric", sort=False):
        colour = METRIC_COLOURS[metric]
        panel.fill_between(line[over], line["low"], line["high"], color=colour, alpha=0.13)
        panel.plot(line[over], line["value"], "-o", color=colour, lw=2, ms=4.5, label=metric)


def _share_axis(places: Sequence[Axes]) -> None:
    """One scale on the left and one legend on the right of panels in a row."""
    places[0].set_ylabel("held-out prompts, %", color=INK)
    places[0].set_ylim(-3, 105)
    places[-1].legend(frameon=False, fontsize=10.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
