"""Whether a registered prediction was supported, refuted, or left open, and what wasn't as planned.

1. A prompt's samples are averaged, and both arms' values of a prompt are subtracted.
2. A seed gives one number, its mean difference; seeds are the unit of a paired t interval
   (`blocked_differences` of two arms).
3. The prompts are a sample as well, so the differences of the prompts, averaged over seeds, get
   their own interval (`paired_difference`). Of the two intervals the outer ends are taken, and of
   the two p-values the larger one.
4. p is corrected by Holm over every arm and every metric that was registered.

Left out: one model of prompts and seeds together, and a correction of the intervals, of which only
the registered one decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.claims import is_share, metric_label, points, signed
from postlab.course.capstone.proposal import SEEDS, Prediction, Proposal, Registration
from postlab.stats import SIGNIFICANCE, blocked_differences, holm, paired_difference
from postlab.storage import atomic_text

if TYPE_CHECKING:
    import pandas as pd

    from postlab.portfolio import Value

Frames = Mapping[str, Mapping[int, "pd.DataFrame | None"]]


@dataclass(frozen=True)
class Judgement:
    """What the runs say of the prediction.

    Args:
        verdict: "supported", "refuted" or "inconclusive".
        why: what decided it, in a sentence.
        table: a row for each arm and metric: arm, metric, difference, low, high, p (corrected),
            seeds, prompts, by_seed (each seed's difference).
        deviations: in what the runs differ from what was registered.
    """

    registration: Registration
    verdict: str
    why: str
    table: pd.DataFrame
    deviations: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.verdict.capitalize()}: {self.why}"
        return "\n".join([text, *(f"Deviation: {each}." for each in self.deviations)])

    def values(self) -> dict[str, Value]:
        """Each text and number of `draft` as a placeholder's value, for a portfolio."""
        from postlab.portfolio import Value

        proposal = self.registration.proposal
        texts: dict[str, Any] = {name: getattr(proposal, name) for name in _TEXTS}
        texts |= {
            "predicted": described(proposal.prediction), "verdict": self.verdict,
            "reason": self.why, "because": proposal.prediction.because,
            "sha256": self.registration.sha256, "registered": self.registration.time,
        }  # fmt: skip
        texts |= {f"deviation.{n}": text for n, text in enumerate(self.deviations)}
        for n, row in enumerate(self.table.to_dict("records")):
            texts |= {f"row.{n}.{name}": text for name, text in _shown(row).items()}
        # One line each: a text of the learner's must not end a table or open a heading.
        lines = {name: " ".join(str(text).split()) for name, text in texts.items()}
        return {
            f"capstone.{name}": Value(text.replace("|", "\\|"), field=name.rpartition(".")[2])
            for name, text in lines.items()
        }

    def draft(self) -> str:
        """Markdown for a portfolio, in which every number is a placeholder of `values`."""

        def ph(name: str) -> str:
            return f"{{{{capstone.{name}}}}}"

        lines = [
            "# Capstone", "", f"**Question.** {ph('question')}", "", f"**Why.** {ph('why')}", "",
            f"**Prediction, registered {ph('registered')}** (hash `{ph('sha256')}`). "
            f"{ph('predicted')} {ph('because')}", "",
            f"**Verdict: {ph('verdict')}.** {ph('reason')}", "",
            "| arm | metric | difference | interval | p, Holm | seeds | prompts |",
            "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        fields = ("arm", "metric", "difference", "interval", "p", "seeds", "prompts")
        for n in range(len(self.table)):
            lines.append("| " + " | ".join(ph(f"row.{n}.{name}") for name in fields) + " |")
        lines += ["", "**Deviations from the registration.**", ""]
        lines += [f"- {ph(f'deviation.{n}')}" for n in range(len(self.deviations))] or ["- None."]
        return "\n".join(lines) + "\n"

    def markdown(self) -> str:
        """The draft with its values filled in."""
        from postlab.portfolio import render

        return render(self.draft(), self.values())

    def save(self, folder: Path | str) -> Path:
        """Write `capstone.json`, which a portfolio's checklist reads, into a folder; its path."""
        path = Path(folder) / "capstone.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "question": self.registration.proposal.question, "verdict": self.verdict,
            "why": self.why, "sha256": self.registration.sha256,
            "registered": self.registration.time, "deviations": self.deviations,
        }  # fmt: skip
        atomic_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        return path


_TEXTS = ("question", "why", "stopping")


def described(predicted: Prediction) -> str:
    """A prediction in a sentence."""
    size = size_text(predicted.metric, predicted.smallest_effect).lstrip("+")
    metric = metric_label(predicted.metric)
    pair = f"{metric} of {predicted.arm!r} is %s that of {predicted.against!r}"
    if predicted.direction == "no change":
        return pair % f"within {size} of" + "."
    return pair % f"{predicted.direction} than" + f", by {size} or more."


def size_text(metric: str, size: float) -> str:
    """A difference with its sign and unit: '+5 points'."""
    return f"{points(size)} points" if is_share(metric) else signed(size)


def judge(
    registered: Registration,
    frames: Frames,
    *,
    metric: str | None = None,
    minutes: float | None = None,
    stopped: Mapping[tuple[str, int], str] | None = None,
) -> Judgement:
    """Compare what was predicted with what was measured.

    Args:
        registered: what `register` or `read_registration` returned.
        frames: {arm: {seed: frame of `evaluate`, or None for a run without one}}.
        metric: if you judge by another metric than the registered one.
        minutes: that all runs took, for the comparison with the budget.
        stopped: {(arm, seed): why} of runs that were stopped early; their frames count.
    Returns:
        Judgement. "supported" needs a corrected p below 0.05, an interval on the predicted side of
        zero, and an estimate of at least the smallest effect that matters; "refuted" an interval
        that doesn't reach this effect. "No change" is supported if the interval lies inside the
        margin, and refuted by a supported change that is larger.
    Raises:
        ValueError: if two evaluations have no prompt in common.
    """
    import pandas as pd

    proposal, notes = registered.proposal, []
    predicted = proposal.prediction
    metric = metric or predicted.metric
    if metric != predicted.metric:
        notes.append(f"judged by {metric!r} instead of the registered {predicted.metric!r}")
    notes += [f"seed {s} of {arm!r} was stopped early: {why}"
              for (arm, s), why in (stopped or {}).items()]  # fmt: skip
    if minutes is not None and minutes > proposal.budget_minutes:
        notes.append(f"the runs took {round(minutes, 1):g} of {proposal.budget_minutes:g} minutes")
    usable = _usable(proposal, frames, notes)
    rows: list[dict[str, Any]] = []
    for arm in proposal.arms:
        for name in dict.fromkeys([metric, predicted.metric, *proposal.also]):
            if arm != predicted.against:
                rows.append(_compared(usable, arm, predicted.against, name, proposal, notes))
    tested = [row for row in rows if np.isfinite(row["p"])]
    for row, p in zip(tested, holm([r["p"] for r in tested]) if tested else [], strict=True):
        row["p"] = float(p)
    decisive = next(r for r in rows if (r["arm"], r["metric"]) == (predicted.arm, metric))
    verdict, why = _verdict(decisive, predicted)
    if metric != predicted.metric:
        verdict = "inconclusive"
        why = (
            f"this metric wasn't registered, so the result can only suggest a new prediction. {why}"
        )
    return Judgement(registered, verdict, why, pd.DataFrame(rows), tuple(dict.fromkeys(notes)))


def _usable(proposal: Proposal, frames: Frames, notes: list[str]) -> dict[str, dict[int, Any]]:
    """The registered arms' evaluations with registered seeds; all else is noted."""
    notes += [f"{arm!r} was not registered, so it is left out"
              for arm in frames if arm not in proposal.arms]  # fmt: skip
    usable: dict[str, dict[int, Any]] = {}
    for arm in proposal.arms:
        there = {s: f for s, f in frames.get(arm, {}).items() if f is not None}
        missing = [s for s in proposal.seeds if s not in there]
        extra = [s for s in there if s not in proposal.seeds]
        if missing:
            notes.append(
                f"{arm!r} has no evaluation of {_listed(missing)}: {len(proposal.seeds)} seeds "
                f"were registered"
            )
        if extra:
            notes.append(f"not registered, so left out: {_listed(extra)} of {arm!r}")
        usable[arm] = {}
        for seed in proposal.seeds:
            if seed not in there:
                continue
            answers = list(there[seed]["answer"])
            twin = next((s for s, f in usable[arm].items() if list(f["answer"]) == answers), None)
            if twin is not None:  # a file copied or a seed not passed on is no second run
                notes.append(
                    f"seed {seed} of {arm!r} gave exactly the same answers as seed {twin}, so it "
                    "is left out"
                )
                continue
            usable[arm][seed] = there[seed]
    return usable


def _compared(
    usable: Mapping[str, Mapping[int, Any]], arm: str, against: str, metric: str,
    proposal: Proposal, notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    """One arm against the baseline in one metric, over the seeds that both have."""
    values: dict[tuple[str, int], pd.Series] = {}
    for name in (arm, against):
        for seed, frame in usable[name].items():
            if metric not in frame or frame[metric].isna().all():
                notes.append(f"seed {seed} of {name!r} was not evaluated on {metric!r}")
                continue
            values[name, seed] = frame.groupby(["id", "prompt"])[metric].mean().dropna()
    seeds = [s for s in proposal.seeds if (arm, s) in values and (against, s) in values]
    row: dict[str, Any] = {"arm": arm, "metric": metric} | dict.fromkeys(
        ("difference", "low", "high", "p"), np.nan
    )
    row |= {"seeds": len(seeds), "prompts": 0, "by_seed": []}
    if not seeds:
        return row
    pairs = [(values[against, s], values[arm, s]) for s in seeds]
    every = [series.index for pair in pairs for series in pair]
    shared = every[0]
    for index in every[1:]:
        shared = shared.intersection(index)
    if shared.empty:
        raise ValueError(
            f"{arm!r} and {against!r} have no prompt with {metric!r} in common; expected "
            "evaluations on the same suite, n and seed"
        )
    if any(len(index) != len(shared) for index in every):
        notes.append(
            f"{metric!r} of {arm!r} and {against!r} is compared on the {len(shared)} prompts that "
            f"all their evaluations have, of up to {max(map(len, every))}"
        )
    if len(shared) < proposal.prompts:
        notes.append(f"{metric!r} has {len(shared)} prompts; {proposal.prompts} were registered")
    table = np.array([(after[shared] - before[shared]).to_numpy() for before, after in pairs])
    by_seed = table.mean(axis=1)
    row |= {
        "difference": float(by_seed.mean()),
        "prompts": len(shared),
        "by_seed": by_seed.tolist(),
    }
    if len(seeds) < 2:
        return row
    over_prompts = paired_difference(np.zeros(len(shared)), table.mean(axis=0))
    over_seeds = blocked_differences(
        {arm: by_seed, against: np.zeros(len(seeds))}, [(arm, against)]
    )[0]
    both = (over_seeds, over_prompts)
    row |= {"low": min(d.low for d in both), "high": max(d.high for d in both)}
    return row | {"p": max(d.p for d in both)}


def _verdict(row: Mapping[str, Any], predicted: Prediction) -> tuple[str, str]:
    """The decision, and the sentence that gives the reason."""
    metric, n, effect = row["metric"], row["seeds"], predicted.smallest_effect
    if n < SEEDS:
        return (
            "inconclusive",
            f"the arms share {n} usable seeds; at least {SEEDS} are needed.",
        )
    shown = _shown(row)
    measured = (
        f"{metric_label(metric)} of {predicted.arm!r} minus {predicted.against!r} is "
        f"{shown['difference']} (95% interval {shown['interval']}, p {shown['p']} after Holm, "
        f"{n} seeds, {row['prompts']} prompts)"
    )
    limit = size_text(metric, effect).lstrip("+")
    sign = -1 if predicted.direction == "lower" else 1
    value = sign * row["difference"]
    low, high = sorted((sign * row["low"], sign * row["high"]))
    clear = row["p"] < SIGNIFICANCE and (low > 0 or high < 0)
    if predicted.direction == "no change":
        if -effect < low and high < effect:
            return "supported", f"{measured}; the whole interval is within {limit} of zero."
        if clear and abs(value) >= effect:
            return (
                "refuted",
                f"{measured}; the prediction was that no change of {limit} or more would happen.",
            )
        reason = f"the interval reaches {limit}, so a change that matters can't be ruled out"
        return "inconclusive", f"{measured}; {reason}."
    if clear and low > 0 and value >= effect:
        if low >= effect:
            return "supported", f"{measured}; the whole interval is at or beyond {limit}."
        reason = f"the interval also includes effects smaller than {limit}"
        return (
            "supported",
            f"{measured}; {reason}, so the direction is settled, but the size isn't.",
        )
    if high < effect:
        side = (
            "the effect is in the opposite direction" if high < 0 else "it is too small to matter"
        )
        return "refuted", f"{measured}; the interval excludes the predicted {limit}: {side}."
    reason = f"the interval includes effects of {limit} or more as well as smaller ones"
    return "inconclusive", f"{measured}; {reason}."


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    metric = row["metric"]

    def size(name: str) -> str:
        return size_text(metric, row[name]) if np.isfinite(row[name]) else "none"

    p = row["p"]
    return {
        "arm": row["arm"], "metric": metric_label(metric), "difference": size("difference"),
        "interval": f"{size('low')} to {size('high')}" if np.isfinite(row["low"]) else "none",
        "p": "none" if not np.isfinite(p) else f"{p:.2g}" if p >= 0.001 else "below 0.001",
        "seeds": str(row["seeds"]), "prompts": str(row["prompts"]),
    }  # fmt: skip


def _listed(seeds: list[int]) -> str:
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
