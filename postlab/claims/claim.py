"""What the runs of a profile support, claim by claim, each with what speaks against it.

A claim is one metric of one stage against the stage it started from, over all seeds: the verdict of
`merge_seeds`, the numbers behind it, where they were made, and caveats. Caveats are computed from
manifests and answers; what only the author can know (whose labels, which prompts a setting was
chosen on) is read from the manifest, where `Lab.evaluate(..., caveats=...)` has put it, or
`Run.save_eval(..., notes={"caveats": ...})` for an evaluation made by hand.
Left out: whether a caveat matters; a verdict never changes because of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.claims.comparison import (
    is_share,
    merge_seeds,
    metric_label,
    points,
    signed,
    stage_label,
)
from postlab.claims.reading import StageRun
from postlab.claims.summary import summarised, summary_frame
from postlab.profile import device_name

if TYPE_CHECKING:
    import pandas as pd

CAVEATS = {  # code: what it says
    "one_seed": "one training seed, so it isn't known how much another would differ",
    "seeds_disagree": "not every seed supports it",
    "new_format": "the previous stage was asked in a format that it had never seen",
    "copied": "the answers were copied from the previous stage, so nothing was measured",
    "few_prompts": "fewer than 50 prompts, so only a large change could be seen",
    "tiny_world": "an embedded model in a made-up world: mechanism, not capability",
    "noted": "noted by the person who ran it",
}
FEW = 50  # prompts: half of a 95% interval of a share is then up to 14 points
LONGEST = 200  # characters of a note
NO_FORMAT = 0.1  # a share of answers in the format below which it was never seen


@dataclass(frozen=True)
class Claim:
    """One metric of one stage against the stage it started from.

    Args:
        value: of the metric after the stage, a mean over seeds, with its 95% interval low, high.
        change: after minus before on the same prompts, with its 95% interval.
        p: of no change, adjusted by Holm for the stage's metrics; the largest of the seeds'.
        n: prompts, the fewest of the seeds'.
        verdict: as of `merge_seeds`: better, worse, up, down, varies or inconclusive.
        verdicts: {seed: what this seed alone supports}.
        devices, commits: of the stage's runs.
        caveats: {code of CAVEATS: what it says here}.
    """

    profile: str
    stage: str
    parent: str
    metric: str
    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float
    p: float
    n: int
    verdict: str
    verdicts: Mapping[int, str]
    devices: tuple[str, ...]
    commits: tuple[str, ...]
    caveats: Mapping[str, str]

    @property
    def agree(self) -> int:
        """How many seeds support the verdict by themselves."""
        return sum(each == self.verdict for each in self.verdicts.values())

    def __str__(self) -> str:
        """'DPO against SFT, safety: better, +56 points (+49 to +63), 3 of 3 seeds; ...'."""
        show = points if is_share(self.metric) else signed
        size, low, high = map(show, (self.change, self.change_low, self.change_high))
        unit = " points" if is_share(self.metric) else ""
        stages = f"{stage_label(self.stage)} against {stage_label(self.parent)}"
        text = (
            f"{stages}, {metric_label(self.metric).lower()}: {self.verdict}, "
            f"{size}{unit} ({low} to {high}), {self.agree} of {len(self.verdicts)} seeds"
        )
        return "; ".join([text, *self.caveats.values()])


def claims(
    profile_name: str,
    *,
    root: Path | str | None = None,
    read: tuple[dict[str, Any], list[StageRun]] | None = None,
) -> list[Claim]:
    """Every change that the finished stages of a profile were looked at for, as claims.

    Args:
        profile_name: folder under the run root, such as "tiny".
        root: run root; by default `runs.run_root()`.
        read: what `summarised` returned for them, where it has been called already.
    Returns:
        In order of training, metrics in the order of the figures. Damaged stages, and changes that
        not every seed has, are left out: `summarised` lists them.
    Raises:
        MissingStage, ValueError: as `summarised`.
    """
    summary, runs = read or summarised(profile_name, root=root)
    frame = summary_frame(summary)
    by_stage: dict[str, list[StageRun]] = {}
    for run in runs:
        by_stage.setdefault(run.stage, []).append(run)
    parents = {(run.seed, run.stage): run for run in runs}
    found = []
    for row in merge_seeds(frame).to_dict("records"):
        if not row["verdict"]:
            continue
        seen = frame[(frame["stage"] == row["stage"]) & (frame["metric"] == row["metric"])]["seed"]
        made = [run for run in by_stage[row["stage"]] if run.seed in set(seen)]
        pairs = [(run, parents[run.seed, run.parent or ""]) for run in made]
        claim = Claim(
            profile=profile_name,
            **{name: row[name] for name in ("stage", "parent", "metric", "value", "low", "high")},
            change=row["difference"],
            change_low=row["difference_low"],
            change_high=row["difference_high"],
            p=row["p"],
            n=row["n"],
            verdict=row["verdict"],
            verdicts=dict(zip((run.seed for run in made), row["verdicts"], strict=True)),
            devices=tuple(dict.fromkeys(device_name(run.manifest["device"]) for run in made)),
            commits=tuple(dict.fromkeys(str(run.manifest["commit"]) for run in made)),
            caveats=_caveats(profile_name, row, pairs),
        )
        found.append(claim)
    return found


def _caveats(
    profile_name: str, row: Mapping[str, Any], pairs: list[tuple[StageRun, StageRun]]
) -> dict[str, str]:
    """What holds of any seed, by its code."""
    seeds, metric = len(pairs), row["metric"]
    codes = {
        "one_seed": seeds == 1,
        "seeds_disagree": seeds > 1 and len(set(row["verdicts"])) > 1,
        "new_format": any(_mean(parent.frame, "format") < NO_FORMAT for _, parent in pairs),
        "copied": row["copied"],
        "few_prompts": row["n"] < FEW,
        "tiny_world": profile_name == "tiny",
    }
    said = {code: CAVEATS[code] for code, holds in codes.items() if holds}
    notes = dict.fromkeys(note for run, _ in pairs for note in _noted(run.manifest, metric))
    return said | ({"noted": "; ".join(notes)} if notes else {})


def _noted(manifest: Mapping[str, Any], metric: str) -> list[str]:
    """What the manifest says of a metric, and of all ('')."""
    stored = manifest.get("eval")
    notes = stored.get("caveats") if isinstance(stored, Mapping) else None
    if not isinstance(notes, Mapping):
        return []
    texts = [" ".join(str(notes[name]).split()) for name in ("", metric) if name in notes]
    return [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in texts]


def _mean(frame: pd.DataFrame, metric: str) -> float:
    return float(frame[metric].mean()) if metric in frame else math.nan
