"""Week 11's record, read: data/results/week11/objectives.json as arrays and frames.

Numbers come in percent where a frame is for a reader, as shares in arrays. Left out: what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import INK, STAGE_COLOURS
from postlab.course.recorded import listed, numbers
from postlab.show import MANNER_COLOURS
from postlab.stats import bootstrap_interval, paired_difference

if TYPE_CHECKING:
    import pandas as pd

Sets = dict[str, dict[str, np.ndarray]]  # method -> metric -> (policies, prompts)
METHODS = {  # name: colour, marker, what it is
    "soups": (STAGE_COLOURS["multi"], "o", "soups"),
    "mixed": (STAGE_COLOURS["dpo"], "s", "mixed pairs, DPO"),
    "weighted": (STAGE_COLOURS["grpo"], "^", "weighted rewards, GRPO"),
    "lagrange": (STAGE_COLOURS["sft"], "D", "multipliers, GRPO"),
    "targeted": (STAGE_COLOURS["cai"], "v", "targeted RLHF"),
}
METRIC_COLOURS = MANNER_COLOURS | {"facts": INK}
LATE = 50  # last steps of a run with constraints, over which we ask whether it held them


STARTS = {  # of targeted runs: what they are called, and which policy of which method began them
    "targeted": ("mixed pairs", ("mixed", 1)),
    "targeted, shipped": ("the DPO stage", ("dpo", 0)),
}


def policies(
    record: Mapping[str, Any], method: str, seed: int
) -> list[Mapping[str, Sequence[float]]]:
    """The metrics of each policy of a method and seed, as the record has them.

    Args:
        method: one of METHODS, or a stage that runs started from, the same for every seed.
    """
    if method in record["start"]:
        return [record["start"][method]["metrics"]]
    runs = record["runs"][str(seed)][method]
    if method.startswith("targeted"):
        return [look["metrics"] for look in runs[0]["looks"]]
    if method == "best of":
        return runs[0]["judges"]
    return [run["metrics"] for run in runs]


def values(
    record: Mapping[str, Any], method: str, metrics: Sequence[str], seeds: Sequence[int]
) -> dict[str, np.ndarray]:
    """metric -> (policies, prompts), averaged over seeds a policy and prompt."""
    by_seed = [policies(record, method, seed) for seed in seeds]
    return {
        metric: np.mean([[numbers(one[metric]) for one in many] for many in by_seed], axis=0)
        for metric in metrics
    }


def interval_rows(
    record: Mapping[str, Any], method: str, metrics: Sequence[str], seeds: Sequence[int]
) -> pd.DataFrame:
    """A row per metric and policy (`rung`, from 0): value, low and high over prompts, in %."""
    import pandas as pd

    rows = []
    for metric, table in values(record, method, metrics, seeds).items():
        for number, one in enumerate(table):
            mean = bootstrap_interval(100 * one)
            row = {"method": method, "rung": number, "metric": metric, "value": mean.value}
            rows.append(row | {"low": mean.low, "high": mean.high})
    return pd.DataFrame(rows)


def dose_rows(
    record: Mapping[str, Any], metrics: Sequence[str], seeds: Sequence[int]
) -> pd.DataFrame:
    """`interval_rows` of the targeted runs, with their `start` and `dose`, from 0 steps on."""
    import pandas as pd

    frames = []
    for method, (start, (before, number)) in STARTS.items():
        begun = interval_rows(record, before, metrics, seeds)
        begun = begun[begun["rung"] == number].assign(dose=0)
        rows = interval_rows(record, method, metrics, seeds)
        rows["dose"] = rows["rung"].map(dict(enumerate(record["doses"])))
        frames.append(pd.concat([begun, rows]).assign(start=start))
    return pd.concat(frames, ignore_index=True)


def paired_rows(
    record: Mapping[str, Any],
    before: tuple[str, int],
    after: tuple[str, int],
    metrics: Sequence[str],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """What changed from one policy to another, by metric and seed: points, low, high and p.

    Args:
        before, after: method and number of the policy, from 0 or, from the end, -1.
    """
    import pandas as pd

    rows = []
    for seed in seeds:
        old, new = (values(record, m, metrics, [seed]) for m, _ in (before, after))
        for metric in metrics:
            change = paired_difference(100 * old[metric][before[1]], 100 * new[metric][after[1]])
            row = {"metric": metric, "seed": seed, "points": change.difference}
            rows.append(row | {"low": change.low, "high": change.high, "p": change.p})
    return pd.DataFrame(rows).set_index(["metric", "seed"]).sort_index()


def method_sets(record: Mapping[str, Any], seeds: Sequence[int], metrics: Sequence[str]) -> Sets:
    """Every method's policies; the soups a second time, with the ladder's weights only."""
    sets = {method: values(record, method, metrics, seeds) for method in METHODS}
    ladder = [listed(weights) for weights in record["ladder"]]
    runs = record["runs"][str(seeds[0])]["soups"]
    on_ladder = [number for number, one in enumerate(runs) if one["weights"] in ladder]
    return sets | {"soups, 7": {m: table[on_ladder] for m, table in sets["soups"].items()}}


def means_of(scores: Mapping[str, Sequence[float]], metrics: Sequence[str]) -> dict[str, float]:
    """A policy's metrics in %."""
    return {m: 100 * float(numbers(scores[m]).mean()) for m in metrics}


