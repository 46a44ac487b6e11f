"""The figures of the extras on tools and on samplers; titles are computed, figures are closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from postlab.claims import INK
from postlab.course.extras.tools import KINDS, NEEDED
from postlab.show import FROZEN, GREY, PHONE, canvas, headline, note, panels, tokens

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TRAINED, REWARDED, BLAMED = "#cfe0f1", "#cdebd9", "#f2b8a0"
PRICES = ("#aab4ba", "#005f73", "#94602a", "#5b3a8c", INK)
CORRECTIONS = {"none": "#94602a", "TIS": "#005f73", "MIS": "#5b3a8c"}


def plot_episode(
    texts: Sequence[str], mask: Sequence[int], advantages: Sequence[float] | None = None
) -> Figure:
    """Draw a completion as its tokens, and which of them are trained.

    Args:
        texts: the completion's tokens, those of the tools included.
        mask: 1 on the tokens that the model wrote.
        advantages: of each token; colours the model's tokens by sign, and prints the value once
            a turn.
    """
    own = sum(mask)
    if advantages is None:
        title = f"The policy wrote {own} of these {len(mask)} tokens; only those are trained"
    else:
        turns = [a for i, (a, m) in enumerate(zip(advantages, mask, strict=True))
                 if m and (i == 0 or not mask[i - 1])]  # fmt: skip
        title = f"Advantage of each turn: {', '.join(f'{a:+.2f}' for a in turns)}"
    colours = []
    for index, trained in enumerate(mask):
        signed = TRAINED
        if advantages is not None and abs(advantages[index]) > 0.005:
            signed = REWARDED if advantages[index] > 0 else BLAMED
        colours.append(signed if trained else FROZEN)
    shown = [text.replace("\n", "\N{RETURN SYMBOL}") for text in texts]
    _, probe = canvas(PHONE, 100)
    rows = tokens(probe, (1, 1), shown, colours, size=11)
    height = rows[-1][1] + 9
    fig, axes = canvas(PHONE, height, title)
    tokens(axes, (1, 1), shown, colours, size=11)
    legend = "blue: the policy's" if advantages is None else "green: pushed up · red: pushed down"
    note(axes, (1, height - 2), f"{legend} · grey: template and tool, masked", size=11)
    return fig


def plot_calls(frame: pd.DataFrame, title: str) -> Figure:
    """Draw the calls per episode of each kind of question, a colour per arm, a dot per seed.

    Args:
        frame: rows with `arm`, `seed`, `kind` and `calls`.
        title: the finding.
    """
    fig, (panel,) = panels(1, 1, (10, 4.2))
    arms = list(dict.fromkeys(frame["arm"]))
    width = 0.8 / len(arms)
    for place, kind in enumerate(KINDS):
        left, right = place - 0.42, place + 0.42
        needed = panel.hlines(NEEDED[kind], left, right, color=GREY, linewidth=1.5, linestyle="--")
        if place == 0:
            needed.set_label("calls that it takes")
        for index, (arm, colour) in enumerate(zip(arms, PRICES, strict=False)):
            rows = frame[(frame["arm"] == arm) & (frame["kind"] == kind)]["calls"]
            at = place + width * (index - (len(arms) - 1) / 2)
            panel.bar(at, rows.mean(), 0.9 * width, color=colour, alpha=0.75,
                      label=arm if place == 0 else None)  # fmt: skip
            panel.plot([at] * len(rows), rows, "o", color=INK, markersize=3.5)
    panel.set_xticks(range(len(KINDS)), KINDS, size=12)
    panel.set_ylabel("calls per episode", color=INK)
    panel.legend(frameon=False, fontsize=11, loc="upper left", ncols=2)
    return headline(fig, title)


def plot_trust(frame: pd.DataFrame, title: str) -> Figure:
    """Draw the share of right answers with honest and with lying tools, a panel per arm.

    Args:
        frame: rows with `arm`, `seed`, `kind`, `tools` ("honest" or "lying") and `right`.
        title: the finding.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    fig, every = panels(1, len(arms), (10, 3.6), sharey=True)
    for panel, arm in zip(every, arms, strict=True):
        for index, (name, colour) in enumerate({"honest": "#005f73", "lying": "#c8553d"}.items()):
            for place, kind in enumerate(KINDS):
                kept = (frame["arm"] == arm) & (frame["kind"] == kind) & (frame["tools"] == name)
                rows, at = frame[kept]["right"], place + 0.36 * (index - 0.5)
                panel.bar(at, rows.mean(), 0.32, color=colour, alpha=0.75,
                          label=f"{name} calculator" if place == 0 else None)  # fmt: skip
                panel.plot([at] * len(rows), rows, "o", color=INK, markersize=3.5)
        panel.set_xticks(range(len(KINDS)), KINDS, size=11)
        panel.set_title(arm, loc="left", size=12, color=INK)
        panel.set_ylim(0, 1.32)
        panel.set_yticks([0, 0.25, 0.5, 0.75, 1])
    every[0].set_ylabel("held-out answers right", color=INK)
    every[0].legend(frameon=False, fontsize=11, loc="upper left", ncols=2)
    return headline(fig, title)


def plot_corrections(frame: pd.DataFrame, title: str) -> Figure:
    """Draw held-out accuracy by step, a panel per sampler, a colour per correction.

    Args:
        frame: rows with `sampler`, `correction`, `seed`, `step` and `accuracy`; the sampler
            "same" is drawn in grey in every panel.
        title: the finding.
    """
    same = frame[frame["sampler"] == "same"]
    samplers = [name for name in dict.fromkeys(frame["sampler"]) if name != "same"]
    fig, every = panels(1, len(samplers), (10, 3.7), sharey=True)
    for panel, sampler in zip(every, samplers, strict=True):
        mean = same.groupby("step")["accuracy"].mean()
        panel.plot(mean.index, mean, color=GREY, linewidth=5, alpha=0.45, label="the policy itself")
        for name, colour in CORRECTIONS.items():
            rows = frame[(frame["sampler"] == sampler) & (frame["correction"] == name)]
            for _, run in rows.groupby("seed"):
                panel.plot(run["step"], run["accuracy"], color=colour, alpha=0.35, linewidth=1)
            mean = rows.groupby("step")["accuracy"].mean()
            label = {"none": "no correction"}.get(name, name)
            panel.plot(mean.index, mean, "-o", color=colour, linewidth=2.2, markersize=4,
                       label=label)  # fmt: skip
        panel.set_title(f"sampler: {sampler}", loc="left", size=12, color=INK)
        panel.set_xlabel("update", color=INK)
        panel.set_ylim(0, 1.03)
    every[0].set_ylabel("held-out sums right", color=INK)
    every[0].legend(
        frameon=True, framealpha=0.9, edgecolor="none", fontsize=10.5, loc="lower right"
    )
    return headline(fig, title)
