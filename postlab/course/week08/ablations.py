"""Week 8's ablations read: what each arm cost and reached, and how far it lies above its base.

Both functions read data/results/week08/ablations.json. Every arm is compared with its base on the
seeds that both have; arms of a group that ran on the same seeds share one estimate of the noise
(`stats.blocked_differences`). p values are corrected by Holm over all comparisons of the record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.course.recorded import numbers
from postlab.stats import blocked_differences, holm

if TYPE_CHECKING:
    import pandas as pd

CLIPPED = ("clip_ratio/region_mean", "cispo_clip_ratio")


def scores_of(record: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """{arm: {seed: held-out accuracy in %}}."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for run in record["runs"]:
        scores[run["arm"]][run["seed"]] = 100 * float(numbers(run["end"]).mean())
    return scores


def ablation_table(record: Mapping[str, Any], group: str) -> pd.DataFrame:
    """What each arm of a group, and its base, took and reached: means over its seeds.

    Args:
        record: data/results/week08/ablations.json.
        group: "reuse", "losses" or "recipe".
    Returns:
        A row per arm: learning rate, clip, updates, completions sampled, their tokens, share of
        tokens (GSPO and RLOO: answers) that are clipped, zero-variance groups and entropy in the
        log, seeds, accuracy.
    """
    import pandas as pd

    scores, rows = scores_of(record), {}
    arms = {n: a for n, a in record["arms"].items() if a["group"] == group}
    bases = [arm["base"] for arm in arms.values() if arm["base"] and arm["base"] not in arms]
    for name in dict.fromkeys([*bases, *arms]):
        spec = record["arms"][name]["spec"]
        runs = [run for run in record["runs"] if run["arm"] == name]
        logs = [run["log"] for run in runs]
        clip = next((key for key in CLIPPED if key in logs[0]), None)
        rows[name] = {
            "rate": spec["learning_rate"],
            "clip": _clip(spec),
            "updates": runs[0]["updates"],
            "answers": np.mean([sum(run["sampled"]) for run in runs]),
            "tokens": np.mean([run["tokens"] for run in runs]),
            "clipped, %": 100 * _mean(logs, clip) if clip else np.nan,
            "zero-variance groups, %": 100 * _mean(logs, "frac_reward_zero_std"),
            "entropy": _mean(logs, "entropy"),
            "seeds": len(runs),
            "right, %": np.mean(list(scores[name].values())),
        }
    return pd.DataFrame(rows).T.infer_objects()


def _mean(logs: list[Mapping[str, list]], name: str) -> float:
    return float(np.mean([numbers(log[name]).mean() for log in logs]))


def _clip(spec: Mapping[str, Any]) -> str:
    """An arm's clip in words."""
    low, high = spec.get("epsilon", 0.2), spec.get("epsilon_high")
    if spec.get("loss_type") == "cispo":
        return f"weight at most {high:g}"
    if spec.get("loss_type") == "sapo":
        pos, neg = spec.get("sapo_temperature_pos", 1.0), spec.get("sapo_temperature_neg", 1.05)
        return f"soft, {pos:g} and {neg:g}"
    if low >= 10:
        return "none"
    return f"{low:g}" if high is None else f"{low:g} and {high:g}"


def ablation_differences(record: Mapping[str, Any]) -> pd.DataFrame:
    """How far each arm lies above its base, in points of held-out accuracy.

    Args:
        record: data/results/week08/ablations.json.
    Returns:
        A row per arm in the form of `plot_ablations`: group, arm, base, seeds (a difference each),
        points, low, high (95%, uncorrected), p, corrected (Holm, over all rows), and shown
        (corrected below 0.05).
    """
    import pandas as pd

    scores, blocks = scores_of(record), defaultdict(list)
    for name, arm in record["arms"].items():
        if arm["base"] and name in scores:
            seeds = tuple(sorted(set(scores[name]) & set(scores[arm["base"]])))
            blocks[arm["group"], arm["base"], seeds].append(name)
    rows = []
    for (group, base, seeds), names in blocks.items():
        table = {name: [scores[name][seed] for seed in seeds] for name in [base, *names]}
        found = blocked_differences(table, [(name, base) for name in names])
        for name, one in zip(names, found, strict=True):
            each = [scores[name][seed] - scores[base][seed] for seed in seeds]
            rows.append({
                "group": group, "arm": name, "base": base, "seeds": each,
                "points": one.difference, "low": one.low, "high": one.high, "p": one.p,
            })  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["corrected"] = holm(frame["p"])
    frame["shown"] = frame["corrected"] < 0.05
    order = [name for name in record["arms"] if name in set(frame["arm"])]
    return frame.set_index("arm").loc[order].reset_index()


def tuning_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """All trials of the tuning: what was varied, the mean accuracy, and the share clipped.

    Args:
        record: data/results/week08/ablations.json.
    """
    import pandas as pd

    rows = []
    for trial in record["tuning"]:
        clipped = [one for one in trial["clipped"] if one is not None]
        rows.append({
            "arm": trial["name"], "rate": trial["spec"]["learning_rate"],
            "clip": _clip(trial["spec"]), "right, %": float(np.mean(trial["scores"])),
            "clipped, %": 100 * float(np.mean(clipped)) if clipped else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)
