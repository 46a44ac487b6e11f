"""Hand-worked constants, invariances, brute force over sign flips, coverage by simulation."""

import doctest
import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from postlab.stats import Difference, wilson
from postlab.stats import intervals as stats


def test_doctests_run_and_hold():
    result = doctest.testmod(stats)
    assert result.attempted >= 8
    assert result.failed == 0


# --- hand-worked ---


def test_wilson_by_hand():
    # 8 of 10, z^2 = 3.841459: centre (0.8 + 0.192073) / 1.384146,
    # half sqrt(3.841459 * 0.016 + 0.036892) / 1.384146
    found = wilson(8, 10)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.490162, abs=1e-6)
    assert found.high == pytest.approx(0.943318, abs=1e-6)


@pytest.mark.parametrize("k", [0, 1, 37, 200])
def test_wilson_is_scipys(k):
    theirs = scipy_stats.binomtest(k, 200).proportion_ci(method="wilson")
    ours = wilson(k, 200)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_pass_at_k_by_hand_and_by_counting():
    assert stats.pass_at_k(5, 2, 1) == pytest.approx(0.4)
    assert stats.pass_at_k(5, 0, 3) == 0.0
    assert stats.pass_at_k(5, 3, 3) == 1.0  # only two wrong ones: any three hold a right one
    samples = [1, 1, 0, 0, 0, 0]
    subsets = list(itertools.combinations(samples, 3))
    assert stats.pass_at_k(6, 2, 3) == pytest.approx(sum(map(max, subsets)) / len(subsets))


def test_mcnemar_by_hand():
    before, after = [0] * 9 + [1] * 1 + [1] * 5, [1] * 9 + [0] * 1 + [1] * 5
    found = stats.mcnemar(before, after)
    assert (found.gained, found.lost, found.n) == (9, 1, 15)
    assert found.p == pytest.approx(2 * (1 + 10) / 2**10)
    assert stats.mcnemar([1, 0], [1, 0]).p == 1.0


def test_win_rate_counts_a_tie_as_half():
    found = stats.win_rate([1, 1, 1, 0, 0.5, 0.5])
    assert found.value == pytest.approx(4 / 6)
    assert found == wilson(4, 6)


# --- intervals that must not lie ---


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nought_and_hundred_percent_keep_a_width(value):
    found = stats.bootstrap_interval([value] * 200)
    assert found.value == value
    assert found.high - found.low == pytest.approx(3.841459 / (200 + 3.841459), abs=1e-6)
    assert 0.0 <= found.low <= found.high <= 1.0


def test_other_equal_values_have_no_width_and_one_value_has_no_interval():
    found = stats.bootstrap_interval([7.0] * 10)
    assert (found.low, found.value, found.high) == (7.0, 7.0, 7.0)
    one = stats.bootstrap_interval([7.0])
    assert one.value == 7.0 and math.isnan(one.low) and math.isnan(one.high)


def test_identical_answers_do_not_prove_that_nothing_changed():
    same = [0, 1] * 100
    found = stats.paired_difference(same, same)
    edge = wilson(0, 200).high
    assert (found.difference, found.p) == (0.0, 1.0)
    assert (found.low, found.high) == pytest.approx((-edge, edge))


def test_all_wrong_to_all_right_is_not_certain():
    found = stats.paired_difference([0] * 50, [1] * 50)
    assert found.high == 1.0
    assert found.low == pytest.approx(1 - 2 * wilson(0, 50).high)
    back = stats.paired_difference([1] * 50, [0] * 50)
    assert (back.low, back.high) == pytest.approx((-1.0, -found.low))


def test_a_few_changed_prompts_are_inconclusive_though_the_interval_excludes_nought():
    before, after = [0.0] * 100, [1.0] * 4 + [0.0] * 96
    found = stats.paired_difference(before, after)
    assert found.low > 0
    assert found.p == pytest.approx(0.125)
    assert stats.verdict(found) == "inconclusive"


# --- against scipy and brute force ---


