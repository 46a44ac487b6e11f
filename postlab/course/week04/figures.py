"""Week 4's figures: a reward model's calibration, a PPO run, overoptimisation, and the bandit.

Each takes a frame (or a log) and returns a closed figure; titles are computed from what is drawn.
They estimate nothing: values and intervals come with the frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import PALE, draw_seeds, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PPO = "#882255"  # its own colour: PPO isn't one of the twelve weeks' stages
POLICY_COLOURS = {
    "sft": STAGE_COLOURS["sft"],
    "ppo": PPO,
    "dpo": STAGE_COLOURS["dpo"],
    "optimum": INK,
}
POLICY_NAMES = {
    "sft": "SFT",
    "ppo": "PPO",
    "dpo": "DPO",
    "ref": "reference",
    "optimum": "closed form",
}
BETA_COLOURS = ("#882255", "#CC6677", "#999933", "#44AA99")  # from the smallest beta to the largest
GREY = "#666666"
MEASURED = {
    "proxy": "score of the reward model",
    "gold": "share of right replies",
    "kl": "KL from SFT, nats per reply",
}
CURVES = {  # name in the log of `scratch.ppo`: what the panel says
    "reward": "score of the reward model",
    "kl": "KL from SFT, nats per reply",
    "entropy": "entropy, nats per token",
    "clip_fraction": "share of clipped tokens",
    "explained_variance": "critic: variance explained",
    "length": "reply length, tokens",
}


def plot_calibration(frame: pd.DataFrame) -> Figure:
    """Draw how often a reward model ranks pairs correctly, by family and by its confidence.

    Args:
        frame: rows with `group` ('all', 'family' or 'confidence'), `label`, `value`, `low`, `high`;
            rows of confidence also `stated`, the mean probability of the preferred reply.
    """
    fig, (left, right) = panels(1, 2, (10, 4.1))
    families = frame[frame["group"] == "family"].reset_index(drop=True)
    for place, row in families.iterrows():
        _interval(left, place, row, f"{row['value']:.0%}")
    left.set_xticks(range(len(families)), families["label"], size=11.5)
    left.axhline(0.5, color=PALE, linewidth=1)
    left.text(len(families) - 0.55, 0.505, "coin flip", ha="right", va="bottom", color="#777777")
    left.set(xlim=(-0.5, len(families) - 0.5), ylim=(0.4, 1.05))
    left.set_title("share of held-out pairs in the right order", loc="left", size=12.5, color=INK)
    right.plot([0.5, 1], [0.5, 1], color=PALE, linewidth=1)
    right.text(0.665, 0.625, "perfect calibration", color="#777777")
    for _, row in frame[frame["group"] == "confidence"].iterrows():
        _interval(right, row["stated"], row, width=0.012)
    right.set(xlim=(0.48, 1.03), ylim=(0.4, 1.05), xlabel="probability the model gives its choice")
    right.set_title("share of these choices that are right", loc="left", size=12.5, color=INK)
    total, worst = frame[frame["group"] == "all"].iloc[0], families.loc[families["value"].idxmin()]
    return headline(
        fig,
        f"{total['value']:.0%} of held-out pairs in the right order ({total['low']:.0%} to "
        f"{total['high']:.0%}), {worst['value']:.0%} of those on {worst['label']}",
    )


def plot_ppo(log: Sequence[Mapping[str, float]], names: Sequence[str] = tuple(CURVES)) -> Figure:
    """Draw what `scratch.ppo.train` returned, one panel per statistic.

    Args:
        log: a dict of statistics per update.
        names: which statistics to draw.
    """
    rows = -(-len(names) // 3)
    fig, places = panels(rows, 3, (10, 0.6 + 2.2 * rows))
    for panel, name in zip(places, names, strict=False):
        values = np.array([entry[name] for entry in log])
        panel.plot(np.arange(1, len(log) + 1), values, color=PPO, linewidth=2.2)
        panel.set_title(CURVES[name], loc="left", size=12, color=INK)
        panel.margins(y=0.25)
    for panel in places[-3:]:
        panel.set_xlabel("PPO step", color=INK)
    part = max(1, len(log) // 6)
    old, new = (np.mean([e["reward"] for e in log[s]]) for s in (slice(part), slice(-part, None)))
    spent = np.mean([entry["kl"] for entry in log[-part:]])
    return headline(
        fig, f"PPO: score {old:.2f} \N{RIGHTWARDS ARROW} {new:.2f} for {spent:.1f} nats of KL"
    )


def plot_overoptimisation(frame: pd.DataFrame) -> Figure:
    """Draw proxy, gold and KL of PPO runs by step: a line per beta, thin ones for its seeds.

    Args:
        frame: rows with `beta`, `seed`, `step`, `proxy`, `gold`, `kl`, for PPO only.
    """
    fig, places = panels(1, 3, (10, 3.9))
    betas = sorted(frame["beta"].unique())
    for panel, (name, about) in zip(places, MEASURED.items(), strict=True):
        ends = []
        for beta, shade in zip(betas, BETA_COLOURS, strict=False):
            runs = frame[frame["beta"] == beta]
            mean = draw_seeds(panel, runs, name, colour=shade, widths=(1, 2.6))
            ends.append(
                (mean.index[-1], mean.iloc[-1], f"\N{GREEK SMALL LETTER BETA} {beta:g}", shade)
            )
        _label_ends(panel, ends)
        panel.set_title(about, loc="left", size=12, color=INK)
        panel.set_xlabel("PPO step", color=INK)
    return headline(fig, _overoptimisation_title(frame))


def plot_frontier(frame: pd.DataFrame, title: str) -> Figure:
    """Draw quality against KL: a dot per measurement, a large one for each beta's final mean.

    Args:
        frame: rows with `method`, `beta`, `seed`, `step`, `gold`, `kl`.
        title: the finding, computed by the caller.
    """
    fig, (panel,) = panels(1, 1, (10, 4.3))
    last = frame["step"].max()
    for method, runs in frame.groupby("method"):
        colour, below = POLICY_COLOURS[method], method == "ppo"
        panel.plot(runs["kl"], runs["gold"], "o", color=colour, alpha=0.3, markersize=4.5)
        ends = runs[runs["step"] == last].groupby("beta")[["kl", "gold"]].mean()
        panel.plot(ends["kl"], ends["gold"], "o", color=colour, ms=10, markeredgecolor="white")
        at: dict[str, Any] = {
            "xytext": (0, -19) if below else (9, -4),
            "ha": "center" if below else "left",
        }
        at |= {"textcoords": "offset points", "size": 11.5, "weight": "bold", "color": colour}
        for beta, end in ends.iterrows():
            panel.annotate(f"{POLICY_NAMES[method]} {beta:g}", tuple(end), **at)
    about = f"{MEASURED['gold']}; large dots: end of training, by beta"
    panel.set_title(about, loc="left", size=12, color=INK)
    panel.set_xscale("symlog", linthresh=1)
    panel.set_xticks([0, 0.5, 1, 3, 10, 30, 100], ["0", "0.5", "1", "3", "10", "30", "100"])
    panel.set_xlabel(MEASURED["kl"], color=INK)
    panel.margins(y=0.12)
    return headline(fig, title)


def _overoptimisation_title(frame: pd.DataFrame) -> str:
    beta = frame["beta"].min()
    mean = frame[frame["beta"] == beta].groupby("step")[["proxy", "gold"]].mean()
    best, last = mean.loc[mean["gold"].idxmax()], mean.iloc[-1]
    if last["gold"] > best["gold"] - 0.005:
        return f"Beta {beta:g}: the truth is still at its best at the end, {last['gold']:.0%}"
    return (
        f"Beta {beta:g}: the truth peaks at {best['gold']:.0%} and ends at {last['gold']:.0%}; "
        f"the proxy goes from {best['proxy']:.1f} to {last['proxy']:.1f}"
    )


def plot_bandit(frame: pd.DataFrame, title: str) -> Figure:
    """Draw the probability of every reply under several policies.

    Args:
        frame: one row per reply (its label is the index) and one column per policy, any of
            'ref', 'optimum', 'ppo' and 'dpo'.
        title: the finding, computed by the caller.
    """
    fig, (axes,) = panels(1, 1, (10, 3.9))
    width = 0.8 / len(frame.columns)
    for place, policy in enumerate(frame.columns):
        x = np.arange(len(frame)) + (place - (len(frame.columns) - 1) / 2) * width
        axes.bar(
            x,
            frame[policy],
            width,
            color=POLICY_COLOURS.get(policy, PALE),
            label=POLICY_NAMES[policy],
        )
    axes.set_xticks(range(len(frame)), frame.index, size=11.5)
    axes.set_title("probability of each reply", loc="left", size=12.5, color=INK)
    axes.legend(frameon=False, ncols=len(frame.columns), fontsize=11.5, loc="upper right")
    axes.margins(y=0.2)
    return headline(fig, title)


def plot_support(frame: pd.DataFrame, title: str) -> Figure:
    """Draw how probability is split between chosen replies, rejected replies and all others.

    Args:
        frame: rows with `metric`, `method`, `chosen`, `rejected` (mean probabilities).
        title: the finding, computed by the caller.
    """
    metrics = list(dict.fromkeys(frame["metric"]))
    fig, places = panels(1, len(metrics), (10, 3.4))
    for panel, metric in zip(places, metrics, strict=True):
        part = frame[frame["metric"] == metric]
        left = np.zeros(len(part))
        for name, colour in (("chosen", "#009E73"), ("rejected", "#D55E00"), ("other", PALE)):
            share = part[name] if name != "other" else 1 - part["chosen"] - part["rejected"]
            panel.barh([POLICY_NAMES[m] for m in part["method"]], share, left=left, color=colour)
            for y, (begin, wide) in enumerate(zip(left, share, strict=True)):
                if wide > 0.12:
                    text = {"x": begin + wide / 2, "y": y, "ha": "center", "va": "center"}
                    panel.text(s=f"{name}\n{wide:.0%}", size=10, color="white", **text)
            left = left + share.to_numpy()
        panel.set(xlim=(0, 1), xticks=[])
        panel.invert_yaxis()
        panel.set_title(metric, loc="left", size=12.5, color=INK)
    return headline(fig, title)


def plot_faults(frame: pd.DataFrame) -> Figure:
    """Draw how well a reward model ranks one family's pairs, by what is wrong with the rejected.

    Args:
        frame: a row per pair, with `fault` (a few words) and `margin`, the chosen reply's reward
            minus the rejected one's.
    """
    from postlab.stats import wilson

    fig, (left, right) = panels(1, 2, (10, 4.1))
    parts = {fault: part["margin"].to_numpy() for fault, part in frame.groupby("fault")}
    shares = {fault: wilson(float((m > 0).sum()), len(m)) for fault, m in parts.items()}
    for place, (fault, share) in enumerate(shares.items()):
        _interval(left, place, vars(share), f"{share.value:.0%}")
        bins = np.linspace(frame["margin"].min(), frame["margin"].max(), 28).tolist()
        colour = (INK, "#CC6677")[place % 2]
        right.hist(parts[fault], bins, histtype="step", color=colour, linewidth=2, label=fault)
    left.axhline(0.5, color=PALE, linewidth=1)
    left.text(0.5, 0.505, "coin flip", ha="center", va="bottom", color="#777777")
    left.set_xticks(
        range(len(parts)), [f"{f}\n(n = {len(m)})" for f, m in parts.items()], size=11.5
    )
    left.set(xlim=(-0.5, len(parts) - 0.5), ylim=(0.2, 1.05))
    left.set_title("share of pairs in the right order", loc="left", size=12.5, color=INK)
    right.axvline(0, color=PALE, linewidth=1)
    right.set(xlabel="reward of the chosen reply minus that of the rejected one")
    right.set_title("number of pairs", loc="left", size=12.5, color=INK)
    right.legend(frameon=False, fontsize=11, loc="upper left")
    listed = ", ".join(f"{share.value:.0%} against {fault}" for fault, share in shares.items())
    return headline(fig, f"How-to's in the right order: {listed}")


def plot_matched(frame: pd.DataFrame, title: str) -> Figure:
    """Draw where PPO and DPO end at one beta: a line joins the two runs on the same pairs.

    Args:
        frame: rows with `method`, `seed`, `gold`, `kl`, at the end of training.
        title: the finding, computed by the caller.
    """
    fig, places = panels(1, 2, (10, 3.9))
    methods = ("ppo", "dpo")
    for panel, name in zip(places, ("gold", "kl"), strict=True):
        table = frame.pivot_table(index="seed", columns="method", values=name)
        for _, row in table.iterrows():
            panel.plot((0, 1), [row[method] for method in methods], color=PALE, linewidth=1.5)
        for place, method in enumerate(methods):
            colour = POLICY_COLOURS[method]
            panel.plot([place] * len(table), table[method], "o", color=colour, markersize=8)
        panel.set_xticks((0, 1), [POLICY_NAMES[method] for method in methods], size=12)
        panel.margins(y=0.15)
        panel.set(xlim=(-0.4, 1.2))
        _label_ends(panel, [(1, end, f"seed {seed}", GREY) for seed, end in table["dpo"].items()])
        panel.set_title(MEASURED[name], loc="left", size=12.5, color=INK)
    return headline(fig, title)


def _interval(
    axes: Axes, x: float, row: Mapping[str, Any], text: str = "", *, width: float = 0.3
) -> None:
    """A point with its interval and a label above it."""
    axes.bar(x, row["high"] - row["low"], width, bottom=row["low"], color=INK, alpha=0.3)
    axes.plot(x, row["value"], "o", color=INK, markersize=6.5)
    at: dict[str, Any] = {
        "xytext": (0, 4),
        "textcoords": "offset points",
        "ha": "center",
        "size": 11,
    }
    axes.annotate(text, (x, row["high"]), color=INK, **at)


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """A label at the end of each line; labels that would overlap are pushed apart."""
    low, high = axes.get_ylim()
    gap, last = 0.055 * (high - low), -np.inf
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last + gap)
        axes.annotate(
            text,
            (x, y),
            xytext=(axes.get_xlim()[1], last),
            textcoords="data",
            va="center",
            size=11,
            weight="bold",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.3},
        )
