"""Week 1's figures: which tokens are trained, what surprises a model, and three runs compared.

Each function takes the numbers to draw and returns a closed figure whose title is computed from
them. Nothing is estimated here: values and intervals come with the frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS, stage_label
from postlab.show import PALE, headline, panels, running_mean

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Only the first of these runs is a stage of the course, a small SFT; the others get other colours.
RUN_COLOURS = STAGE_COLOURS | {
    "reply": STAGE_COLOURS["sft"],
    "prompt too": "#882255",
    "no end of turn": "#999933",
}


def plot_trained_share(frame: pd.DataFrame) -> Figure:
    """Draw how many tokens of a row are only read and how many are trained, one bar per family.

    Args:
        frame: index family; columns `read` and `trained`, mean tokens per row.
    """
    frame = frame.sort_values("trained", ascending=False)
    fig, (axes,) = panels(1, 1, (9, 1.2 + 0.36 * len(frame)))
    axes.barh(frame.index, frame["read"], color=PALE)
    axes.barh(frame.index, frame["trained"], left=frame["read"], color=STAGE_COLOURS["sft"])
    share = frame["trained"] / frame.sum(axis=1)
    for place, (total, part) in enumerate(zip(frame.sum(axis=1), share, strict=True)):
        axes.text(total + 0.5, place, f"{part:.0%}", va="center", color=INK)
    axes.invert_yaxis()
    axes.set_title("tokens per row: read only (grey) and trained (blue)", **_SMALL)
    return headline(
        fig,
        f"Between {share.min():.0%} ({share.idxmin()}) and {share.max():.0%} ({share.idxmax()}) "
        "of a row's tokens are trained",
    )


def plot_surprise(tokens: Sequence[str], surprise: Mapping[str, Sequence[float]]) -> Figure:
    """Draw how much each token of one reply surprises two models.

    Args:
        tokens: of the reply, as text.
        surprise: model name to -log p of each token, nats.
    """
    fig, (axes,) = panels(1, 1, (9, 3.8))
    width = 0.8 / len(surprise)
    for place, (name, values) in enumerate(surprise.items()):
        x = np.arange(len(tokens)) + (place - (len(surprise) - 1) / 2) * width
        axes.bar(x, values, width, color=RUN_COLOURS[name], label=stage_label(name))
    axes.set_xticks(range(len(tokens)), tokens, rotation=35, ha="right", size=11.5, color=INK)
    axes.set_title("surprise of each token, \N{MINUS SIGN}log p in nats", **_SMALL)
    axes.legend(frameon=False, fontsize=12)
    (before, high), (after, low) = surprise.items()
    first, second = sorted(np.argsort(high)[-2:])
    share = (high[first] + high[second]) / sum(high)
    return headline(
        fig,
        f"{tokens[first]!r} and {tokens[second]!r} make up {share:.0%} of the "
        f"{stage_label(before)}'s {sum(high):.1f} nats; {stage_label(after)} has {sum(low):.2f}",
    )


def plot_falling(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the training loss of several runs, each on the tokens it trains.

    Args:
        losses: run name to the loss of each step, nats per token.
    """
    fig, (axes,) = panels(1, 1, (9, 3.8))
    width = max(1, len(next(iter(losses.values()))) // 10)
    fell = []
    for name, values in losses.items():
        curve = np.asarray(values)
        steps = np.arange(1, len(curve) + 1)
        axes.plot(steps, curve, color=RUN_COLOURS[name], linewidth=1, alpha=0.3)
        mean = running_mean(curve, width)
        at = running_mean(steps.astype(float), width)
        axes.plot(at, mean, color=RUN_COLOURS[name], linewidth=2.5, label=name)
        fell.append(1 - mean[-1] / mean[0])
    axes.set_title("training loss, nats per trained token", **_SMALL)
    axes.set_xlabel("optimiser step", color=INK)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=12)
    if min(fell) <= 0:
        return headline(fig, "The training loss doesn't fall in every run")
    return headline(
        fig, f"The training loss falls in every run, by {min(fell):.0%} to {max(fell):.0%}"
    )


def plot_parts(frame: pd.DataFrame) -> Figure:
    """Draw the held-out loss on the words of a reply, and on the token that ends it.

    Args:
        frame: rows with `run`, `part` ('words' or 'end of turn'), `value`, `low`, `high`, nats.
    """
    parts = list(dict.fromkeys(frame["part"]))
    fig, places = panels(1, len(parts), (9, 3.6))
    for axes, part in zip(places, parts, strict=True):
        _points(axes, frame[frame["part"] == part], "{:.2f}")
        axes.set_title(f"{part}: surprise, nats per token", **_SMALL)
    table = frame.pivot(index="run", columns="part", values="value")
    end = table["end of turn"].drop("base")
    return headline(
        fig,
        f"The end of turn costs {end.idxmax()!r} {end.max():.1f} nats, "
        f"and {end.idxmin()!r} only {end.min():.2f}",
    )


def plot_behaviour(frame: pd.DataFrame) -> Figure:
    """Draw how often the runs end their turn and answer right on held-out prompts, and how long.

    Args:
        frame: rows with `run`, `metric` ('ended', 'right', 'tokens'), `value`, `low`, `high`.
    """
    fig, places = panels(1, 3, (10, 3.6))
    names = {"ended": "replies that end", "right": "answers that are right"}
    for axes, metric in zip(places, ("ended", "right", "tokens"), strict=True):
        share = metric in names
        _points(axes, frame[frame["metric"] == metric], "{:.0%}" if share else "{:.0f}")
        axes.set_title(names.get(metric, "length of a reply, tokens"), **_SMALL)
        if share:
            axes.set_ylim(-0.05, 1.25)
            axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    table = frame.pivot(index="run", columns="metric", values="value")
    good, bad = table.loc["reply"], table.loc["no end of turn"]
    ended, right = ([f"{row[name]:.0%}" for row in (bad, good)] for name in ("ended", "right"))
    return headline(
        fig,
        f"Without the end of turn, {ended[0]} of replies end and {right[0]} are right; "
        f"with it, {ended[1]} and {right[1]}",
    )


_SMALL: dict[str, Any] = {"loc": "left", "size": 12.5, "color": INK}


def _points(axes: Axes, part: pd.DataFrame, text: str) -> None:
    """Draw each run as a point in its interval, with its value above."""
    for place, row in enumerate(part.to_dict("records")):
        colour = RUN_COLOURS[row["run"]]
        height = row["high"] - row["low"]
        axes.bar(place, height, 0.34, bottom=row["low"], color=colour, alpha=0.35)
        axes.plot(place, row["value"], "o", color=colour, markersize=7)
        where: dict[str, Any] = {
            "xytext": (0, 6),
            "textcoords": "offset points",
            "ha": "center",
            "size": 12,
        }
        axes.annotate(text.format(row["value"]), (place, row["high"]), color=INK, **where)
    labels = [name.replace(" ", "\n", 1) for name in part["run"]]
    axes.set_xticks(range(len(labels)), labels, size=11.5, color=INK)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    low, high = min(0, part["low"].min()), part["high"].max()
    axes.set_ylim(low - 0.05 * high, 1.2 * high)