def test_interval_is_scipys_bca():
    x = np.random.default_rng(1).gamma(2.0, size=80)
    theirs = scipy_stats.bootstrap(
        (x,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = stats.bootstrap_interval(x)
    assert ours.value == pytest.approx(x.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_p_is_mcnemars_for_right_and_wrong():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 2, 90), rng.integers(0, 2, 90)
    assert stats.paired_difference(a, b).p == pytest.approx(stats.mcnemar(a, b).p)


def test_p_is_exact_over_all_sign_flips_when_few_prompts_moved():
    a, b = np.zeros(9), np.array([0.5, 1, 0.25, -0.25, 0.75, 0.5, 0, 0, 0])
    moved = b[b != 0]
    flips = [abs(np.dot(s, np.abs(moved))) for s in itertools.product([1, -1], repeat=6)]
    assert stats.paired_difference(a, b).p == pytest.approx(np.mean(np.array(flips) >= moved.sum()))


def test_p_by_random_flips_is_near_the_t_test():
    rng = np.random.default_rng(3)
    a = rng.normal(size=120)
    b = a + rng.normal(0.12, 1.0, size=120)
    ours, theirs = stats.paired_difference(a, b).p, scipy_stats.ttest_rel(b, a).pvalue
    assert 0.02 < theirs < 0.6
    assert ours == pytest.approx(theirs, abs=0.03)


def test_swapping_before_and_after_turns_the_difference_round():
    rng = np.random.default_rng(4)
    a, b = rng.random(60), rng.random(60)
    there, back = stats.paired_difference(a, b), stats.paired_difference(b, a)
    assert there.difference == pytest.approx(-back.difference)
    assert there.low == pytest.approx(-back.high, abs=0.01)
    assert there.p == pytest.approx(back.p, abs=0.03)


def test_same_seed_same_answer_and_long_inputs_work():
    x = np.random.default_rng(5).random(20_000)
    first, again = (stats.bootstrap_interval(x, resamples=200) for _ in range(2))
    assert first == again
    assert first.high - first.low == pytest.approx(2 * 1.96 * x.std() / len(x) ** 0.5, rel=0.2)


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(6)
    hard = rng.random(200)
    a, b = hard, hard + 0.05 + rng.normal(0, 0.02, 200)
    found = stats.paired_difference(a, b)
    assert stats.verdict(found) == "better"
    assert found.high < stats.bootstrap_interval(b).high - stats.bootstrap_interval(a).low


# --- coverage: of 95% intervals, about 95% hold the truth ---


@pytest.mark.parametrize(("p", "n"), [(0.03, 40), (0.5, 60), (0.95, 60)])
def test_coverage_of_a_proportion(p, n):
    rng = np.random.default_rng(7)
    runs = [stats.bootstrap_interval(rng.random(n) < p, resamples=400) for _ in range(250)]
    assert np.mean([r.low <= p <= r.high for r in runs]) >= 0.92


def test_coverage_and_false_alarms_of_a_paired_difference():
    rng = np.random.default_rng(8)
    covered, alarms = [], []
    for _ in range(250):
        a, b = rng.random(60) < 0.4, rng.random(60) < 0.4
        found = stats.paired_difference(a, b, resamples=400)
        covered.append(found.low <= 0 <= found.high)
        alarms.append(stats.verdict(found) != "inconclusive")
    assert np.mean(covered) >= 0.91
    assert np.mean(alarms) <= 0.08


# --- verdicts ---


@pytest.mark.parametrize(
    ("low", "high", "p", "up", "down"),
    [
        (0.1, 0.3, 0.001, "better", "worse"),
        (-0.3, -0.1, 0.001, "worse", "better"),
        (-0.1, 0.3, 0.2, "inconclusive", "inconclusive"),
        (0.01, 0.3, 0.06, "inconclusive", "inconclusive"),
        (0.0, 0.3, 0.01, "inconclusive", "inconclusive"),
        (math.nan, math.nan, 0.01, "inconclusive", "inconclusive"),
    ],
)
def test_verdict(low, high, p, up, down):
    found = Difference(0.1, low, high, p, 100)
    assert stats.verdict(found) == up
    assert stats.verdict(found, higher_is_better=False) == down


# --- errors say what was got, what was expected ---


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.bootstrap_interval([]), "empty"),
        (lambda: stats.bootstrap_interval([1.0, math.nan]), r"values\[1\] is nan"),
        (lambda: stats.bootstrap_interval([[1.0, 2.0]]), r"shape \(1, 2\)"),
        (lambda: stats.bootstrap_interval([1, 2], confidence=95), "confidence is 95"),
        (lambda: stats.bootstrap_interval([1, 2], resamples=0), "resamples is 0"),
        (lambda: stats.paired_difference([1, 2], [1]), "a has 2 values and b has 1"),
        (lambda: stats.paired_difference([], []), "a is empty"),
        (lambda: stats.paired_difference([1.0], [math.inf]), r"b\[0\] is inf"),
        (lambda: stats.mcnemar([0.5, 1], [1, 1]), "0.5"),
        (lambda: stats.win_rate([2]), "got 2"),
        (lambda: wilson(3, 2), "3 successes of 2"),
        (lambda: stats.pass_at_k(4, 5, 1), "n=4, c=5"),
        (lambda: stats.pass_at_k(4, 2, 5), "k=5"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_words_are_not_numbers():
    with pytest.raises(TypeError, match="must be numbers"):
        stats.bootstrap_interval(["yes", "no"])
