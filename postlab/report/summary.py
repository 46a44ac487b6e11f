"""The comparison of a profile's runs, from the run folders: summary.json, stages.png, report.html.

Reads what `runs` wrote and nothing else: no model is loaded, so the page can be made again anywhere
with `python -m postlab.report PROFILE`. Same runs, same summary, byte for byte, timings excepted.
A stage that is damaged, or has no parent to be compared with, is listed with the reason, and the
rest is reported. Left out: stages that are unfinished or unevaluated (the page lists them as not
run), and any average over seeds in summary.json, which has one entry a stage and seed.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.evals import compare
from postlab.profile import device_name, stage_command
from postlab.report.page import page, visible
from postlab.report.reading import Problem, StageRun, read_runs
from postlab.report.written import written
from postlab.runs import CHAIN, MissingStage, run_root
from postlab.storage import (
    DiskFull,
    ReadOnlyFolder,
    StageBusy,
    atomic_file,
    atomic_text,
    disk_guard,
    locked,
    sweep,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def summarise(profile_name: str, *, root: Path | str | None = None) -> dict[str, Any]:
    """Compare all finished stages of a profile and write runs/<profile>/summary.json.

    Values and differences come with 95% bootstrap intervals over prompts (the samples of a prompt
    are averaged first); `versus_parent` pairs a stage with its parent on the same prompts, for the
    metrics both have, and leaves out KL, which has another reference at each stage.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
    Returns:
        {"profile", "wall_s" (sum), "peak_rss_gb" (largest), "stages": [{"name", "parent", "seed",
        "metrics": {metric: {"value", "low", "high", "n"}}, "versus_parent": {metric: {"difference",
        "low", "high", "p"}}, "train_s", "eval_s"}], "problems": [{"seed", "stage", "reason"}]}, by
        seed, then in order of training. Problems, also warned of, are damaged stages, which are
        left out, and stages that can't be compared with their parent.
    Raises:
        MissingStage: if nothing is finished; names the command to run.
        ReadOnlyFolder, DiskFull: if nothing can be written there.
        StageBusy: if another process has been writing there for a minute.
        ValueError: if every stage is damaged (names file and line).
    """
    summary, _ = _summary(profile_name, root)
    folder = _folder(profile_name, root)
    with _saving(folder):
        atomic_text(folder / "summary.json", _summary_text(summary))
    _warn(summary)
    return summary


def _summary_text(summary: Mapping[str, Any]) -> str:
    return json.dumps(summary, indent=1, allow_nan=False) + "\n"


@contextmanager
def _saving(folder: Path) -> Iterator[None]:
    """One process at a time writes the files of a comparison; a full disk leaves the old ones."""
    busy = f"Another process is writing the report in runs/{folder.name}: run this again."
    advice = "then run this again: the report is made from the run folders, which are complete."
    with (
        locked(folder / ".report.lock", busy, wait_s=60),
        disk_guard(
            "the report", folder, needed=2_000_000, shown=f"runs/{folder.name}", advice=advice
        ),
    ):
        sweep(folder)
        yield


def _warn(summary: Mapping[str, Any]) -> None:
    if lines := _problem_lines(summary):
        listed = "\n".join(lines)
        warnings.warn(f"The report of {summary['profile']} is not whole.\n{listed}", stacklevel=3)


def _problem_lines(summary: Mapping[str, Any]) -> list[str]:
    return [visible(f"{p['stage']}, seed {p['seed']}: {p['reason']}") for p in summary["problems"]]


def _summary(profile_name: str, root: Path | str | None) -> tuple[dict[str, Any], list[StageRun]]:
    """As `summarise`, with the runs behind it; writes nothing, so a read-only folder will do."""
    runs, problems = read_runs(_folder(profile_name, root))
    if not runs and problems:
        reasons = "\n".join(_problem_lines({"problems": map(asdict, problems)}))
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
        difference_high, p (NaN where there is none).
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
                rows.append(row)
        frame = pd.DataFrame(rows)
        numbers = [c for c in frame if c not in ("stage", "parent", "seed", "metric", "n")]
        return frame.astype(dict.fromkeys(numbers, float))
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected what report.summarise returns or a summary.json holds, got something else "
            f"({type(error).__name__}: {error})"
        ) from error


def write_report(profile_name: str, *, root: Path | str | None = None) -> Path:
    """Write summary.json, stages.png and report.html for a profile.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
    Returns:
        Path of report.html: one file without any outside resource, model text escaped.
    Raises:
        MissingStage, ValueError, ReadOnlyFolder, DiskFull, StageBusy: as `summarise`.
    """
    summary, path = _write(profile_name, root)
    _warn(summary)
    return path


def _write(profile_name: str, root: Path | str | None) -> tuple[dict[str, Any], Path]:
    from postlab.show import plot_stages

    summary, runs = _summary(profile_name, root)
    folder = _folder(profile_name, root)
    with _saving(folder):
        atomic_text(folder / "summary.json", _summary_text(summary))
        frame = summary_frame(summary)
        main_line = _one_model(frame)
        wide = _png(plot_stages(main_line, profile=profile_name), dpi=150)
        narrow = _png(plot_stages(main_line, profile=profile_name, columns=2), dpi=130)
        with atomic_file(folder / "stages.png") as file:
            file.write_bytes(wide)
        figures = [base64.b64encode(image).decode() for image in (wide, narrow)]
        absent = _absent(profile_name, runs, summary["problems"])
        text = page(summary, frame, runs, figures=figures, absent=absent)
        atomic_text(folder / "report.html", text)
    return summary, folder / "report.html"


def written_comparison(profile_name: str, *, root: Path | str | None = None) -> str:
    """What each stage changed, what it cost and what is inconclusive, as Markdown.

    Every sentence is made from the run folders, none by hand: run it again after another seed and
    it says what is then true. p is adjusted (Holm) for the metrics of a stage.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
    Returns:
        Markdown, a section a stage, ending with commits and devices; names are escaped.
    Raises:
        MissingStage, ValueError: as `summarise`.
    """
    summary, runs = _summary(profile_name, root)
    known = [run.manifest for run in runs]
    commits = dict.fromkeys(str(manifest.get("commit")) for manifest in known)
    devices = dict.fromkeys(device_name(manifest["device"]) for manifest in known)
    provenance = {"Commit": ", ".join(commits), "Device": ", ".join(devices)}
    return written(summary, summary_frame(summary), provenance)


def _one_model(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the stages that lead back to the base; all of them, where none does.

    A T4's GRPO has a smaller model of its own: a figure would put it beside the 7B stages.
    """
    parents = dict(zip(frame["stage"], frame["parent"], strict=True))

    def root(stage: str) -> str:
        passed = set()
        while isinstance(parents.get(stage), str) and stage not in passed:  # or in a circle
            passed.add(stage)
            stage = parents[stage]
        return stage

    # A chain that is broken by a damaged stage begins at that stage.
    rows = frame[[root(stage) in CHAIN for stage in frame["stage"]]]
    return frame if rows.empty else rows


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
    return {
        "name": run.stage,
        "parent": run.parent,
        "seed": run.seed,
        "metrics": metrics,
        "versus_parent": changes,
        "train_s": float(run.manifest["train_s"] or 0.0),
        "eval_s": float(run.manifest["eval_s"] or 0.0),
    }


