"""Week 8's ablations read: what each arm cost and reached, and how far it lies above its base.

A record has `arms` ({name: its `base`, and `how`, what it changes of the trainer}) and `runs`
(`arm`, `seed`, `log`, `sampled` completions per batch, and at the `end` the held-out answers).
Every arm is compared with its base on the seeds that both have; arms share one estimate of the
noise (`stats.blocked_differences`). p values are corrected by Holm over all arms of
the record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.course.recorded import numbers
from postlab.profile import get_profile
from postlab.stats import blocked_differences, holm

if TYPE_CHECKING:
    import pandas as pd

CLIPPED = ("clip_ratio/region_mean", "cispo_clip_ratio")


def scores_of(record: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """{arm: {seed: held-out sums right, in %}}."""
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for run in record["runs"]:
        scores[run["arm"]][run["seed"]] = 100 * float(numbers(run["end"]["arithmetic"]).mean())
    return scores


def ablation_table(record: Mapping[str, Any], arms: Iterable[str] | None = None) -> pd.DataFrame:
    """What each arm took and what it reached: means over its seeds.

    Args:
        arms: those to show; None for all.
    Returns:
        A row per arm: learning rate, clip, updates, completions sampled, their tokens, the share of
        tokens (GSPO: of answers) that is clipped, zero-variance groups (with batch scaling:
        batches) and entropy in the log, seeds, and the held-out sums that are right.
    """
    import pandas as pd

    recipe, scores, rows = get_profile("tiny").grpo.trainer, scores_of(record), {}
    for name in record["arms"] if arms is None else arms:
        how = {**recipe, **record["arms"][name]["how"]}
        runs = [run for run in record["runs"] if run["arm"] == name]
        logs = [run["log"] for run in runs]
        clip = next((key for key in CLIPPED if key in logs[0]), None)
        rows[name] = {
            "rate": how["learning_rate"],
            "clip": _clip(how),
            "updates": len(logs[0]["reward"]) * how.get("steps_per_generation", 1)
            * how["num_iterations"],
            "answers": np.mean([sum(run["sampled"]) for run in runs]),
            "tokens": np.mean([_tokens(run) for run in runs]),
            "clipped, %": 100 * _mean(logs, clip) if clip else np.nan,
            "zero-variance groups, %": 100 * _mean(logs, "frac_reward_zero_std"),
            "entropy": _mean(logs, "entropy"),
            "seeds": len(runs),
            "right, %": np.mean(list(scores[name].values())),
        }  # fmt: skip
    return pd.DataFrame(rows).T.infer_objects()


def _tokens(run: Mapping[str, Any]) -> float:
    """The tokens of a run's completions; of those that were thrown away, as long as the others."""
    return float(np.dot(run["sampled"], numbers(run["log"]["completions/mean_length"])))


def _mean(logs: list[Mapping[str, list]], name: str) -> float:
    return float(np.mean([numbers(log[name]).mean() for log in logs]))


def _clip(how: Mapping[str, Any]) -> str:
    """An arm's clip in words."""
    low, high = how["epsilon"], how.get("epsilon_high")
    if how["loss_type"] == "cispo":
        return f"weight at most {high:g}"
    if how["loss_type"] == "sapo":
        return "soft"
    if low >= 10:
        return "none"
    return f"{low:g}" if high is None else f"{low:g} and {high:g}"


def ablation_differences(record: Mapping[str, Any], *, pooled: bool = True) -> pd.DataFrame:
    """How far each arm lies above its base, in points of held-out accuracy.

    Args:
        pooled: estimate the noise from all arms that ran on the same seeds; otherwise for each base
            and its arms alone.
    Returns:
        A row per arm in the form of `plot_ablations`: arm, base, seeds (a difference each),
        points, low, high (95%, uncorrected), p, corrected (Holm, over all rows), and shown
        (corrected below 0.05).
    """
    import pandas as pd

    scores, blocks = scores_of(record), defaultdict(list)
    for name, arm in record["arms"].items():
        if arm["base"] and name in scores:
            seeds = tuple(sorted(set(scores[name]) & set(scores[arm["base"]])))
            blocks[seeds if pooled else (arm["base"], seeds)].append((name, arm["base"], seeds))
    rows = {}
    for pairs in blocks.values():
        seeds = pairs[0][2]
        names = dict.fromkeys(name for pair in pairs for name in pair[:2])
        table = {name: [scores[name][seed] for seed in seeds] for name in names}
        found = blocked_differences(table, [pair[:2] for pair in pairs])
        for (name, base, _), one in zip(pairs, found, strict=True):
            each = [scores[name][seed] - scores[base][seed] for seed in seeds]
            rows[name] = {
                "arm": name, "base": base, "seeds": each, "points": one.difference,
                "low": one.low, "high": one.high, "p": one.p,
            }  # fmt: skip
    frame = pd.DataFrame([rows[name] for name in record["arms"] if name in rows])
    frame["corrected"] = holm(frame["p"])
    frame["shown"] = frame["corrected"] < 0.05
    return frame


def rewards_by_update(record: Mapping[str, Any], arms: Iterable[str]) -> pd.DataFrame:
    """The mean reward of each batch, by the number of updates that the policy had then.

    A batch's reward is measured before the policy is trained on it, so it's an estimate of how good
    the policy is at that point: after as many updates as the batches before it made.

    Args:
        arms: those to compare.
    Returns:
        Rows with `arm`, `seed`, `updates` and `reward`.
    """
    import pandas as pd

    recipe, rows = get_profile("tiny").grpo.trainer, []
    for run in record["runs"]:
        if run["arm"] in arms:
            how = {**recipe, **record["arms"][run["arm"]]["how"]}
            each = how.get("steps_per_generation", 1) * how["num_iterations"]
            rows += [
                {"arm": run["arm"], "seed": run["seed"], "updates": each * i, "reward": reward}
                for i, reward in enumerate(numbers(run["log"]["reward"]))
            ]
    return pd.DataFrame(rows)
