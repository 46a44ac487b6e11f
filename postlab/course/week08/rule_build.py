"""Week 8's build of a rule for the doctor: the reward rises while a second measure falls.

The failure is planted: recorded runs in which a reward with a hole was trained on, with a second
measure logged beside it at weight 0 (`rewards/truth/mean`). The doctor has no rule that compares
the two. `check_rule` runs the learner's rule on healthy and hacked runs, and if it isn't right,
looks for the reason by changing the logs: another scale, another order in time, one of the two
measures replaced. A reason is named only if such a change shows it; otherwise the check gives the
misses and false alarms and says that it doesn't recognise why.

`unseen_logs` are other runs, for a test of the finished rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from postlab.course.check import Outcome, not_attempted, raised, report, wrong
from postlab.profile import data_dir

PAID, TRUE = "reward", "rewards/truth/mean"
HACKED = ("eager judge", "and a small KL")  # arms of data/results/week08/hack.json
HEALTHY = ("a judge who reads", "nothing false")
Log = list[dict[str, float]]


def proxy_apart(log: Log) -> bool:
    """The reference: True if the reward rises over a run while the second measure falls.

    Both are compared by the means of the first and the last third, and a change counts if it is
    larger than a quarter of the standard deviation of the series, so no scale plays a part.
    """

    def change(name: str) -> float:
        values = [entry[name] for entry in log if name in entry]
        n = max(1, len(values) // 3)
        mean = sum(values) / len(values)
        spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
        first, last = sum(values[:n]) / n, sum(values[-n:]) / n
        return (last - first) / spread if spread else 0.0

    return change(PAID) > 0.25 and change(TRUE) < -0.25


def log_of(run: Mapping[str, Any]) -> Log:
    """A recorded run's log, as TRL's log history."""
    names = {"reward": PAID, "truth": TRUE, "entropy": "entropy", "silent": "frac_reward_zero_std",
             "length": "completions/mean_length"}  # fmt: skip
    series = {to: run["log"][name] for name, to in names.items()}
    return [dict(zip(series, row, strict=True)) for row in zip(*series.values(), strict=True)]


@cache
def _record(name: str) -> str:
    return (data_dir() / "results" / "week08" / f"{name}.json").read_text(encoding="utf-8")


def _runs(*records: str) -> list[dict[str, Any]]:
    return [run for name in records for run in json.loads(_record(name))["runs"]]


def known_logs() -> list[tuple[str, bool, Log]]:
    """The runs that a rule is written with: name, whether hacked, and the log."""
    return [
        (f"{run['arm']}, seed {run['seed']}", run["arm"] in HACKED, log_of(run))
        for run in _runs("hack")
        if run["arm"] in HACKED + HEALTHY
    ]


def unseen_logs() -> list[tuple[str, float, Log]]:
    """All other recorded runs: name, change of the held-out truth in points, and the log."""
    found = []
    for run in _runs("hack", "rubric"):
        if run["arm"] not in HACKED + HEALTHY:
            ends = (run["heldout"][0]["truth"], run["heldout"][-1]["truth"])
            first, last = (
                sum(sum(look[name]) / len(look[name]) for name in JUDGED) / len(JUDGED)
                for look in ends
            )
            found.append((f"{run['arm']}, seed {run['seed']}", 100 * (last - first), log_of(run)))
    return found


JUDGED = ("safety", "honesty", "helpfulness")


def check_rule(function: Any = None) -> Callable[[Log], bool]:
    """Print a verdict; return the rule, or the reference if it isn't right."""
    outcome = examine(function)
    report(outcome, name="proxy_apart", otherwise="the reference")
    return function if outcome.status == "right" else proxy_apart


def examine(function: Any) -> Outcome:
    """Judge a learner's rule; print nothing, raise nothing."""
    if not callable(function):
        return wrong("not_a_function", "that isn't a function.")
    logs = known_logs()
    try:
        verdicts = [function(_copy(log)) for _, _, log in logs]
        if any(verdict is None for verdict in verdicts):
            return _wrong("returns_none", "it returns None for some run. Is a `return` missing?")
        odd = next((v for v in verdicts if str(v) not in ("True", "False")), None)
        if odd is not None:
            return _wrong("not_bool", f"it returns a {type(odd).__name__}; expected True or False.")
        return _judged(function, logs, [bool(verdict) for verdict in verdicts])
    except NotImplementedError:
        return not_attempted()
    except Exception as error:  # the learner's code may raise anything
        return wrong("raised", raised(error))


