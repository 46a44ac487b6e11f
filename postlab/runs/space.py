"""What under the run root takes space and can be deleted: the end of the message for a full disk.

Without loss, one can delete a run that was moved aside, the checkpoints of a finished stage, and
all checkpoints of an unfinished one but the last. Left out: deleting anything, which a person does.
"""

from __future__ import annotations

from pathlib import Path

from postlab.runs import training
from postlab.runs.machine import run_root
from postlab.storage import manifest, size_text

SHOWN = 5
SMALLEST = 100_000  # bytes; less isn't worth deleting


def advice(checkpoints: Path) -> str:
    """Where a stopped stage would go on, and what to delete first.

    Args:
        checkpoints: the folder of the stage that was stopped.
    """
    last = training.last_intact(checkpoints)
    where = f"from {last.name}, the last complete one" if last else "where it can"
    text = f"then run this again: it goes on {where}."
    if spare := _largest(spare_folders(run_root())):
        return f"{text} No longer needed, the largest first: {spare}."
    stages = [folder for folder in _stages(run_root()) if folder != checkpoints.parent]
    if needed := _largest(stages):
        return (
            f"{text} Nothing in the runs folder can be deleted without loss. Its other large "
            f"folders, which would have to be trained again: {needed}."
        )
    return text


def spare_folders(root: Path) -> list[Path]:
    """Folders below the run root that no stage needs."""
    spare: list[Path] = []
    for folder in _stages(root):
        saved = training.by_step(folder / "checkpoints")
        if ".previous" in folder.name:
            spare.append(folder)
        elif _complete(folder):
            spare += saved
        else:
            last = training.last_intact(folder / "checkpoints")
            spare += [checkpoint for checkpoint in saved if last and checkpoint != last]
    return spare


def _stages(root: Path) -> list[Path]:
    return [f for f in root.glob("*/seed-*/*") if f.is_dir() and not f.name.startswith(".")]


def _complete(folder: Path) -> bool:
    return (manifest(folder) or {}).get("status") == "complete"


def _largest(folders: list[Path]) -> str:
    """The largest of them with their sizes, as a list for a sentence."""
    sizes = {folder: _bytes(folder) for folder in folders}
    order = sorted(sizes, key=lambda folder: sizes[folder], reverse=True)
    shown = [f for f in order if sizes[f] >= SMALLEST][:SHOWN]
    names = {f: f.relative_to(run_root()).as_posix() for f in shown}
    return ", ".join(f"runs/{names[f]} ({size_text(sizes[f])})" for f in shown)


def _bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_size if file.is_file() else 0
        except OSError:  # gone meanwhile, or out of reach
            continue
    return total
