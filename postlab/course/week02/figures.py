"""Week 2's figures: codebook, quantisation error, learning rates, quality, cost, merging, fitting.

Each function takes numbers or a frame and returns a closed figure whose title is computed from what
is drawn. Nothing is estimated here: values and intervals come with the frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK
from postlab.show import PALE, headline, panels, running_mean

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METHOD_COLOURS = {"full": INK, "lora": "#0072B2", "qlora": "#D55E00"}  # ways of training; no stages
METHOD_NAMES = {"full": "full fine-tuning", "lora": "LoRA", "qlora": "QLoRA"}
BLUES = ("#85bce0", "#69a9d6", "#4c95c9", "#2f83bf", "#0f6aae", "#07508a", "#043761")
MEMORY_COLOURS = {  # of a training process's memory
    "weights": "#7f7f7f", "adapters": "#56B4E9", "gradients": "#E69F00", "optimizer": "#009E73",
    "activations": "#CC79A7", "overhead": "#d9d9d9", "rest": "#d9d9d9",
}  # fmt: skip


def plot_codebook(scaled: np.ndarray, codebooks: Mapping[str, np.ndarray]) -> Figure:
    """Draw the distribution of scaled weights, and the share that is rounded to each code.

    Args:
        scaled: weights divided by the largest absolute value of their block, any shape.
        codebooks: name to 16 ascending values; two of them.
    """
    values = np.asarray(scaled).ravel()
    fig, places = panels(1, 2, (10, 3.9))
    phrases = []
    for axes, (name, codes) in zip(places, codebooks.items(), strict=True):
        axes.hist(values, bins=121, range=(-1, 1), color=PALE, density=True)
        middles = (codes[:-1] + codes[1:]) / 2
        shares = np.bincount(np.searchsorted(middles, values), minlength=16) / values.size
        tall = axes.get_ylim()[1]
        axes.vlines(
            codes, 0, tall * shares / shares.max() * 0.9, color=METHOD_COLOURS["lora"], linewidth=3
        )
        bits = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
        phrases.append(f"{bits:.2f} bits with {name}")
        axes.set_title(
            f"{name}: shares of the 16 codes, {shares.min():.1%} to {shares.max():.1%}",
            loc="left", size=12, color=INK,
        )  # fmt: skip
        axes.set(xlim=(-1.03, 1.03), yticks=[], xlabel="weight / largest |weight| in its block")
    return headline(fig, f"A 4-bit code carries {' and '.join(phrases)}")


def plot_block_error(frame: pd.DataFrame) -> Figure:
    """Draw the error of 4-bit weights against the bits they take, one line per codebook.

    Args:
        frame: rows with `codebook`, `block`, `bits` (per weight, with its scale) and `error`
            (root mean square, over that of the weights); `double` marks double quantisation.
    """
    fig, (axes,) = panels(1, 1, (10, 4.2))
    plain, twice = frame[~frame["double"]], frame[frame["double"]].iloc[0]
    for (name, part), colour in zip(
        plain.groupby("codebook", sort=False), _LINE_COLOURS, strict=False
    ):
        part = part.sort_values("bits")
        places = np.log2(part["bits"] - 4)  # from one block size to the next, one step
        axes.plot(places, part["error"], "o-", color=colour, linewidth=2)
        _label(axes, name, (places.iloc[0], part["error"].iloc[0]), colour, left=1)
    at = (np.log2(twice["bits"] - 4), twice["error"])
    axes.plot(*at, "D", color=METHOD_COLOURS["qlora"], markersize=9)
    _label(axes, f"{twice['block']}, double quantisation", at, METHOD_COLOURS["qlora"], below=1)
    ticks = plain.drop_duplicates("block")
    names = [f"{row['bits']:.4g}\n{row['block']}" for _, row in ticks.iterrows()]
    axes.set_xticks(np.log2(ticks["bits"] - 4), names)
    axes.set(xlabel="bits per weight, scales included (above), and block size (below)")
    axes.set_title("rms error, as a share of the rms weight", loc="left", size=12)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.12)
    at_64 = plain[plain["block"] == 64].set_index("codebook")["error"]
    less, saved = 1 - at_64["NF4"] / at_64.drop("NF4").iloc[0], 4.5 - twice["bits"]
    return headline(
        fig,
        f"In blocks of 64, NF4's error is {less:.0%} smaller than that of even steps; "
        f"double quantisation saves {saved:.2f} bits per weight",
    )


def plot_losses(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Draw training losses of several methods, each smoothed over a tenth of its steps.

    Args:
        curves: method such as "lora-8" to its loss at each step, nats per token.
    """
    fig, (axes,) = panels(1, 1, (9, 4))
    ends = []
    for method, losses in curves.items():
        width = max(1, len(losses) // 10)
        smooth = running_mean(np.asarray(losses), width)
        axes.plot(np.arange(width, len(losses) + 1), smooth, color=colour_of(method), linewidth=2.5)
        ends.append((smooth[-1], method))
    gap = 0.06 * (axes.get_ylim()[1] - axes.get_ylim()[0])
    for place, (end, method) in zip(_apart(sorted(ends), gap), sorted(ends), strict=True):
        axes.annotate(
            f"{label_of(method)} {end:.2f}", (axes.get_xlim()[1], place), va="center",
            color=colour_of(method), weight="bold", annotation_clip=False,
        )  # fmt: skip
    axes.set(xlabel="optimiser step")
    axes.set_title("training loss, nats per token", loc="left", size=12, color=INK)
    best = min(ends)
    return headline(fig, f"{label_of(best[1], start=True)} ends at the lowest loss, {best[0]:.2f}")


def plot_learning_rates(frame: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw the loss of short runs against the learning rate, one line per method, the best marked.

    Args:
        frame: rows with `method`, `lr`, `loss`; and `panel`, if there are to be several.
        title: the finding; by default where the optima of full fine-tuning and of LoRA lie.
    """
    parts = list(frame["panel"].unique()) if "panel" in frame else [""]
    fig, places = panels(1, len(parts), (10, 4.2), sharey=True)
    for axes, panel in zip(places, parts, strict=True):
        part = frame[frame["panel"] == panel] if panel else frame
        for method, line in part.groupby("method", sort=False):
            line = line.sort_values("lr")
            axes.plot(line["lr"], line["loss"], "-", color=colour_of(method), linewidth=2)
            best = line.loc[line["loss"].idxmin()]
            name = label_of(method)
            axes.plot(
                best["lr"], best["loss"], "o", color=colour_of(method), markersize=8, label=name
            )
        axes.set(xscale="log", xlabel="learning rate")
        rungs = [r for r in sorted(frame["lr"].unique()) if abs(math.log10(r) * 2 % 1 - 0.5) > 0.4]
        axes.set_xticks(rungs, [f"{rung:g}" for rung in rungs])
        axes.minorticks_off()
        axes.legend(frameon=False, labelcolor="linecolor", handletextpad=0.1, fontsize=10.5)
        axes.set_title(panel or "loss after a short run, nats per token", loc="left", size=12)
    low = frame["loss"].min()
    places[0].set_ylim(low - 0.02, min(frame["loss"].max(), 2.2 * low))
    if not title:
        best = frame.loc[frame.groupby("method")["loss"].idxmin()].set_index("method")["lr"]
        loras = best[[name.startswith("lora") for name in best.index]]
        title = f"Full fine-tuning learns best at {best['full']:g}, LoRA at {_range(loras)}"
    return headline(fig, title)


def plot_quality(frame: pd.DataFrame) -> Figure:
    """Draw quality against trained parameters: mean, interval over prompts, one dot per seed.

    Args:
        frame: one row per method: `method`, `trainable`; `value`, `low`, `high`, `seeds`: shares.
    """
    fig, (axes,) = panels(1, 1, (10, 4.6))
    full = frame[frame["method"] == "full"].iloc[0]
    axes.axhspan(100 * full["low"], 100 * full["high"], color=PALE, alpha=0.3, linewidth=0)
    for _, row in frame.iterrows():
        x = row["trainable"] * (1.2 if row["method"].startswith("qlora") else 1)  # beside LoRA's
        colour = METHOD_COLOURS[kind_of(row["method"])]
        axes.vlines(x, 100 * row["low"], 100 * row["high"], color=colour, linewidth=7, alpha=0.35)
        axes.plot(x, 100 * row["value"], "o", color=colour, markersize=8)
        seeds = [100 * value for value in row["seeds"]]
        axes.plot([x * 1.035] * len(seeds), seeds, "o", color=colour, markersize=3.5)
        below = row["method"].startswith("qlora")
        end, offset = (min(seeds), -16) if below else (max([100 * row["high"], *seeds]), 6)
        end = min(end, 100 * row["low"]) if below else end
        axes.annotate(
            label_of(row["method"]), (x, end), xytext=(0, offset), ha="center",
            textcoords="offset points", size=10.5, color=colour,
        )  # fmt: skip
    axes.set(xscale="log", xlabel="trained parameters")
    axes.set_title("held-out prompts answered right, %", loc="left", size=12, color=INK)
    axes.margins(y=0.15)
    axes.locator_params(axis="y", steps=[1, 5, 10])
    ranked = frame[frame["method"].str.startswith("lora")].sort_values("trainable")
    first, last = ranked.iloc[0], ranked.iloc[-1]
    return headline(
        fig,
        f"LoRA gets {first['value']:.0%} right with {first['trainable'] / full['trainable']:.1%} "
        f"of the parameters, {last['value']:.0%} with {last['trainable'] / full['trainable']:.0%}; "
        f"full fine-tuning {full['value']:.0%}",
    )


def plot_first_step(moved: pd.DataFrame) -> Figure:
    """Draw how far one step moves the logits against the rank, one line per scaling.

    Args:
        moved: index rank, one column per scaling; root mean square, nats.
    """
    fig, (axes,) = panels(1, 1, (9, 3.8))
    for name, colour in zip(moved, _LINE_COLOURS[::2], strict=True):
        axes.loglog(moved.index, moved[name], "o-", color=colour, linewidth=2)
        _label(axes, name, (moved.index[-1], moved[name].iloc[-1]), colour)
    axes.set(xlabel="rank", xlim=(moved.index[0] * 0.9, moved.index[-1] * 2.6))
    axes.set_xticks(list(moved.index), list(moved.index))
    low, high = moved.min().min(), moved.max().max()
    shown = [
        v for v in (1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5) if low / 2 < v < 2 * high
    ]
    axes.set_yticks(shown, [f"{value:g}" for value in shown])
    axes.minorticks_off()
    axes.set_title("how far one step moves the logits, nats (rms)", loc="left", size=12, color=INK)
    growth = (moved.iloc[-1] / moved.iloc[0]).items()
    growth_text = " and ".join(f"{factor:.1f} under {name}" for name, factor in growth)
    ends = f"From rank {moved.index[0]} to {moved.index[-1]}"
    return headline(fig, f"{ends}, the first step changes by a factor of {growth_text}")


def plot_merges(changes: pd.DataFrame) -> Figure:
    """Draw the share of answers that each way of merging an adapter changed, with intervals.

    Args:
        changes: index what it was merged into; columns `answers changed`, `low`, `high`, shares.
    """
    fig, (axes,) = panels(1, 1, (9, 3))
    for place, (low, high) in enumerate(zip(changes["low"], changes["high"], strict=True)):
        axes.plot(
            [100 * low, 100 * high], [place] * 2, color=METHOD_COLOURS["qlora"], lw=8, alpha=0.35
        )
    shares = 100 * changes["answers changed"]
    axes.plot(shares, range(len(changes)), "o", color=METHOD_COLOURS["qlora"], markersize=9)
    axes.set_yticks(range(len(changes)), changes.index, size=12, color=INK)
    axes.set(ylim=(len(changes) - 0.5, -0.5))
    axes.grid(axis="x", color="#e6e6e6")
    axes.set_title("greedy answers that changed, % of the prompts", loc="left", size=12, color=INK)
    shares_text = ", ".join(f"{share:.0f}% ({name})" for name, share in shares.items())
    return headline(fig, f"Share of answers that the merge changes: {shares_text}")


def plot_memory(frame: pd.DataFrame, *, unit: str, title: str, limits: Sequence[tuple] = ()) -> Any:
    """Draw memory as stacked bars, one per row, with lines for the limits of devices.

    Args:
        frame: index: the name of the bar; columns: parts, from the bottom up.
        unit: of the numbers.
        limits: (name, size) of each device.
    """
    fig, (axes,) = panels(1, 1, (10, 4.6))
    bottom = np.zeros(len(frame))
    for part in frame.columns:
        colour = MEMORY_COLOURS.get(part, MEMORY_COLOURS["rest"])
        axes.bar(frame.index, frame[part], bottom=bottom, color=colour, width=0.62, label=part)
        bottom += frame[part].to_numpy()
    for place, total in enumerate(bottom):
        axes.annotate(
            f"{total:,.0f}", (place, total), xytext=(0, 4), textcoords="offset points",
            ha="center", size=12, weight="bold", color=INK,
        )  # fmt: skip
    for name, size in limits:
        axes.axhline(size, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(name, (len(frame) - 0.45, size), va="bottom", ha="right", color=INK, size=11)
    axes.set_xlim(-0.5, len(frame) - 0.4)
    axes.legend(frameon=False, ncols=len(frame.columns), loc="upper left", fontsize=10.5)
    axes.set_title(unit, loc="left", size=12, color=INK)
    axes.set_ylim(0, 1.22 * max([*bottom, *(size for _, size in limits)]))
    return headline(fig, title)


def plot_scalings(rates: pd.DataFrame) -> Figure:
    """Draw the sweeps at a fixed alpha, one panel per scaling, with the best rates in the title.

    Args:
        rates: rows with `method` ("fixed-4", "rslora-64"; others are left out), `lr`, `loss`.
    """
    scalings = {"fixed": "alpha / r", "rslora": "alpha / sqrt(r)"}
    kind = rates["method"].map(kind_of)
    part = rates[kind.isin(scalings)].assign(panel=kind.map(scalings))
    best = part.loc[part.groupby("method")["loss"].idxmin()].set_index("method")["lr"]
    ranks = sorted(int(method.partition("-")[2]) for method in best.index)
    low, high = ranks[0], ranks[-1]
    changes = []
    for name, formula in scalings.items():
        first, last = (f"{best[f'{name}-{rank}']:g}" for rank in (low, high))
        change = f"stays at {first}" if first == last else f"goes from {first} to {last}"
        changes.append(f"{change} under {formula}")
    title = f"From rank {low} to {high}, the best rate {' and '.join(changes)}"
    return plot_learning_rates(part, title=title)


RL_COLOURS = {"full": INK, "lora-16": BLUES[4], "lora-1": BLUES[0]}


def plot_rl(trials: pd.DataFrame, finals: pd.DataFrame, *, title: str) -> Figure:
    """Draw GRPO with all weights and with adapters: the sweep of rates, and the runs at the best.

    Args:
        trials: `steps`, `method`, `rate`, and `right` in percent; the shortest length is drawn.
        finals: `steps`, `method`, and `right` in percent, one row per seed.
        title: the finding.
    """
    fig, (left, right) = panels(1, 2, (10, 4.2), sharey=True)
    lengths = sorted(finals["steps"].unique())
    for method, colour in RL_COLOURS.items():
        sweep = trials[(trials["steps"] == lengths[0]) & (trials["method"] == method)]
        sweep = sweep.sort_values("rate")
        left.plot(sweep["rate"], sweep["right"], "-o", color=colour, label=label_of(method))
    left.set(xscale="log", xlabel="learning rate")
    left.set_title(f"tuning sums after {lengths[0]} steps, one run each", loc="left", size=12)
    left.legend(frameon=False, fontsize=10.5, loc="lower right")
    for place, steps in enumerate(lengths):
        for shift, (method, colour) in zip((-0.24, 0, 0.24), RL_COLOURS.items(), strict=True):
            of_method = (finals["steps"] == steps) & (finals["method"] == method)
            seeds = finals.loc[of_method, "right"]
            at = place + shift
            right.plot([at - 0.04] * len(seeds), seeds, "o", color=colour, alpha=0.6, markersize=5)
            right.plot([at + 0.02, at + 0.12], [seeds.mean()] * 2, color=colour, linewidth=3)
    right.set_xticks(range(len(lengths)), [f"{steps} steps" for steps in lengths])
    right.set_title("held-out sums: a dot per seed, and the mean", loc="left", size=12)
    left.set_ylabel("right answers, %", color=INK)
    return headline(fig, title)


def plot_step_memory(parts: pd.DataFrame, step_s: Mapping[str, float]) -> Figure:
    """Draw the memory of a training step, one bar per method with its time.

    Args:
        parts: index method, with "full", "lora-16" and "qlora-16"; columns: parts, MiB.
        step_s: method to seconds per step.
    """
    total, fixed = parts.sum(axis=1), parts.drop(columns="activations").sum(axis=1)
    less, less_fixed = (
        [f"{1 - sizes[method] / sizes['full']:.0%}" for method in ("lora-16", "qlora-16")]
        for sizes in (total, fixed)
    )
    title = (
        f"LoRA 16 saves {less[0]} of a step's memory and QLoRA 16 {less[1]}; "
        f"without activations it would be {less_fixed[0]} and {less_fixed[1]}"
    )
    named = parts.set_axis([f"{m}\n{1000 * step_s[m]:.0f} ms per step" for m in parts.index])
    return plot_memory(named, unit="memory of a training step, MiB", title=title)


def kind_of(method: str) -> str:
    """The kind of a method: 'lora' for 'lora-8'."""
    return method.partition("-")[0]


def label_of(method: str, *, start: bool = False) -> str:
    """The name to show: 'LoRA 8' for 'lora-8'; with start=True, as at the start of a sentence."""
    kind, _, rank = method.partition("-")
    name = f"{METHOD_NAMES.get(kind, 'r =')} {rank}".strip()
    return name[0].upper() + name[1:] if start else name


def colour_of(method: str) -> str:
    """The colour of a method's kind; among LoRAs, darker for higher ranks."""
    kind, _, rank = method.partition("-")
    if kind in ("full", "qlora"):
        return METHOD_COLOURS[kind]
    return BLUES[min(int(math.log2(int(rank))), len(BLUES) - 1)]


_LINE_COLOURS = (METHOD_COLOURS["lora"], INK, METHOD_COLOURS["qlora"])


def _range(values: Any) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _apart(ends: Sequence[tuple[float, str]], gap: float) -> list[float]:
    """Heights for labels, ascending, moved up where they would overlap."""
    places: list[float] = []
    for end, _ in ends:
        places.append(max(end, places[-1] + gap) if places else end)
    return places


def _label(axes: Axes, text: str, at: Any, colour: str, *, below: int = 0, left: int = 0) -> None:
    offset = (-6, 0) if left else (8, -14 if below else 0)
    axes.annotate(
        text, tuple(at), xytext=offset, textcoords="offset points", color=colour, size=10.5,
        weight="bold", ha="right" if left else "left", va="center",
    )  # fmt: skip