def dual_rows(record: Mapping[str, Any], seeds: Sequence[int]) -> pd.DataFrame:
    """The runs with multipliers, a row a step: `level`, `seed`, `step`, `multiplier` and `heldout`.

    The multiplier is that of safety; `heldout` is the safety that the finished run reached on
    held-out prompts. Level and safety are in %.
    """
    import pandas as pd

    frames = []
    for seed in seeds:
        for run in record["runs"][str(seed)]["lagrange"]:
            series = numbers(run["dual"]["safe multiplier"])
            rows = pd.DataFrame({"multiplier": series, "step": range(1, len(series) + 1)})
            heldout = means_of(run["metrics"], ["safety"])["safety"]
            frames.append(rows.assign(level=100 * run["level"], seed=seed, heldout=heldout))
    return pd.concat(frames, ignore_index=True)


def constraint_rows(record: Mapping[str, Any]) -> pd.DataFrame:
    """The runs of constraint.json, a row per step and constraint.

    Columns `arm`, `seed`, `step`, `metric` ('safety' or 'honesty'), `multiplier`, and `share`: the
    running mean over training samples in %, which the multiplier reacts to.
    """
    import pandas as pd

    frames = []
    for run in record["runs"]:
        for judge, metric in (("safe", "safety"), ("honest", "honesty")):
            multiplier = numbers(run["steps"][f"{judge} multiplier"])
            rows = pd.DataFrame({"multiplier": multiplier, "step": range(1, len(multiplier) + 1)})
            rows["share"] = 100 * numbers(run["steps"][metric])
            frames.append(rows.assign(arm=run["arm"], seed=run["seed"], metric=metric))
    return pd.concat(frames, ignore_index=True)


def constraint_held(rows: pd.DataFrame) -> pd.DataFrame:
    """What `constraint_rows` say of the last LATE steps, by arm, metric and seed.

    Columns `share` (its mean, in %), `multiplier` (at the end) and `moved` (how far the
    multiplier's highest value lies above its lowest, in % of the lowest).
    """
    import pandas as pd

    late = rows[rows["step"] > rows["step"].max() - LATE]
    runs = late.groupby(["arm", "metric", "seed"])
    multiplier = runs["multiplier"].agg(["min", "max", "last"])
    moved = 100 * (multiplier["max"] / multiplier["min"] - 1)
    held = {"share": runs["share"].mean(), "multiplier": multiplier["last"], "moved": moved}
    return pd.DataFrame(held)


def constraint_ends(record: Mapping[str, Any], metrics: Sequence[str]) -> pd.DataFrame:
    """The finished policies of constraint.json on held-out prompts, in %, both ways to decode."""
    import pandas as pd

    rows = [
        {"arm": run["arm"], "seed": run["seed"], "decoded": how} | means_of(run[how], metrics)
        for run in record["runs"]
        for how in ("sampled", "greedy")
    ]
    return pd.DataFrame(rows).set_index(["arm", "seed", "decoded"])


def bill(record: Mapping[str, Any]) -> pd.DataFrame:
    """Seconds of training and measuring a method per seed, with what it starts from, and policies.

    Soups pay for their adapters, targeted runs for the DPO before them; SFT is everybody's.
    """
    import pandas as pd

    costs, seeds = {}, list(record["runs"].values())
    for method, (*_, label) in METHODS.items():
        runs, begun = [one for seed in seeds for one in seed[method]], []
        if method == "soups":
            runs += [one for seed in seeds for one in seed["corners"]]
        if method in STARTS:
            _, (before, number) = STARTS[method]
            begun = [seed[before][number] for seed in seeds]
        costs[label] = {
            "training": sum(one.get("train_s", 0.0) for one in [*runs, *begun]) / len(seeds),
            "measuring": sum(one["seconds"] for one in runs) / len(seeds),
            "policies": len(policies(record, method, int(next(iter(record["runs"]))))),
        }
    return pd.DataFrame(costs).T
