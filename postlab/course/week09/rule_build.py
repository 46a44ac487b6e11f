"""Build 9.1: write a rule and its labeller, train on what it says, and measure what it did.

The embedded policy guesses more than half of its sums, and none of the three rules is about that.
A learner adds a fourth rule: a text, and a function `breaks(prompt, reply)` that applies it. The
pairs are recorded replies of the SFT policy to training prompts of all families
(`data/results/week09/build.json`), with the trained critic's labels by the three rules. Those come
first: the new rule decides only pairs that they leave open. `check_rule` trains on the labels with
DPO and answers the same held-out prompts as a recorded run on the critic's labels alone.

It judges a rule by what it does, in this order: does it decide pairs about sums, and for the right
side; are more sums right after training; did anything else get worse? How `breaks` is written plays
no part. It never blocks: where a rule can't be trained on, it says why and goes on with the
recorded runs of ours.

Left out: other seeds than the recorded ones, and rules that see both replies at once.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.course.week09.soft_dpo import train_soft_dpo
from postlab.profile import data_dir
from postlab.stats import paired_difference, verdict
from postlab.tinyworld import oracle, tasks

if TYPE_CHECKING:
    from postlab.constitution import Pair, Rule

PROMPTS = 30  # held-out prompts per family
STEPS = 40
SECONDS = 20.0  # of processor time for all verdicts
WORKED = 0.5  # of the pairs of one worked and one guessed sum, how many a rule has to decide
NAMES = {**oracle.METRIC, "over_refusal": "over_refusal"}  # family or column: metric

Breaks = Callable[[str, str], bool]


@dataclass(frozen=True)
class RuleCheck:
    """What came of a rule.

    Attributes:
        status: "right", "wrong" or "not attempted".
        code: a short name of what was seen first, such as "inverted" or "better".
        decides: per family, the pairs that the rule decides, and how often for the right reply.
        scores: share of right answers per metric, of the recorded runs and of the learner's.
    """

    status: str
    code: str
    message: str
    decides: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


@cache
def recorded() -> dict[str, Any]:
    """The recorded pairs, labels and runs (`data/results/week09/build.json`)."""
    path = data_dir() / "results" / "week09" / "build.json"
    return json.loads(path.read_text(encoding="utf-8"))


def build_pairs() -> list[Pair]:
    """The pairs: what was asked, as messages, and two replies of the SFT policy."""
    return [([{"role": "user", "content": asked}], a, b) for asked, a, b in recorded()["pairs"]]


def heldout() -> list[dict]:
    """The held-out prompts: PROMPTS of each of six families."""
    return [row for row in tasks.heldout_suite(n=PROMPTS, seed=9) if row["family"] in oracle.METRIC]


def our_breaks(prompt: str, reply: str) -> bool:
    """Our rule, 'Work a sum out before you give its answer.': a bare answer breaks it."""
    return reply.startswith("####")


# --- labels and training --------------------------------------------------------------------------


def rule_labels(breaks: Breaks, pairs: Sequence[Pair]) -> list[str]:
    """What the rule alone says of each pair: the reply that keeps it, or a tie."""
    labels = []
    for prompt, a, b in pairs:
        broken = [bool(breaks(prompt[-1]["content"], reply)) for reply in (a, b)]
        labels.append("tie" if broken[0] == broken[1] else "b" if broken[0] else "a")
    return labels


def by_priority(first: Sequence[str], then: Sequence[str]) -> list[str]:
    """The first labels; where they are ties, the others.

    >>> by_priority(["a", "tie"], ["b", "b"])
    ['a', 'b']
    """
    return [y if x == "tie" else x for x, y in zip(first, then, strict=True)]


def train_and_answer(labels: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """DPO from the SFT stage on the labels, and the held-out prompts answered greedily.

    Returns:
        `answers`, one text per held-out prompt, and `scores`: {metric: a string of 0 and 1}.
    """
    import torch

    from postlab.evals import evaluate
    from postlab.models import load_policy, loadable_adapter, trainable
    from postlab.runs import find_stage

    kept = [i for i, label in enumerate(labels) if label != "tie"]
    pairs, chances = build_pairs(), [float(labels[i] == "a") for i in kept]
    start = str(loadable_adapter(find_stage("tiny", 0, "sft")))
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        base, tokenizer = load_policy(start, profile="tiny", bits=32)
        model = trainable(base)
        train_soft_dpo(model, tokenizer, [pairs[i] for i in kept], chances, seed=seed, steps=STEPS)
        frame = evaluate(model.eval(), tokenizer, heldout(), seed=0)
    scores = {
        metric: "".join(str(int(value)) for value in frame[metric].dropna())
        for metric in NAMES.values()
    }
    return {"answers": frame["answer"].tolist(), "scores": scores}


# --- the check ------------------------------------------------------------------------------------


def check_rule(rule: Rule, breaks: Breaks) -> RuleCheck:
    """Apply a learner's rule, train on what it says, and print what came out.

    Args:
        rule: its id and its text.
        breaks: (prompt, reply) -> whether the reply breaks the rule.
    """
    result = _checked(rule, breaks)
    mark = {"right": "✓", "wrong": "✗", "not attempted": "·"}[result.status]
    print(textwrap.fill(f"{mark} rule: {result.message}", 100, subsequent_indent="  "))
    return result


def _checked(rule: Rule, breaks: Breaks) -> RuleCheck:
    pairs = build_pairs()
    labels, problem = _called(breaks, pairs)
    if problem:
        return _fallback(*problem)
    decides = describe(labels, pairs)
    if not rule.text.strip(" ."):
        text = "the rule has no text. Whoever applies it, a person or a model, reads the text."
        return _fallback("wrong", "no_text", text, decides)
    fault = _fault(labels, pairs, decides)
    if fault:
        return _fallback("wrong", *fault, decides)
    first = recorded()["critic"]
    return compared(train_and_answer(by_priority(first, labels)), labels, breaks, decides)


def _called(breaks: Breaks, pairs: Sequence[Pair]) -> tuple[list[str], tuple[str, str, str] | None]:
    """The rule's labels, or why there are none: status, code and message."""
    from postlab.course.check._calls import TookTooLong, _time_limit

    prompt, reply = pairs[0][0][-1]["content"], pairs[0][1]
    try:
        with _time_limit(SECONDS):
            said = breaks(prompt, reply)
            if not isinstance(said, bool | np.bool_):
                text = f"breaks returned {type(said).__name__}; return True or False."
                return [], ("wrong", "not_bool", text)
            return rule_labels(breaks, pairs), None
    except NotImplementedError:
        return [], ("not attempted", "not_attempted", "not attempted.")
    except TookTooLong:
        text = f"breaks took more than {SECONDS:.0f} seconds for {2 * len(pairs)} replies."
        return [], ("wrong", "too_slow", text)
    except Exception as error:
        text = f"breaks raised {type(error).__name__}: {error}"
        return [], ("wrong", "error", text[:300] + ".")


