"""Week 6's figures: what a comparison can find, what it found, and what judges add to it.

Each takes what it draws and returns a closed figure; titles are computed from it. Left out: all
estimation: values, intervals and p-values come with the frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from postlab.claims import INK, STAGE_COLOURS, metric_label, stage_label
from postlab.evals import METRICS
from postlab.show import GREY, PALE, headline, panels
from postlab.stats import SIGNIFICANCE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DESIGN_COLOURS = ("#44AA99", "#332288", "#882255", "#999933")  # of designs, which are not stages
BETTER_COLOUR, WORSE_COLOUR = "#0072B2", "#D55E00"  # Okabe-Ito's blue and vermilion
MINUS = "\N{MINUS SIGN}"
_SMALL: dict[str, Any] = {"loc": "left", "size": 12.5, "color": INK}


def plot_detectable(frame: pd.DataFrame, *, at: int) -> Figure:
    """Draw the smallest change that n prompts find, one line per share of prompts that change.

    Args:
        frame: rows with `n`, `disagreement`, `effect` (shares; infinite where there is none).
        at: the number of prompts that the title is about.
    """
    fig, (axes,) = panels(1, 1, (9, 4.2))
    phrases = []
    for shade, (share, part) in zip(DESIGN_COLOURS, frame.groupby("disagreement"), strict=False):
        axes.plot(part["n"], 100 * part["effect"], "o-", color=shade, linewidth=2.2, markersize=5)
        here = 100 * part.loc[part["n"] == at, "effect"].item()
        axes.plot(at, here, "o", color=shade, markersize=10, markeredgecolor="white")
        reach = f"{here:.1f} points" if np.isfinite(here) else "nothing"
        phrases.append(f"{reach} where {share:.0%} change")
        start = part[np.isfinite(part["effect"])].iloc[0]
        _label(axes, start["n"], 100 * start["effect"], f"{share:.0%} change", shade)
    axes.axvline(at, color=PALE, linewidth=1)
    axes.set_xscale("log")
    ticks = sorted(frame["n"].unique())
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 110 * frame.loc[np.isfinite(frame["effect"]), "effect"].max())
    axes.set_xlim(ticks[0] / 2.5, 1.15 * ticks[-1])
    axes.set_xlabel("held-out prompts, each answered by both stages", color=INK)
    axes.set_title("smallest change found 4 times in 5, points", **_SMALL)
    return headline(fig, f"{at:,} prompts can find {phrases[0]}, {phrases[-1]}")


def plot_power(frame: pd.DataFrame, *, at: float) -> Figure:
    """Draw how often a simulated comparison finds a change, one line per number of prompts.

    Args:
        frame: rows with `n`, `effect` (a share), `value`, `low`, `high` (share of experiments).
        at: the effect that the title is about.
    """
    fig, (axes,) = panels(1, 1, (9, 4.2))
    phrases: list[str] = []
    for shade, (n, part) in zip(DESIGN_COLOURS, frame.groupby("n"), strict=False):
        x = 100 * part["effect"]
        axes.fill_between(x, part["low"], part["high"], color=shade, alpha=0.25, linewidth=0)
        axes.plot(x, part["value"], "o-", color=shade, linewidth=2.2, markersize=5)
        here = part.loc[np.isclose(part["effect"], at), "value"].item()
        phrases.append(f"{here:.0%} with {n:,}" + (" prompts" if not phrases else ""))
        middle = part.iloc[(part["value"] - 0.62).abs().argmin()]
        where: dict[str, Any] = {
            "xytext": (8, -6),
            "textcoords": "offset points",
            "size": 12,
            "weight": "bold",
        }
        axes.annotate(f"{n:,}", (100 * middle["effect"], middle["value"]), color=shade, **where)
    axes.axhline(0.8, color=PALE, linewidth=1)
    axes.set_yticks(
        [0, 0.05, 0.2, 0.4, 0.6, 0.8, 1], ["0", "5%", "20%", "40%", "60%", "80%", "100%"]
    )
    axes.set_xlabel("true change, points", color=INK)
    axes.set_title("share of simulated comparisons with p below 0.05, by prompts", **_SMALL)
    summary = ", ".join(phrases)
    return headline(fig, f"A true change of {100 * at:.0f} points is found this often: {summary}")


def plot_bootstrap(paired: ArrayLike, unpaired: ArrayLike, *, metric: str) -> Figure:
    """Draw resampled differences, with the same prompts for both stages and with separate ones.

    Args:
        paired: differences with both stages on the same resampled prompts, shares.
        unpaired: differences with prompts drawn for each stage on its own.
        metric: what was compared.
    """
    fig, (axes,) = panels(1, 1, (9, 3.9))
    differences = {
        "other prompts for each": np.asarray(unpaired),
        "the same prompts": np.asarray(paired),
    }
    edges = _edges(100 * np.concatenate([*differences.values()]))
    widths = {}
    for (name, values), colour in zip(
        differences.items(), (PALE, STAGE_COLOURS["dpo"]), strict=True
    ):
        axes.hist(100 * values, edges.tolist(), color=colour, alpha=0.75, label=name)
        low, high = 100 * np.quantile(values, [0.025, 0.975])
        widths[name] = high - low
        height = 0.5 if name == "the same prompts" else 0.25
        axes.plot([low, high], [height * axes.get_ylim()[1]] * 2, color=INK, linewidth=2)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=12)
    axes.set_xlabel("difference, points", color=INK)
    axes.set_title(
        f"{metric_label(metric)}: resampled differences and their 95% intervals", **_SMALL
    )
    own, same = widths.values()
    return headline(
        fig,
        f"On the same prompts the interval is {same:.1f} points wide, with other prompts for each "
        f"stage {own:.1f}",
    )


def plot_coverage(frame: pd.DataFrame, *, truth: float) -> Figure:
    """Draw many simulated intervals; those that miss the truth stand out.

    Args:
        frame: rows with `difference`, `low`, `high` (shares), one for each simulated comparison.
        truth: the true difference.
    """
    fig, (axes,) = panels(1, 1, (9, 3.6))
    axes.axvline(100 * truth, color=INK, linewidth=1.5)
    missed = 0
    for place, row in enumerate(frame.sort_values("difference").to_dict("records")):
        inside = row["low"] <= truth <= row["high"]
        missed += not inside
        colour, width = (GREY, 1.5) if inside else (WORSE_COLOUR, 2.5)
        ends = [100 * row["low"], 100 * row["high"]]
        axes.plot(ends, [place, place], color=colour, linewidth=width, alpha=0.6 if inside else 1)
        axes.plot(100 * row["difference"], place, ".", color=colour, markersize=5)
    axes.set_yticks([])
    axes.set_xlabel("change, points; the vertical line is the true change", color=INK)
    axes.set_title("simulated comparisons, sorted by what they found", **_SMALL)
    return headline(fig, f"{len(frame) - missed} of {len(frame)} intervals contain the true change")


def _edges(values: np.ndarray, bars: int = 40) -> np.ndarray:
    """Edges between the values of a grid, so that each bar holds as many of them: no comb."""
    steps = np.diff(np.unique(values.round(9)))
    step = steps.min() if len(steps) else 1.0  # every difference is the same: one bar
    wide = step * max(1, round(np.ptp(values) / step / bars))
    return np.arange(values.min() - step / 2, values.max() + wide, wide)


def plot_metrics(frame: pd.DataFrame, *, stages: tuple[str, str], margin: float) -> Figure:
    """Draw every metric's paired difference; solid where it is supported after the correction.

    Args:
        frame: rows with `metric` (shares), `difference`, `low`, `high`, `adjusted` (p).
        stages: the one before and the one after.
        margin: a loss that would not matter, a share; drawn as a band around zero.
    """
    fig, (axes,) = panels(1, 1, (9, 1.6 + 0.42 * len(frame)))
    axes.axvspan(-100 * margin, 100 * margin, color="#f0f0f0", zorder=0)
    axes.axvline(0, color=INK, linewidth=1)
    supported = []
    for place, row in enumerate(frame.to_dict("records")):
        moved = _moved(row)
        colour = {"better": BETTER_COLOUR, "worse": WORSE_COLOUR}.get(moved, GREY)
        low, middle, high = (100 * row[name] for name in ("low", "difference", "high"))
        axes.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.4)
        face = colour if moved else "white"
        axes.plot(middle, place, "o", color=colour, markersize=8, markerfacecolor=face)
        p = f"p = {row['adjusted']:.2f}" if row["adjusted"] >= 0.005 else "p < 0.005"
        axes.text(1.02, place, p, transform=axes.get_yaxis_transform(), va="center", color=GREY)
        supported += [moved] if moved else []
    axes.set_yticks(range(len(frame)), [metric_label(m) for m in frame["metric"]], color=INK)
    axes.grid(axis="x", color="#e6e6e6")
    axes.invert_yaxis()
    names = [stage_label(stage) for stage in stages]
    axes.set_xlabel(f"{names[1]} {MINUS} {names[0]}, points; grey: within the margin", color=INK)
    axes.set_title("differences on the same prompts, 95% intervals, p after Holm", **_SMALL)
    open_ = len(frame) - len(supported)
    return headline(
        fig,
        f"{names[1]} against {names[0]}: {supported.count('better')} of {len(frame)} metrics "
        f"better, {supported.count('worse')} worse, {open_} inconclusive",
    )


def _moved(row: dict[str, Any]) -> str:
    """'better' or 'worse' where interval and corrected p agree, else ''."""
    if not row["adjusted"] < SIGNIFICANCE or row["low"] <= 0 <= row["high"]:
        return ""
    down = row["metric"] in METRICS and METRICS[row["metric"]][1] == "down"
    return "worse" if (row["difference"] > 0) == down else "better"


def plot_seeds(frame: pd.DataFrame) -> Figure:
    """Draw each training seed's difference with its interval over prompts, metric by metric.

    A metric's seeds lie side by side, in their order; the colour says on which side of zero a
    seed's interval lies, uncorrected.

    Args:
        frame: rows with `metric`, `seed`, `difference`, `low`, `high` (shares).
    """
    metrics = list(dict.fromkeys(frame["metric"]))
    fig, (axes,) = panels(1, 1, (10, 4.2))
    seeds = sorted(frame["seed"].unique())
    step, wide = 0.8 / len(seeds), {}
    for place, metric in enumerate(metrics):
        part = frame[frame["metric"] == metric]
        up = METRICS[metric][1] == "up" if metric in METRICS else True
        for row in part.to_dict("records"):
            x = place + step * (seeds.index(row["seed"]) - (len(seeds) - 1) / 2)
            low, high = 100 * row["low"], 100 * row["high"]
            shade = GREY if low <= 0 <= high else BETTER_COLOUR if (low > 0) == up else WORSE_COLOUR
            axes.bar(x, high - low, 0.75 * step, bottom=low, color=shade, alpha=0.35)
            axes.plot(x, 100 * row["difference"], "o", color=shade, markersize=6)
        wide[metric] = 100 * float(np.ptp(part["difference"]))
    for shade, name in (
        (BETTER_COLOUR, "better"),
        (WORSE_COLOUR, "worse"),
        (GREY, "contains zero"),
    ):
        axes.plot([], [], "o", color=shade, markersize=6, label=name)
    axes.axhline(0, color=INK, linewidth=1)
    labels = [metric_label(m).replace(" ", "\n", 1) for m in metrics]
    axes.set_xticks(range(len(metrics)), labels, size=11, color=INK)
    axes.legend(frameon=False, fontsize=12, ncols=3)
    low, high = 100 * frame["low"].min(), 100 * frame["high"].max()
    axes.set_ylim(low - 0.05 * (high - low), high + 0.2 * (high - low))  # room for the legend
    names = ", ".join(map(str, seeds))
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        names = f"{seeds[0]} to {seeds[-1]}"
    axes.set_title(f"points, one dot per training seed ({names}), bars: 95% over prompts", **_SMALL)
    most = max(wide, key=wide.__getitem__)
    apart = [
        m for m in metrics
        if (part := frame[frame["metric"] == m])["low"].max() > part["high"].min()
    ]  # fmt: skip
    overlap = (
        f"for {', '.join(metric_label(m) for m in apart)} some intervals do not even overlap"
        if apart
        else "all intervals overlap"
    )
    return headline(
        fig,
        f"The same recipe with another seed: {metric_label(most)} differs by up to "
        f"{wide[most]:.0f} points; {overlap}",
    )


def plot_judges(frame: pd.DataFrame) -> Figure:
    """Draw a biased judge's win rate, uncorrected and after each correction, next to the truth.

    Args:
        frame: rows with `case`, `step`, `value`, `low`, `high` (share for the second model) and
            `truth` (the oracle's share).
    """
    cases = list(dict.fromkeys(frame["case"]))
    fig, places = panels(1, len(cases), (10, 3.7), sharey=True)
    phrases = []
    for axes, case in zip(places, cases, strict=True):
        part = frame[frame["case"] == case].reset_index(drop=True)
        truth = part["truth"].iloc[0]
        axes.axhline(0.5, color=PALE, linewidth=1)
        axes.axhline(truth, color=INK, linewidth=1.5, linestyle="--")
        axes.text(len(part) - 0.1, truth + 0.005, "truth", ha="right", color=INK, size=11)
        for place, row in part.iterrows():
            axes.bar(place, row["high"] - row["low"], 0.34, bottom=row["low"], color=INK, alpha=0.3)
            axes.plot(place, row["value"], "o", color=INK, markersize=7)
            at: dict[str, Any] = {
                "xytext": (0, 5),
                "textcoords": "offset points",
                "ha": "center",
                "size": 11.5,
            }
            axes.annotate(f"{row['value']:.0%}", (place, row["high"]), color=INK, **at)
        labels = [step.replace(" ", "\n", 1) for step in part["step"]]
        axes.set_xticks(range(len(part)), labels, size=11, color=INK)
        axes.set_xlim(-0.6, len(part) - 0.05)
        axes.set_title(f"share of votes for {case}", **_SMALL)
        first, last = part["value"].iloc[[0, -1]]
        phrases.append(f"{case} {first:.0%} as shown, {last:.0%} corrected, truth {truth:.0%}")
    low, high = frame["low"].min(), max(frame["high"].max(), frame["truth"].max())
    places[0].set_ylim(min(0.3, low - 0.05), max(0.75, high + 0.08))
    places[0].yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    return headline(fig, "; ".join(phrases))


def _label(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A label to the left of a point."""
    where: dict[str, Any] = {
        "xytext": (-10, 0),
        "textcoords": "offset points",
        "va": "center",
        "ha": "right",
    }
    axes.annotate(text, (x, y), color=colour, size=12, weight="bold", **where)
