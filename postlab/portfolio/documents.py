"""README, site, posts and deck of a portfolio, from drafts that only the learner finishes.

A draft is Markdown in `drafts/`, with a placeholder for every number (`binding`). It is written
once; from then on it belongs to the learner, and only one that nobody has touched is renewed. All
other files are rendered from the drafts each time: Markdown for GitHub, and the same as HTML for
a static site, which loads nothing from outside. The templates in `templates/` make the drafts.
Left out: cards, shipped models and the upload, which have files of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from postlab.claims import CAVEATS, Claim, is_share, metric_label, stage_label
from postlab.evals import METRICS
from postlab.portfolio.binding import SETTLED, Evidence, count_of, evidence, render
from postlab.portfolio.cards import rows_used
from postlab.profile import stage_command
from postlab.runs import BESIDE
from postlab.storage import atomic_file, atomic_text, read_file, read_json

PROJECTS = ("sft", "dpo", "grpo")
DRAFTS, FIGURES = "drafts", "figures"
RECORD = ".written.json"  # in drafts/: {name: hash of what was written last}
DRAWN = "drawn.json"  # in figures/: {name: hashes of the data it was drawn from, and of the file}
LARGEST = 300_000  # bytes of a draft
NAV = {  # document: its name in the site's navigation
    "README": "Home", "sft": "SFT", "dpo": "DPO", "grpo": "GRPO", "depth": "In depth",
    "comparison": "Comparison", "deck": "Slides",
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """What `write_portfolio` did: paths relative to `folder`."""

    folder: Path
    drafts: tuple[str, ...]
    kept: tuple[str, ...]
    rendered: tuple[str, ...]

    def __str__(self) -> str:
        drafts = count_of(len(self.drafts), "draft")
        text = f"{drafts} written, {count_of(len(self.rendered), 'file')} rendered"
        kept = f"; kept as you edited them: {', '.join(self.kept)}" if self.kept else ""
        return text + kept


def write_portfolio(
    profile_name: str, *, to: Path | str, root: Path | str | None = None, depth: str | None = None
) -> Written:
    """Write drafts where there are none, and render all of them.

    Args:
        profile_name: folder under the run root, such as "tiny".
        to: the portfolio's folder, made if need be: a repository of its own.
        root: run root; by default `runs.run_root()`.
        depth: stage of the page "one area in depth"; by default one of weeks 9 to 11, else GRPO.
    Returns:
        What was written, and which drafts were kept because they differ from what was written last.
    Raises:
        MissingStage: if nothing has been trained and evaluated.
        ValueError: if a draft can't be rendered (names file, line and placeholder); then nothing is
            rendered, and the drafts stay.
        ReadOnlyFolder: if nothing can be written there.
    """
    return write_documents(evidence(profile_name, root=root), to=to, depth=depth)


def write_documents(values: Evidence, *, to: Path | str, depth: str | None = None) -> Written:
    """As `write_portfolio`, with evidence that has been read already."""
    folder = Path(to)
    place = folder / DRAFTS
    place.mkdir(parents=True, exist_ok=True)
    last = _record(place / RECORD)
    fresh, kept = [], []
    for name, text in drafts(values, depth=depth).items():
        path = place / f"{name}.md"
        if path.exists() and digest(read_file(path, most=LARGEST)) != last.get(name):
            kept.append(f"{DRAFTS}/{name}.md")
            continue
        atomic_text(path, text)
        last[name] = digest(text.encode())
        fresh.append(f"{DRAFTS}/{name}.md")
    atomic_text(place / RECORD, json.dumps(last, indent=1) + "\n")
    files = rendered(read_drafts(folder), values)
    (folder / FIGURES).mkdir(exist_ok=True)
    for name, data in _pictures(values).items():
        with atomic_file(folder / FIGURES / name) as file:
            file.write_bytes(data)
    atomic_text(folder / FIGURES / DRAWN, _drawn(folder, values))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_text(folder / name, text)
    return Written(folder, tuple(fresh), tuple(kept), tuple(files))


def drafts(values: Evidence, *, depth: str | None = None) -> dict[str, str]:
    """{name: Markdown with placeholders} of every document, as the templates make them now."""
    projects = [_project(stage, values) for stage in PROJECTS]
    others = [stage for stage in BESIDE if values.of(stage)]
    compared = [stage for stage in values.stages if values.of(stage)]
    chosen = depth or next(iter([*others, *reversed(compared), *PROJECTS]))
    if depth and depth not in compared:
        raise ValueError(
            f"got depth={chosen!r}; expected a stage with claims: {', '.join(compared)}"
        )
    context: dict[str, Any] = {
        "projects": projects, "depth": _project(chosen, values), "has": values.__contains__,
        "tiny": values.profile == "tiny", "ph": lambda name: f"{{{{{name}}}}}",
        "rates": [claim for claim in values.claims
                  if f"{claim.stage}.{claim.metric}.per_minute" in values],
        "label": stage_label, "metric": lambda claim: _named(claim)["label"],
        "parent": lambda stage: stage_label(values.of(stage)[0].parent),
        "compared": compared,
    }  # fmt: skip
    texts = {
        "README": _template("readme.md.j2").render(context),
        "comparison": _template("comparison.md.j2").render(context),
        "depth": _template("depth.md.j2").render(context),
        "deck": _template("deck.md.j2").render(context),
    }
    for project in projects:
        texts[project["stage"]] = _template("post.md.j2").render(context | {"project": project})
    return {name: text.rstrip() + "\n" for name, text in texts.items()}


def read_drafts(folder: Path) -> dict[str, str]:
    """{name: text} of the drafts there are; ValueError for one that is too large, or no UTF-8."""
    texts = {}
    for path in sorted((folder / DRAFTS).glob("*.md")):
        try:
            texts[path.stem] = read_file(path, most=LARGEST).decode("utf-8")
        except (OSError, ValueError) as error:  # too large, or no UTF-8
            raise ValueError(f"{DRAFTS}/{path.name} can't be read: {error}") from error
    return texts


def rendered(texts: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    """{path: text} of every file that follows from the drafts: Markdown, pages and the workflow.

    Raises:
        ValueError: names the draft whose placeholder has no value.
    """
    files = {".github/workflows/pages.yml": _template("pages.yml").render()}
    for name, draft in texts.items():
        try:
            text = render(draft, values)
        except ValueError as error:
            raise ValueError(f"{DRAFTS}/{name}.md, {error}") from error
        files[f"{name}.md"] = text
        files[page_name(name)] = _page(name, text, texts)
    return files


def page_name(name: str) -> str:
    """The HTML file of a document: README is the site's front page."""
    return "index.html" if name == "README" else f"{name}.html"


