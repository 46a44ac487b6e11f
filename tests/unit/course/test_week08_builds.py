"""Week 8's builds: right ones of several forms pass, and each wrong one is told its own reason."""

from __future__ import annotations

import inspect

import pytest

from postlab.course.week08 import fill_build, mend_build, rule_build
from postlab.rewards import math_reward

# --- dynamic sampling ---

TEACHES = "len(set(rewards)) > 1"


def edited(*edits: tuple[str, str]):
    """The reference with some of its text replaced."""
    text = inspect.getsource(fill_build.fill_batch)
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    space = dict(vars(fill_build))
    exec(text, space)
    return space["fill_batch"]


def in_rounds(prompts, sample, reward, *, groups, most):
    """Asks for one more prompt per open place, round by round."""
    batch, spare, used = [], [], 0
    while len(batch) < groups and used < most:
        for _ in range(min(groups - len(batch), most - used)):
            prompt = next(prompts)
            answers = sample(prompt)
            paid = reward(prompt, answers)
            used += 1
            (spare if min(paid) == max(paid) else batch).append((prompt, answers, paid))
    return (batch + spare)[:groups]


@pytest.mark.parametrize("function", [fill_build.fill_batch, in_rounds])
def test_a_batch_that_is_filled_in_any_way_is_right(function):
    assert fill_build.examine(function).code == "right", fill_build.examine(function).message


@pytest.mark.parametrize(
    ("edits", "code"),
    [
        ([(TEACHES, "True")], "keeps_silent"),
        ([(TEACHES, "max(rewards) > 0")], "keeps_silent"),
        ([(TEACHES, "sum(rewards) != 0 and max(rewards) != 0.5")], "keeps_right"),
        ([(TEACHES, "rewards != [1.0] * 4 and rewards != [0.5] * 4")], "keeps_wrong"),
        ([(TEACHES, "sum(rewards) not in (0.0, 4.0) or min(rewards) < 0")], "keeps_partial"),
        ([("len(batch) < groups and ", "len(batch) < groups + 1 and "),
          ("return batch + spare[: groups - len(batch)]",
           "return (batch + spare)[:groups]")], "too_many"),
        ([(" and len(batch) + len(spare) < most", "")], "over_limit"),
        ([("(batch if len(set(rewards)) > 1 else spare)", "spare"),
          (" and len(batch) + len(spare) < most", "")], "endless"),
        ([(" + spare[: groups - len(batch)]", "")], "not_filled"),
        ([("< most", "< most + 5")], "over_limit"),
        ([("< most", "< most - 2")], "stops_early"),
        ([("(prompt, answers, rewards))", "(prompt, answers, rewards[::-1]))")], "mixed_up"),
        ([("(prompt, answers, rewards))", "(prompt, rewards))")], "not_triples"),
        ([("return batch + spare[: groups - len(batch)]", "pass")], "returns_none"),
        ([("return batch + spare[: groups - len(batch)]",
           "return (spare + batch)[:groups] if spare and len(batch) < groups else batch")],
         "lost_informative"),
        ([("answers = sample(prompt)", "sample(prompt); answers = sample(prompt)")], "again"),
        ([("rewards = reward(prompt, answers)", "rewards = reward(answers)")], "raised"),
        ([(TEACHES, "0 < sum(rewards) < 4 and min(rewards) == 0")], "drops_informative"),
        ([("while len(batch) < groups and len(batch) + len(spare) < most:",
           "for prompt in prompts:"),
          ("prompt = next(prompts)",
           "if len(batch) == groups or len(batch) + len(spare) == most: break")], "takes_more"),
    ],
)  # fmt: skip
def test_each_way_to_fill_it_wrongly_is_named(edits, code):
    outcome = fill_build.examine(edited(*edits))
    assert outcome.code == code, outcome


def test_an_untouched_build_is_not_attempted(capsys):
    def fill_batch(prompts, sample, reward, *, groups, most):
        raise NotImplementedError

    assert fill_build.check_fill_batch(fill_batch) is fill_build.fill_batch
    assert "not attempted" in capsys.readouterr().out
    assert fill_build.examine(3).code == "not_a_function"


# --- a rule for the doctor ---

PAID, TRUE = rule_build.PAID, rule_build.TRUE


def mean(log, name, part):
    values = [entry[name] for entry in log[part]]
    return sum(values) / len(values)


FIRST, LAST = slice(None, 8), slice(-8, None)


def rises(log, name, by=0.0):
    return mean(log, name, LAST) - mean(log, name, FIRST) > by


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (rule_build.proxy_apart, "right"),
        (lambda log: rises(log, PAID) and not rises(log, TRUE), "right"),
        (lambda log: rises(log, PAID, 0.02), "ignores_truth"),
        (lambda log: not rises(log, TRUE, -0.03), "ignores_reward"),
        (lambda log: mean(log, PAID, slice(None)) > mean(log, TRUE, slice(None)) + 0.1, "levels"),
        (lambda log: mean(log, PAID, LAST) > mean(log, TRUE, LAST) + 0.15, "scale"),
        (lambda log: rises(log, PAID) and not rises(log, TRUE)
         and mean(log, PAID, LAST) < 1, "scale"),
        (lambda log: log[-1][PAID] > log[0][PAID] and log[-1][TRUE] < log[0][TRUE],
         "single_points"),
        (lambda log: rises(log, PAID, 0.05) and not rises(log, TRUE, -0.05), "scale"),
        (lambda log: rises(log, PAID, 0.05 * mean(log, PAID, slice(None)))
         and not rises(log, TRUE), "scale"),
        (lambda log: rises([{"fall": -e["entropy"]} for e in log], "fall"), "levels"),
        (lambda log: True, "constant"),
        (lambda log: None, "returns_none"),
        (lambda log: 1, "not_bool"),
        (lambda log: log["reward"], "raised"),
        (lambda log: rises(log, PAID) and not rises(log, TRUE, -0.12), "unknown"),
        (3, "not_a_function"),
    ],
)  # fmt: skip
def test_each_rule_is_told_what_is_wrong_with_it(rule, code):
    outcome = rule_build.examine(rule)
    assert outcome.code == code, outcome


