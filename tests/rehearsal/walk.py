"""Walk every cell of the notebooks under a GPU profile, on a CPU: `make rehearse PROFILE=t4`.

Each notebook runs in a real kernel as *Run all* would, asides included, under the profile's own
name, with its own trainer configuration, row formats, template, suite and chain of stages; steps,
rows, lengths and batches are cut (`cuts.py`). The models are small, randomly initialised versions
of the real architectures (`stand_ins.py`; under `smol`, SmolLM2 itself). They and the rows
(`real_rows.py`) come from a local server that speaks the Hub's protocol. If a cell raises, the
error is recorded and the walk continues. If a cell doesn't apply to the profile, it says why
through `lab.not_here`, and the report includes that sentence.

    python tests/rehearsal/walk.py t4            all twelve
    python tests/rehearsal/walk.py rented 03 05  two of them, after the stages they need
    python tests/rehearsal/walk.py mine.yaml 03  a profile of your own

A profile of your own keeps its data files; a model of the Hub that has no stand-in here gets one of
Mistral's or, if its name says Instruct, of Qwen's. Its data sets on the Hub are not there.

Left out: what only a GPU can show (its kernels, fp16, memory, speed).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
for place in (ROOT / "tests" / "unit", ROOT / "notebooks", HERE):
    sys.path.insert(0, str(place))

import build  # noqa: E402
import cuts  # noqa: E402
import real_rows  # noqa: E402
import stand_ins  # noqa: E402
from hub_server import HubServer  # noqa: E402

from postlab.lab import EMBEDDED_WEEKS  # noqa: E402
from postlab.profile import get_profile  # noqa: E402

WEEKS = tuple(f"{week:02d}" for week in range(1, 13))
MAKES = ("03", "05", "07")  # the chain: each needs those before it, and the others need them all
SKIPPED = re.compile(r"^Skipped under [\w.-]+: (.+)$", re.MULTILINE)
FIRST = "import sys; sys.path.insert(0, {here!r}); import cuts; cuts.apply({profile!r})"


@dataclass
class Walk:
    """The result of walking one notebook.

    Args:
        week: two digits.
        cells: code cells walked.
        reasons: (line of code, sentence) of the cells that said why they don't apply.
        errors: (line of code, the error) of the cells that raised.
    """

    week: str
    cells: int = 0
    seconds: float = 0.0
    reasons: list[tuple[str, str]] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="smol, t4, rented, or a YAML file of your own")
    parser.add_argument("weeks", nargs="*", metavar="NN", help="by default all twelve")
    options = parser.parse_args()
    unknown = sorted(set(options.weeks) - set(WEEKS))
    if unknown:
        sys.exit(f"walk.py: no week {', '.join(unknown)}; expected two digits, 01 to 12")
    if not cuts.is_file(options.profile) and options.profile not in ("smol", "t4", "rented"):
        parser.error(f"got {options.profile!r}; expected smol, t4, rented or a file (.yaml)")
    try:
        name = get_profile(options.profile).name
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"walk.py: {error}")
    kept = ROOT / "runs" / f"rehearsal-{name}"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="postlab-rehearsal-") as folder:
        walks = rehearse(options.profile, options.weeks or WEEKS, Path(folder), keep=kept)
    text = report(name, walks)
    print(f"{text}\n\nThe executed notebooks and this report are in runs/{kept.name}/")
    (kept / "report.md").write_text(text + "\n", encoding="utf-8")
    sys.exit(any(walk.errors for walk in walks))


def rehearse(
    profile: str,
    weeks: Sequence[str],
    folder: Path,
    *,
    plant: str = "",
    asides: bool = True,
    chain: bool = True,
    keep: Path | None = None,
) -> list[Walk]:
    """Walk the weeks in order, in a runs folder of their own, and say what came of each.

    Args:
        profile: a name, or the YAML file of a profile of one's own.
        plant: a fault of `cuts.PLANTED`.
        asides: also the cells that `make stages` leaves out.
        chain: make the stages that the weeks start from first.
        keep: a folder for the executed notebooks.
    """
    recipe = hashlib.sha256(Path(stand_ins.__file__).read_bytes()).hexdigest()[:12]
    shelf = Path(sys.prefix) / "share" / "rehearsal" / f"stand-ins-{recipe}"
    files = {name: contents(place) for name, place in stand_ins.build(shelf).items()}
    if cuts.is_file(profile):
        profile = str(Path(profile).expanduser().absolute())
        files |= {name: files[stand_in] for name, stand_in in missing(profile, files).items()}
    rows = real_rows.repositories()
    if plant == "renamed column":
        repo = real_rows._hub.KNOWN["openhermes"][0]
        renamed = [
            {"dialogue_turns" if k == "conversations" else k: v for k, v in row.items()}
            for row in real_rows.openhermes(40)
        ]
        rows[repo] = {real_rows.PARQUET: real_rows.parquet(renamed)}
    needed = [week for week in MAKES if chain and week < max(weeks) and week not in weeks]
    walks = []
    with HubServer(files | rows) as hub:
        environment = surroundings(profile, hub.url, folder, plant)
        for week in sorted({*weeks, *needed}):
            asked = week in weeks
            walk = walk_notebook(week, profile, environment, asides=asides and asked, keep=keep)
            if asked or walk.errors:
                walks.append(walk)
            print(line(walk, note="" if asked else " (its stage only)"), flush=True)
            for where, what in walk.errors:
                print(f"  `{where}`: {what}", flush=True)
    return walks


def missing(profile: str, files: Mapping[str, Any]) -> dict[str, str]:
    """{model of the Hub that a profile of one's own names: what stands in for it}."""
    mine = get_profile(profile)
    names = {mine.base_model, mine.judge_model, mine.grpo.base_model} - {None, "", "smol", *files}
    instruct, base = "unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "unsloth/mistral-7b-v0.3"
    hub = (name for name in names if not Path(name).is_dir())
    return {name: instruct if "instruct" in name.lower() else base for name in hub}


def surroundings(profile: str, hub: str, folder: Path, plant: str) -> dict[str, str]:
    """The kernel's environment: the profile, the local Hub, folders of its own."""
    unset = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN")
    unset += ("MPLBACKEND", "POSTLAB_SEED")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return kept | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        "POSTLAB_PLANT": plant,
        "POSTLAB_PROFILE": profile,
        "POSTLAB_RUNS": str(folder / "runs"),
        "UNSLOTH_DISABLE_STATISTICS": "1",
    }


