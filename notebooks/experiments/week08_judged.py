"""Week 8's table: how many faults the doctor names in logs that it was not made from.

    python notebooks/experiments/week08_judged.py --logs FOLDER

FOLDER holds the 48 public logs that data/results/doctor/labels.json names, by the hashes there.
They are not part of this repository. Two readers labelled them before the doctor was run on them.
`before` is what the doctor of that day found; `first` is what its new rules found when they first
saw these logs. `reward_stuck` was then made less strict, as it had missed two runs that are there
twice: in one of them most steps are silent, and `no_learning_signal` now gives the reward's first
and last quarter as well, so it counts as naming both faults, but not in `first`. Without FOLDER the
recorded verdicts on those logs stay, and only the rest is counted again.

`LABELS` says which findings name what a reader saw. Where readers differ, a log's faults are those
that both saw, and it is an ordinary run if both call it one. A finding of severity warning or error
in an ordinary run is a false alarm. 15 of the 48 are copies of others: rows with `distinct` count
each log once.

The recorded runs of week 8 are counted by data/results/week08/doctor.json, further public logs by
others.json beside labels.json, where one reader judged them.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from _common import RESULTS, command_line

from postlab.course import write_result
from postlab.doctor import diagnose

FOLDER = RESULTS / "doctor"
TARGET = FOLDER / "judged.json"
LABELS: dict[str, set[str]] = {  # what a reader saw: the findings that name it
    "completions_clipped": {"truncation"},
    "reward_std_zero": {"no_learning_signal"},
    "reward_stuck": {"reward_stuck", "no_learning_signal"},
    "dead_reward_functions": {"dead_reward"},
    "margins_negative": {"prefers_rejected"},
    "pref_accuracy_below_chance": {"prefers_rejected"},
    "loss_at_ln_vocab": {"loss_at_chance"},
    "no_learning": {"loss_at_chance", "nothing_trained", "lr_too_low"},
}


def stored(file: str) -> Any:
    path = FOLDER / file
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def alarms(log_history: list[dict[str, Any]]) -> list[str]:
    """The codes of a log's findings, without those that are only remarks."""
    return [f.code for f in diagnose(log_history) if f.severity != "info"]


def verdicts(folder: Path) -> dict[str, list[str]]:
    """The alarms on each of the 48 logs, by the name it has in labels.json."""
    found = {}
    for name, label in stored("labels.json")["logs"].items():
        text = (folder / name).read_bytes()
        if hashlib.sha256(text).hexdigest() != label["sha256"]:
            raise ValueError(f"{name} is not the log that was labelled: its hash differs")
        found[name] = alarms(json.loads(text))
    return found


def faults(label: dict[str, Any]) -> list[str]:
    """What both readers saw; too_short_to_tell is a remark and no fault."""
    both = set(label["first_reader"]) & set(label["second_reader"])
    return sorted(both - {"too_short_to_tell"})


def is_named(fault: str, found: list[str], *, strict: bool = False) -> bool:
    """Strictly, a reward that is stuck has to be named as such."""
    names = {"reward_stuck"} if strict and fault == "reward_stuck" else LABELS[fault]
    return bool(names & set(found))


def row(source: str, logs: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over logs with their `faults`, which of them are `named`, and `false` alarms."""
    ordinary = [log for log in logs if log["ordinary"]]
    return {
        "source": source,
        "logs": len(logs),
        "faults": sum(len(log["faults"]) for log in logs),
        "named": sum(len(log["named"]) for log in logs),
        "missed": sum(len(log["faults"]) - len(log["named"]) for log in logs),
        "ordinary": len(ordinary),
        "false alarms": sum(bool(log["false"]) for log in logs),
    }


def public(
    found: dict[str, list[str]], *, distinct: bool = False, strict: bool = False
) -> list[dict[str, Any]]:
    """The 48 logs with their faults."""
    logs, hashes = [], set()
    for name, label in stored("labels.json")["logs"].items():
        if distinct and label["sha256"] in hashes:
            continue
        hashes.add(label["sha256"])
        seen, ordinary = faults(label), all(label["ordinary"])
        named = [fault for fault in seen if is_named(fault, found[name], strict=strict)]
        # In a run with a fault, what no reader saw is counted too, unless it is a name of a fault.
        known = {code for fault in seen for code in LABELS[fault]}
        false = [code for code in found[name] if code not in known]
        logs.append(
            {"kind": label["kind"], "faults": seen, "named": named, "false": false}
            | {"ordinary": ordinary}
        )
    return logs


def others(*, read_first: bool, found: str = "found") -> list[dict[str, Any]]:
    """Further public logs, judged by one reader."""
    return [
        {
            "faults": log["judged"],
            "named": [code for code in log["judged"] if code in log[found]],
            "false": [code for code in log[found] if code not in log["judged"]],
            "ordinary": not log["judged"],
        }
        for log in stored("others.json")["logs"]
        if log["read_first"] is read_first
    ]


def recorded(split: str) -> dict[str, Any]:
    summary = json.loads((RESULTS / "week08" / "doctor.json").read_text(encoding="utf-8"))[split]
    name = {"tuning": "tuned on", "held_out": "once held out"}[split]
    return {
        "source": f"tiny runs broken on purpose, {name}",
        "logs": len(summary["logs"]),
        "faults": summary["faults"],
        "named": summary["hits"],
        "missed": len(summary["misses"]),
        "ordinary": summary["healthy"],
        "false alarms": len(summary["false_alarms"]),
    }


def table(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each source of logs."""
    now = record["found"]
    # Of these only the alarms were judged, so nothing is known of what was missed.
    judged = row("157 more, of which alarms were judged", others(read_first=False))
    return [
        recorded("tuning"),
        recorded("held_out"),
        row("48 public logs: the doctor of before", public(record["before"])),
        row("48 public logs: new rules, first sight", public(record["first"], strict=True)),
        row("48 public logs: today", public(now)),
        row("48 public logs: today, copies once", public(now, distinct=True)),
        row("56 more, read first: first sight", others(read_first=True, found="found_at_first")),
        row("56 more, read first: today", others(read_first=True)),
        judged | {"faults": None, "named": None, "missed": None},
    ]


def by_kind(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Faults named in the 48 logs, by what the readers saw."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {"faults": 0, "named": 0})
    for log in public(record["found"]):
        for fault in log["faults"]:
            counts[fault]["faults"] += 1
            counts[fault]["named"] += fault in log["named"]
    stages = {log["kind"] for log in public(record["found"])}
    alarmed = {
        stage: row("", [log for log in public(record["found"]) if log["kind"] == stage])
        for stage in sorted(stages)
    }
    false = {
        stage: {key: one[key] for key in ("ordinary", "false alarms")}
        for stage, one in alarmed.items()
    }
    return {"faults": dict(sorted(counts.items())), "stages": false}


def main() -> None:
    options = command_line(__doc__, runs=False, logs={"help": "folder of the 48 public logs"})
    record = stored("judged.json")
    if options.logs:
        record["found"] = verdicts(Path(options.logs))
    counts = {"table": table(record), "by_kind": by_kind(record)}
    write_result(TARGET, counts | {key: record[key] for key in ("before", "first", "found")})


if __name__ == "__main__":
    main()
