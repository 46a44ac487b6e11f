"""Week 3's experiments as figures: clean against noisy rows, a dropped family, Unsloth and TRL.

Each takes a frame and returns a closed figure; titles are computed from what is drawn. They
estimate nothing: values and intervals come with the frame.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import GREY, PALE, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS_COLOURS = {"clean": "#0072B2", "noisy": "#D55E00", "scattered": "#8a6d00"}
ROWS_NAMES = {"clean": "clean", "noisy": "as written", "scattered": "spoilt at random"}
MINUS, ARROW = "\N{MINUS SIGN}", "\N{RIGHTWARDS ARROW}"
FAMILY_NAMES = {
    "arithmetic": "sums",
    "lists": "lists",
    "facts": "facts",
    "howto": "how-to's",
    "unsafe": "unsafe requests",
    "unknown": "riddles",
}


def plot_quality(frame: pd.DataFrame) -> Figure:
    """Draw the share of right answers by number of rows: one panel per budget, one line per kind.

    Args:
        frame: rows with `budget`, `rows` ('clean', 'noisy', 'scattered'), `n`, `value`, `low`,
            `high`, and `seeds`, the value of each seed.
    """
    budgets = list(dict.fromkeys(frame["budget"]))
    fig, places = panels(1, len(budgets), (10, 4.2), sharey=True)
    for panel, budget in zip(places, budgets, strict=True):
        part = frame[frame["budget"] == budget]
        for name, line in part.groupby("rows", sort=False):
            _line(panel, line.sort_values("n"), ROWS_COLOURS[name], ROWS_NAMES[name])
        panel.set_xscale("log")
        sizes = sorted(part["n"].unique())
        panel.set_xticks(sizes, [f"{n:,}" for n in sizes])
        panel.minorticks_off()
        panel.set_xlim(sizes[0] / 1.35, sizes[-1] * 3.2)
        panel.set_xlabel("rows", color=INK)
        panel.set_title(f"share of right answers, {budget}", loc="left", size=12.5, color=INK)
    return headline(fig, _quality_title(frame[frame["budget"] == budgets[0]]))


def _line(axes: Axes, line: pd.DataFrame, colour: str, label: str) -> None:
    """A mean with its intervals, the seeds around it and a label at its end."""
    axes.plot(line["n"], line["value"], "-o", color=colour, linewidth=2.4, markersize=6)
    axes.vlines(line["n"], line["low"], line["high"], color=colour, linewidth=6, alpha=0.28)
    for n, seeds in zip(line["n"], line["seeds"], strict=True):
        axes.plot([n] * len(seeds), seeds, "_", color=colour, markersize=10, alpha=0.7)
    last = line.iloc[-1]
    at: dict[str, Any] = {
        "xytext": (11, 0),
        "textcoords": "offset points",
        "va": "center",
        "size": 11.5,
    }
    axes.annotate(label, (last["n"], last["value"]), color=colour, weight="bold", **at)


def _quality_title(part: pd.DataFrame) -> str:
    few = part[part["rows"] == "clean"].sort_values("n").iloc[0]
    many = part[part["rows"] == "noisy"].sort_values("n").iloc[-1]
    return (
        f"{few['n']:,} clean rows: {few['value']:.0%} right ({few['low']:.0%} to "
        f"{few['high']:.0%}); {many['n']:,} as they were written: {many['value']:.0%} "
        f"({many['low']:.0%} to {many['high']:.0%})"
    )


ARM_COLOURS = ("#999999", "#D55E00", "#0072B2")  # the last ones: of the arms in their order
METRIC_NAMES = {"all": "all six families", **FAMILY_NAMES, "over_refusal": "how-to's refused"}


def plot_seeds(frame: pd.DataFrame) -> Figure:
    """Draw what each arm of an experiment reaches in each metric: a dot for the mean over seeds.

    Args:
        frame: rows with `arm`, `metric` (a key of METRIC_NAMES, "all" among them) and `seeds`, the
            share of each seed. At most three arms, in their order; the last one is the finding.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    metrics = [name for name in METRIC_NAMES if name in set(frame["metric"])]
    fig, (axes,) = panels(1, 1, (7, 0.55 * len(metrics) + 1.6))
    for arm, colour in zip(arms, ARM_COLOURS[-len(arms) :], strict=True):
        part = frame[frame["arm"] == arm].set_index("metric")["seeds"]
        for metric in metrics:
            y = metrics.index(metric) + 0.24 * (arms.index(arm) - (len(arms) - 1) / 2)
            axes.plot(part[metric], [y] * len(part[metric]), "|", color=colour, ms=9, mew=2)
            axes.plot(np.mean(part[metric]), y, "o", color=colour, ms=8, alpha=0.85)
        axes.plot([], [], "o", color=colour, ms=8, label=arm)
    axes.set_yticks(range(len(metrics)), [METRIC_NAMES[name] for name in metrics], size=12)
    axes.set(xlim=(-0.02, 1.02), ylim=(len(metrics) - 0.5, -0.5))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"], size=12)
    axes.set_xlabel("share of answers; dot: mean, stroke: one seed", color=INK, size=12)
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, ncols=len(arms), fontsize=12, loc="upper center",
                bbox_to_anchor=(0.4, 1.13), handletextpad=0.1, columnspacing=1)  # fmt: skip
    means = {
        arm: np.mean(frame[(frame["arm"] == arm) & (frame["metric"] == "all")]["seeds"].iloc[0])
        for arm in arms
    }
    others = ", ".join(f"{means[arm]:.0%} with {arm}" for arm in arms[:-1])
    last = f"{means[arms[-1]]:.0%} of the answers are right with {arms[-1]}"
    title = f"{last}, {others}"
    headline(fig, title)
    fig.texts[0].set_text(textwrap.fill(title, 56))  # a narrow figure takes shorter lines
    return fig