def figures(values: Evidence) -> dict[str, str]:
    """{name: hash of the data} of each figure that the drafts may show."""
    found = {"stages.png": values.frame.to_json(orient="split")}
    found["stages-narrow.png"] = found["stages.png"]
    for stage in values.stages:
        if log := _log(values, stage):
            found[f"{stage}-training.png"] = json.dumps(log, sort_keys=True)
    return {name: digest(text.encode()) for name, text in found.items()}


def figure_names(values: Evidence) -> list[str]:
    """The files that `figures` has."""
    logged = [f"{stage}-training.png" for stage in values.stages if _log(values, stage)]
    return ["stages.png", "stages-narrow.png", *logged]


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _record(path: Path) -> dict[str, str]:
    try:
        record = read_json(path, most=LARGEST)
    except (OSError, ValueError):  # then every draft counts as the learner's
        return {}
    return record if isinstance(record, dict) else {}


def _log(values: Evidence, stage: str) -> Sequence[Any]:
    """The log of the first seed that has one with a step."""
    logs = (log for (name, _), log in sorted(values.logs.items()) if name == stage)
    return next((log for log in logs if any("loss" in entry for entry in log)), [])


def _pictures(values: Evidence) -> dict[str, bytes]:
    import io

    from postlab.report import draw_stages
    from postlab.show import plot_training

    images = {
        "stages.png": draw_stages(values.summary),
        "stages-narrow.png": draw_stages(values.summary, columns=2, dpi=130),
    }
    for name in figures(values):
        if stage := name.removesuffix("-training.png") if "-training" in name else "":
            buffer = io.BytesIO()
            figure = plot_training(_log(values, stage), stage, columns=1)  # read on a phone, too
            figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
            images[name] = buffer.getvalue()
    return images