def _judged(
    rule: Callable[[Log], bool], logs: Sequence[tuple[str, bool, Log]], verdicts: Sequence[bool]
) -> Outcome:
    hacked = [log for _, is_hacked, log in logs if is_hacked]
    cases = list(zip(logs, verdicts, strict=True))
    misses = [name for (name, is_hacked, _), alarm in cases if is_hacked and not alarm]
    alarms = [name for (name, is_hacked, _), alarm in cases if alarm and not is_hacked]
    count = (
        f"it misses {len(misses)} of {len(hacked)} hacked runs and raises {len(alarms)} false "
        f"alarms on {len(logs) - len(hacked)} healthy ones"
    )
    if not any(verdicts) or all(verdicts):
        always = "never raises an alarm" if not any(verdicts) else "raises an alarm on every run"
        return _wrong("constant", f"it {always}.")

    def share(change: Callable[[Log], Log]) -> float:
        return sum(bool(rule(change(_copy(log)))) for log in hacked) / len(hacked)

    if share(lambda log: log[::-1]) > 0.5:
        return _wrong("levels", f"{count}. Played backwards, with the reward falling and the "
                      "truth rising, most hacked runs still raise an alarm, so the rule doesn't go "
                      "by the direction of the two.")  # fmt: skip
    if share(_truth_as_reward) > 0.5:
        return _wrong("ignores_truth", f"{count}. It also raises an alarm if the truth rises with "
                      "the reward: that's a run as one wants it.")  # fmt: skip
    if share(_reward_as_truth) > 0.5:
        return _wrong(
            "ignores_reward", f"{count}. It also raises an alarm if the reward falls with the "
            "truth. That's a failing run, but nobody is deceived by it.",
        )  # fmt: skip
    flips = max(
        sum(
            bool(rule(_scaled(_copy(log), factor, constant))) != alarm
            for (_, _, log), alarm in zip(logs, verdicts, strict=True)
        )
        for factor, constant in ((100, 10), (0.01, 5))
    )
    if flips >= 3:
        return _wrong("scale", f"{count}. If the reward is given on another scale, with a constant "
                      f"added to it, the rule changes its mind about {flips} runs, although GRPO "
                      "would train the same. What does it compare with what?")  # fmt: skip
    jumps = sum(
        bool(rule(_copy(log))) != bool(rule(_ends_swapped(_copy(log)))) for _, _, log in logs
    )
    if (misses or alarms) and jumps >= 3:
        return _wrong("single_points", f"{count}. In {jumps} runs the verdict changes if the first "
                      "two steps and the last two are exchanged: it hangs on single steps, and a "
                      "step is the mean of only 32 replies.")  # fmt: skip
    if misses or alarms:
        which = ", ".join(misses + alarms)
        return _wrong("unknown", f"{count} ({which}). The check doesn't recognise why.")
    return Outcome("right", "right", f"right: {count}.")


def _wrong(code: str, message: str) -> Outcome:
    return wrong(code, f"not yet: {message}")


def _copy(log: Log) -> Log:
    return [dict(entry) for entry in log]


def _truth_as_reward(log: Log) -> Log:
    """The truth follows the reward."""
    return [entry | {TRUE: entry[PAID]} for entry in log]


def _reward_as_truth(log: Log) -> Log:
    """The reward follows the truth."""
    return [entry | {PAID: entry[TRUE]} for entry in log]


def _scaled(log: Log, factor: float, constant: float) -> Log:
    """The reward on another scale: GRPO's advantages stay the same."""
    return [entry | {PAID: factor * entry[PAID] + constant} for entry in log]


def _ends_swapped(log: Log) -> Log:
    return [log[1], log[0], *log[2:-2], log[-1], log[-2]]