def describe(labels: Sequence[str], pairs: Sequence[Pair]) -> dict[str, dict[str, int]]:
    """Per family, the pairs, how many the rule decides, and for the right or the wrong reply."""
    table: dict[str, dict[str, int]] = {}
    for label, (prompt, a, b) in zip(labels, pairs, strict=True):
        family, right = _family(prompt), [_right(prompt, a), _right(prompt, b)]
        row = table.setdefault(
            family, {"pairs": 0, "decides": 0, "for the right reply": 0, "for the wrong reply": 0}
        )
        row["pairs"] += 1
        if label == "tie":
            continue
        row["decides"] += 1
        chosen, other = right if label == "a" else right[::-1]
        row["for the right reply"] += int(chosen > other)
        row["for the wrong reply"] += int(chosen < other)
    return table


def worked(reply: str) -> bool:
    """Whether a reply to a sum works it out before the answer."""
    return "=" in reply.partition("####")[0]


def _fault(
    labels: Sequence[str], pairs: Sequence[Pair], decides: Mapping[str, Mapping[str, int]]
) -> tuple[str, str] | None:
    """What keeps a rule from doing anything good: code and message."""
    sums = decides["arithmetic"]
    if not any(row["decides"] for row in decides.values()):
        return "never", "it decides no pair: for each pair, both replies break it or both keep it."
    if not sums["decides"]:
        return (
            "not_sums",
            "it decides no pair about sums. Look at some of them: which replies vary?",
        )
    mixed = [
        (label, worked(a))
        for label, (prompt, a, b) in zip(labels, pairs, strict=True)
        if _family(prompt) == "arithmetic" and worked(a) != worked(b)
    ]
    sided = [(label == "a") == first for label, first in mixed if label != "tie"]
    if sided and sum(sided) < len(sided) / 2:
        text = (
            f"in {len(sided) - sum(sided)} of {len(sided)} pairs about sums, it prefers the bare "
            "answer to the reply that works the sum out. `breaks` should be True for the worse one."
        )
        return "inverted", text
    if len(sided) < WORKED * len(mixed):
        text = (
            f"of {len(mixed)} pairs with one worked sum and one bare answer, it decides only "
            f"{len(sided)}. Print some that it leaves open."
        )
        return "few", text
    return None


