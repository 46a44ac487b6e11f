"""The comparison of a profile's runs, from the run folders: summary.json, stages.png, report.html.

Reads what `runs` wrote and nothing else: no model is loaded, so the page can be made again anywhere
with `python -m postlab.report PROFILE`. Same runs, same summary, byte for byte, timings excepted.
Left out: stages that are unfinished or unevaluated (the page lists them as not run), and any
average over seeds in summary.json, which has one entry a stage and seed.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.claims import ORDER, in_order
from postlab.evals import NON_METRICS, compare
from postlab.profile import device_name, stage_command
from postlab.report.page import page
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


@dataclass(frozen=True)
class StageRun:
    """One finished and evaluated stage: its manifest and its evaluation, a row a prompt."""

    seed: int
    stage: str
    parent: str | None
    manifest: dict[str, Any]
    frame: pd.DataFrame


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
        "low", "high", "p"}}, "train_s", "eval_s"}]}, by seed, then in order of training.
    Raises:
        MissingStage: if nothing is finished or a parent is missing; names the command to run.
        ReadOnlyFolder, DiskFull: if nothing can be written there.
        StageBusy: if another process has been writing there for a minute.
        ValueError: if a file is damaged (names file and line), or prompts differ.
    """
    summary = _summary(profile_name, read_runs(profile_name, root=root))
    folder = _folder(profile_name, root)
    with _saving(folder):
        atomic_text(folder / "summary.json", _summary_text(summary))
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


def _summary(profile_name: str, runs: list[StageRun]) -> dict[str, Any]:
    """As `summarise` returns it; nothing is written, so that a read-only folder will do."""
    by_name: dict[tuple[int, str | None], StageRun] = {(run.seed, run.stage): run for run in runs}
    stages = []
    for run in runs:
        if run.parent is not None and (run.seed, run.parent) not in by_name:
            raise MissingStage(
                f"{run.stage}, seed {run.seed}, starts from {run.parent}, which is not finished "
                f"and evaluated. Make it with: {stage_command(profile_name, run.parent, run.seed)}"
            )
        stages.append(_entry(run, by_name.get((run.seed, run.parent))))
    return {
        "profile": profile_name,
        "wall_s": round(sum(run.manifest.get("wall_s") or 0.0 for run in runs), 3),
        "peak_rss_gb": max(run.manifest.get("peak_rss_gb") or 0.0 for run in runs),
        "stages": stages,
    }


