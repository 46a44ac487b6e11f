"""Week 7's figures: a policy gradient climbing, the clip at work, two loops, learning rates, gains
and their parts, pass@k.

Each takes a frame and returns a closed figure; titles are computed from what is drawn. Left out:
any estimate. Values and intervals come with the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from postlab.claims import INK, STAGE_COLOURS, stage_label
from postlab.show import GREY, PALE, draw_seeds, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OUR_COLOUR, OTHER_COLOUR = STAGE_COLOURS["grpo"], "#D55E00"
PART_COLOURS = {"sums": OUR_COLOUR, "format": OTHER_COLOUR}


def plot_climb(frame: pd.DataFrame) -> Figure:
    """Draw the probability of the best answer by update: a panel per method, a thin line per seed.

    Args:
        frame: rows with `method`, `seed`, `step`, `best` (a probability).
    """
    methods = list(dict.fromkeys(frame["method"]))
    fig, places = panels(1, len(methods), (9, 3.1), sharey=True)
    middle, phrases = frame["step"].max() // 2, []
    for panel, method in zip(places, methods, strict=True):
        runs = frame[frame["method"] == method]
        draw_seeds(panel, runs, "best", colour=OUR_COLOUR)
        panel.set_title(method, loc="left", size=12.5, color=INK)
        panel.set_xlabel("update", color=INK)
        panel.set_ylim(0, 1.02)
        then = runs.loc[runs["step"] == middle, "best"]
        phrases.append(f"{then.min():.0%} to {then.max():.0%} {method}")
    places[0].set_ylabel("P(best answer)", color=INK)
    return headline(fig, f"After {middle} updates, P(best answer) is {', '.join(phrases)}")


def plot_reuse(frame: pd.DataFrame) -> Figure:
    """Draw how far the policy is from its samples, update by update on one batch.

    Args:
        frame: rows with `update`, and shares of tokens: `outside` the bounds, and `clipped`.
    """
    fig, (panel,) = panels(1, 1, (9, 3.4))
    for name, colour, label in (
        ("outside", PALE, "ratio outside the bounds"),
        ("clipped", OUR_COLOUR, "clipped: no gradient"),
    ):
        panel.plot(frame["update"], frame[name], "-o", color=colour, linewidth=2.4, label=label)
    panel.legend(frameon=False)
    panel.set(xlabel="update on the same answers", ylabel="share of tokens")
    panel.set_xticks(frame["update"])
    first, last = frame.iloc[0], frame.iloc[-1]
    return headline(
        fig,
        f"The clip removes the gradient of {first['clipped']:.0%} of the tokens at the first "
        f"update and of {last['clipped']:.1%} at update {last['update']:.0f}",
    )


def plot_pair(ours: pd.DataFrame, other: pd.DataFrame, *, names: tuple[str, str]) -> Figure:
    """Draw the reward and the gradient norm of two runs by step, one on top of the other.

    Args:
        ours, other: rows with `reward` and `grad_norm`, one row per step.
        names: the names of the two runs.
    """
    fig, places = panels(1, 2, (10, 3.5))
    steps = range(1, len(ours) + 1)
    for panel, (name, about) in zip(
        places, {"reward": "mean reward", "grad_norm": "norm of the gradient"}.items(), strict=True
    ):
        panel.plot(range(1, len(other) + 1), other[name], color=PALE, linewidth=7, label=names[1])
        panel.plot(
            steps, ours[name], "-o", color=OUR_COLOUR, linewidth=2, markersize=4, label=names[0]
        )
        panel.set_title(about, loc="left", size=12.5, color=INK)
        panel.set_xlabel("step", color=INK)
    places[0].legend(frameon=False)
    both = min(len(ours), len(other))
    gaps = (ours["reward"][:both].to_numpy() - other["reward"][:both].to_numpy()).tolist()
    largest = max(map(abs, gaps))
    difference = "are the same" if largest < 1e-6 else f"differ by up to {largest:.2f}"
    return headline(fig, f"In {both} steps, the rewards of {names[0]} and {names[1]} {difference}")


def plot_hunt(good: pd.DataFrame, bad: pd.DataFrame) -> Figure:
    """Draw the reward and the zero-variance groups of a run that learns and of one that doesn't.

    Args:
        good, bad: rows with `reward` and `silent` (a share), one row per step.
    """
    fig, places = panels(1, 2, (10, 3.4), sharey=True)
    titles = {"reward": "mean reward", "silent": "zero-variance groups, share"}
    for panel, (name, about) in zip(places, titles.items(), strict=True):
        for run, colour, label in (
            (good, OUR_COLOUR, "yours"),
            (bad, OTHER_COLOUR, "your colleague's"),
        ):
            panel.plot(
                range(1, len(run) + 1), run[name], "-o", color=colour, linewidth=2, label=label
            )
        panel.set_title(about, loc="left", size=12.5, color=INK)
        panel.set_xlabel("step", color=INK)
        panel.set_ylim(-0.04, 1.04)
    places[0].legend(frameon=False)
    return headline(
        fig,
        f"After {len(bad)} steps, your colleague's reward is {bad['reward'].iloc[-1]:.2f}; "
        f"yours was {good['reward'].iloc[len(bad) - 1]:.2f}",
    )


def plot_rates(frame: pd.DataFrame, *, start: Mapping[str, float]) -> Figure:
    """Draw what is right at the end by learning rate: a panel per measure, a line per schedule.

    Args:
        frame: rows with `schedule`, `rate`, `seed`, and a share for each measure of `start`.
        start: {measure: share} before training; the first measure is the one that is trained.
    """
    fig, places = panels(1, len(start), (10, 3.9), sharey=True)
    markers = dict(zip(dict.fromkeys(frame["schedule"]), "os^", strict=False))
    colours = dict(zip(markers, (OUR_COLOUR, "#0072B2", OTHER_COLOUR), strict=False))
    for panel, (measure, before) in zip(places, start.items(), strict=True):
        panel.axhline(100 * before, color=GREY, linewidth=1, linestyle="--")
        for turn, (schedule, colour) in enumerate(colours.items()):
            part = frame[frame["schedule"] == schedule]
            x = part["rate"] * 1.12 ** (turn - 1)  # beside one another
            style = {"color": colour, "marker": markers[schedule]}
            panel.plot(x, 100 * part[measure], linestyle="", markersize=6, alpha=0.55, **style)
            mean = 100 * part.groupby("rate")[measure].mean()
            at = mean.index * 1.12 ** (turn - 1)
            panel.plot(at, mean, linewidth=2, label=schedule, markersize=0, **style)
        panel.set_xscale("log")
        rates = sorted(frame["rate"].unique())
        panel.set_xticks(rates, [f"{rate:g}" for rate in rates], size=10)
        panel.minorticks_off()
        panel.set_ylim(-3, 103)
        panel.set_title(f"{measure}, % right", loc="left", size=12.5, color=INK)
        panel.set_xlabel("learning rate", color=INK)
    places[0].legend(frameon=False, loc="lower left")
    trained, other = list(start)[:2]
    ends = frame.groupby("rate")[[trained, other]].mean()
    most = ends[trained].idxmax()
    text = (
        f"At a rate of {most:g}, {trained} reach {ends.loc[most, trained]:.0%} and {other} "
        f"{ends.loc[most, other]:.0%} (before: {start[other]:.0%})"
    )
    if ends.iloc[-1].max() < 0.5:
        text += f"; at {ends.index[-1]:g}, most runs collapse"
    return headline(fig, text)


def plot_gains(frame: pd.DataFrame) -> Figure:
    """Draw each run's gain in points, split into more sums right and format only.

    Args:
        frame: rows with `run`, `part` ('sums' or 'format'), `points`, `low`, `high`.
    """
    runs = list(dict.fromkeys(frame["run"]))
    fig, (panel,) = panels(1, 1, (10, 1.5 + 0.42 * len(runs)))
    for place, run in enumerate(runs):
        for name, row in frame[frame["run"] == run].set_index("part").iterrows():
            at = place + (-0.17 if name == "sums" else 0.17)
            panel.barh(at, row["points"], 0.3, color=PART_COLOURS[name])
            panel.hlines(at, row["low"], row["high"], color=INK, linewidth=1.6)
            if place == 0:
                about = "more sums right, in any form" if name == "sums" else "format only"
                panel.plot([], [], color=PART_COLOURS[name], linewidth=7, label=about)
    panel.axvline(0, color=GREY, linewidth=1)
    panel.grid(visible=False)
    panel.set_yticks(range(len(runs)), runs, size=11.5)
    panel.set_ylim(len(runs) - 0.5, -0.5)
    panel.set_xlabel("points of held-out accuracy over the start, with 95% intervals", color=INK)
    panel.set_xlim(right=1.3 * frame["high"].max())
    panel.legend(frameon=False, loc="upper right")
    share = frame.pivot(index="run", columns="part", values="points")
    whole = share.sum(axis=1)
    return headline(
        fig,
        f"The runs gain {whole.min():.0f} to {whole.max():.0f} points, of which "
        f"{share['format'].min() + 0.0:.1f} to {share['format'].max():.1f} are only format",
    )


def plot_pass(frame: pd.DataFrame) -> Figure:
    """Draw pass@k before and after a stage: a thick line for the mean, a thin line per seed.

    Args:
        frame: rows with `stage` (two of them, the earlier first), `seed`, `k` and `value` (share).
    """
    fig, (panel,) = panels(1, 1, (7.5, 4))
    stages = list(dict.fromkeys(frame["stage"]))
    ks = sorted(frame["k"].unique())
    told = []
    for stage in stages:
        part, shade = frame[frame["stage"] == stage], STAGE_COLOURS[stage]
        for _, one in part.groupby("seed"):
            panel.plot(one["k"], 100 * one["value"], color=shade, linewidth=0.8, alpha=0.6)
        mean = 100 * part.groupby("k")["value"].mean()
        panel.plot(mean.index, mean, "-o", color=shade, linewidth=2.4, label=stage_label(stage))
        told.append(mean)
    panel.set_xscale("log", base=2)
    panel.set_xticks(ks, [str(k) for k in ks])
    panel.set_ylim(0, 100)
    panel.set_xlabel("k, samples per problem at temperature 1", color=INK)
    panel.set_title(
        "problems with at least one right sample among k, %", loc="left", size=12.5, color=INK
    )
    panel.legend(frameon=False, loc="lower right")
    (first, second), least, most = told, ks[0], ks[-1]
    return headline(
        fig,
        f"pass@{least} goes from {first[least]:.0f}% to {second[least]:.0f}%, pass@{most} from "
        f"{first[most]:.0f}% to {second[most]:.0f}%",
    )
