"""A trainer's log history as series of numbers: what the rules of the doctor look at.

The entries of training steps and the evaluations between them are read, under TRL's names of today
(names.py). Left out: the summary at the end, and logs of several runs in one list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any, Literal

from postlab.doctor.names import KNOWN, TELLING, is_number, renamed

FEW_POINTS = 5  # enough for what needs no trend
MIN_POINTS = 8  # two a quarter: with fewer a trend cannot be told from its noise
FORM = re.compile(
    r"format|tag|style|length|brevity|concise|verbos|penalty|punish|repetit|xml|overlong",
    re.IGNORECASE,
)


# What a trainer logs beside its values, and its summary at the end.
BOOKKEEPING = {
    "epoch", "step", "total_flos", "train_loss", "train_runtime", "train_samples_per_second",
    "train_steps_per_second",
}  # fmt: skip
Severity = Literal["info", "warning", "error"]
Seen = (
    str | tuple[Severity, str]
)  # evidence, "" for none; with a severity that is not the usual one
# "orpo" stands for every loss on pairs without a reference: ORPO, CPO, SimPO.
Stage = Literal["sft", "dpo", "orpo", "kto", "reward", "grpo"]
PAIRS = ("dpo", "orpo", "kto", "reward")
AT_ZERO = 0.05  # of reward, in the first entry
# Keys that only this stage's trainer logs, the most telling first; SFT has none of its own.
MARKS: dict[Stage, set[str]] = {
    "orpo": {"log_odds_chosen", "log_odds_ratio", "nll_loss"},
    "reward": {"min_reward", "max_reward", "mean_reward"},
    "dpo": {"rewards/margins", "rewards/chosen", "logps/chosen", "rewards/accuracies"},
    "grpo": {"reward", "frac_reward_zero_std", "completions/mean_length"},
}
# A trainer whose names are not known, but which has rewards or advantages, is not SFT: its loss may
# well be 0. Nor is it GRPO if it has pairs.
REWARDED = re.compile(r"^(?!eval).*(reward|advantage|\badv_|policy_ratio|rollout)", re.IGNORECASE)
PAIRED = re.compile(r"chosen|reject|margin|prefer", re.IGNORECASE)


@dataclass(frozen=True)
class Change:
    """Centres of a series' first and last quarter, and how much of it is noise.

    Args:
        noise: standard deviation of a single point, without the trend.
        error: standard error of the difference of the two.
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
    """The entries of a run's training steps in order, and its evaluations."""

    entries: tuple[Mapping[str, Any], ...]
    stage: Stage
    evals: tuple[Mapping[str, Any], ...] = ()

    def series(self, name: str) -> list[float]:
        """The finite numbers logged under a name; anything else under it is passed over."""
        return [float(e[name]) for e in self.entries if finite(e.get(name))]

    def evaluated(self, name: str) -> list[float]:
        """The same of the evaluations."""
        return [float(e[name]) for e in self.evals if finite(e.get(name))]

    def quarters(self, name: str) -> list[float]:
        """Centres of the four quarters; empty where the series is too short."""
        values = self.series(name)
        if len(values) < MIN_POINTS:
            return []
        cuts = [round(len(values) * i / 4) for i in range(5)]
        return [centre(values[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]

    def change(self, name: str) -> Change | None:
        """From the first quarter to the last; None where the series is too short."""
        return change_of(self.series(name))

    def mean(self, name: str, *, last: float = 1.0, least: int = MIN_POINTS) -> float | None:
        """Over the last share of a series; None where it is too short. For shares of a whole."""
        values = self.series(name)
        size = max(1, round(len(values) * last))
        return fmean(values[-size:]) if len(values) >= least else None

    def typical(self, name: str, *, last: float = 1.0, least: int = MIN_POINTS) -> float | None:
        """The median over the last share of a series; None where it is too short."""
        values = self.series(name)
        size = max(1, round(len(values) * last))
        return median(values[-size:]) if len(values) >= least else None

    def scale(self, name: str) -> float:
        """How far a series ranges, from 0 where it has one sign: what a change is measured by."""
        values = self.series(name) or [0.0]
        return max(*values, 0.0) - min(*values, 0.0)

    def rewards(self, *, form: bool) -> list[str]:
        """Names of GRPO's single rewards: those for the form of an answer, or the others."""
        return [name for name in self.all_rewards() if is_form(name) == form]

    def all_rewards(self) -> list[str]:
        names = {key for entry in self.entries for key in entry if isinstance(key, str)}
        return sorted(n for n in names if n.startswith("rewards/") and n.endswith("/mean"))

    def until(self, place: int) -> Log:
        """The log before an entry."""
        return Log(self.entries[:place], self.stage, self.evals)

    def without(self, places: Sequence[int]) -> Log:
        """The log without some entries."""
        left = (entry for i, entry in enumerate(self.entries) if i not in set(places))
        return Log(tuple(left), self.stage, self.evals)


def change_of(values: Sequence[float]) -> Change | None:
    """From the first quarter of some numbers to the last; None where they are too few."""
    if len(values) < MIN_POINTS:
        return None
    size = len(values) // 4
    # From step to step, so that a trend is not taken for noise; of normal noise the median of
    # such differences is 0.954 standard deviations. A centre errs a tenth more than a mean.
    noise = median(abs(b - a) for a, b in pairwise(values)) / 0.954
    error = (1.1 if size > 2 else 1.0) * noise * math.sqrt(2 / size)
    return Change(centre(values[:size]), centre(values[-size:]), noise, error)


def centre(values: Sequence[float]) -> float:
    """The mean of the middle half: like a median, it passes over what leaps; it errs less.

    >>> centre([1.0, 2.0, 900.0]), centre([1.0, 2.0, 3.0, 900.0])
    (2.0, 2.5)
    """
    ordered = sorted(values)
    cut = (len(ordered) - 1) // 2 if len(ordered) == 3 else len(ordered) // 4
    return fmean(ordered[cut : len(ordered) - cut])


def is_form(name: str) -> bool:
    """Is this reward for the form of an answer?"""
    return bool(FORM.search(name.split("/")[1]))


def finite(value: Any) -> bool:
    """Is it a number that can be reckoned with? The square of 1e200 cannot."""
    return is_number(value) and abs(value) < 1e100


def read(log_history: Sequence[Mapping[str, Any]], *, keys: Mapping[str, str] | None = None) -> Log:
    """The training entries of a log history, its evaluations, and which stage logged them.

    Raises:
        TypeError: if it is not a list of dicts, or `keys` does not map names to names.
    """
    if isinstance(log_history, (str, bytes, Mapping)) or not isinstance(log_history, Sequence):
        raise TypeError(_expected(f"a {type(log_history).__name__}"))
    for entry in log_history:
        if not isinstance(entry, Mapping):
            raise TypeError(_expected(f"a list that holds a {type(entry).__name__}"))
    entries = renamed(list(log_history), _checked(keys or {}))
    training = tuple(entry for entry in entries if TELLING & set(entry))
    evals = tuple(e for e in entries if any(str(key).startswith("eval_") for key in e))
    return Log(training, _stage(training), evals)


def _stage(entries: Sequence[Mapping[str, Any]]) -> Stage:
    logged = {key for entry in entries for key in entry}
    names = [key for key in logged if isinstance(key, str)]
    rewarded = any(map(REWARDED.search, names)) and not any(map(PAIRED.search, names))
    fallback: Stage = "grpo" if rewarded else "sft"
    stage: Stage = next((stage for stage, own in MARKS.items() if logged & own), fallback)
    # A GRPO loop may log its lowest and highest reward too, but a reward model has no `reward`.
    stage = "grpo" if stage == "reward" and "reward" in logged else stage
    # DPO with a likelihood term logs nll_loss too, but its rewards begin at 0.
    rewards = [e["rewards/chosen"] for e in entries if finite(e.get("rewards/chosen"))]
    if stage == "orpo" and not {"log_odds_chosen", "log_odds_ratio"} & logged and rewards:
        stage = "orpo" if abs(rewards[0]) > AT_ZERO else "dpo"
    # KTO has no pairs: rewards of both kinds of reply, and no accuracy of one against the other.
    unpaired = "rewards/chosen" in logged and "rewards/accuracies" not in logged
    return "kto" if stage == "dpo" and unpaired and "kl" in logged else stage


def unknown(log_history: Sequence[Mapping[str, Any]], log: Log) -> list[str]:
    """The names under which numbers were logged, if the rules know none of them."""
    names = {key for entry in log_history for key, value in entry.items() if is_number(value)}
    renamed_names = {key for entry in renamed(list(log_history), {}) for key in entry}
    if log.entries or log.evals or renamed_names & KNOWN:
        return []
    return sorted(map(str, names - BOOKKEEPING))


def _checked(keys: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(keys, Mapping) or not all(
        isinstance(name, str) for pair in keys.items() for name in pair
    ):
        raise TypeError(
            f"keys is {keys!r:.60}; expected a dict of our names to yours, such as "
            f'{{"reward": "train/score"}}'
        )
    return keys


def _expected(got: str) -> str:
    return (
        f"diagnose got {got}; expected a list of dicts: trainer.state.log_history, run.log, or "
        f"what stands under 'log_history' in trainer_state.json"
    )
