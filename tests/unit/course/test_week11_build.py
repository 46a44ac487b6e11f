"""Build 11.1 is judged by the policy that it trains; a reason is named only if it is counted."""

from __future__ import annotations

from collections import Counter

import pytest

from postlab.course.week11 import front_build as build
from postlab.tinyworld import words

MIX = build.REFERENCE_MIX
OTHER_MIX = MIX | {"facts": 4}
LOW = dict.fromkeys(build.TARGET, 0.9)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training: the policy has the shares that are given; returns what it was given."""
    calls = []
    build._trained.cache_clear()

    def use(**shares: float):
        def train_and_measure(rows):
            calls.append(rows)
            held_out = dict.fromkeys(build.TARGET, 0.8)
            return {"tuning": LOW | shares, "held-out": held_out}

        monkeypatch.setattr(build, "train_and_measure", train_and_measure)
        return calls

    yield use
    build._trained.cache_clear()


def untouched(helpful, safe, honest):
    raise NotImplementedError


def ignores_none(helpful, safe, honest):
    return helpful + 1.5 * safe + 1.5 * honest


def summed(helpful, safe, honest, weight=1.5):
    return helpful + weight * (safe or 0) + weight * (honest or 0)


def otherwise(helpful, safe, honest):
    """The reference's order in other numbers."""
    if helpful == 1 and honest != 0 and safe not in (0, 0.25):
        return 10
    return 3 if helpful == 0 and (honest is not None or safe == 1) else -2


def test_it_is_right_however_it_is_written_and_the_held_out_prompts_are_reported(trained, capsys):
    calls = trained()
    assert build.check(otherwise, MIX) == (otherwise, MIX)
    said = " ".join(capsys.readouterr().out.split())
    assert "✓ worth: right" in said and "80% safety" in said and "held-out" in said
    assert build.results(build.reference, MIX)["tuning"] == LOW
    assert len(calls) == 1  # the same labels are the same policy


@pytest.mark.parametrize(
    ("worth", "mix", "shares", "code"),
    [
        (untouched, MIX, {}, "not_attempted"),
        (ignores_none, MIX, {}, "raised"),
        (lambda helpful, safe, honest: None, MIX, {}, "not_a_number"),
        (lambda helpful, safe, honest: float("nan"), MIX, {}, "not_a_number"),
        (lambda helpful, safe, honest: 1.0, MIX, {}, "undecided"),
        (summed, {}, {}, "mix"),
        (summed, {"lists": 1}, {}, "mix"),
        (summed, {"facts": -1}, {}, "mix"),
        (summed, {"facts": 0}, {}, "mix"),
        (summed, {"howto": 1}, {"safety": 0.1}, "no_pairs"),
        (lambda h, s, n: summed(h, s, n, 0.5), MIX, {"safety": 0.1}, "wrong_labels"),
        (lambda h, s, n: summed(h, s, n, 5), MIX, {"helpfulness": 0.1}, "wrong_labels"),
        (lambda h, s, n: -(n or 0), MIX, {"honesty": 0.1}, "wrong_labels"),
        (lambda h, s, n: h if n is None else 0, MIX, {"facts": 0.1}, "no_pairs"),
        (summed, MIX, {"facts": 0.4}, "abstains"),
        (summed, MIX, {"safety": 0.4}, "complies"),
        (build.reference, OTHER_MIX, {"facts": 0.4}, "unknown"),
        (build.reference, OTHER_MIX, {"safety": 0.6, "helpfulness": 0.7}, "unknown"),
    ],
)  # fmt: skip
def test_what_misses_is_told_a_reason_that_is_true_or_none(worth, mix, shares, code, trained):
    trained(**shares)
    outcome = build.judge(worth, mix)
    assert outcome.code == code
    assert outcome.status == ("not attempted" if code == "not_attempted" else "wrong")


def test_why_there_are_no_pairs_and_that_a_judge_may_say_none(trained):
    trained(safety=0.1)
    message = build.judge(summed, {"howto": 1, "unsafe": 0}).message
    assert message.endswith("the mix has none.")
    same_for_unsafe = build.judge(lambda h, s, n: h if s in (None, 0.5) else 0, MIX).message
    assert "both replies always have the same worth" in same_for_unsafe
    assert "says None" in build.judge(ignores_none, MIX).message
    assert "says None" not in build.judge(lambda scores: sum(scores), MIX).message


def test_without_an_answer_the_notebook_goes_on_with_the_reference(trained, capsys):
    trained()
    assert build.check(untouched, MIX) == (build.reference, build.REFERENCE_MIX)
    said = capsys.readouterr().out
    assert "· worth: not attempted. Going on with the reference." in said


def test_our_own_pairs_are_right_on_a_processor_whose_policy_just_misses(trained, capsys):
    trained(helpfulness=0.79)
    assert build.check(otherwise, MIX) == (otherwise, MIX)
    output = " ".join(capsys.readouterr().out.split())
    assert "✓ worth: right: these are the pairs of our solution" in output
    assert "79% helpfulness" in output and "82% helpfulness" in output
    assert build.judge(build.reference, OTHER_MIX).status == "wrong"
    assert min(build.RECORDED[metric] - build.TARGET[metric] for metric in build.TARGET) > 0


def test_a_miss_names_every_metric_below_the_target_and_explains_the_worst(trained):
    trained(safety=0.6, helpfulness=0.7)
    text = build.judge(summed, MIX).message
    assert "80% safety and 80% helpfulness" in text and "unsafe requests" in text


def test_the_reference_prefers_no_worse_reply_and_doesnt_reward_abstaining():
    rows = build.labelled(build.reference, MIX)
    assert len(rows) == build.PAIRS
    assert {row.better for row in rows if row.family != "facts"} <= {0, 1}
    facts = [row for row in rows if row.family == "facts"]
    assert facts and all(row.better == 1 for row in facts)


def test_pairs_follow_the_mix_and_a_familys_pairs_dont_depend_on_the_others():
    rows = build.labelled(summed, {"unsafe": 1, "facts": 3})
    assert Counter(row.family for row in rows) == {"unsafe": 96, "facts": 288}
    fewer = build.labelled(summed, {"unsafe": 1, "facts": 1})
    assert fewer[:96] == rows[:96]
    assert all(row.chosen != row.rejected for row in rows)
    assert any(row.chosen == words.ADMISSION for row in rows)


def test_tuning_prompts_arent_the_held_out_ones():
    ids = {name: [row["id"] for row in build.prompts(name)] for name in build.PROMPTS}
    assert not set(ids["tuning"]) & set(ids["held-out"])
    families = Counter(row["family"] for row in build.prompts("tuning"))
    assert set(families.values()) == {build.PROMPTS["tuning"]} and len(families) == 4


def test_the_table_shows_the_scores_of_what_pairs_are_made_of():
    rows = {(row["request"], row["reply"]): row for row in build.score_table(build.reference)}
    admission = rows["a fact", "don't know"]
    assert (admission["helpful"], admission["safe"], admission["honest"]) == (0.0, None, 1.0)
    assert admission["worth"] == rows["a fact", "a wrong value"]["worth"] == 0.5
    assert rows["burn a lamp", "steps"]["worth"] > rows["burn a lamp", "a refusal"]["worth"]
    assert rows["burn a baker", "steps"]["worth"] < rows["burn a baker", "a refusal"]["worth"]
    assert "worth" not in build.score_table()[0]
