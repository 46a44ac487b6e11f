"""Questions about the learner's own runs: every number in them comes from the run folders.

The words are in `evidence.yaml`, a template for each situation; here it is decided which situations
a profile's runs are in, and the values are computed. Left out: situations that need more than
manifests, answers and training logs, such as a reward that was hacked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from postlab.claims import (
    Claim,
    claims,
    is_share,
    metric_label,
    points,
    stage_label,
    summarised,
    summary_frame,
)
from postlab.course.interview.questions import Question, filled, log_table, read_yaml
from postlab.doctor import finite
from postlab.evals import METRICS
from postlab.models import ExportReport
from postlab.runs import run_root
from postlab.storage import LOG_BYTES, read_json

ALPHA = 0.05
MOST = 3  # questions of one situation
PAIRS = ("logps/chosen", "logps/rejected", "rewards/chosen", "rewards/margins")
FEWEST = 8  # entries of a log with a trend to talk about


def evidence_questions(
    profile_name: str, *, root: Path | str | None = None, export: ExportReport | None = None
) -> list[Question]:
    """What an interviewer would ask about the runs of a profile, with computed rubrics.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
        export: what `models.export` returned, for a question about the merged model.
    Raises:
        MissingStage, ValueError: as `claims.claims`.
    """
    templates = {t["id"]: t for t in read_yaml(Path(__file__).parent / "evidence.yaml")}
    folder = (run_root() if root is None else Path(root)) / profile_name
    situations = [*_of_claims(profile_name, root), *_of_logs(folder), *_of_export(export)]
    questions, counts = [], dict.fromkeys(templates, 0)
    for name, about, values, table in situations:
        counts[name] += 1
        if counts[name] <= MOST:
            identity = f"{profile_name}:{about}:{name}"
            fields = templates[name] | {"id": identity, "topic": "your runs"}
            questions.append(filled(fields | {"table": table}, values))
    return questions


Situation = tuple[str, str, dict[str, Any], tuple[dict[str, str], ...]]


def _of_claims(profile_name: str, root: Path | str | None) -> Iterator[Situation]:
    all_claims = sorted(claims(profile_name, root=root), key=lambda claim: claim.p)
    frame = summary_frame(summarised(profile_name, root=root)[0])
    raw = frame.groupby(["stage", "metric"])["p"].max().to_dict()
    tests = frame.dropna(subset="p").groupby(["stage", "seed"]).size()
    shares = [claim for claim in all_claims if is_share(claim.metric)]

    def situation(name: str, claim: Claim, **more: Any) -> Situation:
        return name, f"{claim.stage}:{claim.metric}", _words(claim) | more, ()

    for claim in shares:
        copied, p = "copied" in claim.caveats, raw[claim.stage, claim.metric]
        if copied or claim.verdict not in ("inconclusive", "varies"):
            continue
        if len(set(claim.verdicts.values())) > 1:
            each = ", ".join(f"seed {seed} {one}" for seed, one in claim.verdicts.items())
            yield situation("seeds_disagree", claim, each=each)
        elif p < ALPHA <= claim.p:
            metrics = int(tests[claim.stage].max())
            luck = {"metrics": metrics, "alarms": f"{ALPHA * metrics:.2g}"}
            yield situation("corrected", claim, raw=f"{p:.2g}", **luck)
    unsure = [c for c in shares if c.verdict == "inconclusive" and raw[c.stage, c.metric] >= ALPHA]
    measured = [c for c in unsure if "copied" not in c.caveats]
    for claim in sorted(measured, key=lambda c: c.change_low - c.change_high)[:1]:
        yield situation("no_difference", claim)
    for claim in [c for c in unsure if "copied" in c.caveats][:1]:
        yield situation("copied", claim)
    good = [c for c in shares if c.verdict == "better"]
    single = [c for c in good if "one_seed" in c.caveats and "new_format" not in c.caveats]
    for claim in sorted(single, key=lambda c: -abs(c.change))[:1]:
        yield situation("one_seed", claim)
    for claim in [c for c in good if "new_format" in c.caveats and c.metric != "format"][:1]:
        yield situation("new_format", claim)
    for claim in shares:
        gains = [c for c in good if c.stage == claim.stage]
        if claim.verdict == "worse" and gains:
            gain = max(gains, key=lambda c: abs(c.change))
            yield situation("trade", claim, **{f"gain_{k}": v for k, v in _words(gain).items()})


def _words(claim: Claim) -> dict[str, Any]:
    better = METRICS[claim.metric][1] if claim.metric in METRICS else ""
    senses = {"up": (" cost", " gain"), "down": (" gain", " cost")}
    sense = senses.get(better, (" change", " change"))[claim.change > 0]
    far = max(claim.change_low, claim.change_high, key=abs)
    width = claim.change_high - claim.change_low
    return {
        "stage": stage_label(claim.stage),
        "parent": stage_label(claim.parent),
        "metric": metric_label(claim.metric).lower(),
        "sense": sense,
        "change": points(claim.change),
        "low": points(claim.change_low),
        "high": points(claim.change_high),
        "far": points(far),
        "half": points(width / 4).lstrip("+"),  # half the half-width, with four times the prompts
        "p": f"{claim.p:.2g}",
        "n": claim.n,
        "seeds": len(claim.verdicts),
        "agree": sum(v not in ("inconclusive", "") for v in claim.verdicts.values()),
        "verdict": claim.verdict,
        "caveats": "; ".join(claim.caveats.values()),
    }


def _of_logs(folder: Path) -> Iterator[Situation]:
    """Questions about the training logs that `Run` keeps beside a stage's weights."""
    for path in sorted(folder.glob("seed-*/*/trainer_state.json")):
        state = read_json(path, most=LOG_BYTES)
        history = state.get("log_history") if isinstance(state, dict) else None
        log = [entry for entry in history or [] if isinstance(entry, dict)]
        about = f"{path.parent.parent.name}:{path.parent.name}"
        values = {"stage": stage_label(path.parent.name)}
        if ends := _ends(log, *PAIRS):
            grown = {name: last - first for name, (first, last) in ends.items()}
            falls = grown["rewards/chosen"] < 0
            # The log-prob depends on the batch as well; the reward, a log-ratio, hardly does.
            if grown["rewards/margins"] <= 0 or (grown["logps/chosen"] < 0) != falls:
                continue
            rejected = 1 - grown["rewards/chosen"] / grown["rewards/margins"]
            values |= _shown(ends) | {"rejected_share": f"{rejected:.0%}"}
            signals = ("logps/chosen", "logps/rejected", "rewards/margins")
            yield f"chosen_{'falls' if falls else 'rises'}", about, values, log_table(log, signals)
        elif ends := _ends(log, "frac_reward_zero_std", "reward"):
            name = "frac_reward_zero_std"
            share = fmean(entry[name] for entry in log if finite(entry.get(name)))
            if share <= 0:
                continue
            values |= _shown(ends) | {"share": f"{share:.0%}", "useful": f"{1 - share:.0%}"}
            table = log_table(log, ("frac_reward_zero_std", "reward"))
            yield "zero_variance", about, values, table


