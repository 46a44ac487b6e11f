"""The comparison page as one HTML file: inline style, embedded figures, nothing from outside.

The words and tags are in page.html.j2; here are the numbers that go into it. Jinja escapes
every string on its way into the page, models' answers above all. Left out: scripts; the page is the
same printed, offline and on a phone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from postlab.claims import (
    COUNTED,
    INK,
    MECHANISM,
    ORDER,
    STAGE_COLOURS,
    findings,
    in_order,
    is_share,
    merge_seeds,
    metric_label,
    points,
    stage_label,
)
from postlab.evals import METRICS, NON_METRICS, SCORERS
from postlab.profile import device_name
from postlab.runs import BESIDE

if TYPE_CHECKING:
    import pandas as pd

SAMPLES, LONGEST = 2, 300  # prompts a family, characters of an answer
COPIED = "copied"  # in the place of an interval, where the answers are the parent's


def page(
    summary: Mapping[str, Any],
    frame: pd.DataFrame,
    runs: Sequence[Any],
    *,
    figures: Sequence[str],
    absent: Sequence[tuple[str, int, str]],
) -> str:
    """Build report.html.

    Args:
        summary: as `report.summarise` returns it.
        frame: as `report.summary_frame` returns it.
        runs: the `report.StageRun`s behind it, for samples, versions and devices.
        figures: base64 of stages.png, and of the same drawn for a narrow screen.
        absent: (stage, seed, command) of the main stages that are not finished.
    Returns:
        the page's text.
    """
    table = merge_seeds(frame)
    lines = findings(frame) or {"": "Measured, compared with nothing yet."}
    compared = table[table["verdict"] != ""]
    text = _template().render(
        profile=summary["profile"],
        mechanism=MECHANISM.capitalize(),
        wide=figures[0],
        narrow=figures[1],
        alt="; ".join(lines.values()),
        seeds=table["seeds"].map(len).max(),
        standing=_grid(table, _value),
        changes=None if compared.empty else _grid(compared, _change),
        samples=SAMPLES,
        longest=LONGEST,
        first_seed=min(run.seed for run in runs),
        families=_families(runs),
        machines=[_machine(run) for run in runs],
        wall=_seconds(summary["wall_s"]),
        peak=f"{summary['peak_rss_gb']:.1f} GB",
        provenance=_provenance(runs),
        problems=[
            {**problem, "label": stage_label(problem["stage"])} for problem in summary["problems"]
        ],
        absent=[
            {"label": stage_label(stage), "seed": seed, "command": command}
            for stage, seed, command in absent
        ],
        not_run=_not_run(summary["profile"], table, runs),
    )
    return text + "\n"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html.j2")


def visible(value: Any) -> Any:
    """A value of the template with control characters made visible; Jinja escapes it after this.

    >>> visible("a" + chr(0) + "b")
    'a\N{REPLACEMENT CHARACTER}b'
    """
    if not isinstance(value, str) or value.isprintable():
        return value
    if all(map(_is_shown, value)):  # as it is: what a macro returns is Markup and stays Markup
        return value
    return "".join(c if _is_shown(c) else "\N{REPLACEMENT CHARACTER}" for c in value)


def _is_shown(character: str) -> bool:
    return character.isprintable() or character.isspace()


def _grid(
    table: pd.DataFrame, cell: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, list]:
    """Metrics down, stages across; a cell is None where there is no value."""
    rows = {(row["metric"], row["stage"]): row for row in table.to_dict("records")}
    stages, metrics = in_order(table["stage"], ORDER), []
    for metric in in_order(table["metric"], COUNTED):
        stage_rows = [rows.get((metric, stage)) for stage in stages]
        metrics.append(
            {
                "label": metric_label(metric),
                "about": COUNTED.get(metric, METRICS[metric][2] if metric in METRICS else "mean"),
                "n": max(row["n"] for row in stage_rows if row),
                "cells": [
                    cell(row) if row and not math.isnan(row["value"]) else None
                    for row in stage_rows
                ],
            }
        )
    return {"stages": [_stage(stage) for stage in stages], "metrics": metrics}


def _value(row: Mapping[str, Any]) -> dict[str, Any]:
    metric, seeds = row["metric"], row["seeds"]
    small = [COPIED if row["copied"] else _span(row["low"], row["high"], metric)]
    if len(seeds) > 1:
        small.append(f"seeds {_span(min(seeds), max(seeds), metric)}")
    return {"main": _amount(row["value"], metric), "small": small, "verdict": ""}


def _change(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("difference", "difference_low", "difference_high")
    if row["copied"]:
        return {"main": COPIED, "small": [], "verdict": ""}
    difference, low, high = (_signed(row[name], row["metric"]) for name in names)
    return {"main": difference, "small": [f"{low} to {high}"], "verdict": row["verdict"]}


def _stage(stage: str) -> dict[str, str]:
    return {"label": stage_label(stage), "colour": STAGE_COLOURS.get(stage, INK)}


def _families(runs: Sequence[Any]) -> list[dict[str, Any]]:
    """A few prompts a family with every stage's answer, from the first seed."""
    seed = min(run.seed for run in runs)
    shown = [run for run in runs if run.seed == seed]
    answers = {run.stage: run.frame.drop_duplicates("id").set_index("id") for run in shown}
    first = next(iter(answers.values()))
    shared = [i for i in first.index if all(i in frame.index for frame in answers.values())]
    families = []
    for family in dict.fromkeys(first.loc[shared, "family"]):
        ids = [i for i in shared if first.loc[i, "family"] == family]
        ids.sort(key=lambda name: hashlib.sha256(str(name).encode()).hexdigest())
        title = str(family).replace("_", " ").capitalize()
        families.append({"title": title, "cards": [_card(name, answers) for name in ids[:SAMPLES]]})
    return families


