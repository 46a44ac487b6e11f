"""Week 8's ablations read: what each arm cost and reached, and how far it lies above its base.

A record has `arms` ({name: its `base`, and `how`, what it changes of the trainer}) and `runs`
(`arm`, `seed`, `log`, `sampled` completions per batch, and at the `end` the held-out answers).
Every arm is compared with its base on the seeds that both have; arms share one estimate of the
noise (`stats.blocked_differences`). p values are corrected by Holm over all arms of
the record. `paired_differences` is the other analysis: each arm with the noise of its own pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.course.recorded import numbers
from postlab.profile import get_profile
from postlab.stats import blocked_differences, detectable_difference, holm

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


def paired_differences(
    record: Mapping[str, Any], *, least: int = 3, power: float = 0.8
) -> pd.DataFrame:
    """How far each arm lies above its base, each by a paired t test over its own seeds.

    Unlike `ablation_differences`, it doesn't assume that all arms are equally noisy. It's the one
    to take where some arms are nearly the same run as their base and others are not.

    Args:
        least: arms with fewer seeds in common with their base are left out.
        power: the chance of finding a difference that `detectable` stands for.
    Returns:
        A row per arm in the form of `plot_variants`: arm, group, base, seeds (a difference each, in
        points), their mean points, low and high (95%, uncorrected), p, corrected (Holm, over all
        rows), shown (corrected below 0.05), moved (held-out sums with another verdict than in the
        base's run, %), detectable and `detectable, first of Holm` (the smallest true differences
        found with that power: of one comparison, and of the first in Holm's order), and right
        (held-out sums, %). Where the differences don't vary at all, as between two runs with the
        same verdicts, a t test is undefined: low, high and detectable are NaN, and p is 1.
    """
    import pandas as pd

    scores = scores_of(record)
    ends = {(run["arm"], run["seed"]): run["end"]["arithmetic"] for run in record["runs"]}
    common = {
        (name, arm["base"]): sorted(set(scores[name]) & set(scores[arm["base"]]))
        for name, arm in record["arms"].items()
        if arm["base"] and name in scores
    }
    common = {pair: seeds for pair, seeds in common.items() if len(seeds) >= least}
    rows = []
    for (name, base), seeds in common.items():
        each = [scores[name][seed] - scores[base][seed] for seed in seeds]
        moved = [np.not_equal(ends[name, seed], ends[base, seed]).mean() for seed in seeds]
        row = {
            "arm": name, "group": record["arms"][name]["group"], "base": base, "seeds": each,
            "points": float(np.mean(each)), "low": np.nan, "high": np.nan, "p": 1.0,
            "moved": 100 * float(np.mean(moved)), "right": float(np.mean([*scores[name].values()])),
            "detectable": np.nan, "detectable, first of Holm": np.nan,
        }  # fmt: skip
        if np.ptp(each) > 1e-9:
            pair = {arm_: [scores[arm_][seed] for seed in seeds] for arm_ in (name, base)}
            found = blocked_differences(pair, [(name, base)])[0]
            row |= {"low": found.low, "high": found.high, "p": found.p}
            # Against a base without any spread, Welch's test of n and n seeds is the test of n
            # differences: their spread, and n - 1 degrees of freedom.
            spreads, counts = (float(np.std(each, ddof=1)), 0.0), (len(seeds), len(seeds))
            for column, alpha in (
                ("detectable", 0.05),
                ("detectable, first of Holm", 0.05 / len(common)),
            ):
                row[column] = detectable_difference(spreads, counts, power=power, alpha=alpha)
        rows.append(row)
    frame = pd.DataFrame(rows)
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
