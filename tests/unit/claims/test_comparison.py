"""Seeds put together, verdicts and the finding in words."""

import doctest
import math

import pandas as pd
import pytest

from postlab.claims import comparison, findings, merge_seeds, metric_label, points, stage_label


def row(stage, metric, value, change=None, *, p=0.001, seed=0, width=0.05):
    found = {"stage": stage, "seed": seed, "metric": metric, "value": value, "n": 200}
    found |= {"low": value - width, "high": value + width}
    if change is not None:
        found |= {"difference": change, "p": p}
        found |= {"difference_low": change - width, "difference_high": change + width}
    return found


def test_doctests_run_and_hold():
    result = doctest.testmod(comparison)
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_finding_names_the_largest_supported_gain_and_loss():
    rows = [
        row("sft", "safety", 0.3),
        row("dpo", "safety", 0.8, 0.5),
        row("dpo", "honesty", 0.9, 0.6, p=0.2),  # larger, but not supported
        row("dpo", "facts", 0.6, -0.2),
        row("dpo", "lists", 0.6, -0.1),
    ]
    expected = "DPO: safety +50 points, at a cost: facts \N{MINUS SIGN}20"
    assert findings(rows) == {"dpo": expected}


def test_less_over_refusal_is_a_gain():
    assert findings([row("dpo", "over_refusal", 0.1, -0.3)]) == {
        "dpo": "DPO: over-refusal \N{MINUS SIGN}30 points"
    }


def test_no_supported_change_is_called_inconclusive():
    rows = [row("grpo", "arithmetic", 0.5, 0.01)]
    assert findings(rows) == {"grpo": "GRPO: inconclusive, no change is supported"}


def test_what_is_less_than_a_point_is_no_finding():
    rows = [row("grpo", "arithmetic", 0.5, 0.3), row("grpo", "format", 0.99, -0.004, width=0.002)]
    assert findings(rows) == {"grpo": "GRPO: arithmetic, greedy +30 points"}
    assert findings(rows[1:]) == {"grpo": "GRPO: no supported change reaches a point"}


def test_only_a_loss_is_said_plainly():
    rows = [row("dpo", "facts", 0.5, -0.3)]
    assert findings(rows) == {"dpo": "DPO: facts \N{MINUS SIGN}30 points, and no gain"}


def test_length_is_never_a_finding_and_neither_better_nor_worse():
    rows = [row("sft", "length", 40.0, 20.0)]
    assert findings(rows) == {}
    assert merge_seeds(rows)["verdict"].tolist() == ["up"]


def test_seeds_are_averaged_and_must_agree():
    rows = [row("dpo", "safety", 0.8, 0.5, seed=0), row("dpo", "safety", 0.6, 0.3, seed=1)]
    merged = merge_seeds(rows).iloc[0]
    assert merged["value"] == pytest.approx(0.7)
    assert (merged["low"], merged["high"]) == pytest.approx((0.65, 0.75))
    assert merged["difference"] == pytest.approx(0.4)
    assert merged["verdict"] == "better"
    assert merged["seeds"] == [0.8, 0.6]
    rows[1]["p"] = 0.5
    assert merge_seeds(rows).iloc[0]["verdict"] == "inconclusive"


def test_p_is_adjusted_for_the_metrics_that_a_stage_was_looked_at_in():
    """Six metrics: p = 0.03 alone is a finding, and among six none; other stages don't count."""
    names = ("facts", "lists", "safety", "honesty", "helpfulness", "arithmetic")
    rows = [row("grpo", name, 0.5, -0.1, p=0.03) for name in names]
    assert set(merge_seeds(rows)["verdict"]) == {"inconclusive"}
    assert merge_seeds(rows)["p"].tolist() == pytest.approx([0.18] * 6)
    apart = [each | {"stage": f"stage {n}"} for n, each in enumerate(rows)]
    assert set(merge_seeds(apart)["verdict"]) == {"worse"}
    seeds = [each | {"seed": n, "metric": "facts"} for n, each in enumerate(rows)]
    assert set(merge_seeds(seeds)["verdict"]) == {"worse"}
    assert rows[0]["p"] == 0.03  # the caller's rows stay as they are


def test_what_seeds_support_both_ways_varies():
    changes = [0.2, -0.2, 0.01]
    rows = [row("dpo", "facts", 0.5, change, seed=n) for n, change in enumerate(changes)]
    merged = merge_seeds(rows).iloc[0]
    assert merged["verdict"] == "varies"
    assert merged["verdicts"] == ["better", "worse", "inconclusive"]
    assert findings(rows) == {"dpo": "DPO: inconclusive, no change is supported"}


def test_order_is_that_of_training_and_parents_default_to_the_stage_before():
    rows = [row(stage, "facts", 0.5) for stage in ("grpo", "mine", "base", "sft")]
    merged = merge_seeds(pd.DataFrame(rows))
    assert merged["stage"].tolist() == ["base", "sft", "grpo", "mine"]
    assert merged["parent"].tolist() == ["", "base", "sft", "grpo"]
    named = [row("base", "facts", 0.5) | {"parent": None}]
    named += [row("sft", "facts", 0.5) | {"parent": "base"}]
    named += [row("grpo", "facts", 0.5) | {"parent": "base"}]
    assert merge_seeds(named)["parent"].tolist() == ["", "base", "base"]


def test_without_differences_nothing_is_claimed():
    merged = merge_seeds([row("base", "facts", 0.1), row("sft", "facts", 0.9)])
    assert merged["verdict"].tolist() == ["", ""]
    assert findings([row("sft", "facts", 0.9)]) == {}


def test_missing_values_stay_missing():
    merged = merge_seeds([row("base", "facts", math.nan)])
    assert math.isnan(merged.iloc[0]["value"])


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.123, "+12"),
        (-0.5, "\N{MINUS SIGN}50"),
        (0.004, "+0.4"),
        (0.0, "0"),
        (-1e-4, "0"),
        (1.0, "+100"),
    ],
)
def test_points(share, text):
    assert points(share) == text


def test_labels():
    assert [stage_label(s) for s in ("base", "sft", "multi")] == ["base", "SFT", "multi"]
    assert metric_label("over_refusal") == "Over-refusal"
    assert metric_label("helpfulness") == "Helpfulness"
    assert metric_label("tests_passed") == "Tests passed"


@pytest.mark.parametrize("rows", [[], [{"stage": "sft", "metric": "facts"}]])
def test_rows_of_another_kind_are_refused(rows):
    with pytest.raises(ValueError, match="expected rows of evals.compare"):
        merge_seeds(rows)
