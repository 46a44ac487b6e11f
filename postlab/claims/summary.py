"""All finished stages of a profile in one summary: values, intervals, and changes from the parent.

Reads run folders and nothing else: no model is loaded. A stage that is damaged, or has no parent to
be compared with, is listed with the reason. Left out: averages over seeds (`merge_seeds`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.claims.reading import Problem, StageRun, read_runs
from postlab.evals import compare
from postlab.profile import stage_command
from postlab.runs import MissingStage, run_root

if TYPE_CHECKING:
    import pandas as pd


def summarised(
    profile_name: str, *, root: Path | str | None = None
) -> tuple[dict[str, Any], list[StageRun]]:
    """Compare all finished stages of a profile; nothing is written, so a read-only folder will do.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
    Returns:
        The summary, as `report.summarise` writes it, and the runs behind it.
    Raises:
        MissingStage: if nothing is finished; names the command to run.
        ValueError: if every stage is damaged (names file and line).
    """
    folder = (run_root() if root is None else Path(root)) / profile_name
    runs, problems = read_runs(folder)
    if not runs and problems:
        reasons = "\n".join(f"{p.stage}, seed {p.seed}: {p.reason}" for p in problems)
        raise ValueError(f"Nothing in runs/{profile_name} can be reported.\n{reasons}")
    if not runs:
        raise MissingStage(
            f"No finished and evaluated stage of profile {profile_name!r} in runs/{profile_name}. "
            f"Make them with: make stages PROFILE={profile_name}"
        )
    by_name: dict[tuple[int, str | None], StageRun] = {(run.seed, run.stage): run for run in runs}
    damaged = {(problem.seed, problem.stage) for problem in problems}
    stages = []
    for run in runs:
        parent, why = by_name.get((run.seed, run.parent)), None
        if run.parent == run.stage:
            parent, why = None, "its manifest.json names the stage itself as its parent"
        elif (run.seed, run.parent) in damaged:
            why = f"{run.parent} is damaged"
        elif run.parent is not None and parent is None:
            command = stage_command(profile_name, run.parent, run.seed)
            why = f"{run.parent} is not finished and evaluated. Make it with: {command}"
        try:
            stages.append(_entry(run, parent))
        except ValueError as error:  # other prompts
            why = str(error)
            stages.append(_entry(run, None))
        if why:
            reason = f"not compared with the stage it started from: {why}"
            problems.append(Problem(run.seed, run.stage, reason))
    summary = {
        "profile": profile_name,
        "wall_s": round(sum(run.manifest["wall_s"] or 0.0 for run in runs), 3),
        "peak_rss_gb": max(run.manifest["peak_rss_gb"] or 0.0 for run in runs),
        "stages": stages,
        "problems": [asdict(problem) for problem in problems],
    }
    return summary, runs


def summary_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A summary as rows for `show.plot_stages`: one a stage, seed and metric.

    Args:
        summary: as `summarise` returns it, or read from a summary.json.
    Returns:
        stage, parent, seed, metric, value, low, high, n, difference, difference_low,
        difference_high, p (NaN where there is none), and copied (whether the stage took every
        answer from its parent).
    Raises:
        ValueError: if `summary` isn't one.
    """
    import pandas as pd

    rows = []
    try:
        for entry in summary["stages"]:
            for metric, measured in entry["metrics"].items():
                row = {"stage": entry["name"], "parent": entry["parent"], "seed": entry["seed"]}
                row |= {"metric": metric} | {k: measured[k] for k in ("value", "low", "high", "n")}
                change = entry["versus_parent"].get(metric, {})
                for name in ("difference", "low", "high", "p"):
                    target = name if name in ("difference", "p") else f"difference_{name}"
                    row[target] = change.get(name)
                rows.append(row | {"copied": change.get("copied") is True})
        frame = pd.DataFrame(rows)
        others = ("stage", "parent", "seed", "metric", "n", "copied")
        numbers = [c for c in frame if c not in others]
        return frame.astype(dict.fromkeys(numbers, float))
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected what report.summarise returns or a summary.json holds, got something else "
            f"({type(error).__name__}: {error})"
        ) from error


def _entry(run: StageRun, parent: StageRun | None) -> dict[str, Any]:
    frames = {run.stage: run.frame}
    if parent is not None:
        frames = {parent.stage: parent.frame} | frames
    table = compare(frames)
    metrics, changes = {}, {}
    for row in table[table["stage"] == run.stage].to_dict("records"):
        name = row["metric"]
        metrics[name] = {key: _number(row[key]) for key in ("value", "low", "high")}
        metrics[name]["n"] = int(row["n"])
        if not math.isnan(row["difference"]):
            names = ("difference", "difference_low", "difference_high", "p")
            changes[name] = {key.removeprefix("difference_"): _number(row[key]) for key in names}
            if parent is not None and _copied(run, parent, name):
                changes[name]["copied"] = True
    return {
        "name": run.stage,
        "parent": run.parent,
        "seed": run.seed,
        "metrics": metrics,
        "versus_parent": changes,
        "train_s": float(run.manifest["train_s"] or 0.0),
        "eval_s": float(run.manifest["eval_s"] or 0.0),
    }


def _copied(run: StageRun, parent: StageRun, metric: str) -> bool:
    """Whether the answers a metric is measured on were taken over from the parent, word for word.

    Two models may give the same answers. So where the manifest says which weights answered (as
    `Lab.evaluate` writes it), the stage was measured, whatever it said.
    """
    stored = run.manifest.get("eval")
    if isinstance(stored, Mapping) and stored.get("made_by"):
        return False
    after, before = run.frame, parent.frame
    keys = ["id", "sample"] if "sample" in after and "sample" in before else ["id"]
    sides = [frame[frame[metric].notna()].set_index(keys)["answer"] for frame in (after, before)]
    return sides[0].sort_index().equals(sides[1].sort_index())


def _number(value: float) -> float | None:
    """Ten digits, so that the last bits of a sum do not show; null for NaN."""
    return None if math.isnan(value) else float(f"{value:.10g}")
