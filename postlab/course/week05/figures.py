"""Week 5's figures: log-probs during training, margins, length, variants, rate and beta.

Each takes a frame and returns a closed figure; titles are computed from what is drawn. Seeds are
single points or thin lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import PALE, draw_seeds, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SIDE_COLOURS = {"chosen": "#117733", "rejected": "#882255"}


def plot_logps(frame: pd.DataFrame, arms: Sequence[str]) -> Figure:
    """Draw log-probs of chosen and rejected replies by training step, one panel per arm.

    Args:
        frame: rows with `arm`, `seed`, `step`, `logps/chosen`, `logps/rejected`.
        arms: which to draw, in order.
    """
    fig, places = panels(1, len(arms), (10, 3.7), sharey=True)
    phrases = []
    for panel, arm in zip(places, arms, strict=True):
        runs = frame[frame["arm"] == arm]
        for side, colour in SIDE_COLOURS.items():
            name = f"logps/{side}"
            mean = draw_seeds(panel, runs, name, colour=colour, widths=(1, 2.4))
            at = (mean.index[-1], mean.iloc[-1])
            panel.annotate(
                side,
                at,
                (-2, 16 if side == "rejected" else 5),
                textcoords="offset points",
                ha="right",
                color=colour,
            )
            if side == "chosen":
                phrases.append(f"{arm} {mean.iloc[0]:.1f} to {mean.iloc[-1]:.1f}")
        panel.set_title(arm, loc="left", size=12, color=INK)
        panel.set_xlabel("step", color=INK)
    places[0].set_ylabel("log-prob of a reply, nats", color=INK)
    return headline(fig, f"Chosen replies' log-prob over training: {'; '.join(phrases)}")


def plot_arms(frame: pd.DataFrame, arms: Sequence[str], measures: Mapping[str, str]) -> Figure:
    """Draw held-out measures of recorded runs: one point per seed, one panel per measure.

    Args:
        frame: rows with `arm`, `seed` and each measure.
        arms: rows of the figure, from the top.
        measures: {column: title of its panel}; the headline is about the first one.
    """
    fig, places = panels(1, len(measures), (10, 1.3 + 0.5 * len(arms)), sharey=True)
    for panel, (name, about) in zip(places, measures.items(), strict=True):
        for place, arm in enumerate(arms):
            values = frame.loc[frame["arm"] == arm, name]
            panel.plot(
                values, [place] * len(values), "o", color=STAGE_COLOURS["dpo"], alpha=0.6, ms=7
            )
            panel.plot(values.mean(), place, "|", color=INK, ms=16, mew=2)
        panel.set_title(about, loc="left", size=11.5, color=INK)
        panel.margins(x=0.15)
    places[0].set_yticks(range(len(arms)), arms, size=11.5)
    places[0].set_ylim(len(arms) - 0.5, -0.5)
    name, about = next(iter(measures.items()))
    ends = "; ".join(f"{a} {frame.loc[frame['arm'] == a, name].mean():.2f}" for a in arms)
    return headline(fig, f"{about[0].upper()}{about[1:]}: {ends}")


def plot_gains(gains: pd.DataFrame) -> Figure:
    """Draw by family what chosen and rejected replies gained in log-probability, with intervals.

    Args:
        gains: one row per family: `family`, and for each side its mean and 95% interval in nats,
            as `chosen`, `chosen_low`, `chosen_high`, and the same for `rejected`.
    """
    fig, (panel,) = panels(1, 1, (9, 1.4 + 0.5 * len(gains)))
    panel.axvline(0, color=INK, linewidth=1)
    for (side, colour), away in zip(SIDE_COLOURS.items(), (-0.14, 0.14), strict=True):
        rows = [place + away for place in range(len(gains))]
        panel.hlines(rows, gains[f"{side}_low"], gains[f"{side}_high"], color=colour, linewidth=2)
        panel.plot(gains[side], rows, "o", ms=7, color=colour, label=side)
    panel.set_yticks(range(len(gains)), gains["family"], size=11.5)
    panel.set_ylim(len(gains) - 0.5, -0.5)
    panel.set(xlabel="gain in log-probability since the start, nats per reply")
    panel.legend(frameon=False, loc="lower left")
    both = ((gains["chosen_high"] < 0) & (gains["rejected_high"] < 0)).sum()
    return headline(fig, f"Chosen and rejected both fell in {both} of {len(gains)} families")


def plot_margins(margins: Mapping[str, Sequence[float]]) -> Figure:
    """Draw each group's margins as a histogram with common bins; training starts at 0.

    Args:
        margins: group -> the margins of its pairs, in nats times beta.
    """
    fig, (panel,) = panels(1, 1, (9, 3.6))
    values = {name: np.asarray(group, dtype=float) for name, group in margins.items()}
    edges = np.histogram_bin_edges(np.concatenate([*values.values(), [0.0]]), 30)
    shades = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999933")
    stacked, colours = list(values.values()), shades[: len(values)]
    panel.hist(stacked, edges.tolist(), stacked=True, color=colours, label=list(values))
    panel.axvline(0, color=INK, linewidth=1)
    panel.legend(frameon=False, ncols=2)
    panel.set(xlabel="implicit margin, beta times nats", ylabel="held-out pairs")
    everything = np.concatenate(list(values.values()))
    worst = min(values, key=lambda name: (values[name] > 0).mean())
    return headline(
        fig,
        f"{(everything > 0).mean():.0%} of {len(everything)} held-out pairs have a "
        f"positive margin, {(values[worst] > 0).mean():.0%} of those on {worst}",
    )


def plot_length(
    extra: Sequence[float], margins: Sequence[float], *, slope: float, intercept: float
) -> Figure:
    """Draw margins over the chosen reply's extra tokens, with the fitted line.

    Args:
        extra: tokens by which each chosen reply is longer than the rejected one.
        margins: of the same pairs, in nats times beta.
        slope: of the line, in margin per token.
        intercept: of the line: the margin of two equally long replies.
    """
    fig, (panel,) = panels(1, 1, (9, 3.6))
    x = np.asarray(extra, dtype=float)
    panel.axhline(0, color=PALE, linewidth=1)
    panel.plot(x, margins, "o", color=STAGE_COLOURS["dpo"], alpha=0.5)
    ends = np.array([x.min(), x.max()])
    panel.plot(ends, intercept + slope * ends, color=INK, linewidth=2)
    panel.set(xlabel="tokens by which the chosen reply is longer", ylabel="implicit margin")
    return headline(
        fig, f"Each extra token goes with {slope:+.2f} of margin; {intercept:.1f} at equal length"
    )


def plot_grid(grid: pd.DataFrame, *, start: float) -> Figure:
    """Draw the score and the KL of every combination of learning rate and beta.

    Args:
        grid: one row per combination: `rate`, `beta`, `score` (0 to 1), `kl` (nats), and `chosen`,
            True for the combination with the best score on tuning prompts.
        start: the score before training; a combination below it is marked as collapsed.
    """
    fig, places = panels(1, 2, (10, 4.2), sharey=True)
    rates, betas = sorted(grid["rate"].unique()), sorted(grid["beta"].unique())
    drawn = (
        ("score", "mean score of six families", "{:.0%}"),
        ("kl", "KL from SFT, nats", "{:.2f}"),
    )
    for panel, (name, about, form) in zip(places, drawn, strict=True):
        table = grid.pivot(index="rate", columns="beta", values=name).loc[rates, betas].to_numpy()
        shade = np.log10(table + 0.01) if name == "kl" else table
        panel.imshow(shade, cmap="Blues" if name == "score" else "Oranges", aspect="auto",
                     origin="lower", alpha=0.7)  # fmt: skip
        for _, cell in grid.iterrows():
            at = (betas.index(cell["beta"]), rates.index(cell["rate"]))
            below = cell["score"] < start
            text = form.format(cell[name])
            if name == "score":
                text += "\ncollapsed" if below else "\nbest in tuning" if cell["chosen"] else ""
            panel.annotate(
                text, at, ha="center", va="center", size=12, color=INK,
                weight="bold" if below or cell["chosen"] else "normal",
                bbox={"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.75},
            )  # fmt: skip
        panel.grid(visible=False)
        panel.set_xticks(range(len(betas)), [f"{beta:g}" for beta in betas])
        panel.set_yticks(range(len(rates)), [scientific(rate) for rate in rates])
        panel.set_title(about, loc="left", size=12, color=INK)
        panel.set_xlabel("beta", color=INK)
    places[0].set_ylabel("learning rate", color=INK)
    count = int((grid["score"] < start).sum())
    return headline(
        fig,
        f"{count} of {len(grid)} combinations of learning rate and beta end below the start "
        f"({start:.0%})",
    )


def scientific(rate: float) -> str:
    """A learning rate as people write it.

    >>> scientific(0.0004), scientific(0.0016)
    ('4e-4', '1.6e-3')
    """
    digits, exponent = f"{rate:.1e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
