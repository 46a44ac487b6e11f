"""Placeholders: every number of a generated document, bound to the run folders it comes from.

A draft is Markdown in which `{{dpo.safety.change}}` stands for a number, and `render` puts in what
the runs say now. Names are `<stage>.<metric>.<field>`, `<stage>.<fact>`, `<stage>.args.<argument>`
(TRL's, as the manifest has them), `<stage>.lora.<argument>`, `<stage>.caveat.<code>`,
`<stage>.doctor.<code>` (all of them in `<stage>.log`), and `profile`, `seeds`, `stages` and
`prompts`. What the runs don't say has no name, so a draft that asks for it fails, and never shows
an empty text. Left out: any evaluation. A placeholder is a name, and rendering is one linear pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.claims import (
    Claim,
    StageRun,
    claims,
    findings,
    in_order,
    is_share,
    merge_seeds,
    metric_label,
    points,
    stage_label,
    summarised,
    summary_frame,
)
from postlab.doctor import diagnose
from postlab.evals import METRICS
from postlab.overlay import did_you_mean
from postlab.profile import device_name
from postlab.redaction import redact
from postlab.runs import run_root
from postlab.storage import LOG_BYTES, manifest, read_json

if TYPE_CHECKING:
    import pandas as pd

SETTLED = ("better", "worse", "up", "down")  # verdicts that support a change
MANY = 200  # prompts from which on half a point can be measured, and is shown
LONGEST = 500  # characters of a text from a manifest
_PART = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Value:
    """What stands in a document for a placeholder.

    Args:
        text: as it is shown, with its unit: "+56 points".
        number: what was rounded for `text`, in `unit`; None for a text.
        unit: "points", "%", "minutes", "tokens", ...; "" if there is none.
        claim: the claim that the value belongs to; None for facts of a run.
        field: the last part of its name, such as "change".
    """

    text: str
    number: float | None = None
    unit: str = ""
    claim: Claim | None = None
    field: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Evidence(Mapping[str, Value]):
    """The placeholders of a profile, and the runs behind them.

    Args:
        profile: its name.
        known: {name of a placeholder: value}.
        claims: as `claims` returns them.
        frame: as `summary_frame` returns it, for figures.
        runs: the finished and evaluated stages.
        logs: {(stage, seed): its trainer's log history, empty where there is none}.
        summary: as `summarised` returns it.
    """

    profile: str
    known: Mapping[str, Value]
    claims: tuple[Claim, ...]
    frame: pd.DataFrame
    runs: tuple[StageRun, ...]
    logs: Mapping[tuple[str, int], Sequence[Any]]
    summary: Mapping[str, Any]

    def names(self) -> list[str]:
        """Every placeholder there is."""
        return list(self.known)

    @property
    def stages(self) -> list[str]:
        """The stages with a finished run, in order of training."""
        return in_order((run.stage for run in self.runs), ())

    def of(self, stage: str) -> list[Claim]:
        """The claims of one stage."""
        return [claim for claim in self.claims if claim.stage == stage]

    def __getitem__(self, name: str) -> Value:
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def evidence(profile_name: str, *, root: Path | str | None = None) -> Evidence:
    """Read a profile's run folders; no model is loaded, and nothing is written.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
    Raises:
        MissingStage, ValueError: as `claims.summarised`.
    """
    read = summarised(profile_name, root=root)
    summary, runs = read
    frame = summary_frame(summary)
    made = claims(profile_name, root=root, read=read)
    named = _Names()
    _profile_values(named, profile_name, runs)
    rows = merge_seeds(frame).to_dict("records")
    digits = _digits(rows, made)
    for row in rows:
        _measured(named, row, digits.get(row["metric"], 0))
    folder = (run_root() if root is None else Path(root)) / profile_name
    logs = {(run.stage, run.seed): _log(folder / f"seed-{run.seed}" / run.stage) for run in runs}
    for stage in in_order((run.stage for run in runs), ()):
        part = [run for run in runs if run.stage == stage]
        _facts(named, stage, part, [logs[stage, run.seed] for run in part])
        _failures(named, stage, folder, [logs[stage, run.seed] for run in part])
    for claim in made:
        _changes(named, claim, digits.get(claim.metric, 0))
    for stage, text in findings(frame).items():
        named.add(f"{stage}.finding", text)
    caveats: dict[tuple[str, str], dict[str, list[str]]] = {}
    for claim in made:
        for code, text in claim.caveats.items():
            for note in text.split("; ") if code == "noted" else [text]:
                about = caveats.setdefault((claim.stage, code), {})
                about.setdefault(note, []).append(_in_prose(claim.metric))
    for (stage, code), about in caveats.items():
        every = [_in_prose(claim.metric) for claim in made if claim.stage == stage]
        named.add(f"{stage}.caveat.{code}", "; ".join(
            f"{text}{_about(of, every) if code == 'noted' else ''}" for text, of in about.items()
        ))  # fmt: skip
    return Evidence(profile_name, named.whole(), tuple(made), frame, tuple(runs), logs, summary)


def render(draft: str, values: Mapping[str, Value]) -> str:
    """A draft with every placeholder replaced by its value.

    Args:
        draft: Markdown with `{{name}}`; spaces beside the name are allowed.
        values: `evidence(...)`.
    Raises:
        ValueError: if a placeholder isn't closed on its line, or has no value; names the line, and
            what was probably meant.

    >>> render("It rose by {{dpo.safety.size}}.", {"dpo.safety.size": Value("56 points")})
    'It rose by 56 points.'
    """
    parts, end = [], 0
    for start, stop, name in placeholders(draft):
        if name not in values:
            line = draft.count("\n", 0, start) + 1
            raise ValueError(
                f"line {line}: no value for {{{{{name}}}}}; {did_you_mean(name, values)}"
            )
        parts += [draft[end:start], values[name].text]
        end = stop
    return "".join(parts) + draft[end:]


def placeholders(draft: str) -> list[tuple[int, int, str]]:
    """(start, end, name) of every placeholder in a text; ValueError for one that isn't closed."""
    found, at = [], 0
    while (start := draft.find("{{", at)) >= 0:
        line = draft.find("\n", start)
        stop = draft.find("}}", start, line if line >= 0 else len(draft))
        if stop < 0:
            number = draft.count("\n", 0, start) + 1
            raise ValueError(f"line {number}: '{{{{' without '}}}}' on the same line")
        at = stop + 2
        found.append((start, at, draft[start + 2 : stop].strip()))
    return found


class _Names:
    """Values by name; a name that two different values claim is nobody's."""

    def __init__(self) -> None:
        self._values: dict[str, Value | None] = {}

    def add(self, name: str, text: str, number: float | None = None, unit: str = "",
            claim: Claim | None = None) -> None:  # fmt: skip
        text = _plain(text)
        if not text or not all(_PART.fullmatch(part) for part in name.split(".")):
            return
        value = Value(text, number, unit, claim, name.rpartition(".")[2])
        known = self._values.setdefault(name, value)
        if known is not None and (known.text, known.number) != (value.text, value.number):
            self._values[name] = None

    def whole(self) -> dict[str, Value]:
        return {name: value for name, value in self._values.items() if value is not None}


def _plain(text: str) -> str:
    """One line without control characters, secrets, or the signs of a placeholder."""
    text = " ".join(str(redact(text)).replace("{{", "{ {").replace("}}", "} }").split())
    text = "".join(c for c in text if c.isprintable())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _profile_values(named: _Names, profile: str, runs: Sequence[StageRun]) -> None:
    named.add("profile", profile)
    seeds = len({run.seed for run in runs})
    named.add("seeds", count_of(seeds, "seed"), seeds, "seeds")
    stages = [stage_label(stage) for stage in in_order((run.stage for run in runs), ())]
    named.add("stages", ", ".join(stages), len(stages))
    prompts = min(run.frame["id"].nunique() for run in runs)
    named.add("prompts", f"{prompts:,}", prompts, "prompts")


def _digits(rows: Sequence[Mapping[str, Any]], made: Sequence[Claim]) -> dict[str, int]:
    """1 for each share of which whole percentages would hide or contradict something.

    That is so with many prompts, where a value short of all would show as 100%, and where the
    rounded change isn't the difference of the rounded values.
    """
    digits: dict[str, int] = {}
    whole: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        if not is_share(row["metric"]) or row["copied"] or math.isnan(row["value"]):
            continue
        shown = whole[row["stage"], row["metric"]] = _half_up(100 * row["value"], 0)
        short = shown in (0, 100) and float(shown) != round(100 * row["value"], 9)
        if row["n"] >= MANY or short:
            digits[row["metric"]] = 1
    for claim in made:
        ends = (whole.get((stage, claim.metric)) for stage in (claim.stage, claim.parent))
        after, before = ends
        if after is None or before is None:
            continue
        if after - before != _half_up(100 * claim.change, 0):
            digits[claim.metric] = 1
    return digits


def _half_up(value: float, digits: int) -> Decimal:
    """Rounded with halves away from zero; the ninth digit is a float's noise."""
    step = Decimal(1).scaleb(-digits)
    return Decimal(repr(round(float(value), 9))).quantize(step, ROUND_HALF_UP)


def _percent(share: float, digits: int) -> str:
    """'97.5%'; '100%' and '0%' only for all and none."""
    if round(share, 9) in (0, 1):
        return f"{share:.0%}"
    step = Decimal(1).scaleb(-digits)
    return f"{min(max(_half_up(100 * share, digits), step), 100 - step)}%"


def _points(share: float, digits: int) -> str:
    """A change in points: '+12', or '+12.5' with a digit."""
    size = _half_up(100 * share, digits)
    if not digits:
        return points(share)
    return f"{size:+}".replace("-", _MINUS) if size else "0"


def _measured(named: _Names, row: Mapping[str, Any], digits: int) -> None:
    """Value, interval and n: also of a stage that was compared with nothing."""
    metric, stage = row["metric"], row["stage"]
    if row["copied"] or any(math.isnan(row[name]) for name in ("value", "low", "high")):
        return
    of, unit = f"{stage}.{metric}", _unit(metric)
    scale, share = (100, True) if is_share(metric) else (1, False)
    parts = [row[name] for name in ("value", "low", "high")]
    shown = [_percent(x, digits) if share else f"{x:.1f}" for x in parts]
    after = "" if share or not unit else f" {unit}"
    named.add(f"{of}.value", shown[0] + after, scale * parts[0], "%" if share else unit)
    named.add(f"{of}.interval", f"{shown[1]} to {shown[2]}{after}")
    named.add(f"{of}.n", f"{row['n']:,}", row["n"], "prompts")


def _changes(named: _Names, claim: Claim, digits: int) -> None:
    share = is_share(claim.metric)
    scale, unit = (100, "points") if share else (1, _unit(claim.metric))
    show: Callable[[float], str] = partial(_points, digits=digits) if share else _signed
    after = f" {unit}" if unit else ""
    of = f"{claim.stage}.{claim.metric}"

    def add(field: str, text: str, number: float | None = None, its_unit: str = "") -> None:
        named.add(f"{of}.{field}", text, number, its_unit, claim)

    change = scale * claim.change
    if "copied" not in claim.caveats:  # else nothing was measured
        shown = show(claim.change)
        add("change", shown + _of(shown, unit), change, unit)
        add("size", shown.lstrip(f"+{_MINUS}") + _of(shown, unit), abs(change), unit)
        low, high = show(claim.change_low), show(claim.change_high)
        add("change_interval", f"{low} to {high}{after}")
        add("p", "p < 0.001" if claim.p < 0.001 else f"p = {claim.p:.3f}", claim.p)
    add("seeds", f"{claim.agree} of {count_of(len(claim.verdicts), 'seed')}", claim.agree, "seeds")
    add("verdict", claim.verdict)
    add("label", metric_label(claim.metric))
    text = sentence(claim, digits)
    add("sentence", text)
    name = text[1:2].islower()  # 'Safety', but not 'GSM8K'
    add("clause", text[:1].lower() + text[1:] if name else text)  # for the middle of a sentence
    if claim.caveats:
        add("caveats", "; ".join(claim.caveats.values()))
    if claim.verdict in SETTLED and share and "copied" not in claim.caveats:
        each = {"per_minute": ("train_minutes", 1, "per training minute")}
        each["per_1000_rows"] = ("rows_used", 1000, "per 1,000 rows")
        each["per_100k_tokens"] = ("tokens", 100_000, "per 100,000 tokens")
        known = named.whole()
        for field, (fact, amount, words) in each.items():
            cost = known.get(f"{claim.stage}.{fact}")
            if cost and cost.number:
                rate = change / cost.number * amount
                shown = _rounded(rate)
                add(field, f"{shown}{after} {words}", rate, f"{unit} {words}")
                add(f"{field}_rate", shown, rate)  # for a table whose head has the unit


_SAYS = {
    "better": "{metric} improved from {parent} to {stage}",
    "worse": "{metric} got worse from {parent} to {stage}",
    "up": "{metric} rose from {parent} to {stage}",
    "down": "{metric} fell from {parent} to {stage}",
    "varies": "The change in {metric} from {parent} to {stage} differs between seeds",
    "inconclusive": "The change in {metric} from {parent} to {stage} is inconclusive",
}


def sentence(claim: Claim, digits: int = 0) -> str:
    """What a claim says, without its caveats and without a full stop.

    Args:
        digits: 0 or 1 after the point, of a share.

    'Safety improved from SFT to DPO: +56 points (95% interval +49 to +63; one seed)'.
    """
    text = _SAYS[claim.verdict].format(
        metric=_in_prose(claim.metric),
        parent=stage_label(claim.parent),
        stage=stage_label(claim.stage),
    )
    text = text[0].upper() + text[1:]
    if "copied" in claim.caveats:
        return f"{text}: {claim.caveats['copied']}"
    share = is_share(claim.metric)
    show: Callable[[float], str] = partial(_points, digits=digits) if share else _signed
    change, low, high = map(show, (claim.change, claim.change_low, claim.change_high))
    after = _of(change, "points" if share else _unit(claim.metric))
    seeds = len(claim.verdicts)
    support = "one seed" if seeds == 1 else f"{claim.agree} of {seeds} seeds"
    return f"{text}: {change}{after} (95% interval {low} to {high}; {support})"


def _in_prose(metric: str) -> str:
    """'arithmetic (greedy)' for 'Arithmetic, greedy'; a name that isn't ours stays as it is."""
    label, _, kind = metric_label(metric).partition(", ")
    label = label[:1].lower() + label[1:] if metric in METRICS else label
    return f"{label} ({kind})" if kind else label


def _about(metrics: Sequence[str], every: Sequence[str]) -> str:
    """Which metrics a note is about: nothing for all of them, or the shorter way to say it."""
    others = [metric for metric in every if metric not in metrics]
    if not others:
        return ""
    if len(others) < len(metrics):
        return f" (on all metrics except {', '.join(others)})"
    return f" (on {', '.join(metrics)})"


def _of(number: str, unit: str) -> str:
    """The unit after a number as it is shown: ' points', or ' point' after '+1'."""
    one = number.lstrip(f"+{_MINUS}") == "1"
    return f" {unit.removesuffix('s') if one else unit}" if unit else ""


def _facts(
    named: _Names, stage: str, runs: Sequence[StageRun], logs: Sequence[Sequence[Any]]
) -> None:
    """What was trained, on what, at which cost: a mean over seeds where they differ."""
    manifests = [run.manifest for run in runs]

    def mean(field: str, scale: float = 1.0) -> float | None:
        values = [m.get(field) for m in manifests]
        numbers = [v for v in values if isinstance(v, int | float)]
        return math.fsum(numbers) / len(numbers) / scale if numbers and any(numbers) else None

    for name, field in (("train_minutes", "train_s"), ("eval_minutes", "eval_s")):
        minutes = mean(field, 60)
        if minutes:
            text = f"{minutes:,.{int(minutes < 100)}f} minutes"
            text = f"{60 * minutes:.1f} seconds" if minutes < 1 else text
            named.add(f"{stage}.{name}", text, minutes, "minutes")
    if peak := mean("peak_rss_gb"):
        named.add(f"{stage}.peak_gb", f"{peak:.1f} GB", peak, "GB")
    named.add(f"{stage}.seeds", count_of(len(runs), "seed"), len(runs), "seeds")
    named.add(f"{stage}.device", _listed(device_name(m["device"]) for m in manifests))
    named.add(f"{stage}.commit", _listed(str(m["commit"])[:10] for m in manifests if m["commit"]))
    named.add(f"{stage}.date", _listed(str(m["date"]) for m in manifests if m.get("date")))
    bases = (at(m, "model", "base") for m in manifests)
    named.add(f"{stage}.base", _listed(re.split(r"[/\\]", b)[-1] if _is_path(b) else b
                                       for b in bases if isinstance(b, str)))  # fmt: skip
    named.add(f"{stage}.method", _listed(filter(None, map(_method, manifests))))
    counts = {"steps": [m.get("steps") for m in manifests]}
    counts["rows"] = [at(m, "data", "train", "rows") for m in manifests]
    counts["rows_used"] = list(map(_rows_used, manifests))
    counts["tokens"] = list(map(_tokens, logs))
    for name, values in counts.items():
        numbers = [v for v in values if isinstance(v, int | float) and v > 0]
        if numbers and len(numbers) == len(values):
            count = math.fsum(numbers) / len(numbers)
            named.add(f"{stage}.{name}", f"{count:,.0f}", count, name)
    for group, field in (("args", "config"), ("lora", "lora")):
        for each in manifests:
            settings = each.get(field)
            for name, value in settings.items() if isinstance(settings, dict) else ():
                if isinstance(value, bool | str):
                    named.add(f"{stage}.{group}.{name}", str(value))
                elif isinstance(value, int | float):
                    named.add(f"{stage}.{group}.{name}", f"{value:g}", value)


def _failures(named: _Names, stage: str, folder: Path, logs: Sequence[Sequence[Any]]) -> None:
    """What the doctor says of the logs, and runs that were begun or made and count no more."""
    seen: dict[str, str] = {}
    for log in logs:
        for finding in diagnose(log) if log else ():
            if finding.severity != "info":
                seen.setdefault(finding.code, f"{finding.evidence}; {finding.why}")
    for code, text in seen.items():
        named.add(f"{stage}.doctor.{code}", text)
    if any(logs):
        named.add(f"{stage}.log", "; ".join(seen.values()) or "no warning and no error")
    replaced = len([p for p in folder.glob(f"seed-*/{stage}.previous*") if p.is_dir()])
    manifests = (manifest(p) for p in folder.glob(f"seed-*/{stage}") if p.is_dir())
    unfinished = sum((m or {}).get("status") == "running" for m in manifests)
    counts = {"replaced by a later one": replaced, "not finished": unfinished}
    parts = [f"{count_of(count, 'run')} {what}" for what, count in counts.items() if count]
    named.add(f"{stage}.discarded", " and ".join(parts))


def _rows_used(made: Mapping[str, Any]) -> float | None:
    """How many different rows training has seen: all, unless it stopped within the first epoch."""
    rows, steps = at(made, "data", "train", "rows"), made.get("steps")
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size")
    sizes = [at(made, "config", name) for name in names]
    generations = at(made, "config", "num_generations") or 1
    numbers = [rows, steps, generations, *sizes]
    if not all(isinstance(n, int | float) and n > 0 for n in numbers):
        return None
    return min(rows, steps * math.prod(sizes) / generations)


def _log(folder: Path) -> list[Any]:
    """The entries of a trainer's log; empty where there is none that can be read."""
    try:
        state = read_json(folder / "trainer_state.json", most=LOG_BYTES)
    except (OSError, ValueError):
        return []
    history = state.get("log_history") if isinstance(state, dict) else None
    return [e for e in history if isinstance(e, dict)] if isinstance(history, list) else []


def _tokens(log: Sequence[Any]) -> float | None:
    """Tokens that training has read or sampled, as TRL counts them; None if it doesn't say."""
    counts = [at(entry, "num_tokens") for entry in log]
    return max((n for n in counts if isinstance(n, int | float)), default=None)


def _method(made: Mapping[str, Any]) -> str:
    """'DPO with LoRA', as the trainer's class and the manifest's settings have it."""
    trainer = at(made, "code", "trainer")
    if not isinstance(trainer, str) or trainer == "Trainer":  # transformers' own, of any method
        return ""
    quantized = bool(at(made, "model", "quantization"))
    adapter = " with QLoRA" if quantized else " with LoRA"
    return trainer.removesuffix("Trainer") + (adapter if made.get("lora") else "")


def at(value: Any, *names: str) -> Any:
    """What nested mappings hold under these names, or None."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _is_path(name: str) -> bool:
    return name.startswith(("/", "\\", "~", ".")) or ":" in name[:3]


def _listed(texts: Any) -> str:
    return ", ".join(dict.fromkeys(texts))


def count_of(number: int, noun: str) -> str:
    """'1 seed', '1,400 prompts'."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _unit(metric: str) -> str:
    return METRICS[metric][2].split(" ")[0] if metric in METRICS else ""


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", _MINUS)


def _rounded(value: float) -> str:
    """Signed, two digits at least: '+0.28', '+51', '−3.4'."""
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2
    return f"{value:+,.{digits}f}".replace("-", _MINUS)
