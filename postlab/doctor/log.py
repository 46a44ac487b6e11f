"""A trainer's log history as series of numbers: what the rules of the doctor look at.

Only entries of training steps are read. Left out: evaluations, the summary at the end, and logs of
several runs in one list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from statistics import fmean, median
from typing import Any, Literal

MIN_POINTS = 8  # two a quarter: with fewer a trend cannot be told from its noise
FORM = re.compile(r"format|tag|style|length|brevity|concise|verbos|penalty|repetit", re.IGNORECASE)


Stage = Literal["sft", "dpo", "grpo"]
# Keys that only this stage's trainer logs; SFT has none of its own.
MARKS: dict[Stage, set[str]] = {
    "dpo": {"rewards/margins", "rewards/chosen", "logps/chosen"},
    "grpo": {"reward", "frac_reward_zero_std", "completions/mean_length"},
}


@dataclass(frozen=True)
class Change:
    """Means of a series' first and last quarter, and how much of it is noise.

    Args:
        noise: standard deviation of a single point, without the trend.
        error: standard error of the difference of the two means.
    """

    first: float
    last: float
    noise: float
    error: float

    def rises(self, by: float) -> bool:
        """By at least so much, and by more than two standard errors."""
        return self.last - self.first >= max(by, 2 * self.error, 1e-12)

    def falls(self, by: float) -> bool:
        return self.first - self.last >= max(by, 2 * self.error, 1e-12)


@dataclass(frozen=True)
class Log:
    """The entries of a run's training steps, in order."""

    entries: tuple[Mapping[str, Any], ...]
    stage: Stage

    def series(self, name: str) -> list[float]:
        """The finite numbers logged under a name; anything else under it is passed over."""
        return [e[name] for e in self.entries if finite(e.get(name))]

    def quarters(self, name: str) -> list[float]:
        """Means of the four quarters; empty where the series is too short."""
        values = self.series(name)
        if len(values) < MIN_POINTS:
            return []
        cuts = [round(len(values) * i / 4) for i in range(5)]
        return [fmean(values[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]

    def change(self, name: str) -> Change | None:
        """From the first quarter to the last; None where the series is too short."""
        values = self.series(name)
        if len(values) < MIN_POINTS:
            return None
        size = len(values) // 4
        # From step to step, so that a trend is not taken for noise; of normal noise the median of
        # such differences is 0.954 standard deviations.
        noise = median(abs(b - a) for a, b in pairwise(values)) / 0.954
        error = noise * math.sqrt(2 / size)
        return Change(fmean(values[:size]), fmean(values[-size:]), noise, error)

    def mean(self, name: str, *, last: float = 1.0) -> float | None:
        """Over the last share of a series; None where it is too short."""
        values = self.series(name)
        size = max(1, round(len(values) * last))
        return fmean(values[-size:]) if len(values) >= MIN_POINTS else None

    def rewards(self, *, form: bool) -> list[str]:
        """Names of GRPO's single rewards: those for the form of an answer, or the others."""
        names = {key for entry in self.entries for key in entry if isinstance(key, str)}
        means = sorted(n for n in names if n.startswith("rewards/") and n.endswith("/mean"))
        return [name for name in means if bool(FORM.search(name.split("/")[1])) == form]

    def until(self, place: int) -> Log:
        """The log before an entry."""
        return Log(self.entries[:place], self.stage)


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def finite(value: Any) -> bool:
    """Is it a number that can be reckoned with? The square of 1e200 cannot."""
    return is_number(value) and abs(value) < 1e100


def read(log_history: Sequence[Mapping[str, Any]]) -> Log:
    """The training entries of a log history, and which stage logged them.

    Raises:
        TypeError: if it is not a list of dicts.
    """
    if isinstance(log_history, (str, bytes, Mapping)) or not isinstance(log_history, Sequence):
        raise TypeError(_expected(f"a {type(log_history).__name__}"))
    for entry in log_history:
        if not isinstance(entry, Mapping):
            raise TypeError(_expected(f"a list that holds a {type(entry).__name__}"))
    entries = tuple(e for e in log_history if "loss" in e or "reward" in e)
    keys = {key for entry in entries for key in entry}
    stage: Stage = next((stage for stage, own in MARKS.items() if keys & own), "sft")
    return Log(entries, stage)


def _expected(got: str) -> str:
    return (
        f"diagnose got {got}; expected a list of dicts: trainer.state.log_history, run.log, or "
        f"what stands under 'log_history' in trainer_state.json"
    )