def summary_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A summary as rows for `show.plot_stages`: one a stage, seed and metric.

    Args:
        summary: as `summarise` returns it, or read from a summary.json.
    Returns:
        stage, parent, seed, metric, value, low, high, n, difference, difference_low,
        difference_high, p (NaN where there is none).
    """
    import pandas as pd

    rows = []
    for entry in summary["stages"]:
        for metric, measured in entry["metrics"].items():
            row = {"stage": entry["name"], "parent": entry["parent"], "seed": entry["seed"]}
            row |= {"metric": metric} | measured
            change = entry["versus_parent"].get(metric, {})
            for name in ("difference", "low", "high", "p"):
                target = name if name in ("difference", "p") else f"difference_{name}"
                row[target] = change.get(name)
            rows.append(row)
    frame = pd.DataFrame(rows)
    numbers = [c for c in frame if c not in ("stage", "parent", "seed", "metric", "n")]
    return frame.astype(dict.fromkeys(numbers, float))


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
    from postlab.show import plot_stages

    runs = read_runs(profile_name, root=root)
    summary, folder = _summary(profile_name, runs), _folder(profile_name, root)
    with _saving(folder):
        atomic_text(folder / "summary.json", _summary_text(summary))
        frame = summary_frame(summary)
        main_line = _one_model(frame)
        wide = _png(plot_stages(main_line, profile=profile_name), dpi=150)
        narrow = _png(plot_stages(main_line, profile=profile_name, columns=2), dpi=130)
        with atomic_file(folder / "stages.png") as file:
            file.write_bytes(wide)
        figures = [base64.b64encode(image).decode() for image in (wide, narrow)]
        absent = _absent(profile_name, runs)
        text = page(summary, frame, runs, figures=figures, absent=absent)
        atomic_text(folder / "report.html", text)
    return folder / "report.html"


def written_comparison(profile_name: str, *, root: Path | str | None = None) -> str:
    """What each stage changed, what it cost and what is inconclusive, as Markdown.

    Every sentence is made from the run folders, none by hand: run it again after another seed and
    it says what is then true. p is adjusted (Holm) for the metrics of a stage.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
    Returns:
        Markdown, a section a stage, ending with commits and devices.
    Raises:
        MissingStage, ValueError: as `summarise`.
    """
    runs = read_runs(profile_name, root=root)
    summary, known = _summary(profile_name, runs), [run.manifest for run in runs]
    commits = dict.fromkeys(str(manifest.get("commit")) for manifest in known)
    devices = dict.fromkeys(device_name(manifest["device"]) for manifest in known)
    provenance = [f"Commit: {', '.join(commits)}", f"Device: {', '.join(devices)}"]
    return written(summary, summary_frame(summary), provenance)


def read_runs(profile_name: str, *, root: Path | str | None = None) -> list[StageRun]:
    """The finished and evaluated stages of a profile, by seed, then in order of training."""
    runs = []
    for path in _folder(profile_name, root).glob("seed-*/*/manifest.json"):
        evaluation = path.with_name("eval.jsonl")
        if "." in path.parent.name or not evaluation.exists():  # sft.previous, .sft.tmp-123
            continue
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{_shown(path)} is not valid JSON: {error}") from error
        if manifest.get("status") == "complete":
            seed, stage = int(path.parts[-3].removeprefix("seed-")), path.parts[-2]
            frame = _read_eval(evaluation)
            runs.append(StageRun(seed, stage, manifest.get("parent"), manifest, frame))
    if not runs:
        raise MissingStage(
            f"No finished and evaluated stage of profile {profile_name!r} in runs/{profile_name}. "
            f"Make them with: make stages PROFILE={profile_name}"
        )
    order = in_order((run.stage for run in runs), ORDER)
    return sorted(runs, key=lambda run: (run.seed, order.index(run.stage)))


def _one_model(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the stages that lead back to the base; all of them, where none does.

    A T4's GRPO has a smaller model of its own: a figure would put it beside the 7B stages.
    """
    parents = dict(zip(frame["stage"], frame["parent"], strict=True))

    def root(stage: str) -> str:
        while isinstance(parents.get(stage), str):
            stage = parents[stage]
        return stage

    rows = frame[[root(stage) == "base" for stage in frame["stage"]]]
    return frame if rows.empty else rows


def _entry(run: StageRun, parent: StageRun | None) -> dict[str, Any]:
    frames = {run.stage: run.frame}
    if parent is not None:
        frames = {parent.stage: parent.frame} | frames
    try:
        table = compare(frames)
    except ValueError as error:
        raise ValueError(f"seed {run.seed}: {error}") from error
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
        "train_s": float(run.manifest.get("train_s") or 0.0),
        "eval_s": float(run.manifest.get("eval_s") or 0.0),
    }


def _read_eval(path: Path) -> pd.DataFrame:
    import pandas as pd

    rows = []
    # not splitlines: it also breaks at U+2028 and U+0085, which a model's answer may hold
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            missing = [name for name in ("id", "family", "prompt", "answer") if name not in row]
        except (ValueError, TypeError) as error:
            raise ValueError(
                _damaged(path, number, f"is cut short or damaged ({error})")
            ) from error
        if missing:
            raise ValueError(_damaged(path, number, f"has no field {missing[0]!r}"))
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({name: float for name in frame if name not in NON_METRICS})


def _damaged(path: Path, number: int, what: str) -> str:
    advice = "Delete the file and run the notebook of that stage again: it evaluates, not trains."
    return f"{_shown(path)}, line {number}, {what}. {advice}"


def _absent(profile_name: str, runs: list[StageRun]) -> list[tuple[str, int, str]]:
    """(stage, seed, command) of what the main line lacks."""
    there = {(run.seed, run.stage) for run in runs}
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


def _shown(path: Path) -> str:
    return "/".join(("runs", *path.parts[-4:]))  # without the machine's own folders


def main(argv: list[str] | None = None) -> int:
    """Rewrite summary, figure and page of one profile."""
    parser = argparse.ArgumentParser(prog="python -m postlab.report", description=main.__doc__)
    parser.add_argument("profile", help="tiny, smol, t4 or rented: a folder in runs/")
    profile_name = parser.parse_args(argv).profile
    try:
        write_report(profile_name)
    except (DiskFull, MissingStage, ReadOnlyFolder, StageBusy, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"runs/{profile_name}: summary.json, stages.png, report.html")
    return 0
