"""The comparison in Markdown: what changed, what it cost, what is inconclusive, with intervals.

The verdicts are those of `claims`, as on the page and in the figures. Left out: metrics without a
change to test (the base's own, and KL), and any judge's opinion. Names of stages, metrics and
devices are shown letter for letter, whatever Markdown or HTML they may hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from postlab.claims import MECHANISM, is_share, merge_seeds, points, signed, stage_label
from postlab.evals import METRICS
from postlab.report.page import visible

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = {  # heading: the verdicts under it, and what stands there when there is none
    "What changed for the better": (("better",), "Nothing that the prompts support."),
    "What it cost": (("worse",), "No loss that the prompts support; see what is inconclusive."),
    "What moved, neither better nor worse": (("up", "down"), ""),
    "What depends on the seed": (("varies",), ""),
    "What is inconclusive": (("inconclusive",), "Nothing: every change is supported."),
}


# What Markdown, HTML or MathJax may act on: anywhere, outside of words, and where a block begins.
_ACTIVE = re.compile(r"[&<>\\`*\[\]$~]|(?<![^\W_])_|_(?![^\W_])|^[-+=#]|(?<=^\d)[.)]")


def plain(text: str) -> str:
    """A name in one line of Markdown that shows it letter for letter.

    A character reference is never markup, in CommonMark or in Jupyter's Markdown.

    >>> plain("<b>*x*")
    '&#60;b&#62;&#42;x&#42;'
    """
    line = " ".join(visible(text).split())
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", line)


def written(
    summary: Mapping[str, Any], frame: pd.DataFrame, provenance: Mapping[str, str] | None = None
) -> str:
    """A summary as Markdown: a section for each stage that has a parent.

    Args:
        summary: from `report.summarise`.
        frame: the same as rows, from `report.summary_frame`.
        provenance: what stands at the end: commits, devices.
    """
    table = merge_seeds(frame)
    seeds = sorted({entry["seed"] for entry in summary["stages"]})
    lines = [f"# What the stages of {plain(summary['profile'])} changed", ""]
    if summary["profile"] == "tiny":
        lines += [f"*{MECHANISM.capitalize()}: measured on the small embedded model.*", ""]
    lines += [_how(seeds), ""]
    changed = table[table["verdict"] != ""]
    for (stage, parent), rows in changed.groupby(["stage", "parent"], sort=False):
        lines += _stage(stage, parent, rows, len(seeds))
        lines += [_training(summary, stage), ""]
    if changed.empty:
        lines += ["No stage has a parent to be compared with yet.", ""]
    if summary.get("problems"):
        lines += ["## What could not be read or compared", ""]
        for problem in summary["problems"]:
            stage = plain(stage_label(problem["stage"]))
            lines.append(f"- {stage}, seed {problem['seed']}: {plain(problem['reason'])}")
        lines.append("")
    if provenance:
        lines += ["## Where the numbers come from", ""]
        lines += [*(f"- {name}: {plain(text)}" for name, text in provenance.items()), ""]
    return "\n".join(lines)


def _how(seeds: list[int]) -> str:
    text = (
        "Each change is paired: the same held-out prompts, after minus before, with its 95%"
        " bootstrap interval over prompts. A change counts if that interval lies on one side of"
        " nought and p, adjusted by Holm for the metrics of its stage, is below 0.05"
    )
    if len(seeds) == 1:
        return f"{text}. One training seed ({seeds[0]}): how far another would differ is not known."
    names = ", ".join(map(str, seeds))
    return (
        f"{text}, in every one of {len(seeds)} training seeds ({names}); values and ends are means"
        " over them."
    )


def _stage(stage: str, parent: str, rows: pd.DataFrame, seeds: int) -> list[str]:
    lines = [f"## {plain(stage_label(stage))} against {plain(stage_label(parent))}", ""]
    for heading, (verdicts, empty) in SECTIONS.items():
        part = rows[rows["verdict"].isin(verdicts)].to_dict("records")
        if part or empty:
            bullets = [f"- {_change(row, seeds)}" for row in part]
            lines += [f"### {heading}", "", *(bullets or [empty]), ""]
    return lines


def _change(row: Mapping[str, Any], seeds: int) -> str:
    """One metric: 'Safety on unsafe requests: 20% to 80%, +60 points (+50 to +70), p < 0.001'."""
    metric, share = row["metric"], is_share(row["metric"])
    own = metric not in METRICS
    name = plain(metric.replace("_", " ").capitalize()) if own else METRICS[metric][0]
    unit = "" if share or own else f" {METRICS[metric][2]}"
    show = points if share else signed
    size, low, high = (show(row[k]) for k in ("difference", "difference_low", "difference_high"))
    before, after = (
        f"{round(100 * value, 6):.0f}%" if share else f"{value:.2f}"  # 42.5 may come as 42.4999
        for value in (row["value"] - row["difference"], row["value"])
    )
    chance = "p < 0.001" if row["p"] < 0.001 else f"p = {row['p']:.3f}"
    largest = "" if seeds == 1 else ", the largest of the seeds"
    return (
        f"{name}: {before} to {after}, {size}{' points' if share else unit} ({low} to {high}),"
        f" {chance}{largest}; {row['n']} prompts{_seeds(row['verdicts'])}"
    )


def _seeds(verdicts: list[str]) -> str:
    """What single seeds support where not all of them agree: '; better on 5 of 8 seeds'."""
    counts = {way: verdicts.count(way) for way in ("better", "worse", "up", "down")}
    parts = [f"{way} on {count}" for way, count in counts.items() if 0 < count < len(verdicts)]
    return f"; {', '.join(parts)} of {len(verdicts)} seeds" if parts else ""


def _training(summary: Mapping[str, Any], stage: str) -> str:
    times = [entry["train_s"] for entry in summary["stages"] if entry["name"] == stage]
    return f"Training took {sum(times) / len(times) / 60:.1f} minutes a seed."