def _drawn(folder: Path, values: Evidence) -> str:
    hashes = {
        name: {"data": data, "file": digest((folder / FIGURES / name).read_bytes())}
        for name, data in figures(values).items()
    }
    return json.dumps(hashes, indent=1) + "\n"


def _project(stage: str, values: Evidence) -> dict[str, Any]:
    """What the templates need to know of a stage: its claims by verdict, and names."""
    made = [claim for claim in values.of(stage) if "copied" not in claim.caveats]
    parent = made[0].parent if made else ""
    seeds = sorted({run.seed for run in values.runs if run.stage == stage}) or [0]
    return {
        "stage": stage,
        "label": stage_label(stage),
        "parent": parent,
        "parent_label": stage_label(parent) if parent else "",
        "claims": [_named(claim) for claim in made],
        "settled": [_named(c) for c in made if c.verdict in SETTLED],
        "worse": [_named(c) for c in made if c.verdict == "worse"],
        # A slide has room for few: losses first, then the largest gains.
        "slide": [
            _named(c)
            for c in sorted(made, key=lambda c: (c.verdict != "worse", *_rank(c)))
            if c.verdict in SETTLED
        ],
        "open": [_named(c) for c in made if c.verdict not in SETTLED],
        "best": next(iter(_named(c) for c in sorted(made, key=_rank)), None),
        "caveats": [code for code in CAVEATS if f"{stage}.caveat.{code}" in values],
        "used": rows_used(stage, values),
        "figure": f"{stage}-training.png" if _log(values, stage) else "",
        "commands": [stage_command(values.profile, stage, seed, portable=True) for seed in seeds],
    }


def _named(claim: Claim) -> dict[str, Any]:
    """A claim as a template uses it: its name, and a label without numbers of its own."""
    of = f"{claim.stage}.{claim.metric}"
    known = claim.metric in METRICS
    return {
        "of": of,
        "before": f"{claim.parent}.{claim.metric}",
        "label": metric_label(claim.metric) if known else f"{{{{{of}.label}}}}",
    }


def _rank(claim: Claim) -> tuple[bool, float]:
    """The largest supported gain of a share first, but the form of answers after the others."""
    better = claim.verdict == "better" and is_share(claim.metric) and claim.metric != "format"
    return (not better, -abs(claim.change) if better else 0.0)


@cache
def _templates() -> Environment:
    # << >> and <% %>, since {{ }} stands for itself in a draft. Autoescape is for pages only.
    return Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        variable_start_string="<<", variable_end_string=">>",
        block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>",
    )  # fmt: skip


def _template(name: str) -> Any:
    return _templates().get_template(name)


def _page(name: str, text: str, texts: Mapping[str, str]) -> str:
    """A document as a page of the site."""
    from postlab.portfolio.markdown import title, to_html, without_front_matter

    body = without_front_matter(text)
    return _template("page.html.j2").render(
        title=title(body),
        body=to_html(body, page_name),
        nav=[(page_name(other), label) for other, label in NAV.items() if other in texts],
        current=page_name(name),
        slides=name == "deck",
    ) + "\n"  # fmt: skip