def plot_forgetting(frame: pd.DataFrame) -> Figure:
    """Draw how every family changes when one of them is left out of the mix.

    Args:
        frame: rows with `without`, `family`, `value`, `difference` from the full mix, `low`, `high`
            of that difference.
    """
    from matplotlib.patches import Rectangle

    fig, (axes,) = panels(1, 1, (9, 4.2))
    names, dropped = list(FAMILY_NAMES), [f for f in FAMILY_NAMES if f in set(frame["without"])]
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(dropped) - 0.5, -0.5))
    for _, row in frame.iterrows():
        x, y = names.index(row["family"]), dropped.index(row["without"])
        sure = row["low"] > 0 or row["high"] < 0
        shade = min(1.0, abs(row["difference"])) * 0.85
        colour = ("#D55E00" if row["difference"] < 0 else "#0072B2") if sure else PALE
        own: dict[str, Any] = (
            {"edgecolor": INK, "linewidth": 2.2, "zorder": 3} if x == y and y >= 0 else {}
        )
        axes.add_patch(
            Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, facecolor=colour, alpha=shade + 0.12)
        )
        if own and names[x] == dropped[y]:
            axes.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, facecolor="none", **own))
        points = f"{100 * row['difference']:+.0f}".replace("-", MINUS)
        text = f"{row['value']:.0%}   ({points})" if sure else f"{row['value']:.0%}"
        axes.text(x, y, text, ha="center", va="center", size=11.5, color=INK)
    axes.set_xticks(range(len(names)), FAMILY_NAMES.values(), size=11.5)
    axes.set_yticks(range(len(dropped)), [f"without {FAMILY_NAMES[f]}" for f in dropped], size=11.5)
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return headline(fig, _forgetting_title(frame))


