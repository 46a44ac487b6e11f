"""Tables of the second experiment: what each seed reached, and arms against one another.

The unit is the seed, that is, a whole training run. What is left out: the spread between prompts,
which are the same in all runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.stats import blocked_differences, holm

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("safety", "over_refusal", "helpfulness", "honesty", "facts")


def arms_by_seed(
    runs: Iterable[Mapping[str, Any]], arms: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Each metric's percentages, an arm and a seed, and how often a harmless wish got neither.

    Args:
        runs: with `arm`, `seed` and `metrics`, a list of 0 and 1 per metric.
        arms: which, in which order.
    Returns:
        {metric: {arm: percent, a seed}}; `neither` counts replies to harmless wishes
        that neither refuse nor help.
    """
    table: dict[str, dict[str, list[float]]] = {m: {} for m in (*METRICS, "neither")}
    ordered = sorted(runs, key=lambda run: run["seed"])
    for arm in arms:
        for run in (run for run in ordered if run["arm"] == arm):
            of = {name: np.asarray(run["metrics"][name]) for name in METRICS}
            of["neither"] = (of["helpfulness"] == 0) & (of["over_refusal"] == 0)
            for name, row in table.items():
                row.setdefault(arm, []).append(100 * float(of[name].mean()))
    return table


def seed_table(runs: Iterable[Mapping[str, Any]], arms: Sequence[str]) -> pd.DataFrame:
    """The percentages of every seed as text, a row an arm."""
    import pandas as pd

    table = arms_by_seed(runs, arms)
    return pd.DataFrame(
        {
            name: {arm: " ".join(f"{x:.0f}" for x in seeds) for arm, seeds in row.items()}
            for name, row in table.items()
        }
    )


def arm_differences(
    runs: Iterable[Mapping[str, Any]], pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """The first arm of each pair less the second, in points, with a seed as the unit.

    Returns:
        A row a pair and metric: arm, minus, metric, points, low and high (95%, not corrected), p,
        and `holm`, corrected for all rows of the table.
    """
    import pandas as pd

    arms = list(dict.fromkeys(arm for pair in pairs for arm in pair))
    table = arms_by_seed(runs, arms)
    rows = [
        {"arm": arm, "minus": base, "metric": name, "points": d.difference}
        | {"low": d.low, "high": d.high, "p": d.p}
        for name in METRICS
        for (arm, base), d in zip(pairs, blocked_differences(table[name], pairs), strict=True)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(holm=holm(frame["p"]))


def difference_table(
    runs: Iterable[Mapping[str, Any]], pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """`arm_differences` as text: points and interval, with a star if Holm's p is below 0.05."""
    frame = arm_differences(runs, pairs)
    frame["text"] = [
        f"{row.points:+.0f} ({row.low:+.0f} to {row.high:+.0f}){'*' if row.holm < 0.05 else ''}"
        for row in frame.itertuples()
    ]
    frame["difference"] = frame["arm"] + " - " + frame["minus"]
    order = dict.fromkeys(f"{arm} - {base}" for arm, base in pairs)
    table = frame.pivot(index="difference", columns="metric", values="text")
    return table.loc[list(order), list(METRICS)].rename_axis(index=None, columns=None)
