"""The comparison page as one HTML file: inline style, embedded figures, nothing from outside.

Every string from a run, models' answers above all, passes through `escape` on its way into the
page. Left out: scripts; the page is the same printed, offline and on a phone.
"""

from __future__ import annotations

import hashlib
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from postlab.comparison import (
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
from postlab.evals import METRICS, TEXT
from postlab.profile import device_name
from postlab.runs import EMBEDDED

if TYPE_CHECKING:
    import pandas as pd

SAMPLES, LONGEST = 2, 300  # prompts a family, characters of an answer
STYLE = """
:root { color-scheme: light; --ink: #222; --soft: #595959; --line: #dedede; --tint: #f6f6f4; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.1rem; }
header { padding-top: 2.2rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .2rem 0 1rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 3rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
small, .soft, figcaption { color: var(--soft); font-size: .85rem; }
.note { background: var(--tint); padding: .7rem .9rem; border-radius: .4rem; max-width: none; }
figure { margin: 1.5rem 0; } figure img { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .85rem; padding-bottom: .5rem; }
th, td { padding: .45rem .5rem; text-align: right; vertical-align: top; border-top: 1px solid
  var(--line); }
thead th { border-top: 0; border-bottom: .25rem solid var(--stage, var(--line)); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 600; } tbody th small { font-weight: 400; display: block; }
td small { display: block; white-space: nowrap; }
.verdict { display: block; font-size: .8rem; white-space: nowrap; color: var(--soft); }
.better { color: #00694c; font-weight: 700; } .worse { color: #a63c00; font-weight: 700; }
.up, .down { color: var(--ink); font-weight: 700; }
details { border-top: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
.question { background: var(--tint); border-radius: .4rem; padding: .6rem .8rem; margin: .9rem 0
  .6rem; max-width: none; }
.answers { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(11.5rem, 1fr));
  margin-bottom: 1.6rem; }
.answer { border-top: .25rem solid var(--stage); padding-top: .3rem; min-width: 0; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; font-size: .95rem;
  margin: .2rem 0; }
code { font-size: .9em; background: var(--tint); padding: .1rem .3rem; border-radius: .2rem;
  overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-bottom: 2rem; border-top: 1px solid var(--line); }
@media (max-width: 600px) { body { font-size: 16px; } h1 { font-size: 1.45rem; }
  th, td { padding: .4rem .3rem; font-size: .86rem; }
  td small, tbody th small, .verdict { font-size: .72rem; white-space: normal; line-height: 1.35; }
  tbody th { hyphens: auto; } }
@media print { details::details-content { content-visibility: visible; display: block; } }
"""


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
    profile, table, said = summary["profile"], merge_seeds(frame), findings(frame)
    lines = said or {"": "Measured, compared with nothing yet."}
    body = [
        "<figure><picture>",
        f'<source media="(max-width: 600px)" srcset="data:image/png;base64,{figures[1]}">',
        f'<img src="data:image/png;base64,{figures[0]}" alt="{escape("; ".join(lines.values()))}">',
        "</picture><figcaption>Each point is a mean over held-out prompts with its 95% interval. "
        "The same numbers stand in the tables below.</figcaption></figure>",
        _section("Where each stage stands", _values(table)),
        _section("What each stage changed", _changes(table)),
        _section("The same prompts, stage by stage", _samples(runs)),
        _section("Device, versions, time", _machines(summary, runs)),
        _section("What was not run", _not_run(profile, table, runs, absent)),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(profile)}: what each stage did to one model</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="soft">postlab, profile {escape(profile)}</p>
<h1>What each stage did to one model</h1>
{_mechanism(profile)}
</header>
<main>
{"".join(body)}
</main>
<footer><p class="soft">Written by <code>python -m postlab.report {escape(profile)}</code> from the
run folders; the numbers are in summary.json beside this page.</p></footer>
</body>
</html>
"""


def escape(text: Any) -> str:
    """Text that is safe inside elements and quoted attributes, control characters made visible."""
    shown = "".join(
        c if c in "\n\t" or (c.isprintable() or c.isspace()) else "\N{REPLACEMENT CHARACTER}"
        for c in str(text)
    )
    return html.escape(shown, quote=True)


def _mechanism(profile: str) -> str:
    if profile != "tiny":
        return ""
    return (
        f'<p class="note"><strong>{MECHANISM.capitalize()}.</strong> The embedded model is tiny '
        "and its world made up. These results show how each stage works on a model, not what a "
        "model of useful size would be able to do.</p>"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>\n{content}</section>\n"


def _values(table: pd.DataFrame) -> str:
    several = table["seeds"].map(len).max()

    def cell(row: Mapping[str, Any]) -> str:
        text = f"<strong>{_amount(row['value'], row['metric'])}</strong>"
        text += f"<small>{_span(row['low'], row['high'], row['metric'])}</small>"
        if len(row["seeds"]) > 1:
            spread = _span(min(row["seeds"]), max(row["seeds"]), row["metric"])
            text += f"<small>seeds {spread}</small>"
        return text

    note = "Mean over held-out prompts and, below it, its 95% interval."
    if several > 1:
        note += f" Means over {several} seeds; the interval is the mean of theirs."
    return _grid(table, in_order(table["stage"], ORDER), cell, note)


def _changes(table: pd.DataFrame) -> str:
    compared = table[table["verdict"] != ""]
    if compared.empty:
        return "<p>No stage has a parent to be compared with yet.</p>"

    def cell(row: Mapping[str, Any]) -> str:
        low, high = row["difference_low"], row["difference_high"]
        return (
            f"<strong>{_signed(row['difference'], row['metric'])}</strong>"
            f"<small>{_signed(low, row['metric'])} to {_signed(high, row['metric'])}</small>"
            f'<span class="verdict {row["verdict"]}">{row["verdict"]}</span>'
        )

    note = (
        "Against the stage it started from, on the same prompts: shares in percentage points, "
        "answer length in tokens. A change is called better or worse if its 95% interval lies on "
        "one side of nought and a paired test agrees (p below 0.05); of changes that are none, up "
        "to one in twenty passes by chance."
    )
    if table["seeds"].map(len).max() > 1:
        note += " With several seeds it must hold in each of them."
    return _grid(compared, in_order(compared["stage"], ORDER), cell, note)


def _grid(
    table: pd.DataFrame, stages: list[str], cell: Callable[[Mapping[str, Any]], str], note: str
) -> str:
    """Metrics down, stages across."""
    rows = {(row["metric"], row["stage"]): row for row in table.to_dict("records")}
    heads = "".join(
        f'<th scope="col"{_stage_style(stage)}>{escape(stage_label(stage))}</th>'
        for stage in stages
    )
    lines = []
    for metric in in_order(table["metric"], COUNTED):
        cells = [rows.get((metric, stage)) for stage in stages]
        text = "".join(
            f"<td>{cell(row)}</td>"
            if row and not math.isnan(row["value"])
            else "<td><small>none</small></td>"
            for row in cells
        )
        about = COUNTED.get(metric, METRICS[metric][2] if metric in METRICS else "mean")
        count = max(row["n"] for row in cells if row)
        lines.append(
            f'<tr><th scope="row">{escape(metric_label(metric))}<small>{escape(about)}; '
            f"{count} prompts</small></th>{text}</tr>"
        )
    return (
        f'<p class="soft">{note}</p><div class="scroll"><table><thead><tr>'
        f'<th scope="col">Metric</th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def _samples(runs: Sequence[Any]) -> str:
    """A few prompts a family with every stage's answer, from the first seed."""
    seed = min(run.seed for run in runs)
    shown = [run for run in runs if run.seed == seed]
    answers = {run.stage: run.frame.drop_duplicates("id").set_index("id") for run in shown}
    first = next(iter(answers.values()))
    shared = [i for i in first.index if all(i in frame.index for frame in answers.values())]
    parts = [
        f'<p class="soft">Not picked by eye: of each family the {SAMPLES} prompts whose ids come '
        f"first by their hash, seed {seed}.</p>"
    ]
    for number, family in enumerate(dict.fromkeys(first.loc[shared, "family"])):
        ids = [i for i in shared if first.loc[i, "family"] == family]
        ids.sort(key=lambda name: hashlib.sha256(str(name).encode()).hexdigest())
        cards = "".join(_card(name, answers) for name in ids[:SAMPLES])
        title = escape(str(family).replace("_", " ").capitalize())
        parts.append(
            f"<details{' open' if number == 0 else ''}><summary>{title}</summary>{cards}</details>"
        )
    return "".join(parts)


def _card(name: str, answers: Mapping[str, pd.DataFrame]) -> str:
    prompt = next(iter(answers.values())).loc[name, "prompt"]
    cells = []
    for stage, frame in answers.items():
        row = frame.loc[name]
        scores = [
            f"{metric_label(metric).lower()} {row[metric]:.3g}"
            for metric in frame.columns
            if metric not in TEXT and is_share(metric) and not math.isnan(row[metric])
        ]
        scores = escape(" \N{MIDDLE DOT} ".join(scores))
        said = _short(row["answer"]) if str(row["answer"]).strip() else "<em>(empty answer)</em>"
        cells.append(
            f'<div class="answer"{_stage_style(stage)}>'
            f"<strong>{escape(stage_label(stage))}</strong>"
            f'<p class="said">{said}</p><small>{scores}</small></div>'
        )
    return (
        f'<p class="question said">{_short(prompt)}</p><div class="answers">{"".join(cells)}</div>'
    )


def _machines(summary: Mapping[str, Any], runs: Sequence[Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(stage_label(run.stage))}<small>seed {run.seed}, from '
        f"{escape(stage_label(run.parent)) if run.parent else 'nothing'}</small></th>"
        f"<td>{_seconds(run.manifest.get('train_s'))}</td>"
        f"<td>{_seconds(run.manifest.get('eval_s'))}</td>"
        f"<td>{run.manifest.get('peak_rss_gb') or 0:.1f} GB</td></tr>"
        for run in runs
    )
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("Stage", "Training", "Evaluation", "Peak")
    )
    table = (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        f'</div><p class="soft">In all {_seconds(summary["wall_s"])} of wall time, largest peak '
        f"memory {summary['peak_rss_gb']:.1f} GB.</p>"
    )
    groups: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        versions = run.manifest.get("versions") or {}
        listed = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
        key = (device_name(run.manifest["device"]), str(run.manifest.get("commit")), listed)
        groups.setdefault(key, []).append(f"{stage_label(run.stage)} (seed {run.seed})")
    for (device, commit, listed), names in groups.items():
        table += (
            f"<p><strong>{escape(', '.join(names))}</strong><br>on {escape(device)}, commit "
            f"<code>{escape(commit)}</code><br><small>{escape(listed)}</small></p>"
        )
    return table


