"""Whether a run's folder will take what is saved at its end, seen before anything is trained.

Left out: a quota, which no call tells of; a disk that another program fills during the training;
and a bind mount of the same disk in the place of model/.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from postlab import storage
from postlab.storage import DiskFull, size_text

FOLDERS = ("model", "checkpoints")
FILES = ("manifest.json", "trainer_state.json", "eval.jsonl", "samples.jsonl")


def check(folder: Path, shown: str) -> None:
    """Try each step of a save, and look at what stands where the results go.

    Args:
        folder: a run's folder, locked by this process.
        shown: `folder` as messages show it.
    Raises:
        FileExistsError: if something stands where a file or folder is to be put by a rename.
        ReadOnlyFolder: if nothing can be written, or what is written can't be renamed.
        OSError: if the disk is full or fails.
    """
    for name in (*FOLDERS, *FILES):
        path = folder / name
        if not os.path.lexists(path):
            continue
        wanted = "folder" if name in FOLDERS else "file"
        right = path.is_dir() if name in FOLDERS else path.is_file()
        if not right or (path.is_symlink() and name != "checkpoints"):
            what = "symbolic link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        elif name == "model" and os.path.ismount(path):
            what = "mount point"
        else:
            continue
        raise FileExistsError(
            f"{name} in {shown} is a {what}; expected a {wanted} or nothing, because what is saved "
            f"there takes its place by a rename. Move it away. To keep a run on another disk, make "
            f"the whole of {shown} a link."
        )
    for place in (folder, folder / "checkpoints"):
        with storage.writing_to(place):
            _try(place)


def _try(place: Path) -> None:
    """Make a folder with a file in it, bring it to the disk, rename it, delete it."""
    trial = place / f".trial.tmp-{os.getpid()}"  # its name lets a later process sweep it
    renamed = trial.with_name(f".trial-2.tmp-{os.getpid()}")
    try:
        trial.mkdir(exist_ok=True)
        (trial / "file").write_bytes(b"0" * 4096)
        storage.sync(trial / "file")
        storage.rename(trial, renamed)
    finally:
        for path in (trial, renamed):
            shutil.rmtree(path, ignore_errors=True)


def check_space(needs: Mapping[Path, int], outcome: str, *, advice: Callable[[], str]) -> None:
    """Compare what a run will certainly save with the free space.

    Args:
        needs: bytes that will be written below each folder, all of them existing.
        outcome: the middle of the message, such as "Nothing of sft was trained".
        advice: called for its end, as in `storage.disk_guard`.
    Raises:
        DiskFull: if they don't fit; folders on the same disk are added up.
    """
    total: dict[int, int] = {}
    for folder, needed in needs.items():
        device = folder.stat().st_dev
        total[device] = total.get(device, 0) + needed
        free = shutil.disk_usage(folder).free
        if free < total[device]:
            raise DiskFull(
                f"The disk has too little space: {size_text(free)} are free, and a checkpoint and "
                f"the final model take at least {size_text(total[device])}. {outcome}. Free some "
                f"space; {advice()}"
            )
