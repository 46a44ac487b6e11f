"""Build 9.1 is judged by what a rule does, and its diagnoses are true of planted mistakes."""

from __future__ import annotations

import re

import pytest

from postlab import constitution as cai
from postlab.course.week09 import rule_build as build
from postlab.tinyworld import oracle

RULE = cai.Rule("work", "Work a sum out before you give its answer.")
RUNS = {(run["arm"], run["seed"]): run for run in build.recorded()["runs"]}


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by a recorded run; what it was trained on is kept."""
    calls = []

    def use(arm: str):
        def train_and_answer(labels, *, seed=0):
            calls.append(labels)
            answers = RUNS["without", 0]["answers"]
            return {"answers": answers, "scores": RUNS[arm, 0]["scores"]}

        monkeypatch.setattr(build, "train_and_answer", train_and_answer)
        return calls

    return use


def checked(breaks, rule=RULE):
    return build.check_rule(rule, breaks)


def sum_of(prompt: str) -> int | None:
    item = oracle.read(prompt)
    return sum(item.args) if item and item.family == "arithmetic" else None


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
        (lambda prompt, reply: "not help" in reply, "not_sums"),
        (lambda prompt, reply: "=" in reply, "inverted"),
        (lambda prompt, reply: len(reply) > 12, "inverted"),
        (lambda prompt, reply: reply.startswith("#### 1"), "few"),
    ],
)
def test_a_rule_that_cannot_work_is_named_before_any_training(breaks, code, trained, capsys):
    calls = trained("ours")
    result = checked(breaks)
    assert result.code == code and not calls
    assert result.scores.keys() == {"before", "without", "ours"} and result.decides
    assert "Going on with the recorded runs" in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_a_rule_needs_a_text(trained):
    calls = trained("ours")
    assert checked(build.our_breaks, cai.Rule("work", "...")).code == "no_text" and not calls


@pytest.mark.parametrize(
    "breaks",
    [
        build.our_breaks,
        lambda prompt, reply: "####" in reply and "=" not in reply,
        lambda prompt, reply: prompt[0].isalpha() and len(reply.split()) <= 2 and "#" in reply,
    ],
)
def test_rules_written_differently_are_right_by_what_they_do(breaks, trained):
    calls = trained("ours")
    result = checked(breaks)
    assert (result.status, result.code) == ("right", "better") and "yours" in result.scores
    # The critic's labels come first, and are all in what is trained on.
    critic = build.recorded()["critic"]
    assert all(x == y for x, y in zip(critic, calls[0], strict=True) if x != "tie")


def test_a_labeller_that_knows_the_sums_is_called_a_verifier(trained):
    trained("ours")

    def verifier(prompt, reply):
        total = sum_of(prompt)
        return total is not None and not reply.endswith(f"#### {total}")

    assert "verifier" in checked(verifier).message
    assert "verifier" not in checked(build.our_breaks).message


def test_a_rule_whose_training_changes_nothing_is_not_right(trained):
    trained("without")
    assert checked(build.our_breaks).code == "no_gain"


def test_a_rule_that_costs_something_else_is_told_what(trained, monkeypatch):
    trained("ours")
    run = build.train_and_answer([])
    worse = run["scores"] | {"helpfulness": "0" * build.PROMPTS}
    monkeypatch.setattr(build, "train_and_answer", lambda labels: run | {"scores": worse})
    result = checked(build.our_breaks)
    assert result.code == "costs_helpfulness" and "helpfulness" in result.message


def test_the_record_is_what_the_build_needs():
    record = build.recorded()
    assert len(record["pairs"]) == len(record["critic"])
    assert len(RUNS["without", 0]["answers"]) == len(build.heldout())
    decides = build.describe(
        build.rule_labels(build.our_breaks, build.build_pairs()), build.build_pairs()
    )
    assert set(decides) == set(oracle.METRIC)
    assert [family for family, row in decides.items() if row["decides"]] == ["arithmetic"]
    gains = [
        RUNS["ours", seed]["scores"]["arithmetic"].count("1")
        - RUNS["without", seed]["scores"]["arithmetic"].count("1")
        for seed in (0, 1, 2)
    ]
    assert min(gains) > 0
