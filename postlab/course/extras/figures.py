"""The extras' figures: each takes a frame and returns a closed figure; titles are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from postlab.claims import INK, STAGE_COLOURS
from postlab.show import GREY, PALE, draw_moves, draw_seeds, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ARM_COLOURS = {
    "reverse KL": "#005f73", "forward KL": "#94602a", "GRPO": STAGE_COLOURS["grpo"],
    "SFT": STAGE_COLOURS["sft"],
}  # fmt: skip
FAMILY_COLOURS = {
    "arithmetic": INK, "lists": "#94602a", "facts": "#005f73", "helpfulness": STAGE_COLOURS["dpo"],
    "safety": STAGE_COLOURS["sft"], "honesty": STAGE_COLOURS["cai"],
}  # fmt: skip


def plot_verdict(texts: Sequence[str], nats: Sequence[float]) -> Figure:
    """Draw the KL from student to teacher at each token of one answer of the student's.

    Args:
        texts: the answer's tokens.
        nats: the same number of KLs.
    """
    fig, (panel,) = panels(1, 1, (9, 2.9))
    top = max(range(len(nats)), key=nats.__getitem__)
    colours = [INK if i == top else PALE for i in range(len(nats))]
    panel.bar(range(len(nats)), nats, color=colours)
    panel.set_xticks(range(len(nats)), [text.replace("$", r"\$") for text in texts], size=11)
    panel.set_ylabel("KL, nats", color=INK)
    share = nats[top] / sum(nats)
    return headline(
        fig, f"Token {top + 1} of {len(nats)} gets {share:.0%} of the teacher's objection"
    )


def plot_thinking(frame: pd.DataFrame) -> Figure:
    """Draw reward and length of RL runs by step: a thin line per seed, a thick one for the mean.

    Args:
        frame: rows with `seed`, `step`, `reward` and `tokens` (mean length of an answer).
    """
    fig, both = panels(1, 2, (10, 3.5))
    ends, titles = {}, {"reward": "reward", "tokens": "tokens per answer"}
    for panel, (name, about) in zip(both, titles.items(), strict=True):
        mean = draw_seeds(panel, frame, name, colour=STAGE_COLOURS["grpo"], window=5)
        ends[name] = (frame.loc[frame["step"] == frame["step"].min(), name].mean(), mean.iloc[-1])
        panel.set_title(f"{about}, mean over 5 steps", loc="left", size=12.5, color=INK)
        panel.set_xlabel("step", color=INK)
        panel.set_ylim(0)
    reward, tokens = ends["reward"], ends["tokens"]
    return headline(
        fig,
        f"With the reward ({reward[0]:.2f} to {reward[1]:.2f}), the answers grow from "
        f"{tokens[0]:.0f} to {tokens[1]:.0f} tokens, though nobody pays for length",
    )


def plot_budget(frame: pd.DataFrame) -> Figure:
    """Draw accuracy against the tokens that a model may think for.

    Args:
        frame: rows with `budget` (tokens), `value`, `low`, `high` and `cut` (shares).
    """
    fig, (panel,) = panels(1, 1, (8, 3.7))
    x, colour = frame["budget"], STAGE_COLOURS["grpo"]
    panel.fill_between(x, 100 * frame["low"], 100 * frame["high"], color=colour, alpha=0.2, lw=0)
    panel.plot(x, 100 * frame["value"], "-o", color=colour, linewidth=2.4, label="right answers")
    panel.plot(x, 100 * frame["cut"], "--", color=GREY, linewidth=1.6, label="cut off")
    panel.set_xlabel("budget: tokens before the answer is forced", color=INK)
    panel.set_title("held-out sums, %", loc="left", size=12.5, color=INK)
    panel.legend(frameon=False, loc="center right")
    first, last = frame.iloc[0], frame.iloc[-1]
    return headline(
        fig,
        f"Forced to answer after {first['budget']:.0f} tokens, {first['value']:.0%} of the sums "
        f"are right; after {last['budget']:.0f}, {last['value']:.0%}",
    )


def plot_curves(frame: pd.DataFrame, *, target: float = 0.95) -> Figure:
    """Draw held-out accuracy against tokens and against compute, a line per method.

    Args:
        frame: rows with `arm`, `seed`, `tokens`, `passes` (thousands each) and `accuracy`; the row
            at 0 tokens is the start.
        target: the accuracy that the title asks for.
    """
    fig, both = panels(1, 2, (10, 3.9), sharey=True)
    units = {
        "tokens": "completion tokens trained on, thousands",
        "passes": "compute: tokens through a model, thousands",
    }
    for panel, name in zip(both, units, strict=True):
        for arm, runs in frame.groupby("arm", sort=False):
            for _, run in runs.groupby("seed"):
                panel.plot(
                    run[name], run["accuracy"], color=ARM_COLOURS[arm], alpha=0.3, linewidth=1
                )
            mean = runs.groupby("step")[[name, "accuracy"]].mean()
            panel.plot(
                mean[name], mean["accuracy"], "--o" if arm == "forward KL" else "-o",
                color=ARM_COLOURS[arm], linewidth=2.4,
                markersize=4, label=arm,
            )  # fmt: skip
        panel.set_xlabel(units[name], color=INK)
        panel.set_ylim(0, 1.03)
    both[0].set_ylabel("held-out sums right", color=INK)
    both[1].legend(frameon=False, fontsize=11, loc="lower right")
    reached = []
    for arm, runs in frame.groupby("arm", sort=False):
        mean = runs.groupby("step")[["tokens", "accuracy"]].mean()
        there = mean[mean["accuracy"] >= target]
        reached.append(
            f"{arm} {1000 * there['tokens'].iloc[0]:.0f}" if len(there) else f"{arm} never"
        )
    return headline(fig, f"Tokens until {target:.0%} are right: {', '.join(reached)}")


def plot_families(frame: pd.DataFrame, title: str) -> Figure:
    """Draw how far each arm moved each family, with intervals over seeds.

    Args:
        frame: as `draw_moves` takes it; `metric` is one of `FAMILY_COLOURS`.
        title: the finding.
    """
    rows = frame["arm"].nunique()
    fig, (panel,) = panels(1, 1, (10, 0.95 * rows + 1.6))
    draw_moves(panel, frame, FAMILY_COLOURS, 0.13)
    panel.set_xlabel("points on held-out prompts, against the start; 95% intervals", color=INK)
    return headline(fig, title)


def plot_ratios(frame: pd.DataFrame) -> Figure:
    """Draw the distribution of |log p - log q| per token, a line per sampler.

    Args:
        frame: rows with `sampler` and `log_ratio`, nats.
    """
    import numpy as np

    fig, (panel,) = panels(1, 1, (9, 3.6))
    edges = np.logspace(-6, 1, 43)
    names = list(dict.fromkeys(frame["sampler"]))
    shades = ["#94602a", "#005f73", STAGE_COLOURS["dpo"], STAGE_COLOURS["cai"], INK, GREY]
    kls = {}
    for name, colour in zip(names, shades, strict=False):
        ratios = frame.loc[frame["sampler"] == name, "log_ratio"]
        counts, _ = np.histogram(ratios.abs().clip(lower=1.1e-6), edges)
        panel.step(
            edges[:-1], counts / len(ratios), where="post", color=colour, linewidth=2, label=name
        )
        kls[name] = -ratios.mean()
    panel.set_xscale("log")
    panel.set(
        xlabel="|log p \N{MINUS SIGN} log q| of a sampled token, nats", ylabel="share of tokens"
    )
    panel.legend(frameon=False, fontsize=11)
    first, last = names[0], max(kls, key=kls.__getitem__)
    return headline(
        fig, f"KL per token: {kls[first]:.2g} nats with {first}, {kls[last]:.2g} with {last}"
    )


def plot_turns(frame: pd.DataFrame) -> Figure:
    """Draw what each way of training on conversations reaches on each kind of prompt.

    Args:
        frame: rows with `arm`, `kind` (of prompt) and `seeds`, the share of right answers of each
            seed; arms and kinds in their order. The first and the last arm of the last kind are the
            finding.
    """
    kinds, arms = (list(dict.fromkeys(frame[name])) for name in ("kind", "arm"))
    fig, places = panels(1, len(kinds), (9, 0.5 * len(arms) + 1.6), sharey=True)
    for panel, kind in zip(places, kinds, strict=True):
        shares = frame[frame["kind"] == kind].set_index("arm")["seeds"]
        for y, arm in enumerate(arms):
            mean = sum(shares[arm]) / len(shares[arm])
            panel.plot(shares[arm], [y] * len(shares[arm]), "|", color=INK, ms=10, mew=1.5)
            panel.plot(mean, y, "o", color=INK, ms=8)
            panel.annotate(
                f"{mean:.0%}", (mean, y), (0, 8), textcoords="offset points", ha="center", size=11,
                color=INK,
            )  # fmt: skip
        panel.set(xlim=(-0.08, 1.1), ylim=(len(arms) - 0.5, -0.7))
        panel.set_xticks([0, 0.5, 1], ["0", "50%", "100%"], size=11)
        panel.set_yticks(range(len(arms)), arms, size=11.5)
        panel.set_title(kind, loc="left", size=12.5, color=INK)
    places[0].set_xlabel("right answers; dot: mean, stroke: one seed", color=INK, loc="left")
    last = frame[frame["kind"] == kinds[-1]].set_index("arm")["seeds"]
    first, best = (sum(last[arm]) / len(last[arm]) for arm in (arms[0], arms[-1]))
    title = (
        f"{kinds[-1].capitalize()}: {first:.0%} right after {arms[0]}, {best:.0%} after {arms[-1]}"
    )
    return headline(fig, title)
