"""Recorded runs as a frame of shares, and arms against one of them over seeds.

`run_scores` averages each run's metrics over prompts; its `score` is the mean of the families'
shares, so every family counts the same. `compare_arms` compares arms seed by seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from postlab.course.recorded import numbers
from postlab.stats import blocked_differences, holm

if TYPE_CHECKING:
    import pandas as pd


def run_scores(
    runs: Sequence[Mapping[str, Any]], families: Sequence[str], *, part: str = "heldout"
) -> pd.DataFrame:
    """One row per run: what identifies it, the mean of each metric, and the mean of the families.

    Args:
        runs: each with `part`, {metric: one number per prompt}, and what identifies the run. A
            metric that wasn't measured, with an empty list, has no column.
        families: the metrics that `score` averages.

    >>> runs = [{"arm": "a", "seed": 0, "heldout": {"facts": [1, 0], "safety": [1, 1], "kl": [2]}}]
    >>> run_scores(runs, ["facts", "safety"]).to_dict("records")
    [{'arm': 'a', 'seed': 0, 'facts': 0.5, 'safety': 1.0, 'kl': 2.0, 'score': 0.75}]
    """
    import pandas as pd

    rows = []
    for run in runs:
        row = {k: v for k, v in run.items() if not isinstance(v, dict | list)}
        measured = {name: values for name, values in run[part].items() if values}
        row |= {name: float(numbers(values).mean()) for name, values in measured.items()}
        rows.append(row | {"score": sum(row[name] for name in families) / len(families)})
    return pd.DataFrame(rows)


def compare_arms(
    frame: pd.DataFrame, base: str, *, arm: str, measure: str = "score"
) -> pd.DataFrame:
    """Every arm's difference to one of them, paired by seed, with p corrected by Holm.

    Args:
        frame: rows with the arm's name, `seed` and the measure.
        base: the arm that the others are compared with.
        arm: the column with the arms' names.
    Returns:
        One row per other arm: `difference`, `low`, `high` (95%, not corrected), `p` (corrected).
    """
    import pandas as pd

    table = frame.pivot(index=arm, columns="seed", values=measure)
    others = [name for name in dict.fromkeys(frame[arm]) if name != base]
    found = blocked_differences(
        {str(name): table.loc[name].tolist() for name in [base, *others]},
        [(name, base) for name in others],
    )
    rows = [
        {arm: name, "difference": d.difference, "low": d.low, "high": d.high}
        for name, d in zip(others, found, strict=True)
    ]
    return pd.DataFrame(rows).assign(p=holm([d.p for d in found])).set_index(arm)
