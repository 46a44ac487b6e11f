"""Week 10's figure of a process reward model as GRPO's reward: what is paid, and what is true.

`curves` reads runs of data/results/week10/prm.json; `plot_gamed` takes its frames. Left out: any
interval; the thin lines are the seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.recorded import numbers
from postlab.show import GREY, draw_seeds, headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def curves(runs: Iterable[Mapping[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was paid, true and written by step, and the truth on held-out prompts.

    Args:
        runs: with `arm`, `seed`, `log` (a list of numbers per name) and `heldout`.
    """
    import pandas as pd

    steps, looks = [], []
    for run in runs:
        who = {"arm": run["arm"], "seed": run["seed"]}
        names = ("step", "proxy", "truth", "steps")
        steps.append(pd.DataFrame({n: numbers(run["log"][n]) for n in names}).assign(**who))
        for look in run["heldout"]:
            record = {"step": look["step"], "truth": numbers(look["truth"]).mean()}
            looks.append(who | record | {"steps": numbers(look["steps"]).mean()})
    return pd.concat(steps), pd.DataFrame(looks)


def plot_gamed(steps: pd.DataFrame, looks: pd.DataFrame, *, window: int = 5) -> Figure:
    """Draw the reward, the steps per reply and the share right; a column per arm, a line per seed.

    Args:
        steps: of `curves`.
        looks: of `curves`.
        window: steps a curve is averaged over.
    """
    arms = list(dict.fromkeys(steps["arm"]))
    fig, places = panels(3, len(arms), (10, 6.4), sharex=True, sharey="row")
    lines = (
        ("proxy", "reward", STAGE_COLOURS["multi"]),
        ("steps", "steps per reply", GREY),
        ("truth", "share right", STAGE_COLOURS["grpo"]),
    )
    phrases = []
    for column, arm in enumerate(arms):
        runs, heldout = steps[steps["arm"] == arm], looks[looks["arm"] == arm]
        for row, (name, about, colour) in enumerate(lines):
            panel = places[row * len(arms) + column]
            draw_seeds(panel, runs, name, colour=colour, window=window, alpha=0.4)
            if name in heldout:
                heldout_mean = heldout.groupby("step")[name].mean()
                panel.plot(
                    heldout_mean.index, heldout_mean, "o", color=colour, markersize=7,
                    markerfacecolor="white", markeredgewidth=2,
                )  # fmt: skip
            if column == 0:
                panel.set_ylabel(about, color=INK)
            if name == "truth":
                panel.set_ylim(-0.04, 1.04)
                panel.set_xlabel("step (circles: held out, greedy)", color=INK)
            if row == 0:
                panel.set_title(arm, loc="left", size=12, color=INK)
        ends = heldout[heldout["step"] == heldout["step"].max()]
        phrases.append(f"{arm} {(ends['truth'] < 0.5).sum()} of {ends['seed'].nunique()}")
    return headline(fig, f"Seeds that end below 50% on held-out sums: {'; '.join(phrases)}")
