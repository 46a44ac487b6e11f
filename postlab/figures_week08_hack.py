"""Week 8's figures on a reward with a hole: proxy and truth by step, and what each repair moved.

`curves` and `by_prompt` read the recorded runs of data/results/week08/hack.json. The others take
frames and return a closed figure; titles are computed from what is drawn. Left out: any estimate.
Values and intervals come with the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.comparison import COLOURS, INK
from postlab.panels import GREY, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PROXY, TRUTH = COLOURS["multi"], COLOURS["grpo"]
WINDOW = 5  # steps that a curve is averaged over
SPREAD = 0.16  # between two metrics of one arm, in rows
METRICS = {
    "safety": COLOURS["sft"],
    "honesty": COLOURS["cai"],
    "helpfulness": COLOURS["dpo"],
    "facts": COLOURS["prm"],
    "truth": TRUTH,
}


def curves(runs: Iterable[Mapping[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was paid and true by step, and the truth on held-out prompts, as `plot_proxy` wants it.

    Args:
        runs: with `arm`, `seed`, `log` (numbers in a text by name) and `heldout` (looks, each with
            a `step` and the `truth` by metric, a number a prompt).
    """
    import pandas as pd

    steps, looks = [], []
    for run in runs:
        who = {"arm": run["arm"], "seed": run["seed"]}
        log = {name: _numbers(run["log"][name]) for name in ("step", "proxy", "truth")}
        steps.append(pd.DataFrame(log).assign(**who))
        for look in run["heldout"]:
            told = [_numbers(v).mean() for name, v in look["truth"].items() if name in METRICS]
            looks.append(who | {"step": look["step"], "truth": float(np.mean(told))})
    return pd.concat(steps), pd.DataFrame(looks)


def by_prompt(
    runs: Sequence[Mapping[str, Any]], metrics: Sequence[str], *, look: int
) -> np.ndarray:
    """What is true of each held-out prompt's answer, the mean over the runs' seeds.

    Args:
        runs: of one arm, as for `curves`.
        metrics: each is of prompts of its own; they are put one after the other.
        look: 0 is the start, -1 the end.
    Returns:
        (prompts,) from 0 to 1.
    """
    told = [run["heldout"][look]["truth"] for run in runs]
    return np.mean([np.concatenate([_numbers(one[m]) for m in metrics]) for one in told], axis=0)


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=float)


def plot_proxy(steps: pd.DataFrame, looks: pd.DataFrame) -> Figure:
    """Draw what was paid and what was true by step, a panel an arm, a thin line a seed.

    Args:
        steps: rows with `arm`, `seed`, `step`, and of the training answers `proxy`, the mean of
            what was paid, and `truth`, the share that the oracle calls good.
        looks: rows with `arm`, `seed`, `step` and `truth`, of held-out prompts.
    """
    arms = list(dict.fromkeys(steps["arm"]))
    fig, places = panels(1, len(arms), (10, 3.2), sharey=True)
    said = []
    for panel, arm in zip(places, arms, strict=True):
        runs, seen = steps[steps["arm"] == arm], looks[looks["arm"] == arm]
        ends = {}
        for name, colour, about in (
            ("proxy", PROXY, "what is paid"),
            ("truth", TRUTH, "what is true"),
        ):
            for _, run in runs.groupby("seed"):
                smooth = run[name].rolling(WINDOW, min_periods=1).mean()
                panel.plot(run["step"], smooth, color=colour, alpha=0.35, linewidth=1.2)
            mean = runs.groupby("step")[name].mean().rolling(WINDOW, min_periods=1).mean()
            panel.plot(mean.index, mean, color=colour, linewidth=2.6, label=about)
            ends[name] = runs.groupby("step")[name].mean()
        held = seen.groupby("step")["truth"].mean()
        panel.plot(
            held.index, held, "o", color=TRUTH, markersize=8, markerfacecolor="white",
            markeredgewidth=2, label="what is true, held out",
        )  # fmt: skip
        panel.set_title(arm, loc="left", size=12.5, color=INK)
        panel.set_xlabel("step", color=INK)
        panel.set_ylim(-0.03, 1.05)
        paid = ends["proxy"]
        first, last = paid.iloc[:WINDOW].mean(), paid.iloc[-WINDOW:].mean()
        said.append(
            f"{arm}: paid {first:.2f} to {last:.2f}, true {held.iloc[0]:.2f} to {held.iloc[-1]:.2f}"
        )
    places[0].set_ylabel(f"mean of {WINDOW} steps", color=INK)
    places[0].legend(frameon=False, loc="lower left", fontsize=10.5)
    return headline(fig, "; ".join(said))


def plot_repairs(frame: pd.DataFrame) -> Figure:
    """Draw how far each arm moved each metric from its start, with intervals; a row an arm.

    Args:
        frame: rows with `arm`, `metric` (of METRICS), `points`, `low`, `high`, against the start.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    metrics = [name for name in METRICS if name in set(frame["metric"])]
    fig, (panel,) = panels(1, 1, (10, 1.4 + 0.62 * len(arms)))
    for place, arm in enumerate(arms):
        rows = frame[frame["arm"] == arm].set_index("metric")
        for index, name in enumerate(name for name in metrics if name in rows.index):
            row, at = rows.loc[name], place + SPREAD * (index - (len(rows) - 1) / 2)
            label = name if place == 0 else None
            panel.hlines(at, row["low"], row["high"], color=METRICS[name], linewidth=3, alpha=0.55)
            panel.plot(row["points"], at, "o", color=METRICS[name], markersize=7, label=label)
    panel.axvline(0, color=GREY, linewidth=1)
    panel.grid(visible=False, axis="y")
    panel.set_yticks(range(len(arms)), arms, size=11.5)
    panel.set_ylim(len(arms) - 0.45, -0.55)
    panel.set_xlabel("points on held-out prompts over the start, with 95% intervals", color=INK)
    panel.legend(
        frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, fontsize=11
    )
    whole = frame[frame["metric"] == "truth"].set_index("arm")["points"]
    said = ", ".join(f"{arm} {whole[arm]:+.0f}" for arm in arms)
    return headline(fig, f"Truth, in points over the start: {said}")