def walk_notebook(
    week: str,
    profile: str,
    environment: dict[str, str],
    *,
    asides: bool = True,
    keep: Path | None = None,
) -> Walk:
    """Execute one notebook to its end, whatever its cells do."""
    import nbformat
    from nbclient import NotebookClient

    (source,) = (ROOT / "notebooks" / "src").glob(f"week{week}_*.py")
    notebook = build.notebook_of(source, None)
    if not asides:
        kept = [c for c in notebook.cells if "aside" not in c.metadata.get("tags", ())]
        notebook.cells = kept
    hidden = FIRST.format(here=str(HERE), profile=profile)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(hidden))
    client = NotebookClient(
        notebook, timeout=900, startup_timeout=300, kernel_name="python3", allow_errors=True,
        resources={"metadata": {"path": str(ROOT / "notebooks")}}, coalesce_streams=True,
        record_timing=False,
    )  # fmt: skip
    walk, started = Walk(week), time.monotonic()
    client.execute(env=environment)
    walk.seconds = time.monotonic() - started
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        walk.cells += 1
        for why in SKIPPED.findall(printed(cell.outputs)):
            walk.reasons.append((first_line(cell.source), why))
        for output in cell.outputs:
            if output.output_type == "error":
                walk.errors.append((first_line(cell.source), told(output)))
    walk.cells -= 1  # the hidden one
    if keep is not None:
        nbformat.write(notebook, keep / f"{source.stem}.ipynb")
    return walk


def printed(outputs: Iterable[Any]) -> str:
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")


def told(error: Any) -> str:
    """An error in a line, with the line of the cell that raised it."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    (at,) = re.findall(r"^-+> *\d+ (.+)$", plain, re.MULTILINE)[:1] or [""]
    return f"{error.ename}: {' '.join(error.evalue.split())[:300]} | at: {at.strip()[:120]}"


def first_line(source: str) -> str:
    """The first line of a cell that does something."""
    plain = (text for text in source.splitlines() if text.strip() and not text.startswith("#"))
    return next(plain, source[:60])


def line(walk: Walk, note: str = "") -> str:
    return (
        f"week {walk.week}: cells walked {walk.cells}, skipped {len(walk.reasons)},"
        f" exceptions {len(walk.errors)}, {walk.seconds:.0f} s{note}"
    )


def report(profile: str, walks: Sequence[Walk]) -> str:
    """The walk in Markdown: a table, the sentences of the cells that do not apply, the errors."""
    cells, errors = sum(w.cells for w in walks), sum(len(w.errors) for w in walks)
    minutes = sum(w.seconds for w in walks) / 60
    text = [
        f"# Rehearsal of `{profile}` on a CPU",
        "",
        f"Cells walked: {cells}. Exceptions: {errors}. {minutes:.1f} min.",
        "",
        "| week | cells walked | skipped | exceptions | s |",
        "|---|---|---|---|---|",
    ]
    text += [
        f"| {w.week} | {w.cells} | {len(w.reasons)} | {len(w.errors)} | {w.seconds:.0f} |"
        for w in walks
    ]
    embedded = [w.week for w in walks if int(w.week) in EMBEDDED_WEEKS]
    if embedded:
        said = "use the embedded model in every profile: their cells say nothing of a 7B."
        text += ["", f"Weeks {', '.join(embedded)} {said}"]
    for title, pick in (("Skipped cells", "reasons"), ("Exceptions", "errors")):
        found = [(w.week, *one) for w in walks for one in getattr(w, pick)]
        text += ["", f"## {title}", ""] if found else []
        text += [f"- week {week}, `{where}`: {what}" for week, where, what in found]
    return "\n".join(text)


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if path.name != "complete"}


if __name__ == "__main__":
    main()
