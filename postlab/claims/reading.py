"""The run folders of a profile, read so that a damaged one costs that stage and no other.

A run folder may have been cut short by a kill, edited by hand or copied from another machine, so
every field that the report uses is checked here; what comes out is safe to compute with and to
draw. Left out: fields that the report doesn't use, and weights (`Run` checks those).
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.claims.comparison import ORDER, in_order
from postlab.evals import NON_METRICS
from postlab.storage import LOG_BYTES, MANIFEST_BYTES, read_file, read_json

if TYPE_CHECKING:
    import pandas as pd

TEXTS = ("id", "family", "prompt", "answer")  # what every row of an evaluation has
MOST_METRICS, LONGEST_NAME = 100, 200  # a figure of more panels is too large to draw
LARGEST = 1e12  # of a number; a mean over larger ones may overflow
_SEED = re.compile(r"seed-(0|-?[1-9][0-9]{0,17})")


@dataclass(frozen=True)
class StageRun:
    """One finished and evaluated stage: its manifest and its evaluation, a row a prompt."""

    seed: int
    stage: str
    parent: str | None
    manifest: dict[str, Any]
    frame: pd.DataFrame


@dataclass(frozen=True)
class Problem:
    """Why a stage is left out of the comparison, or stands in it without a change."""

    seed: int
    stage: str
    reason: str


def read_runs(folder: Path) -> tuple[list[StageRun], list[Problem]]:
    """The finished and evaluated stages, by seed, then in order of training; and the damaged ones.

    Args:
        folder: of a profile, such as runs/tiny.
    """
    runs, problems = [], []
    for seed_folder in sorted(folder.glob("seed-*")):
        name = _SEED.fullmatch(seed_folder.name)
        if not name or not seed_folder.is_dir():  # such as a copy, seed-0-old
            continue
        seed = int(name[1])
        try:
            places = sorted(seed_folder.iterdir())
        except OSError as error:
            problems.append(Problem(seed, "every stage", _unreadable(seed_folder, error)))
            continue
        for place in places:
            if "." in place.name:  # sft.previous, .sft.tmp-123
                continue
            try:
                run = _read_stage(seed, place)
            except ValueError as error:
                problems.append(Problem(seed, place.name, f"{error}"))
            else:
                runs += [run] if run else []
    order = in_order((run.stage for run in runs), ORDER)
    return sorted(runs, key=lambda run: (run.seed, order.index(run.stage))), problems


def _read_stage(seed: int, place: Path) -> StageRun | None:
    """One stage; None if it isn't finished and evaluated; a ValueError if it is damaged."""
    try:
        manifest = read_json(place / "manifest.json", most=MANIFEST_BYTES)
        status = manifest.get("status") if isinstance(manifest, dict) else None
        if status == "running":
            return None
        if status == "complete":
            (place / "eval.jsonl").stat()
        _check(manifest)
        if not place.name.isprintable():
            raise ValueError("the folder's name has characters that can't be printed")
        frame = _read_eval(place / "eval.jsonl")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(_unreadable(place, error)) from error
    return StageRun(seed, place.name, manifest["parent"], manifest, frame)


def _unreadable(place: Path, error: OSError) -> str:
    return f"{Path(error.filename or place).name} can't be read ({error.strerror})"


def _is_name(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= LONGEST_NAME)


def _is_stage(value: Any) -> bool:
    return value is None or (_is_name(value) and value.isprintable())


def _is_amount(value: Any) -> bool:
    return value is None or (_is_number(value) and value >= 0)


def _is_number(value: Any) -> bool:
    """True for a number that can be averaged: not NaN, infinite or of very many digits."""
    return isinstance(value, int | float) and -LARGEST <= value <= LARGEST


def _is_versions(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_name, value.values())))


def _is_device(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_name(value.get("gpu")):
        return False
    sizes = [value.get("cpus"), value.get("ram_gib")]
    return bool(value.get("gpu")) or all(
        _is_number(size) or (size is not None and _is_name(size)) for size in sizes
    )


_AMOUNT = (_is_amount, "a number from 0 to 1e12, or null")
_NAME = (_is_name, f"text of at most {LONGEST_NAME} characters, or null")
FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {  # of a manifest: its check, in words
    "status": (lambda value: value == "complete", "'complete' or 'running'"),
    "parent": (_is_stage, "the name of a stage, or null"),
    "commit": _NAME,
    "versions": (_is_versions, "an object of names and versions, or null"),
    "device": (_is_device, "an object with 'gpu', or with 'cpus' and 'ram_gib'"),
    "train_s": _AMOUNT,
    "eval_s": _AMOUNT,
    "wall_s": _AMOUNT,
    "peak_rss_gb": _AMOUNT,
}


def _check(manifest: Any) -> None:
    if not isinstance(manifest, dict):
        raise ValueError(f"manifest.json holds {_shown(manifest)}; expected an object")
    for field, (is_right, expected) in FIELDS.items():
        if not is_right(manifest.setdefault(field, None)):
            raise ValueError(
                f"manifest.json, field {field!r}, is {_shown(manifest[field])}; expected {expected}"
            )


def _read_eval(path: Path) -> pd.DataFrame:
    """An evaluation, a row a prompt, with texts as text and metrics as floats."""
    import pandas as pd

    try:
        text = read_file(path, most=LOG_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text (byte {error.start})") from error
    # not splitlines: it also breaks at U+2028 and U+0085, which a model's answer may hold
    lines = text.removesuffix("\n").split("\n")
    rows = [_row(line, f"{path.name}, line {number},") for number, line in enumerate(lines, 1)]
    frame = pd.DataFrame(rows)
    metrics = [name for name in frame if name not in NON_METRICS]
    for name in metrics:
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise ValueError(f"{path.name} has a metric whose name can't be shown: {_shown(name)}")
    if len(metrics) > MOST_METRICS:
        raise ValueError(
            f"{path.name} has {len(metrics):,} metrics; expected {MOST_METRICS} at most"
        )
    if not frame[metrics].notna().to_numpy().any():
        raise ValueError(f"{path.name} has no metric with a value")
    return frame.astype(dict.fromkeys(metrics, float))


def _row(line: str, where: str) -> dict[str, Any]:
    advice = "Delete the file and run the notebook of that stage again: it evaluates, not trains."
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is cut short or damaged ({error}). {advice}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where} holds {_shown(row)}; expected an object. {advice}")
    for name in TEXTS:
        if name not in row:
            raise ValueError(f"{where} has no field {name!r}. {advice}")
    for name, value in row.items():
        if name in NON_METRICS:
            right, expected = not isinstance(value, dict | list), "text"
        else:
            right, expected = value is None or _is_number(value), "a finite number, or null"
        if not right:
            raise ValueError(
                f"{where} field {_shown(name)}, is {_shown(value)}; expected {expected}. {advice}"
            )
    # No page or file can hold half of a surrogate pair.
    return row | {n: str(row[n]).encode("utf-8", "replace").decode("utf-8") for n in TEXTS}


def _shown(value: Any) -> str:
    return reprlib.repr(value)  # short, however long or deep the value is
