"""Build 6.1 is judged by how often its interval is right, and its diagnoses are true."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from postlab.course.week06 import compare_build, compare_reference

INTERVAL = """    rng = np.random.default_rng(0)
    resampled = changes[rng.integers(len(changes), size=(2000, len(changes)))].mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
"""
SE = "changes.std(ddof=1) / math.sqrt(len(changes))"
APPEND = 'samples[row["id"]].append(row["score"])'
SCORED = 'if row["score"] is not None:'
CHANGES = "np.array([means[1][prompt] - means[0][prompt] for prompt in shared])"


def edited(*edits: tuple[str, str]):
    """The reference with some of its text replaced."""
    text = inspect.getsource(compare_reference.compare_runs)
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    space = vars(compare_reference) | {"math": math, "scipy_stats": scipy_stats}
    exec(text, space)
    return space["compare_runs"]


def none_as(number: str) -> str:
    return f'{number} if row["score"] is None else row["score"]'


def normal(z: str = "1.96", se: str = SE) -> tuple[str, str]:
    lines = f"    half = {z} * {se}\n    low, high = changes.mean() - half, changes.mean() + half\n"
    return INTERVAL, lines


def by_position(before, after):
    changes = np.array([b["score"] - a["score"] for a, b in zip(before, after, strict=False)
                        if None not in (a["score"], b["score"])])  # fmt: skip
    half = 1.96 * changes.std(ddof=1) / math.sqrt(len(changes))
    return changes.mean(), changes.mean() - half, changes.mean() + half


def row_by_row(before, after):
    """Pairs by id and sample, every row a prompt of its own."""
    key = {(row["id"], row["sample"]): row["score"] for row in before}
    pairs = [(key.get((row["id"], row["sample"])), row["score"]) for row in after]
    changes = np.array([b - a for a, b in pairs if None not in (a, b)])
    half = 1.96 * changes.std(ddof=1) / math.sqrt(len(changes))
    return changes.mean(), changes.mean() - half, changes.mean() + half


def unpaired(before, after):
    sides = [np.array([r["score"] for r in rows if r["score"] is not None])
             for rows in (before, after)]  # fmt: skip
    half = 1.96 * math.sqrt(sum(x.var(ddof=1) / len(x) for x in sides))
    change = sides[1].mean() - sides[0].mean()
    return change, change - half, change + half


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [normal()],
        [normal("scipy_stats.t.ppf(0.975, len(changes) - 1)")],
        [("return float(changes.mean()), float(low), float(high)",
          "return np.array([changes.mean(), low, high])")],
        [(INTERVAL, "    low, high = scipy_stats.bootstrap((changes,), np.mean, n_resamples=999, "
          "rng=np.random.default_rng(1)).confidence_interval\n")],
        [("default_rng(0)", "default_rng()"), ("float(changes.mean())", "float(resampled.mean())")],
        [("(2000,", "(300,")],
    ],
    ids=["reference", "normal", "t", "an array", "BCa", "mean of resamples", "300 resamples"],
)  # fmt: skip
def test_an_interval_that_covers_is_right_however_it_is_made(edits):
    verdict = compare_build.judge(edited(*edits))
    assert verdict.code == "right", verdict.message


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (by_position, "by_position"),
        (row_by_row, "samples_as_prompts"),
        (unpaired, "unpaired"),
        (edited((CHANGES, "-" + CHANGES)), "sign"),
        (edited((CHANGES, "100 * " + CHANGES)), "unit"),
        (edited((SCORED, "if True:"), ('.append(row["score"])', '.append(row["score"] or 0.0)')),
         "none_as_wrong"),
        (edited(('changes.mean()), float(low)', 'np.mean([*means[1].values()]) - '
                 'np.mean([*means[0].values()])), float(low)'), normal("9")), "own_prompts"),
        (edited(("means[0].keys() & means", "means[0].keys() | means"),
                (CHANGES, "np.array([means[1].get(p, 0) - means[0].get(p, 0) for p in shared])")),
         "own_prompts"),  # although its intervals cover
        (edited((CHANGES, CHANGES + "; changes = changes[changes != 0]")), "other_mean"),
        (edited((SCORED, 'if row["score"]:')), "zeros_left_out"),
        (edited((SCORED, 'if row["score"] is not None and row["sample"] == 0:')), "one_sample"),
        (edited((APPEND, 'samples[row["id"]] = [row["score"]]')), "one_sample"),
        (edited(("np.mean(scores)", "np.sum(scores)")), "summed"),
        (edited((SCORED, "if True:"), (APPEND, APPEND.replace('row["score"]', none_as("math.nan"))),
                (CHANGES, CHANGES + "; changes = changes[~np.isnan(changes)]")), "prompt_dropped"),
        (edited((SCORED, "if True:"), (APPEND, APPEND.replace('row["score"]', none_as("0.5")))),
         "none_counted"),
        (edited((SCORED, "if True:"), (APPEND, APPEND.replace('row["score"]', none_as("-1")))),
         "none_counted"),
        (edited(("(2000,", "(20,")), "few_resamples"),
        (edited(("default_rng(0)", "default_rng()"), ("[0.025, 0.975]", "[0.05, 0.95]"),
                ("float(changes.mean())", "float(resampled.mean())")), "level"),
        (edited(normal(se="changes.std(ddof=1)")), "keeps_its_width"),
        (edited((INTERVAL, "    low = high = np.median(changes)\n"),
                ("(changes.mean()", "(np.median(changes)")), "no_width"),
        (edited(normal("1.0")), "level"),
        (edited(normal("2.58")), "level"),
        (edited(("[0.025, 0.975]", "[0.05, 0.95]")), "level"),
        (edited((SCORED, "if True:")), "raised"),
        (lambda before, after: 0.5, "form"),
        (lambda before, after: (0.1, 0.2, 0.3), "order"),
        (lambda before, after: (math.nan, 0.0, 1.0), "not_finite"),
        (lambda before, after: (0.0, -1.0, 1.0), "unit"),
    ],
)  # fmt: skip
def test_a_wrong_comparison_is_diagnosed_truly(function, code):
    verdict = compare_build.judge(function)
    assert verdict.code == code, verdict.message
    assert "Not yet" in verdict.message


def test_what_it_does_not_recognise_it_says():
    """As wide as it should be, but all of it above the mean."""
    lines = f"    low, high = changes.mean(), changes.mean() + 3.92 * {SE}\n"
    verdict = compare_build.judge(edited((INTERVAL, lines)))
    assert verdict.code == "unknown" and "doesn't recognise" in verdict.message


def test_the_truth_is_the_worlds():
    before, after = compare_build.World("", 20_000).comparison(0)
    change = np.mean([b["score"] - a["score"] for a, b in zip(before, after, strict=True)])
    assert change == pytest.approx(compare_build.TRUTH, abs=0.01)


def test_the_check_hands_back_what_works(capsys):
    def stub(before, after):
        raise NotImplementedError

    assert compare_build.check(stub) is compare_reference.compare_runs
    assert "· compare_runs: not attempted." in capsys.readouterr().out
    assert compare_build.check(unpaired) is compare_reference.compare_runs
    assert capsys.readouterr().out.startswith("✗ compare_runs: Not yet: the pairs aren't used")
    right = edited(normal())
    assert compare_build.check(right) is right
    assert "✓ compare_runs: right" in capsys.readouterr().out