def _forgetting_title(frame: pd.DataFrame) -> str:
    own = frame[frame["family"] == frame["without"]]
    lost = own[own["high"] < 0]
    worst = own.loc[own["difference"].idxmin()]
    others = frame[frame["family"] != frame["without"]]
    sure = (others["high"] < 0).sum()
    return (
        f"{len(lost)} of {len(own)} families lose without their own rows (before correction), "
        f"{FAMILY_NAMES[worst['family']]} most ({100 * worst['difference']:+.0f} points); "
        f"of the {len(others)} other cells {sure} do"
    )


def plot_stopping(lengths: Mapping[str, Sequence[float]], *, limit: int) -> Figure:
    """Draw the lengths of each model's answers; those at the limit never ended.

    Args:
        lengths: name of a model -> length of each of its answers in tokens.
        limit: length in tokens at which answers are cut off.
    """
    fig, places = panels(1, len(lengths), (10, 3.2), sharey=True)
    edges = np.linspace(0, limit + 1, 25)
    cut = {name: float(np.mean(np.asarray(values) >= limit)) for name, values in lengths.items()}
    for panel, (name, values) in zip(places, lengths.items(), strict=True):
        panel.hist(
            values,
            bins=edges.tolist(),
            color=STAGE_COLOURS["sft"] if cut[name] < 0.5 else "#D55E00",
        )
        panel.axvline(limit, color=GREY, linewidth=1, linestyle=":")
        panel.set_title(name, loc="left", size=12.5, color=INK)
        panel.set_xlabel("tokens per answer", color=INK)
    places[0].set_ylabel("answers", color=INK)
    shares_text = ", ".join(f"{name} {share:.0%}" for name, share in cut.items())
    return headline(fig, f"Answers that never end, cut at {limit} tokens: {shares_text}")


COMPLEXITY_LINES = {  # arm: colour, dashes
    "short, direct": ("#D55E00", ":"),
    "long, direct": ("#0072B2", ":"),
    "short, worked": ("#D55E00", "-"),
    "long, worked": ("#0072B2", "-"),
    "both, worked": ("#8a6d00", "--"),
}


def plot_terms(frame: pd.DataFrame) -> Figure:
    """Draw accuracy on sums against their number of terms, a line per kind of training rows.

    Args:
        frame: rows with `arm` (a key of COMPLEXITY_LINES), `terms` and `seeds`, the share of right
            answers of each seed. The title compares the arms "short, worked" and "long, worked" at
            3 and at 5 terms, with which each was trained.
    """
    fig, (axes,) = panels(1, 1, (7, 4.2))
    terms = sorted(frame["terms"].unique())
    for arm, (colour, dashes) in COMPLEXITY_LINES.items():
        line = frame[frame["arm"] == arm].sort_values("terms")
        means = [float(np.mean(seeds)) for seeds in line["seeds"]]
        axes.plot(line["terms"], means, dashes, color=colour, lw=2.6, marker="o", ms=6, label=arm)
        for count, seeds in zip(line["terms"], line["seeds"], strict=True):
            axes.plot([count] * len(seeds), seeds, "_", color=colour, ms=10, alpha=0.7)
    axes.set_xticks(terms, [str(count) for count in terms], size=12)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"], size=12)
    axes.set(ylim=(-0.04, 1.06))
    axes.set_xlabel("terms of the held-out sum", color=INK, size=12)
    axes.set_ylabel("right answers; stroke: one seed", color=INK, size=12)
    axes.legend(frameon=False, fontsize=12, loc="upper left", bbox_to_anchor=(1, 1))
    means_of = frame.assign(mean=[float(np.mean(seeds)) for seeds in frame["seeds"]])
    means_of = means_of.set_index(["arm", "terms"])["mean"]
    parts = [
        f"{word} worked rows: {means_of[f'{word}, worked', 3]:.0%} right on sums of 3 terms, "
        f"{means_of[f'{word}, worked', 5]:.0%} on 5"
        for word in ("short", "long")
    ]
    title = "; ".join(parts).capitalize()
    headline(fig, title)
    fig.texts[0].set_text(textwrap.fill(title, 60))
    return fig