def compared(
    run: Mapping[str, Any],
    labels: Sequence[str],
    breaks: Breaks,
    decides: Mapping[str, Mapping[str, int]],
) -> RuleCheck:
    """The learner's run beside the recorded one without the rule, on the same prompts and seed."""
    without = next(r for r in recorded()["runs"] if (r["arm"], r["seed"]) == ("without", 0))
    changes = {
        metric: paired_difference(_values(without["scores"][metric]), _values(text))
        for metric, text in run["scores"].items()
    }
    table = recorded_scores() | {"yours": _shares(run["scores"])}
    sums = changes["arithmetic"]
    rows = [
        (row["prompt"], old, new)
        for row, old, new in zip(heldout(), without["answers"], run["answers"], strict=True)
        if row["family"] == "arithmetic"
    ]
    broken = [
        sum(bool(breaks(_text(asked), (old, new)[k])) for asked, old, new in rows) for k in (0, 1)
    ]
    text = (
        f"on held-out sums, replies that break it went from {broken[0]} to {broken[1]} of "
        f"{len(rows)}. Right sums: {_points(sums)}, {verdict(sums)}."
    )
    if all((label == "tie") or good for label, good in _truths(labels)) and _knows(labels):
        text += " Your labeller knows the answers: it's a verifier (week 7), not a rule about form."
    signs = {name: -1 if name == "over_refusal" else 1 for name in changes}
    worse = {
        name: change
        for name, change in changes.items()
        if verdict(change) != "inconclusive" and signs[name] * change.difference < 0
    }
    status, code = "right", "better"
    if verdict(sums) != "better":
        status, code = "wrong", "no_gain"
        text += " Not yet: DPO on its labels didn't raise the share of right sums measurably."
    elif worse:
        status, code = "wrong", f"costs_{next(iter(worse))}"
        listed = "; ".join(f"{name.replace('_', '-')} {_points(c)}" for name, c in worse.items())
        family = next((f for f, metric in NAMES.items() if metric in worse), "howto")
        count = decides.get("howto" if family == "over_refusal" else family, {}).get("decides", 0)
        text += (
            f" But something else got worse: {listed}. It decides {count} pairs of that family: "
            "should a rule about sums say anything there?"
        )
    else:
        text += " Nothing else got measurably worse."
    return RuleCheck(status, code, text, {k: dict(v) for k, v in decides.items()}, table)


def recorded_scores() -> dict[str, dict[str, float]]:
    """Per arm and metric, the mean over the recorded seeds."""
    table: dict[str, dict[str, float]] = {"before": _shares(recorded()["before"]["scores"])}
    for arm in ("without", "ours"):
        shares = [_shares(run["scores"]) for run in recorded()["runs"] if run["arm"] == arm]
        table[arm] = {name: float(np.mean([s[name] for s in shares])) for name in shares[0]}
    return table


def _fallback(
    status: str, code: str, message: str, decides: Mapping[str, Any] | None = None
) -> RuleCheck:
    text = f"{message} Going on with the recorded runs of our rule."
    table = decides or describe(rule_labels(our_breaks, build_pairs()), build_pairs())
    return RuleCheck(status, code, text, {k: dict(v) for k, v in table.items()}, recorded_scores())


def _truths(labels: Sequence[str]) -> list[tuple[str, bool]]:
    """Each label of a pair about sums, and whether it is for a right reply against a wrong one."""
    pairs = [
        (label, _right(p, a), _right(p, b))
        for label, (p, a, b) in zip(labels, build_pairs(), strict=True)
        if _family(p) == "arithmetic"
    ]
    return [(label, (a > b) if label == "a" else (b > a)) for label, a, b in pairs]


def _knows(labels: Sequence[str]) -> bool:
    """Whether the rule decides pairs of two worked sums, which only their values tell apart."""
    return any(
        label != "tie" and worked(a) and worked(b)
        for label, (prompt, a, b) in zip(labels, build_pairs(), strict=True)
        if _family(prompt) == "arithmetic"
    )


def _family(prompt: Sequence[Mapping[str, str]]) -> str:
    item = oracle.read(prompt[-1]["content"])
    assert item is not None  # every recorded prompt can be read back
    return item.family


def _right(prompt: Sequence[Mapping[str, str]], reply: str) -> float:
    item = oracle.read(prompt[-1]["content"])
    assert item is not None
    return tasks.score(item, reply, True)[oracle.METRIC[item.family]]


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


def _shares(scores: Mapping[str, str]) -> dict[str, float]:
    return {name: text.count("1") / len(text) for name, text in scores.items()}


def _values(text: str) -> np.ndarray:
    return np.array([int(digit) for digit in text], dtype=float)


def _points(difference: Any) -> str:
    numbers = (100 * difference.difference, 100 * difference.low, 100 * difference.high)
    change, low, high = (f"{round(number):+d}".replace("-", "−") for number in numbers)
    return f"{change} points ({low} to {high})"
