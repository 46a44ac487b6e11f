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
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.claims import StageRun, summarised, summary_frame
from postlab.profile import device_name, stage_command
from postlab.report.page import page, visible
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
        seed, then in order of training. A change also has "copied": true if the stage's answers are
        its parent's. Problems, also warned of, are damaged stages, which are left out, and stages
        that can't be compared with their parent.
    Raises:
        MissingStage: if nothing is finished; names the command to run.
        ReadOnlyFolder, DiskFull: if nothing can be written there.
        StageBusy: if another process has been writing there for a minute.
        ValueError: if every stage is damaged (names file and line).
    """
    summary, _ = summarised(profile_name, root=root)
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
    summary, runs = summarised(profile_name, root=root)
    folder = _folder(profile_name, root)
    with _saving(folder):
        atomic_text(folder / "summary.json", _summary_text(summary))
        frame = summary_frame(summary)
        wide = draw_stages(summary)
        narrow = draw_stages(summary, columns=2, dpi=130)
        with atomic_file(folder / "stages.png") as file:
            file.write_bytes(wide)
        figures = [base64.b64encode(image).decode() for image in (wide, narrow)]
        absent = _absent(profile_name, runs, summary["problems"])
        text = page(summary, frame, runs, figures=figures, absent=absent)
        atomic_text(folder / "report.html", text)
    return summary, folder / "report.html"


def draw_stages(summary: Mapping[str, Any], *, columns: int | None = None, dpi: int = 150) -> bytes:
    """stages.png of a summary: the stages that lead back to the base, a panel a metric.

    Args:
        summary: from `summarise`, or read from a summary.json.
        columns: panels side by side; None lets `show.plot_stages` choose.
        dpi: dots an inch.
    Returns:
        The bytes of a PNG file.
    """
    from postlab.show import plot_stages

    how = {} if columns is None else {"columns": columns}
    main_line = _one_model(summary_frame(summary))
    return _png(plot_stages(main_line, profile=summary["profile"], **how), dpi=dpi)


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
    summary, runs = summarised(profile_name, root=root)
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