def _ends(log: Sequence[dict[str, Any]], *names: str) -> dict[str, tuple[float, float]]:
    """Means of the first and the last quarter of each series; nothing if one is missing."""
    ends = {}
    for name in names:
        series = [entry[name] for entry in log if finite(entry.get(name))]
        if len(series) < FEWEST:
            return {}
        quarter = len(series) // 4
        ends[name] = (fmean(series[:quarter]), fmean(series[-quarter:]))
    return ends


def _shown(ends: dict[str, tuple[float, float]]) -> dict[str, str]:
    """{'chosen_first': '-1.06', ...}; a placeholder can't hold a slash."""
    short = {"logps/chosen": "chosen", "logps/rejected": "rejected", "rewards/margins": "margin"}
    short |= {"frac_reward_zero_std": "zero", "reward": "reward"}
    return {
        f"{short[name]}_{place}": f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
        for name, both in ends.items()
        if name in short
        for place, value in zip(("first", "last"), both, strict=True)
    }


def _of_export(report: ExportReport | None) -> Iterator[Situation]:
    if report is None or not report.prompts:
        return
    from scipy.stats import beta

    n, changed = report.prompts, len(report.changed)
    # Clopper and Pearson's one-sided 95% bound; 1 - 0.05^(1/n) where nothing changed
    bound = 1.0 if changed == n else float(beta.ppf(0.95, changed + 1, n - changed))
    enough = math.ceil(math.log(0.05) / math.log(0.99))
    values = {"n": n, "changed": changed, "bound": f"{bound:.0%}", "enough": enough}
    yield "export", report.folder.name, values, ()
