"""Which re-evaluated exports go into the portfolio, and why the others stay out.

`handover` leaves a record beside the files that it wrote. A format goes out if it was made from the
weights that the stage has now, is still the file that was scored, was *shown* to score the same,
and has no fault that a server would stumble over. Merged weights get a repository of their own, and
so do GGUF files. The adapter isn't looked at here, because it goes out with its stage.

What this leaves out: exports that were never evaluated again. They aren't published at all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postlab.portfolio.handover import HANDOVER
from postlab.storage import atomic_text, file_hash, read_json

LARGEST = 5_000_000  # bytes of a record
FORMS = ("merged", "gguf")  # folders of an export, and forms of a card


@dataclass(frozen=True)
class Export:
    """A format that a stage was exported in.

    Args:
        stage: whose weights it was made from; "" if no stage has them now.
        format: such as "merged" or "gguf-q8_0".
        folder: of the export.
        files: those of the format, relative to `folder`.
        verdict: of the re-evaluation.
        rows: the re-evaluation: of each metric, a row of `Handover.frame` and the margin.
        left_out: why it doesn't go out; "" if it does.
    """

    stage: str
    format: str
    folder: Path
    files: tuple[str, ...]
    verdict: str
    rows: Sequence[Mapping[str, Any]]
    left_out: str

    @property
    def form(self) -> str:
        """ "merged" or "gguf"."""
        return self.format.partition("-")[0]


def read_exports(folders: Sequence[Path], weights: Mapping[str, str]) -> list[Export]:
    """The exports in folders that `handover` wrote.

    Args:
        folders: each with a handover.json.
        weights: {`storage.file_hash` of a stage's adapter: the stage}.
    Raises:
        ValueError: if a record isn't what `handover` writes.
    """
    exports = []
    for folder in folders:
        record = read_json(folder / HANDOVER, most=LARGEST)
        try:
            stage = weights.get(record["weights_sha256"], "")
            for form, held in record["formats"].items():
                if form.partition("-")[0] not in FORMS:
                    continue
                why = "" if stage else "it wasn't made from the current weights of any stage"
                why = why or _objection(folder, held["verdict"], held["blocked"], held["files"])
                rows = [{**row, "format": form, "margin": record["margin"]} for row in held["rows"]]
                exports.append(Export(
                    stage, form, folder, tuple(held["files"]), held["verdict"], rows, why
                ))  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / HANDOVER} isn't what handover writes: {error!r}") from None
    return exports


def _objection(folder: Path, verdict: str, blocked: str, files: Mapping[str, str]) -> str:
    """Why an export stays out; "" if it may go."""
    if blocked:
        return blocked
    if verdict != "equivalent":
        return f"its re-evaluation is {verdict}; more prompts (n=None in handover) may settle it"
    for name, digest in files.items():
        path = folder / name
        inside = path.resolve().is_relative_to(folder.resolve())
        if not (inside and path.is_file() and file_hash(path) == digest):
            return f"{name} isn't the file that was evaluated; run handover again"
    return "" if files else "it has no files"


def group_exports(
    exports: Sequence[Export], *, profile: str
) -> Iterator[tuple[str, str, list[Export]]]:
    """(folder in the portfolio, stage, exports) of each repository of exports that goes out."""
    groups: dict[tuple[str, str], list[Export]] = {}
    for export in exports:
        if not export.left_out:
            groups.setdefault((export.stage, export.form), []).append(export)
    for (stage, form), group in groups.items():
        yield f"models/{profile}-{stage}-{form}", stage, group


def place_exports(
    exports: Sequence[Export], *, profile: str, to: Path
) -> Iterator[tuple[str, str, list[Export]]]:
    """Put what goes out into `to`/models, and yield each (folder in `to`, stage, its exports).

    Files are linked where the disk allows it, since merged weights may be large. What an earlier
    call placed is removed. The reasons for the rest are left in `to`/handover.json.
    """
    for form in FORMS:
        for old in (to / "models").glob(f"{profile}-*-{form}"):
            shutil.rmtree(old)
    for place, stage, group in group_exports(exports, profile=profile):
        form = group[0].form
        for export in group:
            for name in export.files:
                file = to / place / Path(name).relative_to(form)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                _link(export.folder / name, file)
        yield place, stage, group
    told = [
        {"stage": e.stage, "format": e.format, "verdict": e.verdict, "left_out": e.left_out}
        for e in exports
    ]
    if told:
        atomic_text(to / HANDOVER, json.dumps({"exports": told}, indent=1) + "\n")
    else:
        (to / HANDOVER).unlink(missing_ok=True)


def told_exports(folder: Path) -> list[dict[str, str]]:
    """What `place_exports` left about each export: stage, format, verdict, left_out."""
    try:
        exports = read_json(folder / HANDOVER, most=LARGEST)["exports"]
        return [{key: str(e[key]) for key in ("stage", "format", "verdict", "left_out")}
                for e in exports]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _link(source: Path, to: Path) -> None:
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)
