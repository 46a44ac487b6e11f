"""Week 10's figures on credit for each step: how fast each form of it teaches.

`credit_rows` reads data/results/week10/credit.json. The unit is the seed: all arms of a seed saw
the same prompts, so its luck is taken out of the differences (`stats.blocked_differences`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.recorded import numbers
from postlab.show import headline, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ARMS = {  # name in the record: colour
    "outcome": STAGE_COLOURS["base"],
    "sum of steps": STAGE_COLOURS["dpo"],
    "to go": STAGE_COLOURS["prm"],
    "lowest to go": STAGE_COLOURS["grpo"],
}


def shares(record: Mapping[str, Any]) -> tuple[list[int], dict[str, NDArray[np.float64]]]:
    """The steps of the looks, and for each arm the share right: (seeds, looks), the start first."""
    begin = numbers(record["start"]["right"]).mean()
    found: dict[str, list[list[float]]] = {}
    steps = [0]
    for run in sorted(record["runs"], key=lambda one: one["seed"]):
        steps = [0, *(look["step"] for look in run["looks"])]
        values = [begin, *(float(numbers(look["right"]).mean()) for look in run["looks"])]
        found.setdefault(run["arm"], []).append(values)
    return steps, {arm: np.array(found[arm]) for arm in ARMS if arm in found}


def credit_rows(record: Mapping[str, Any]) -> pd.DataFrame:
    """Each arm's share right at the end and on the way, and its difference from the outcome.

    Args:
        record: with `start` and `runs`.
    Returns:
        A row an arm: at the end (%), over the looks (%), the difference from *outcome* over the
        looks in points with its 95% interval, p, and p corrected for all the arms (Holm).
    """
    import pandas as pd

    from postlab.stats import blocked_differences, holm

    _, found = shares(record)
    whole = {arm: 100 * values[:, 1:].mean(axis=1) for arm, values in found.items()}
    others = [arm for arm in found if arm != "outcome"]
    changes = blocked_differences(whole, [(arm, "outcome") for arm in others])
    corrected = dict(zip(others, holm([one.p for one in changes]), strict=True))
    by_arm = dict(zip(others, changes, strict=True))
    rows = []
    for arm, values in found.items():
        row = {"advantages": arm, "end": 100 * values[:, -1].mean(), "looks": whole[arm].mean()}
        if arm in by_arm:
            one = by_arm[arm]
            row |= {"points": one.difference, "low": one.low, "high": one.high, "p": one.p}
            row["p, all"] = corrected[arm]
        rows.append(row)
    return pd.DataFrame(rows).set_index("advantages")


def mistakes_left(record: Mapping[str, Any]) -> pd.DataFrame:
    """What kind of wrong replies training removed: shares of the looks, before and after, in %.

    Args:
        record: with `start` and `runs`.
    Returns:
        A row for the start and one per arm at the end, seeds averaged: right, blurted and wrong,
        worked out and wrong.
    """
    import pandas as pd

    looks = {"at the start": [record["start"]]}
    for run in record["runs"]:
        looks.setdefault(run["arm"], []).append(run["looks"][-1])
    rows = {}
    for name, found in looks.items():
        right, blurted = (
            np.array([numbers(look[k]) for look in found]) for k in ("right", "blurted")
        )
        counts = (
            right.mean(),
            ((1 - right) * blurted).mean(),
            ((1 - right) * (1 - blurted)).mean(),
        )
        rows[name] = [100 * share for share in counts]
    columns = ["right", "wrong and blurted", "wrong and worked out"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def mended(record: Mapping[str, Any]) -> pd.DataFrame:
    """What became of the held-out replies by the last look, and how far an arm left the outcome.

    All looks sample with the same random numbers, so a reply can be followed from look to look.

    Args:
        record: with `start` and `runs`.
    Returns:
        A row an arm, counts over the seeds: *blurted, now right* and *worked out, now right*, of
        the wrong replies at the start; *newly worked out and wrong*; and *unlike the outcome*, the
        verdicts of all looks that differ from those of the outcome's run with the same seed.
    """
    import pandas as pd

    right, blurted = (numbers(record["start"][k]).astype(bool) for k in ("right", "blurted"))
    worked = ~right & ~blurted
    looks = {
        (run["arm"], run["seed"]): np.array([numbers(look["right"]) for look in run["looks"]])
        for run in record["runs"]
    }
    rows: dict[str, dict[str, int]] = {}
    for run in record["runs"]:
        arm, end = run["arm"], run["looks"][-1]
        now, blurts = (numbers(end[k]).astype(bool) for k in ("right", "blurted"))
        apart = looks[arm, run["seed"]] != looks["outcome", run["seed"]]
        counts = {
            f"blurted, now right (of {(~right & blurted).sum()} per seed)": ~right & blurted & now,
            f"worked out, now right (of {worked.sum()} per seed)": worked & now,
            "newly worked out and wrong": ~worked & ~now & ~blurts,
            f"unlike the outcome (of {apart.size} per seed)": apart,
        }
        found = rows.setdefault(arm, dict.fromkeys(counts, 0))
        for name, members in counts.items():
            found[name] += int(members.sum())
    return pd.DataFrame.from_dict({arm: rows[arm] for arm in ARMS if arm in rows}, orient="index")


def plot_credit(record: Mapping[str, Any]) -> Figure:
    """Draw the share right over the steps: a panel per arm, the outcome in each."""
    steps, found = shares(record)
    others = [arm for arm in found if arm != "outcome"]
    fig, places = panels(1, len(others), (10, 3.6), sharey=True)
    for panel, arm in zip(places, others, strict=True):
        for name, alpha in (("outcome", 0.35), (arm, 0.45)):
            for values in found[name]:
                panel.plot(steps, 100 * values, color=ARMS[name], alpha=alpha, linewidth=1.2)
            panel.plot(steps, 100 * found[name].mean(axis=0), "o-", color=ARMS[name], linewidth=2.4)
        panel.set_title(arm, loc="left", size=12, color=ARMS[arm])
        panel.set_xticks(steps)
        panel.set_xlabel("step", color=INK)
    places[0].set_ylabel("held-out sums right, %", color=INK)
    ends = {arm: 100 * values[:, -1].mean() for arm, values in found.items()}
    begin, end = 100 * found["outcome"][0, 0], np.mean(list(ends.values()))
    return headline(
        fig,
        "With every form of credit, and with the outcome alone (grey), the share of right sums "
        f"rises from {begin:.0f}% to about {end:.0f}% in {steps[-1]} steps",
    )
