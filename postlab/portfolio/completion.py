"""What the course asks for, item by item, and a record of what was done that anybody can verify.

Every item of the checklist is computed: from run folders, from the portfolio, and from what saved
notebooks show. The record holds hashes of all of it, so it can be compared with the files later,
offline and without a model.

What this leaves out: whether the work is good, and who did it. A check's ✓ is read from a saved
notebook, and whoever can edit a file can edit a notebook.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.portfolio.binding import count_of
from postlab.portfolio.documents import PROJECTS
from postlab.portfolio.exports import told_exports
from postlab.portfolio.publish import PUBLISHED, RECORD, file_hashes
from postlab.portfolio.whole import Portfolio
from postlab.storage import atomic_text, read_json

if TYPE_CHECKING:
    import pandas as pd

    from postlab.portfolio.binding import Evidence

CAPSTONE = "capstone.json"
CURATED = "`curate`"  # a card says so where drops were recorded
LARGEST = 50_000_000  # bytes of a notebook or a record
SHOWN = 3  # changed files that the checklist names
SEEDS = 3  # from which on a claim about a method has more than luck behind it
_SOLVED = re.compile(r"^✓ (\w{1,60}): right$", re.MULTILINE)


@dataclass(frozen=True)
class Item:
    """One thing that the course asks for."""

    what: str
    done: bool
    evidence: str
    to_do: str


def checklist(
    portfolio: Portfolio, known: Evidence, *, notebooks: Path | str | None = None
) -> list[Item]:
    """Which items of the course's rubric are there.

    Args:
        portfolio: from `make_portfolio`.
        known: `evidence(...)` of the same profile.
        notebooks: the folder with your notebooks, as saved; None leaves exercises out.
    """
    items = []
    for stage in PROJECTS:
        seeds = {run.seed for run in known.runs if run.stage == stage}
        settled = sum(c.verdict in ("better", "worse") for c in known.of(stage))
        evidence = (
            f"{count_of(len(seeds), 'seed')}, {len(known.of(stage))} claims, {settled} settled"
        )
        to_do = "make stages"
        items.append(Item(f"{stage.upper()} project", bool(known.of(stage)), evidence, to_do))
    few = [s for s in known.stages if len({r.seed for r in known.runs if r.stage == s}) < SEEDS]
    items.append(
        Item(
            f"every stage trained with {SEEDS} seeds",
            not few,
            f"fewer for {', '.join(few)}" if few else "all",
            "make stages SEED=1, then SEED=2",
        )
    )
    cards = sum(place.startswith("models/") for place in portfolio.cards)
    items.append(Item("a card for each model", cards > 0, f"{cards} cards", "make portfolio"))
    curated = [p for p, t in portfolio.texts.items() if p.endswith("README.md") and CURATED in t]
    items.append(
        Item(
            "curation on the card",
            bool(curated),
            ", ".join(curated) or "no card says what curation dropped",
            "run.save_curation(...) after training, then make portfolio",
        )
    )
    exports = told_exports(portfolio.folder)
    items.append(
        Item(
            "exports re-evaluated",
            any(not e["left_out"] for e in exports),
            ", ".join(
                f"{e['format']} {e['verdict']}{', left out' if e['left_out'] else ''}"
                for e in exports
            )
            or "nothing yet",
            "handover(...), then make portfolio",
        )
    )
    holes = [problem for problem in portfolio.problems if problem.code == "hole"]
    others = len(portfolio.problems) - len(holes)
    rest = count_of(others, "other problem") if others else "nothing else"
    items.append(
        Item(
            "posts written",
            not holes,
            f"{count_of(len(holes), 'hole')} left",
            "write them in drafts/",
        )
    )
    items.append(
        Item(
            "audit",
            not portfolio.problems,
            f"{count_of(len(holes), 'hole')}, {rest}" if holes else count_of(others, "problem"),
            "fix what make_portfolio(...).problems lists",
        )
    )
    capstone = _json(portfolio.folder / CAPSTONE) or {}
    items.append(
        Item(
            "one area in depth",
            bool(capstone.get("verdict")),
            str(capstone.get("verdict", "no capstone with a verdict")),
            "notebooks/extras/capstone",
        )
    )
    sent, changed = _published(portfolio.folder)
    items.append(
        Item(
            "published",
            bool(sent) and not changed,
            f"{sent} addresses"
            + (f"; changed since: {', '.join(changed[:SHOWN])}" if changed else "")
            + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""),
            "publish(..., dry_run=False)",
        )
    )
    if notebooks is not None:
        solved = solved_exercises(notebooks)
        items.append(
            Item(
                "exercises",
                bool(solved),
                f"{len(solved)} solved",
                "fill them in, run the notebook, and save it",
            )
        )
    return items


def checklist_table(items: list[Item]) -> pd.DataFrame:
    """The items as a table: done, evidence, and what is left to do where one isn't."""
    import pandas as pd

    rows = {
        item.what: {
            "done": "✓" if item.done else "–",
            "evidence": item.evidence,
            "to do": "" if item.done else item.to_do,
        }
        for item in items
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def solved_exercises(notebooks: Path | str) -> dict[str, str]:
    """{exercise: sha256 of its cell} of each exercise that a saved notebook shows as right."""
    solved = {}
    for path in sorted(Path(notebooks).glob("*.ipynb")):
        book = _json(path) or {}
        for cell in book.get("cells", []):
            outputs = cell.get("outputs", []) if isinstance(cell, dict) else []
            text = "\n".join("".join(o.get("text", "")) for o in outputs if isinstance(o, dict))
            for name in _SOLVED.findall(text):
                source = "".join(cell.get("source", ""))
                solved[name] = hashlib.sha256(source.encode()).hexdigest()
    return solved


def write_record(
    portfolio: Portfolio,
    known: Evidence,
    *,
    notebooks: Path | str | None = None,
    to: Path | str | None = None,
) -> Path:
    """Write `completion.json`: runs, documents, exercises and the checklist, with hashes.

    Args:
        portfolio, known, notebooks: as for `checklist`.
        to: the file; by default in the portfolio.
    """
    items = checklist(portfolio, known, notebooks=notebooks)
    body: dict[str, Any] = {
        "postlab": metadata.version("postlab"),
        "profile": known.profile,
        "runs": {
            f"{run.stage}/seed-{run.seed}": {
                "key": run.manifest.get("key"),
                "weights_sha256": run.manifest.get("weights_sha256"),
                "eval_sha256": (run.manifest.get("eval") or {}).get("sha256"),
                "commit": run.manifest.get("commit"),
                "date": run.manifest.get("date"),
            }
            for run in known.runs
        },
        "files": dict(file_hashes(portfolio.folder)),
        "exercises": solved_exercises(notebooks) if notebooks is not None else {},
        "checklist": {item.what: [item.done, item.evidence] for item in items},
    }
    body["sha256"] = _seal(body)
    path = Path(to) if to is not None else portfolio.folder / RECORD
    atomic_text(path, json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return path


def verify_record(
    path: Path | str, *, folder: Path | str | None = None, known: Evidence | None = None
) -> list[str]:
    """What of a record doesn't agree with itself, with the portfolio, and with the runs.

    Args:
        path: `completion.json`.
        folder: the portfolio; by default the record's own folder.
        known: `evidence(...)`, to compare the runs as well; None leaves them out.
    Returns:
        A sentence per difference; an empty list if all agrees.
    Raises:
        ValueError: if the file isn't such a record.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; make portfolio CHECK=1 writes completion.json")
    body = _json(path)
    if not isinstance(body, dict) or not {"runs", "files", "sha256"} <= set(body):
        raise ValueError(f"{path.name} holds no record; expected what write_record writes")
    wrong = []
    if _seal({k: v for k, v in body.items() if k != "sha256"}) != body["sha256"]:
        wrong.append("the record was changed after it was written")
    held = dict(file_hashes(Path(folder) if folder is not None else path.parent))
    for name, digest in body["files"].items():
        if name not in held:
            wrong.append(f"{name} is missing")
        elif held[name] != digest:
            wrong.append(f"{name} has changed")
    wrong += [f"{name} is not in the record" for name in held if name not in body["files"]]
    if known is not None:
        runs = {f"{run.stage}/seed-{run.seed}": run.manifest for run in known.runs}
        for name, run in body["runs"].items():
            manifest = runs.get(name)
            if manifest is None:
                wrong.append(f"the run {name} is missing")
            elif run["weights_sha256"] != manifest.get("weights_sha256"):
                wrong.append(f"the weights of {name} have changed")
            elif run["eval_sha256"] != (manifest.get("eval") or {}).get("sha256"):
                wrong.append(f"the evaluation of {name} has changed")
    return wrong


def _published(folder: Path) -> tuple[int, list[str]]:
    """How many addresses were sent, and which files aren't as they were then."""
    record = _json(folder / PUBLISHED)
    if not isinstance(record, dict) or not record.get("sent"):
        return 0, []
    then, now = record.get("files"), dict(file_hashes(folder))
    then = then if isinstance(then, dict) else {}  # written before hashes were kept
    return len(record["sent"]), sorted(
        name for name in {*then, *now} if then.get(name) != now.get(name)
    )


def _seal(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _json(path: Path) -> Any:
    """A file's content, or None where it isn't there or is no JSON."""
    try:
        return read_json(path, most=LARGEST)
    except (OSError, ValueError):
        return None