def _card(name: str, answers: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    prompt = next(iter(answers.values())).loc[name, "prompt"]
    replies = []
    for stage, frame in answers.items():
        row = frame.loc[name]
        scores = [
            f"{metric_label(metric).lower()} {row[metric]:.3g}"
            for metric in frame.columns
            if metric not in NON_METRICS and is_share(metric) and not math.isnan(row[metric])
        ]
        reply = {"text": str(row["answer"]), "scores": " \N{MIDDLE DOT} ".join(scores)}
        replies.append(_stage(stage) | reply)
    return {"prompt": str(prompt), "answers": replies}


def _machine(run: Any) -> dict[str, Any]:
    return {
        "label": stage_label(run.stage),
        "seed": run.seed,
        "parent": stage_label(run.parent) if run.parent else "nothing",
        "train": _seconds(run.manifest["train_s"]),
        "eval": _seconds(run.manifest["eval_s"]),
        "peak": f"{run.manifest['peak_rss_gb'] or 0:.1f} GB",
    }


def _provenance(runs: Sequence[Any]) -> list[dict[str, str]]:
    """The stages that share a device, a commit and versions, one group each."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        versions = run.manifest.get("versions") or {}
        listed = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
        key = (device_name(run.manifest["device"]), str(run.manifest.get("commit")), listed)
        groups.setdefault(key, []).append(f"{stage_label(run.stage)} (seed {run.seed})")
    return [
        {"stages": ", ".join(names), "device": device, "commit": commit, "versions": listed}
        for (device, commit, listed), names in groups.items()
    ]


def _not_run(profile: str, table: pd.DataFrame, runs: Sequence[Any]) -> list[str]:
    items, there = [], {run.stage for run in runs}
    if "sft-small" in there:
        items.append("GRPO in the figure: it started from a smaller model than the other stages.")
    later = [stage_label(stage) for stage in BESIDE if stage not in there]
    if later:
        items.append(f"Stages beside the main line: {', '.join(later)}.")
    if len({run.seed for run in runs}) == 1:
        items.append("More than one seed: how far another training run would differ is unknown.")
    # Of the scorers for rows of one's own, only those count that some row names.
    unmeasured = [metric_label(m) for m in METRICS if m not in {*table["metric"], *SCORERS}]
    if unmeasured:
        items.append(f"Metrics without a value here: {'; '.join(unmeasured)}.")
    if not any(run.manifest["device"].get("gpu") for run in runs):
        items.append("Any GPU: its kernels, bf16 and vLLM are untouched by these runs.")
    items.append("Judges: no person and no judge model scored an answer; programs did.")
    return items


def _amount(value: float, metric: str) -> str:
    if math.isnan(value):
        return "?"
    return f"{100 * value:.0f}%" if is_share(metric) else f"{value:.1f}"


def _span(low: float, high: float, metric: str) -> str:
    return f"{_amount(low, metric).removesuffix('%')} to {_amount(high, metric)}"


def _signed(change: float, metric: str) -> str:
    if math.isnan(change):
        return "?"
    return points(change) if is_share(metric) else f"{change:+.1f}".replace("-", "\N{MINUS SIGN}")


def _seconds(value: float | None) -> str:
    if not value:
        return "none"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} min"