def test_the_rule_is_written_and_tested_on_different_runs():
    known, unseen = rule_build.known_logs(), rule_build.unseen_logs()
    assert [is_hacked for _, is_hacked, _ in known].count(True) == 6 and len(known) == 12
    assert not {name for name, *_ in known} & {name for name, *_ in unseen} and len(unseen) >= 7
    for *_, log in known + unseen:
        assert len(log) == 24 and {PAID, TRUE} <= set(log[0])


# --- a mended run ---


def run_of(accuracy: float, *, moved: float = 1.0, cut: float = 0.0, silent: float = 0.2):
    """A run with these measurements, in place of training one."""
    entry = {"completions/clipped_ratio": cut, "frac_reward_zero_std": silent}

    def run(settings, reward):
        return mend_build.ShortRun([entry], accuracy, moved * mend_build.recorded()["moved"])

    return run


def never_run(settings, reward):
    raise AssertionError("nothing needs to be trained for this")


HEALTHY = mend_build.HEALTHY


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_of(1.0), "right"),
        (run_of(0.3, cut=0.6), "cut"),
        (run_of(0.3, silent=0.9), "no_signal"),
        (run_of(0.4, moved=0.01), "too_slow"),
        (run_of(0.1, moved=20), "too_fast"),
        (run_of(0.4), "unknown"),
    ],
)
def test_a_run_is_told_which_fault_is_left(run, code):
    outcome = mend_build.examine(HEALTHY, math_reward, run=run)
    assert outcome.code == code, outcome


def refuses(completions, answer, **columns):
    return [0.0 for _ in completions]


def pays_all(completions, answer, **columns):
    return [1.0 for _ in completions]


def plus_or_minus_one(completions, answer, **columns):
    return [2 * paid - 1 for paid in math_reward(completions, answer=answer)]


def worth_less(completions, answer, **columns):
    return [1 - paid for paid in math_reward(completions, answer=answer)]


def prefix(completions, answer, **columns):
    pairs = zip(completions, answer, strict=True)
    return [float(f"#### {a}" in c[-1]["content"]) for c, a in pairs]


def ending(completions, answer, **columns):
    return [float(c[-1]["content"].endswith(a)) for c, a in zip(completions, answer, strict=True)]


def contains(completions, answer, **columns):
    return [float(a[0] in c[-1]["content"]) for c, a in zip(completions, answer, strict=True)]


@pytest.mark.parametrize(
    ("reward", "code"),
    [
        (refuses, "reward_refuses"),
        (pays_all, "reward_pays"),
        (contains, "reward_pays"),
        (prefix, "reward_pays"),
        (ending, "reward_pays"),
        (worth_less, "reward_refuses"),
        (lambda completions, **columns: [float("nan")] * len(completions), "reward_form"),
        (lambda completions, **columns: completions[0]["x"], "reward_raised"),
        (lambda completions, **columns: [1.0], "reward_form"),
        (mend_build.broken_reward, "reward_refuses"),
    ],
)
def test_a_reward_is_judged_before_anything_is_trained(reward, code):
    outcome = mend_build.examine(HEALTHY, reward, run=never_run)
    assert outcome.code == code, outcome


def test_a_reward_may_have_any_two_values_and_a_reason_is_true_of_its_run():
    right = mend_build.examine(HEALTHY, plus_or_minus_one, run=run_of(1.0))
    assert right.code == "right", right
    better = mend_build.examine(HEALTHY, math_reward, run=run_of(0.8, moved=5))
    assert better.code == "too_fast" and "worse than at the start" not in better.message
    close = mend_build.examine(HEALTHY, math_reward, run=run_of(0.86))
    assert "86.0%" in close.message and "at least 86.5%" in close.message


def test_an_untouched_run_is_not_trained_and_other_settings_are_refused():
    broken, reward = mend_build.BROKEN, mend_build.broken_reward
    assert mend_build.examine(dict(broken), reward, run=never_run).code == "not_attempted"
    more = HEALTHY | {"max_steps": 100}
    assert mend_build.examine(more, math_reward, run=never_run).code == "settings"


def test_the_recorded_faults_are_seen_one_after_the_other():
    recorded = mend_build.recorded()
    assert recorded["start"] < recorded["least"] < recorded["most"]
    expected = {
        "as it is": "cut", "reward mended": "cut", "reward and limit mended": "too_slow",
        "a rate of 0.02": "too_fast",
    }  # fmt: skip
    for name, made in recorded["faults"].items():
        log = [dict(zip(made["log"], row, strict=True))
               for row in zip(*made["log"].values(), strict=True)]  # fmt: skip
        result = mend_build.ShortRun(log, made["accuracy"], made["moved"])
        outcome = mend_build.examine(HEALTHY, math_reward, run=lambda *_, made=result: made)
        assert outcome.code == expected[name]
