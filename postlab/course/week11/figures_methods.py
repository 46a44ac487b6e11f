"""Week 11's figures of single methods: soups on their triangle, weights, multipliers, doses.

Each takes a frame and returns a closed figure; titles are computed from what is drawn. Left out:
any estimate. Values and intervals come with the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.week11.record import METHODS
from postlab.show import GREY, MANNER_COLOURS, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_soups(
    frame: pd.DataFrame, metrics: Sequence[str] = ("helpfulness", "safety", "honesty")
) -> Figure:
    """Draw a soup's metrics over its weights: a triangle a metric, a corner an adapter.

    Args:
        frame: rows with `helpful`, `safe`, `honest` (weights that add up to 1) and metrics in %.
        metrics: a panel each.
    """
    fig, places = panels(1, len(metrics), (10.5, 3.9))
    x = frame["safe"] + frame["honest"] / 2
    y = frame["honest"] * np.sqrt(3) / 2
    alone, most = np.isclose(frame[["helpful", "safe", "honest"]].max(axis=1), 1), []
    for panel, metric in zip(places, metrics, strict=True):
        panel.scatter(
            x, y, c=frame[metric], cmap="cividis", vmin=0, vmax=100, s=330, edgecolors="none"
        )
        for px, py, value in zip(x, y, frame[metric], strict=True):
            tint = "white" if value < 55 else "black"
            panel.annotate(f"{value:.0f}", (px, py), ha="center", va="center", size=8.5, color=tint)
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
        most.append(f"{metric} {frame.loc[alone, metric].max():.0f}%")
    least = frame[list(metrics)].min(axis=1)
    middle = frame.loc[least.idxmax()]
    shares_text = ", ".join(f"{m} {middle[m]:.0f}%" for m in metrics)
    return headline(
        fig,
        f"Alone adapters reach {', '.join(most)}; the soup whose worst is best has {shares_text}",
    )


def plot_weights(frame: pd.DataFrame) -> Figure:
    """Draw the metrics over the weight of safety and honesty, a panel a method.

    Args:
        frame: rows with `method`, `rung` (0, 1, ... along the ladder), `label`, `metric`, `value`,
            `low`, `high` in %.
    """
    methods = list(dict.fromkeys(frame["method"]))
    fig, places = panels(1, len(methods), (10.5, 4.1), sharey=True)
    phrases = []
    for panel, method in zip(places, methods, strict=True):
        rows = frame[frame["method"] == method]
        _draw_lines(panel, rows, over="rung")
        ticks = rows.drop_duplicates("rung")
        panel.set_xticks(ticks["rung"], ticks["label"], size=10.5)
        panel.set_xlabel("weight of safety and of honesty; helpfulness has 1", color=INK)
        panel.set_title(METHODS[method][2], loc="left", size=12.5, color=INK)
        table = rows.pivot(index="rung", columns="metric", values="value")
        both = table[["safety", "helpfulness"]].min(axis=1)
        at = both.idxmax()
        name = rows.loc[rows["rung"] == at, "label"].iloc[0]
        phrases.append(
            f"{METHODS[method][2]} at weight {name}: safety {table.loc[at, 'safety']:.0f}%,"
            f" helpfulness {table.loc[at, 'helpfulness']:.0f}%"
        )
    _share_axis(places)
    return headline(fig, "Best balance: " + "; ".join(phrases))


def plot_dual(frame: pd.DataFrame) -> Figure:
    """Draw multipliers and what they hold by step, a line a level, the level dotted.

    Args:
        frame: rows with `level` (%), `step`, `multiplier` and `measured` (%).
    """
    fig, places = panels(1, 2, (10.5, 3.9))
    levels = sorted(frame["level"].unique())
    phrases = []
    for number, level in enumerate(levels):
        rows = frame[frame["level"] == level]
        shade = 0.35 + 0.65 * number / max(1, len(levels) - 1)
        how: dict[str, Any] = {"color": STAGE_COLOURS["sft"], "alpha": shade, "linewidth": 2}
        places[0].plot(rows["step"], rows["multiplier"], **how)
        places[1].plot(rows["step"], rows["measured"], **how)
        places[1].axhline(level, color=GREY, linewidth=1, linestyle=":")
        places[0].annotate(
            f" level {level:.0f}%", (rows["step"].iloc[-1], rows["multiplier"].iloc[-1]), size=10.5,
            color=STAGE_COLOURS["sft"], va="center", annotation_clip=False,
        )  # fmt: skip
        places[1].annotate(
            f" level {level:.0f}%", (frame["step"].max(), level), (0, 6), size=9.5, color=GREY,
            textcoords="offset points", annotation_clip=False,
        )  # fmt: skip
        phrases.append(f"{rows['multiplier'].iloc[-1]:.1f} at level {level:.0f}%")
    places[0].set_title("multiplier of safety", loc="left", size=12.5, color=INK)
    places[1].set_title("safety on sampled answers, running mean, %", loc="left", size=12.5)
    for panel in places:
        panel.set_xlabel("step", color=INK)
        panel.set_xlim(0, 1.2 * frame["step"].max())
        panel.set_xticks(range(0, int(frame["step"].max()) + 1, 6))
    places[1].set_ylim(-3, 105)
    return headline(fig, f"Multiplier at the last step: {', '.join(phrases)}")


def plot_doses(frame: pd.DataFrame) -> Figure:
    """Draw the metrics over the dose of targeted training, a panel a start.

    Args:
        frame: rows with `start`, `dose` (steps, from 0), `metric`, `value`, `low`, `high` in %.
    """
    starts = list(dict.fromkeys(frame["start"]))
    fig, places = panels(1, len(starts), (10.5, 4.0), sharey=True)
    phrases = []
    for panel, start in zip(places, starts, strict=True):
        rows = frame[frame["start"] == start]
        _draw_lines(panel, rows, over="dose")
        panel.set_title(f"after {start}", loc="left", size=12.5, color=INK)
        panel.set_xlabel("dose: steps of GRPO on the safe judge", color=INK)
        ends = rows.sort_values("dose").groupby("metric")["value"].agg(["first", "last"])
        gain = ends["last"] - ends["first"]
        phrases.append(
            f"after {start} safety {gain['safety']:+.0f}, helpfulness {gain['helpfulness']:+.0f}"
        )
    _share_axis(places)
    return headline(fig, f"The whole dose, in points: {'; '.join(phrases)}")


def _draw_lines(panel: Axes, rows: pd.DataFrame, *, over: str) -> None:
    """Each metric over a column, with its interval."""
    for metric, line in rows.groupby("metric", sort=False):
        colour = MANNER_COLOURS[metric]
        panel.fill_between(line[over], line["low"], line["high"], color=colour, alpha=0.13)
        panel.plot(line[over], line["value"], "-o", color=colour, lw=2, ms=4.5, label=metric)


def _share_axis(places: Sequence[Axes]) -> None:
    """One scale on the left and one legend on the right of panels in a row."""
    places[0].set_ylabel("held-out prompts, %", color=INK)
    places[0].set_ylim(-3, 105)
    places[-1].legend(frameon=False, fontsize=10.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