def _not_run(
    profile: str, table: pd.DataFrame, runs: Sequence[Any], absent: Sequence[tuple[str, int, str]]
) -> str:
    items = [
        f"{escape(stage_label(stage))}, seed {seed}: not finished and evaluated; "
        f"<code>{escape(command)}</code>"
        for stage, seed, command in absent
    ]
    there = {run.stage for run in runs}
    if "sft-small" in there:
        items.append("GRPO in the figure: it started from a smaller model than the other stages.")
    later = [stage_label(stage) for stage in EMBEDDED if stage not in there]
    if later and profile == "tiny":
        items.append(f"Stages of later weeks: {', '.join(later)}.")
    elif later:
        items.append(
            f"{', '.join(later)}: trained only on the embedded model (weeks 9 to 11), so not part "
            f"of this profile."
        )
    if len({run.seed for run in runs}) == 1:
        items.append("More than one seed: how far another training run would differ is unknown.")
    unmeasured = [metric_label(m) for m in METRICS if m not in set(table["metric"])]
    if unmeasured:
        items.append(f"Metrics without a value here: {escape('; '.join(unmeasured))}.")
    if not any(run.manifest["device"].get("gpu") for run in runs):
        items.append("Any GPU: its kernels, bf16 and vLLM are untouched by these runs.")
    items.append("Judges: no person and no judge model scored an answer; programs did.")
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _short(text: Any) -> str:
    text = str(text)
    rest = len(text) - LONGEST
    if rest <= 0:
        return escape(text)
    return f"{escape(text[:LONGEST])}… <small>({rest} more characters)</small>"


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


def _stage_style(stage: str) -> str:
    return f' style="--stage: {STAGE_COLOURS.get(stage, INK)}"'
