"""Week 8's figures on a reward with a hole: proxy and truth by step, and what each repair did.

`curves` and `by_prompt` read the recorded runs of data/results/week08/hack.json. The others take
frames and return a closed figure; titles are computed from what is drawn. Left out: any estimate.
Values and intervals come with the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.recorded import numbers
from postlab.show import draw_moves, draw_seeds, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PROXY_COLOUR, TRUTH_COLOUR = STAGE_COLOURS["multi"], STAGE_COLOURS["grpo"]
WINDOW = 5  # steps that a curve is averaged over
SPREAD = 0.16  # between two metrics of one arm, in rows
METRIC_COLOURS = {
    "safety": STAGE_COLOURS["sft"],
    "honesty": STAGE_COLOURS["cai"],
    "helpfulness": STAGE_COLOURS["dpo"],
    "facts": STAGE_COLOURS["prm"],
    "truth": TRUTH_COLOUR,
}


def curves(
    runs: Iterable[Mapping[str, Any]], judge: Callable[[str, str], float] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reward and truth by step, and both on held-out prompts, in the form of `plot_proxy`.

    Args:
        runs: with `arm`, `seed`, `log` (a list of numbers per name) and `heldout` (looks, each with
            a `step`, the `truth` by metric, a number per prompt, and either `proxy`, a number per
            prompt, or some `answers`, pairs of request and reply).
        judge: the reward of a request and a reply; scores the answers of a look without `proxy`.
    """
    import pandas as pd

    steps, looks = [], []
    for run in runs:
        who = {"arm": run["arm"], "seed": run["seed"]}
        log = {name: numbers(run["log"][name]) for name in ("step", "proxy", "truth")}
        steps.append(pd.DataFrame(log).assign(**who))
        for look in run["heldout"]:
            truths = [
                numbers(v).mean() for name, v in look["truth"].items() if name in METRIC_COLOURS
            ]
            row = who | {"step": look["step"], "truth": float(np.mean(truths))}
            if "proxy" in look:
                row["proxy"] = float(numbers(look["proxy"]).mean())
            elif judge is not None:
                row["proxy"] = float(np.mean([judge(*pair) for pair in look["answers"]]))
            looks.append(row)
    return pd.concat(steps), pd.DataFrame(looks)


def by_prompt(
    runs: Sequence[Mapping[str, Any]], metrics: Sequence[str], *, look: int
) -> np.ndarray:
    """How good the answer to each held-out prompt is: the mean over the runs' seeds.

    Args:
        runs: of one arm, as for `curves`.
        metrics: each has prompts of its own; they are concatenated.
        look: 0 is the start, -1 the end.
    Returns:
        (prompts,) from 0 to 1.
    """
    truths = [run["heldout"][look]["truth"] for run in runs]
    return np.mean([np.concatenate([numbers(one[m]) for m in metrics]) for one in truths], axis=0)


def plot_proxy(steps: pd.DataFrame, looks: pd.DataFrame) -> Figure:
    """Draw the reward and the truth by step: a panel per arm, a thin line per seed.

    Args:
        steps: rows with `arm`, `seed`, `step`, and of the training answers `proxy`, the mean
            reward, and `truth`, the share that the oracle calls good.
        looks: rows with `arm`, `seed`, `step` and `truth`, of held-out prompts, which are the same
            at every look; with `proxy`, too, if the reward was computed for them.
    """
    arms = list(dict.fromkeys(steps["arm"]))
    fig, places = panels(1, len(arms), (10, 3.2), sharey=True)
    kinds = [("proxy", PROXY_COLOUR, "reward (proxy)"), ("truth", TRUTH_COLOUR, "good replies")]
    phrases = []
    for panel, arm in zip(places, arms, strict=True):
        runs, heldout = steps[steps["arm"] == arm].copy(), looks[looks["arm"] == arm]
        ends = {}
        for name, colour, about in kinds:
            # Whole windows only: the first step alone is the mean of a few prompts.
            by_seed = runs.groupby("seed")[name]
            runs[name] = by_seed.transform(lambda values: values.rolling(WINDOW).mean())
            ends[name] = draw_seeds(panel, runs, name, colour=colour, label=about).dropna()
            if name not in heldout:
                continue
            means = heldout.groupby("step")[name].mean()
            panel.plot(
                means.index, means, "o", color=colour, markersize=8, markerfacecolor="white",
                markeredgewidth=2, label=f"{about}, held out",
            )  # fmt: skip
            ends[name] = means
        panel.set_title(arm, loc="left", size=12.5, color=INK)
        panel.set_xlabel("step", color=INK)
        panel.set_ylim(-0.03, 1.05)
        paid, good = ends["proxy"], ends["truth"]
        first, last = paid.iloc[0], paid.iloc[-1]
        verb = "rises" if last - first > 0.02 else "falls" if first - last > 0.02 else "goes"
        change = f"{good.iloc[0]:.0%} to {good.iloc[-1]:.0%}"
        phrases.append(
            f"{arm}: the reward {verb} from {first:.2f} to {last:.2f}, good replies go from "
            + change
            if len(arms) == 1
            else f"{arm} {change}"
        )
    places[0].set_ylabel(f"mean over {WINDOW} steps", color=INK)
    places[0].legend(frameon=False, loc="best", fontsize=10, ncols=2 if len(arms) == 1 else 1)
    return headline(fig, "Good replies: " * (len(arms) > 1) + ", ".join(phrases))


def plot_repairs(frame: pd.DataFrame) -> Figure:
    """Draw how far each arm moved each metric from its start, with intervals; a row per arm.

    Args:
        frame: rows with `arm`, `metric` (of METRIC_COLOURS), `points`, `low`, `high`, against the
            start.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    fig, (panel,) = panels(1, 1, (10, 1.4 + 0.62 * len(arms)))
    shown = frame[frame["metric"].isin(METRIC_COLOURS)].reset_index(drop=True)
    places = shown["metric"].map(list(METRIC_COLOURS).index).sort_values(kind="stable")
    draw_moves(panel, shown.loc[places.index], METRIC_COLOURS, SPREAD)
    whole = frame[frame["metric"] == "truth"].set_index("arm")["points"]
    points_text = ", ".join(f"{arm} {whole[arm]:+.0f}" for arm in arms)
    return headline(fig, f"Change in truth from the start, in points: {points_text}")
