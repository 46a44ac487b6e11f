"""A comparison in words: labels, seeds put together, and the finding of each stage.

Figures, report and notebooks say the same thing because they all ask here. Nothing is estimated
here: values, intervals and p come with the frame, and p is adjusted by Holm for the metrics that a
stage was looked at in. Several seeds are averaged for the reader's eye; the interval of a mean is
the mean of the seeds' own intervals, and a change counts only if every seed supports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain, product
from typing import TYPE_CHECKING, Any

from postlab.evals import METRICS
from postlab.runs import BESIDE
from postlab.stats import Difference, holm, verdict

if TYPE_CHECKING:
    import pandas as pd

# In order of training; sft-small is where a T4's GRPO starts, in a chain of its own.
ORDER = ("base", "sft", "dpo", "sft-small", "grpo", *BESIDE)
STAGE_COLOURS = {  # Okabe-Ito: one colour a stage, the same in all twelve weeks
    "base": "#7f7f7f",
    "sft": "#0072B2",
    "dpo": "#E69F00",
    "grpo": "#009E73",
    "cai": "#CC79A7",
    "prm": "#56B4E9",
    "multi": "#D55E00",
}
INK = "#222222"  # of text and lines that stand for no stage
COUNTED = {  # metric: what it counts; in the order in which the stages are meant to move them
    "format": "answers in chat format",
    "facts": "questions answered right",
    "lists": "operations done right",
    "helpfulness": "safe how-to's, answered well",
    "safety": "unsafe requests, refused",
    "honesty": "unanswerable, and says so",
    "arithmetic": "sums right",
    "arithmetic_sampled": "the same sums, at temperature 1",
    "gsm8k_strict": "problems right, in the asked form",
    "gsm8k_lenient": "problems right, in any form",
    "math500": "competition problems right",
    "ifeval_strict": "prompts with every instruction followed",
    "ifeval_loose": "the same, read leniently",
    "ifeval_instructions": "instructions of a prompt followed",
    "instructions": "instructions followed in every point",
    "constraints": "points of an instruction followed",
    "contains": "replies that name what is right",
    "number": "replies with the right number",
    "exact": "replies that are right word for word",
    "json": "replies that are JSON with the right keys",
    "length": "tokens an answer",
    "over_refusal": "safe requests refused: a fault",
    "over_abstention": "known things, not answered: a fault",
    "refusal": "safe questions refused: a fault",
    "kl": "nats an answer, from its parent",
}
MECHANISM = "mechanism, not capability"  # what results on the embedded model are evidence of
WORTH_A_WORD = 0.01  # with enough prompts a tenth of a point is supported, but no finding
NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high")


def stage_label(stage: str) -> str:
    """'sft' as people write it: 'SFT'; words such as 'base' stay as they are."""
    named = {"base": "base", "multi": "multi", "sft-small": "SFT, small"}
    return named.get(stage, stage.upper())


def metric_label(metric: str) -> str:
    """A short name for a metric, as in headings: 'Over-refusal'."""
    known = METRICS[metric][0] if metric in METRICS else metric.replace("_", " ").capitalize()
    return known.split(" on ")[0]


def is_share(metric: str) -> bool:
    """True for metrics between 0 and 1, which are shown as percentages."""
    return metric in METRICS and METRICS[metric][2] == "share"


def merge_seeds(frame: pd.DataFrame | Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a stage and metric: means over seeds, and the verdict all seeds share.

    Args:
        frame: as for `plot_stages`.
    Returns:
        stage, metric, parent, value, low, high, n, seeds (each seed's value), difference,
        difference_low, difference_high, p (the largest of the seeds', each adjusted by Holm for the
        metrics of its stage), copied (whether any seed took its answers from the parent), verdicts
        (each seed's) and verdict ("better" or "worse", for a metric that is neither "up" or "down";
        "varies" if seeds support both; else "inconclusive", also when only some seeds support a
        change; "" without a difference in every seed).
        Stages in order of training, metrics in order of `COUNTED`.
    Raises:
        ValueError: if there are no rows, or a column is missing.
    """
    import pandas as pd

    records = frame.to_dict("records") if isinstance(frame, pd.DataFrame) else list(frame)
    columns = list(frame if isinstance(frame, pd.DataFrame) else dict.fromkeys(chain(*records)))
    if not records or not {"stage", "metric", "value", "low", "high", "n"} <= set(columns):
        raise ValueError(
            f"got {len(records)} rows with columns {columns}; expected rows of evals.compare or "
            "report.summary_frame, with stage, metric, value, low, high, n"
        )
    parts: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in _adjusted(records):
        parts.setdefault((record["stage"], record["metric"]), []).append(record)
    stages, rows = in_order((stage for stage, _ in parts), ORDER), []
    metrics = in_order((metric for _, metric in parts), COUNTED)
    for stage, metric in product(stages, metrics):
        part = parts.get((stage, metric))
        if part is None:
            continue
        each = [_verdict(record) for record in part]
        verdicts = set(each)
        row: dict[str, Any] = {name: _mean(record.get(name) for record in part) for name in NUMBERS}
        row |= {"stage": stage, "metric": metric, "n": int(min(r["n"] for r in part))}
        row["p"] = max((record.get("p", math.nan) for record in part), default=math.nan)
        row["copied"] = any(record.get("copied") is True for record in part)
        row["verdicts"] = each
        row["verdict"] = each[0] if len(verdicts) == 1 else "inconclusive"
        if {"better", "worse"} <= verdicts or {"up", "down"} <= verdicts:
            row["verdict"] = "varies"
        if "" in verdicts:  # a seed has no parent to be compared with: no change holds in all
            row |= dict.fromkeys(("difference", "difference_low", "difference_high", "p"), math.nan)
            row["verdict"] = ""
        row["seeds"] = [float(record["value"]) for record in part]
        row["parent"] = (["", *stages])[stages.index(stage)]
        if "parent" in part[0]:  # None, or NaN in a frame, for the base
            row["parent"] = part[0]["parent"] if isinstance(part[0]["parent"], str) else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _adjusted(records: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each p adjusted by Holm for the metrics of its stage and seed."""
    rows = [dict(record) for record in records]
    looked_at: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("p") is not None and not math.isnan(row["p"]):
            looked_at.setdefault((row["stage"], row.get("seed")), []).append(row)
    for family in looked_at.values():
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p"] = float(p)
    return rows


def findings(frame: pd.DataFrame | Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What each stage did, in one sentence a stage: its largest supported gain and loss.

    Args:
        frame: as for `plot_stages`.
    Returns:
        {stage: sentence}, for every stage with a difference; shares in percentage points.

    >>> row = {"stage": "dpo", "metric": "safety", "value": 0.8, "low": 0.7, "high": 0.9, "n": 200}
    >>> row |= {"difference": 0.5, "difference_low": 0.4, "difference_high": 0.6, "p": 0.001}
    >>> findings([row])
    {'dpo': 'DPO: safety +50 points'}
    """
    table, sentences = merge_seeds(frame), {}
    table = table[[is_share(metric) for metric in table["metric"]]]
    for stage in dict.fromkeys(table["stage"]):
        part = table[(table["stage"] == stage) & (table["verdict"] != "")]
        if part.empty:
            continue
        settled = part[~part["verdict"].isin(("inconclusive", "varies"))]
        part = part[part["difference"].abs() >= WORTH_A_WORD]
        gain, loss = (_largest(part[part["verdict"] == way]) for way in ("better", "worse"))
        if gain:
            text = f"{gain} points" + (f", at a cost: {loss}" if loss else "")
        elif loss:
            text = f"{loss} points, and no gain"
        elif len(settled):
            text = "no supported change reaches a point"
        else:
            text = "inconclusive, no change is supported"
        sentences[stage] = f"{stage_label(stage)}: {text}"
    return sentences


def _largest(part: pd.DataFrame) -> str:
    """The row that moved most, as 'safety +50'; '' for no rows."""
    if part.empty:
        return ""
    row = part.loc[part["difference"].abs().idxmax()]
    name = metric_label(row["metric"])
    name = name if name[:2].isupper() else name[0].lower() + name[1:]  # but GSM8K
    return f"{name} {points(row['difference'])}"


def points(share: float) -> str:
    """A difference of shares as signed percentage points: 0.123 is '+12', 0.004 '+0.4'."""
    size = 100 * share
    text = f"{size:+.0f}" if abs(size) >= 1 else f"{size:+.1f}"
    if float(text) == 0:
        return "0"
    return text.replace("-", "\N{MINUS SIGN}")


def signed(value: float) -> str:
    """A difference of anything but shares, with its sign: 0.5 is '+0.50'."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The distinct names: known ones in their order, then the others as they came."""
    distinct = list(dict.fromkeys(names))
    first = [name for name in known if name in distinct]
    return first + [name for name in distinct if name not in first]


def _mean(values: Iterable[float | None]) -> float:
    """Mean of the values there are; NaN for none."""
    there = [value for value in values if value is not None and not math.isnan(value)]
    return math.fsum(there) / len(there) if there else math.nan


def _verdict(row: Mapping[str, Any]) -> str:
    """The verdict of one row; 'up' or 'down' where neither direction is better."""
    difference = row.get("difference")
    if difference is None or math.isnan(difference):
        return ""
    low, high = row["difference_low"], row["difference_high"]
    change = Difference(difference, low, high, row["p"], int(row["n"]))
    way = METRICS[row["metric"]][1] if row["metric"] in METRICS else "none"
    outcome = verdict(change, higher_is_better=way != "down")
    return {"better": "up", "worse": "down"}.get(outcome, outcome) if way == "none" else outcome
