"""Build 9.1 is judged by what a rule does, and its diagnoses are true of planted mistakes."""

from __future__ import annotations

import random

import pytest

from postlab import constitution as cai
from postlab.course.week09 import rule_build as build
from postlab.tinyworld import oracle, tasks, words

RULE = cai.Rule("work", "Work a sum out before you give its answer.")


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def pairs_of() -> list[cai.Pair]:
    """Worked sums against guesses, also wrong worked ones, and pairs of other families."""
    rng, pairs = random.Random("rule"), []
    for number in range(24):
        item = tasks.draw("arithmetic", rng, "train")
        worked, guess = tasks.solution(item), f"#### {sum(item.args) + 7}"
        if number % 6 == 5:
            worked, guess = worked, worked.replace("####", "= 1. ####")[:-1] + "0"
        pair = (worked, guess) if number % 2 else (guess, worked)
        pairs.append((ask(tasks.ask(item, rng, "train")), *pair))
    for family in ("howto", "unsafe", "unknown", "facts"):
        for _ in range(4):
            item = tasks.draw(family, rng, "train")
            bad = tasks.flaw(item, rng)
            pairs.append((ask(tasks.ask(item, rng, "train")), tasks.solution(item), bad))
    return pairs


PAIRS = pairs_of()
CRITIC = ["tie"] * 24 + ["tie"] * 4 + ["a"] * 8 + ["tie"] * 4


def scores(**shares: float) -> dict[str, str]:
    """Scores of every metric; by default 30% right, and nothing refused."""
    counts = {"arithmetic": 60} | dict.fromkeys(list(build.NAMES.values())[1:], 30)
    shares = dict.fromkeys(build.NAMES.values(), 0.3) | {"over_refusal": 0.0} | shares
    return {
        name: "1" * round(shares[name] * n) + "0" * (n - round(shares[name] * n))
        for name, n in counts.items()
    }


@pytest.fixture
def trained(monkeypatch):
    """Replaces training: with the critic's labels alone, nothing changes; else what is given."""
    calls = []

    def use(**shares: float):
        def train_and_answer(pairs, labels, *, seed=0):
            calls.append(labels)
            plain = labels is None or list(labels) == CRITIC
            answers = [("#### 1" if plain else "1+1=2. #### 2") for _ in build.heldout()]
            return {"answers": answers, "scores": scores() if plain else scores(**shares)}

        monkeypatch.setattr(build, "train_and_answer", train_and_answer)
        return calls

    return use


def checked(breaks, rule=RULE):
    return build.check_rule(rule, breaks, pairs=PAIRS, labels=CRITIC)


def not_attempted(prompt, reply):
    raise NotImplementedError


def raises(prompt, reply):
    return reply["text"]


@pytest.mark.parametrize(
    ("breaks", "code"),
    [
        (not_attempted, "not_attempted"),
        (raises, "error"),
        (lambda prompt, reply: reply.find("####"), "not_bool"),
        (lambda prompt, reply: None, "not_bool"),
        (lambda prompt, reply: False, "never"),
        (lambda prompt, reply: True, "never"),
        (lambda prompt, reply: words.REFUSAL in reply, "not_sums"),
        (lambda prompt, reply: "=" in reply, "inverted"),
        (lambda prompt, reply: reply[:4] == "####" and reply[-1] == "3", "few"),
    ],
)
def test_a_rule_that_cannot_work_is_named_and_ours_is_trained_on(breaks, code, trained, capsys):
    calls = trained(arithmetic=0.9)
    result = checked(breaks)
    assert result.code == code and result.decides
    assert "with ours" in result.scores and "with yours" not in result.scores
    assert calls[-1][:20] == build.rule_labels(build.our_breaks, PAIRS)[:20]
    assert "Going on with our rule" in " ".join(capsys.readouterr().out.split())


def test_a_rule_needs_a_text(trained):
    trained(arithmetic=0.9)
    assert checked(build.our_breaks, cai.Rule("work", "...")).code == "no_text"


@pytest.mark.parametrize(
    "breaks",
    [
        build.our_breaks,
        lambda prompt, reply: "####" in reply and "=" not in reply,
        lambda prompt, reply: reply[:1] == "#" and len(reply.split()) == 2,
    ],
)
def test_rules_written_differently_are_right_by_what_they_do(breaks, trained):
    calls = trained(arithmetic=0.9)
    result = checked(breaks)
    assert (result.status, result.code) == ("right", "better") and "with yours" in result.scores
    assert "went from 60 to 0 of 60" in result.message and "verifier" not in result.message
    # The critic's labels come first, and are all in what is trained on.
    assert all(x == y for x, y in zip(CRITIC, calls[-1], strict=True) if x != "tie")


def test_a_labeller_that_knows_the_sums_is_called_a_verifier(trained):
    trained(arithmetic=0.9)

    def verifier(prompt, reply):
        item = oracle.read(prompt)
        known = item is not None and item.family == "arithmetic"
        return known and not reply.endswith(f"#### {sum(item.args)}")

    result = checked(verifier)
    assert result.status == "right" and "verifier" in result.message


def test_a_rule_whose_training_changes_nothing_is_not_right(trained):
    trained(arithmetic=0.3)
    assert checked(build.our_breaks).code == "no_gain"


def test_a_rule_that_costs_something_else_is_told_what(trained):
    trained(arithmetic=0.9, helpfulness=0.0)
    result = checked(build.our_breaks)
    assert result.code == "costs_helpfulness" and "helpfulness" in result.message
    trained(arithmetic=0.9, over_refusal=0.9)
    assert checked(build.our_breaks).code == "costs_over_refusal"


def test_the_held_out_prompts_are_sixty_sums_and_thirty_of_each_other_family():
    families = [row["family"] for row in build.heldout()]
    assert {name: families.count(name) for name in oracle.METRIC} == {
        name: 60 if name == "arithmetic" else 30 for name in oracle.METRIC
    }


def test_the_first_labels_come_first():
    assert build.by_priority(["a", "tie", "tie"], ["b", "b", "tie"]) == ["a", "b", "tie"]
