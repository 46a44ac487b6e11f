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
from postlab.panels import draw_moves, headline, panels
from postlab.recorded import numbers

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
        runs: with `arm`, `seed`, `log` (a list of numbers per name) and `heldout` (looks, each with
            a `step` and the `truth` by metric, a number a prompt).
    """
    import pandas as pd

    steps, looks = [], []
    for run in runs:
        who = {"arm": run["arm"], "seed": run["seed"]}
        log = {name: numbers(run["log"][name]) for name in ("step", "proxy", "truth")}
        steps.append(pd.DataFrame(log).assign(**who))
        for look in run["heldout"]:
            told = [numbers(v).mean() for name, v in look["truth"].items() if name in METRICS]
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
    return np.mean([np.concatenate([numbers(one[m]) for m in metrics]) for one in told], axis=0)


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
    fig, (panel,) = panels(1, 1, (10, 1.4 + 0.62 * len(arms)))
    shown = frame[frame["metric"].isin(METRICS)].reset_index(drop=True)
    places = shown["metric"].map(list(METRICS).index).sort_values(kind="stable")
    draw_moves(panel, shown.loc[places.index], METRICS, SPREAD)
    whole = frame[frame["metric"] == "truth"].set_index("arm")["points"]
    said = ", ".join(f"{arm} {whole[arm]:+.0f}" for arm in arms)
    return headline(fig, f"Truth, in points over the start: {said}")