def _absent(
    profile_name: str, runs: list[StageRun], problems: list[dict[str, Any]]
) -> list[tuple[str, int, str]]:
    """(stage, seed, command) of what the main line lacks; what is damaged is listed elsewhere."""
    there = {(run.seed, run.stage) for run in runs} | {(p["seed"], p["stage"]) for p in problems}
    expected = [(seed, stage) for seed in sorted({r.seed for r in runs}) for stage in CHAIN]
    gaps = [pair for pair in expected if pair not in there]
    return [(stage, seed, stage_command(profile_name, stage, seed)) for seed, stage in gaps]


def _png(figure: Figure, *, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _number(value: float) -> float | None:
    """Ten digits, so that the last bits of a sum do not show; null for NaN."""
    return None if math.isnan(value) else float(f"{value:.10g}")


def _folder(profile_name: str, root: Path | str | None) -> Path:
    return (run_root() if root is None else Path(root)) / profile_name


def main(argv: list[str] | None = None) -> int:
    """Rewrite summary, figure and page of one profile."""
    parser = argparse.ArgumentParser(prog="python -m postlab.report", description=main.__doc__)
    parser.add_argument("profile", help="tiny, smol, t4 or rented: a folder in runs/")
    profile_name = parser.parse_args(argv).profile
    try:
        summary, _ = _write(profile_name, None)
    except (DiskFull, MissingStage, ReadOnlyFolder, StageBusy, ValueError) as error:
        print(visible(str(error)), file=sys.stderr)
        return 1
    print(f"runs/{profile_name}: summary.json, stages.png, report.html")
    lines = _problem_lines(summary)
    print("\n".join(lines), end="\n" * bool(lines), file=sys.stderr)
    return 1 if lines else 0
