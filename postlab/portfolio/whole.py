"""The whole portfolio in one folder: documents, cards beside weights, rows, the Space, the audit.

    README.md, index.html, ...   the pages, the posts and the slides, from `drafts/`
    models/<profile>-<stage>/    a card and the adapter or model of each stage
    models/<profile>-<stage>-merged/, -gguf/    the exports that were shown to score the same
    datasets/<name>/             a card and the rows
    space/                       the blind side by side

What this leaves out: making the exports (`handover`), and the upload (`publish`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from postlab.portfolio.audit import Problem, audit_documents
from postlab.portfolio.binding import Evidence, evidence
from postlab.portfolio.cards import Card, make_cards, model_card, named
from postlab.portfolio.documents import Written, write_documents
from postlab.portfolio.exports import Export, group_exports, place_exports, read_exports
from postlab.portfolio.handover import HANDOVER, copy_adapter, name_base
from postlab.portfolio.space import write_space
from postlab.profile import Profile
from postlab.runs import MissingStage, find_stage, run_root
from postlab.storage import file_hash


@dataclass(frozen=True)
class Portfolio:
    """What `make_portfolio` wrote.

    Args:
        folder: of the portfolio.
        written: drafts and pages.
        cards: {repository's folder in the portfolio: its card}.
        problems: the audit's; nothing is published while there are any.
    """

    folder: Path
    written: Written
    cards: Mapping[str, Card]
    problems: tuple[Problem, ...]

    @property
    def texts(self) -> dict[str, str]:
        """{path: text} of every card and the files beside it, for `audit` and `publish`."""
        return _texts(self.cards)

    def __str__(self) -> str:
        holes = sum(problem.code == "hole" for problem in self.problems)
        others = len(self.problems) - holes
        text = (
            f"{self.folder.name}/: {self.written}; {len(self.cards)} cards; {holes} holes to fill"
        )
        return text + (f"; {others} problems, see audit" if others else "")


def make_portfolio(
    profile: str | Path | Profile,
    *,
    to: Path | str,
    root: Path | str | None = None,
    depth: str | None = None,
    weights: bool = True,
    exports: Sequence[Path | str] = (),
    **cards: Any,
) -> Portfolio:
    """Write or renew the portfolio of a profile's runs. What you wrote in a draft is kept.

    Args:
        profile: its name, or your own as a `Profile` or its YAML file.
        to: the folder.
        root: run root; by default `runs.run_root()`.
        depth: as for `write_portfolio`.
        weights: copy each stage's weights beside its card, and write the Space. They are those of
            the seed that the card names.
        exports: further folders that `handover` wrote, beside those in `export/` in a seed's
            folder, which are found. Each format that passed gets a repository.
        cards: further arguments of `make_cards`, such as `data` and `data_licence`.
    Raises:
        MissingStage, ValueError: as `write_portfolio` and `make_cards`.
        DamagedStage: if weights aren't those that a manifest describes.
    """
    name, settings = named(profile)
    known = evidence(name, root=root)
    made = make_cards(settings or name, root=root, known=known, **cards)
    folder = Path(to)
    written = write_documents(known, to=folder, depth=depth)
    places: dict[str, Card] = {}
    answering: dict[str, Path] = {}
    for card in made:
        place, stage = _place(card, known)
        places[place] = card
        if stage and weights:
            copy_weights(known, stage, root=root, to=folder / place)
            if stage != "prm":  # it scores answers and gives none
                answering[stage] = folder / place
        card.write(folder / place)
    if weights:
        base = {key: cards[key] for key in ("base_licence", "base_model") if key in cards}
        ready = _exports(known, answering, root=root, more=exports)
        for place, stage, group in place_exports(ready, profile=known.profile, to=folder):
            places[place] = _export_card(place, stage, group, settings or name, known, **base)
            places[place].write(folder / place)
    if len(answering) > 1:
        write_space(folder / "space", answering)
    portfolio = Portfolio(folder, written, places, ())
    problems = audit_documents(folder, known, expected=portfolio.texts)
    return replace(portfolio, problems=tuple(problems))


def rebuilt_texts(
    folder: Path, profile: str | Path | Profile, known: Evidence, *, root: Path | str | None = None
) -> dict[str, str]:
    """{path: text} of the cards and rows as the runs give them now, for the audit; writes nothing.

    Args:
        folder: the portfolio; repositories that it doesn't hold are left out.
        profile, known, root: as for `make_portfolio`, called without further arguments.
    Raises:
        MissingStage, ValueError: as `make_cards`.
    """
    if not any((folder / name).is_dir() for name in ("models", "datasets")):
        return {}
    name, settings = named(profile)
    cards = {}
    answering: dict[str, Path] = {}
    for card in make_cards(settings or name, root=root, known=known):
        place, stage = _place(card, known)
        cards[place] = card
        if stage and stage != "prm":
            answering[stage] = folder / place
    ready = _exports(known, answering, root=root)
    for place, stage, group in group_exports(ready, profile=known.profile):
        cards[place] = _export_card(place, stage, group, settings or name, known)
    return _texts({place: card for place, card in cards.items() if (folder / place).is_dir()})


def _texts(cards: Mapping[str, Card]) -> dict[str, str]:
    """{path in the portfolio: text} of cards and the files beside them."""
    return {
        f"{place}/{path}": text
        for place, card in cards.items()
        for path, text in card.contents().items()
    }


def _place(card: Card, known: Evidence) -> tuple[str, str]:
    """A card's folder in the portfolio, and the stage whose weights it describes ("" for rows)."""
    stage = card.name.removeprefix(f"{known.profile}-")
    is_model = stage in known.stages
    return f"{'models' if is_model else 'datasets'}/{card.name}", stage if is_model else ""


def _exports(
    known: Evidence,
    answering: Mapping[str, Path],
    *,
    root: Path | str | None,
    more: Sequence[Path | str] = (),
) -> list[Export]:
    """The exports of the run folders, by the adapters in the portfolio. answering: {stage: it}."""
    held = {
        file_hash(file): stage
        for stage, place in answering.items()
        if (file := place / "adapter_model.safetensors").is_file()
    }
    top = Path(root) if root is not None else run_root()
    handed = sorted((top / known.profile).glob(f"seed-*/export/*/{HANDOVER}"))
    return read_exports([*(file.parent for file in handed), *map(Path, more)], held)


def _export_card(
    place: str,
    stage: str,
    group: Sequence[Export],
    profile: str | Profile,
    known: Evidence,
    **base: Any,
) -> Card:
    rows = [row for export in group for row in export.rows]
    card = model_card(
        stage, profile=profile, known=known, form=group[0].form, rescored=rows, **base
    )
    return replace(card, name=Path(place).name)


def copy_weights(known: Evidence, stage: str, *, to: Path, root: Path | str | None = None) -> None:
    """Copy the weights of a stage's first seed, without what training left beside them.

    Raises:
        MissingStage: if they aren't there: a run folder may hold an evaluation alone.
        DamagedStage: if they aren't those that the manifest describes.
    """
    seed = min(run.seed for run in known.runs if run.stage == stage)
    top = Path(root) if root is not None else run_root()
    source = top / known.profile / f"seed-{seed}" / stage / "model"
    if not any(source.glob("*.safetensors")):
        raise MissingStage(
            f"{stage} of {known.profile}, seed {seed}: its weights aren't here, only its "
            "evaluation. make_portfolio(..., weights=False) writes pages and cards without weights"
        )
    if root is None:
        source = find_stage(known.profile, seed, stage)
    shutil.rmtree(to, ignore_errors=True)  # of an earlier call
    if (source / "adapter_config.json").is_file():
        copy_adapter(source, to)
        name_base(to)
    else:
        shutil.copytree(source, to, ignore=shutil.ignore_patterns(".*", "*.bin", "*.pt"))
