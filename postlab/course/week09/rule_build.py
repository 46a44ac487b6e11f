"""Build 9.1: write a rule and its labeller, train on what it says, and measure what it did.

The embedded policy guesses more than half of its sums, and none of the three rules is about that.
A learner adds a fourth rule: a text, and a function `breaks(prompt, reply)` that applies it. The
pairs and the critic's labels are those of the notebook. The critic's labels come first: the new
rule decides only pairs that they leave open. `check_rule` trains the SFT stage twice with DPO, on
the critic's labels alone and on all of them, and compares both on the same held-out prompts.

It judges a rule by what it does, in this order: does it decide pairs about sums, and for the right
side; are more sums right after training; did anything else get worse? How `breaks` is written plays
no part. It never blocks: where a rule can't be trained on, it says why and trains on ours.

Left out: several seeds, and rules that see both replies at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.course.check import Outcome, in_points, not_attempted, report, wrong
from postlab.course.week09.soft_dpo import train_soft_dpo
from postlab.stats import paired_difference, verdict
from postlab.tinyworld import oracle, tasks

if TYPE_CHECKING:
    from postlab.constitution import Pair, Rule

PROMPTS = {"arithmetic": 60}  # held-out prompts of a family
OTHERS = 30  # and of every other one
STEPS = 40
SECONDS = 20.0  # of processor time for all verdicts
WORKED = 0.5  # of the pairs of one worked and one guessed sum, how many a rule has to decide
NAMES = {**oracle.METRIC, "over_refusal": "over_refusal"}  # family or column: metric

Breaks = Callable[[str, str], bool]


@dataclass(frozen=True)
class RuleCheck(Outcome):
    """What came of a rule.

    Attributes:
        decides: per family, the pairs that the rule decides, and how often for the right reply.
        scores: share of right answers per metric, of the recorded runs and of the learner's.
    """

    decides: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


@cache
def _heldout() -> tuple[dict, ...]:
    rows = tasks.heldout_suite(n=max(PROMPTS.values()), seed=9)
    left = {name: PROMPTS.get(name, OTHERS) for name in oracle.METRIC}
    kept = []
    for row in rows:
        if left.get(row["family"], 0):
            left[row["family"]] -= 1
            kept.append(row)
    return tuple(kept)


def heldout() -> list[dict]:
    """The held-out prompts that a rule is measured on: 60 sums, and 30 of each other family."""
    return list(_heldout())


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


def train_and_answer(
    pairs: Sequence[Pair], labels: Sequence[str] | None, *, seed: int = 0
) -> dict[str, Any]:
    """DPO from the SFT stage on labelled pairs, and the held-out prompts answered greedily.

    Args:
        labels: "a", "b" or "tie" a pair; None to answer without training.
    Returns:
        `answers`, one text per held-out prompt, and `scores`: {metric: a string of 0 and 1}.
    """
    import torch

    from postlab.evals import evaluate
    from postlab.models import load_policy, loadable_adapter, trainable
    from postlab.runs import find_stage

    start = str(loadable_adapter(find_stage("tiny", 0, "sft")))
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        model, tokenizer = load_policy(start, profile="tiny", bits=32)
        if labels is not None:
            kept = [i for i, label in enumerate(labels) if label != "tie"]
            chances = [float(labels[i] == "a") for i in kept]
            model = trainable(model)
            some = [pairs[i] for i in kept]
            train_soft_dpo(model, tokenizer, some, chances, seed=seed, steps=STEPS)
        frame = evaluate(model.eval(), tokenizer, heldout(), seed=0)
    scores = {
        metric: "".join(str(int(value)) for value in frame[metric].dropna())
        for metric in NAMES.values()
    }
    return {"answers": frame["answer"].tolist(), "scores": scores}


# --- the check ------------------------------------------------------------------------------------


def check_rule(
    rule: Rule, breaks: Breaks, *, pairs: Sequence[Pair], labels: Sequence[str]
) -> RuleCheck:
    """Apply a learner's rule, train on what it says, and print what came out.

    Args:
        rule: its id and its text.
        breaks: (prompt, reply) -> whether the reply breaks the rule.
        pairs: what was asked, as messages, and two replies.
        labels: the critic's, "a", "b" or "tie" a pair; they come before the rule's.
    """
    result = _checked(rule, breaks, pairs, labels)
    report(result, name="rule")
    return result


def _checked(rule: Rule, breaks: Breaks, pairs: Sequence[Pair], critic: Sequence[str]) -> RuleCheck:
    labels, problem = _called(breaks, pairs)
    decides = describe(labels, pairs) if labels else {}
    if not problem and not rule.text.strip(" ."):
        text = "the rule has no text. Whoever applies it, a person or a model, reads the text."
        problem = wrong("no_text", text)
    fault = _fault(labels, pairs, decides) if not problem else None
    if fault:
        problem = wrong(*fault)
    before, without = train_and_answer(pairs, None), train_and_answer(pairs, critic)
    scores = {
        "before": _shares(before["scores"]),
        "without a fourth rule": _shares(without["scores"]),
    }
    if problem:
        ours = rule_labels(our_breaks, pairs)
        run = train_and_answer(pairs, by_priority(critic, ours))
        scores["with ours"] = _shares(run["scores"])
        text = f"{problem.message} Going on with our rule."
        decides = decides or describe(ours, pairs)
        return RuleCheck(problem.status, problem.code, text, decides, scores)
    run = train_and_answer(pairs, by_priority(critic, labels))
    scores["with yours"] = _shares(run["scores"])
    found = compared(run, without, labels, pairs, breaks, decides)
    return RuleCheck(found.status, found.code, found.message, decides, scores)


def _called(breaks: Breaks, pairs: Sequence[Pair]) -> tuple[list[str], Outcome | None]:
    """The rule's labels, or why there are none."""
    from postlab.course.check._calls import TookTooLong, _time_limit

    prompt, reply = pairs[0][0][-1]["content"], pairs[0][1]
    try:
        with _time_limit(SECONDS):
            said = breaks(prompt, reply)
            if not isinstance(said, bool | np.bool_):
                text = f"breaks returned {type(said).__name__}; return True or False."
                return [], wrong("not_bool", text)
            return rule_labels(breaks, pairs), None
    except NotImplementedError:
        return [], not_attempted()
    except TookTooLong:
        text = f"breaks took more than {SECONDS:.0f} seconds for {2 * len(pairs)} replies."
        return [], wrong("too_slow", text)
    except Exception as error:
        text = f"breaks raised {type(error).__name__}: {error}"
        return [], wrong("error", text[:300] + ".")


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
    without: Mapping[str, Any],
    labels: Sequence[str],
    pairs: Sequence[Pair],
    breaks: Breaks,
    decides: Mapping[str, Mapping[str, int]],
) -> Outcome:
    """The run with the rule beside the one without it."""
    changes = {
        metric: paired_difference(_values(without["scores"][metric]), _values(text))
        for metric, text in run["scores"].items()
    }
    sums = changes["arithmetic"]
    rows = [
        (_text(row["prompt"]), old, new)
        for row, old, new in zip(heldout(), without["answers"], run["answers"], strict=True)
        if row["family"] == "arithmetic"
    ]
    broken = [sum(bool(breaks(row[0], row[k])) for row in rows) for k in (1, 2)]
    text = (
        f"on held-out sums, replies that break it went from {broken[0]} to {broken[1]} of "
        f"{len(rows)}. Right sums: {in_points(sums)}, {verdict(sums)}."
    )
    if all(label == "tie" or good for label, good in _truths(labels, pairs)) and _knows(
        labels, pairs
    ):
        text += " Your labeller knows the answers: it's a verifier (week 7), not a rule about form."
    signs = {name: -1 if name == "over_refusal" else 1 for name in changes}
    worse = {
        name: change
        for name, change in changes.items()
        if verdict(change) != "inconclusive" and signs[name] * change.difference < 0
    }
    if verdict(sums) != "better":
        text += " Not yet: DPO on its labels didn't raise the share of right sums measurably."
        return wrong("no_gain", text)
    if worse:
        listed = "; ".join(f"{name.replace('_', '-')} {in_points(c)}" for name, c in worse.items())
        family = next((f for f, metric in NAMES.items() if metric in worse), "howto")
        count = decides.get("howto" if family == "over_refusal" else family, {}).get("decides", 0)
        text += (
            f" But something else got worse: {listed}. It decides {count} pairs of that family: "
            "should a rule about sums say anything there?"
        )
        return wrong(f"costs_{next(iter(worse))}", text)
    return Outcome("right", "better", text + " Nothing else got measurably worse.")


def _truths(labels: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[str, bool]]:
    """Each label of a pair about sums, and whether it is for a right reply against a wrong one."""
    sums = [
        (label, _right(p, a), _right(p, b))
        for label, (p, a, b) in zip(labels, pairs, strict=True)
        if _family(p) == "arithmetic"
    ]
    return [(label, (a > b) if label == "a" else (b > a)) for label, a, b in sums]


def _knows(labels: Sequence[str], pairs: Sequence[Pair]) -> bool:
    """Whether the rule decides pairs of two worked sums, which only their values tell apart."""
    return any(
        label != "tie" and worked(a) and worked(b)
        for label, (prompt, a, b) in zip(labels, pairs, strict=True)
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
