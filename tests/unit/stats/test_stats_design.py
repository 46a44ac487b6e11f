"""Many metrics, power before the run, and agreement: by hand, by brute force, by simulation."""

import doctest
import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_ind, ttest_rel

from postlab.stats import (
    agreement as stats_agreement,
)
from postlab.stats import (
    basics as stats_basics,
)
from postlab.stats import (
    blocked_differences,
    cohen_kappa,
    detectable_difference,
    minimum_detectable_effect,
    power,
)
from postlab.stats import (
    blocks as stats_blocks,
)
from postlab.stats import (
    design as stats_power,
)
from postlab.stats.agreement import benjamini_hochberg

MODULES = [stats_agreement, stats_basics, stats_blocks, stats_power]


@pytest.mark.parametrize("module", MODULES)
def test_doctests_run_and_hold(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


# --- many metrics at once ---


def test_holm_and_benjamini_hochberg_by_hand():
    p = [0.01, 0.02, 0.03, 0.04]
    assert stats_agreement.holm(p) == pytest.approx(
        [0.04, 0.06, 0.06, 0.06]
    )  # 4, 3, 2, 1 times, not falling
    assert benjamini_hochberg(p) == pytest.approx([0.04] * 4)  # 4/1, 4/2, 4/3, 4/4 times
    assert stats_agreement.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert stats_agreement.holm([0.3]) == benjamini_hochberg([0.3]) == pytest.approx([0.3])


def test_adjusted_p_keep_their_order_and_follow_a_permutation():
    p = np.random.default_rng(0).uniform(size=20) ** 2
    holm, bh = stats_agreement.holm(p), benjamini_hochberg(p)
    assert (p <= bh).all() and (bh <= holm + 1e-15).all() and holm.max() <= 1
    assert stats_agreement.holm(p[::-1]) == pytest.approx(holm[::-1])
    assert (np.diff(holm[np.argsort(p)]) >= 0).all()


def test_holm_keeps_false_alarms_of_a_whole_family_at_five_percent():
    """2,000 families of 10 true nulls: unadjusted, 40% of them hold a 'finding'."""
    p = np.random.default_rng(1).uniform(size=(2000, 10))
    plain = (p.min(axis=1) < 0.05).mean()
    adjusted = np.mean([stats_agreement.holm(row).min() < 0.05 for row in p])
    assert plain > 0.35 and 0.03 < adjusted < 0.07


@pytest.mark.parametrize("p", [[], [0.2, 1.2], [-0.1], [math.nan, 0.1]])
def test_what_is_no_p_is_refused(p):
    for adjust in (stats_agreement.holm, benjamini_hochberg):
        with pytest.raises(ValueError):
            adjust(p)


# --- power ---


def exact_power(n, gained, lost, alpha=0.05):
    """Brute force: every pair of counts, its multinomial probability, and McNemar's own p."""
    total = 0.0
    for won, worse in itertools.product(range(n + 1), repeat=2):
        if won + worse > n or won + worse == 0:
            continue
        if binomtest(won, won + worse).pvalue <= alpha:
            ways = math.comb(n, won) * math.comb(n - won, worse)
            total += ways * gained**won * lost**worse * (1 - gained - lost) ** (n - won - worse)
    return total


@pytest.mark.parametrize(("n", "gained", "lost"), [(20, 0.4, 0.1), (25, 0.2, 0.2), (12, 0.7, 0.3)])
def test_power_and_detectable_effect_against_every_outcome(n, gained, lost):
    truth = exact_power(n, gained, lost)
    simulated = power(n, gained=gained, lost=lost, repeats=20_000)
    assert simulated.value == pytest.approx(truth, abs=0.012)  # 3.5 standard errors at most
    computed = stats_power._exact_power(n, gained + lost, gained - lost, 0.05)
    assert computed == pytest.approx(truth, abs=1e-12)


def test_the_interval_of_simulated_power_covers_the_truth():
    truth = exact_power(20, 0.4, 0.1)
    found = [power(20, gained=0.4, lost=0.1, repeats=300, seed=s) for s in range(400)]
    covered = np.mean([f.low <= truth <= f.high for f in found])
    assert 0.92 <= covered <= 0.98


@pytest.mark.parametrize(("n", "disagreement"), [(60, 0.5), (200, 0.2), (1000, 0.1)])
def test_the_detectable_effect_is_found_with_the_wanted_power(n, disagreement):
    effect = minimum_detectable_effect(n, disagreement=disagreement)
    gained, lost = (disagreement + effect) / 2, (disagreement - effect) / 2
    there = power(n, gained=gained, lost=lost, repeats=20_000)
    assert there.value == pytest.approx(0.8, abs=0.011)
    less = power(n, gained=gained - effect / 6, lost=lost + effect / 6, repeats=20_000)
    assert less.value < 0.6
    larger = minimum_detectable_effect(4 * n, disagreement=disagreement)
    assert 0.4 < larger / effect < 0.55  # four times the prompts, about half the effect


@pytest.mark.parametrize(("counts", "alpha"), [((3, 3), 0.05), ((8, 3), 0.05), ((8, 8), 0.05 / 9)])
def test_the_detectable_difference_of_seeds_is_found_with_the_wanted_power(counts, alpha):
    spreads, rng = (2.0, 1.0), np.random.default_rng(0)
    effect = detectable_difference(spreads, counts, alpha=alpha)
    one, other = (rng.normal(0, s, (20_000, n)) for s, n in zip(spreads, counts, strict=True))
    p = ttest_ind(one + effect, other, axis=1, equal_var=False).pvalue
    # Welch's degrees of freedom are themselves estimated, so the power isn't exact.
    assert np.mean(p <= alpha) == pytest.approx(0.8, abs=0.06)


def test_a_detectable_difference_scales_with_its_unit_and_falls_with_seeds():
    few = detectable_difference((2.0, 1.0), (3, 3))
    assert detectable_difference((20.0, 10.0), (3, 3)) == pytest.approx(10 * few)
    assert detectable_difference((2.0, 1.0), (8, 8)) < 0.6 * few
    assert detectable_difference((0.0, 0.0), (3, 3)) == 0.0


def test_equal_stages_raise_no_more_alarms_than_alpha():
    assert power(200, gained=0.1, lost=0.1, repeats=20_000).low < 0.05
    assert power(200, gained=0.1, lost=0.1, repeats=20_000).value <= 0.05
    assert power(50, gained=0.0, lost=0.0).value == 0.0
    assert minimum_detectable_effect(5, disagreement=0.9) == math.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda: power(0, gained=0.1, lost=0.1),
        lambda: power(10, gained=0.7, lost=0.6),
        lambda: power(10, gained=-0.1, lost=0.6),
        lambda: power(10, gained=0.1, lost=0.1, repeats=0),
        lambda: minimum_detectable_effect(10, disagreement=0.0),
        lambda: minimum_detectable_effect(10, disagreement=1.1),
        lambda: minimum_detectable_effect(10, disagreement=0.5, power=1.0),
        lambda: minimum_detectable_effect(10, disagreement=0.5, alpha=0.0),
        lambda: detectable_difference((1.0, 1.0), (1, 3)),
        lambda: detectable_difference((1.0, -1.0), (3, 3)),
        lambda: detectable_difference((1.0, 1.0), (3, 3), power=0.04),
    ],
)
def test_designs_that_cannot_be_are_refused(call):
    with pytest.raises(ValueError, match="expected|at most|nothing|no effect"):
        call()


# --- agreement ---


def test_kappa_and_its_standard_error_by_hand():
    """Cohen's 2x2 table 20, 5, 10, 15: agreed 0.7, by chance 0.5, so 0.4."""
    a = ["y"] * 25 + ["n"] * 25
    b = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    found = cohen_kappa(a, b)
    assert (found.value, found.n) == (pytest.approx(0.4), 50)
    # Fleiss' formula for this table, worked by hand: se = 0.1267, so about 0.4 +- 0.25
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1267, rel=0.06)
    assert cohen_kappa(b, a) == found


def test_kappa_does_not_reward_a_judge_that_always_says_the_same():
    truth = ["a"] * 90 + ["b"] * 10
    lazy = cohen_kappa(truth, ["a"] * 100)  # agrees on 90%
    assert lazy.value == pytest.approx(0.0) and lazy.low <= 0 <= lazy.high
    total = cohen_kappa(truth, truth)
    assert (total.value, total.high) == (1.0, 1.0) and 0.5 < total.low < 1.0
    assert math.isnan(cohen_kappa(["a"] * 5, ["a"] * 5).value)
    assert cohen_kappa(["a"], ["b"]).value == 0.0


@pytest.mark.parametrize(("agreement", "n"), [(0.6, 100), (0.9, 60), (0.2, 150)])
def test_the_interval_of_kappa_covers_the_truth(agreement, n):
    """Labels a, b, tie at 50, 30, 20%; b copies a with this chance, else draws: kappa is it."""
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(600):
        a, other = rng.choice(3, size=(2, n), p=[0.5, 0.3, 0.2])
        b = np.where(rng.random(n) < agreement, a, other)
        found = cohen_kappa(a.tolist(), b.tolist())
        covered.append(found.low <= agreement <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.985


def test_kappa_refuses_different_items():
    with pytest.raises(ValueError, match="2 labels and b has 1"):
        cohen_kappa(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="empty"):
        cohen_kappa([], [])


# --- arms over seeds ---


def test_two_arms_are_a_paired_t_test():
    a, b = [3.0, 5.0, 4.0, 9.0], [2.0, 5.0, 1.0, 4.0]
    (found,) = blocked_differences({"a": a, "b": b}, [("a", "b")])
    wanted = ttest_rel(a, b)
    interval = wanted.confidence_interval()
    assert found.difference == 2.25 and found.n == 4
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_what_a_seed_does_to_all_arms_cancels():
    rng = np.random.default_rng(0)
    arms = {name: rng.normal(size=3) for name in "abcd"}
    luck = np.array([5.0, -40.0, 13.0])
    pairs = [("b", "a"), ("c", "a"), ("d", "b")]
    one = blocked_differences(arms, pairs)
    other = blocked_differences({name: row + luck for name, row in arms.items()}, pairs)
    for ours, moved in zip(one, other, strict=True):
        assert ours.p == pytest.approx(moved.p) and ours.low == pytest.approx(moved.low)
    assert one[0].difference == pytest.approx((arms["b"] - arms["a"]).mean())


def test_the_interval_over_seeds_covers_the_truth_and_alarms_five_percent():
    rng, covered, alarms = np.random.default_rng(1), 0, 0
    for _ in range(2000):
        seeds = rng.normal(scale=4, size=3)
        arms = {str(i): seeds + rng.normal(scale=2, size=3) for i in range(6)}
        arms["0"] = arms["0"] + 7
        real, none = blocked_differences(arms, [("0", "1"), ("2", "3")])
        covered += real.low <= 7 <= real.high
        alarms += none.p < 0.05
    assert 0.935 <= covered / 2000 <= 0.965 and 0.035 <= alarms / 2000 <= 0.065


@pytest.mark.parametrize(
    ("scores", "error"),
    [
        ({"a": [1.0, 2.0]}, "two arms or more .* got {'a': 2}"),
        ({"a": [1.0], "b": [2.0]}, "two seeds or more"),
        ({"a": [1.0, 2.0], "b": [2.0, 3.0, 4.0]}, "got {'a': 2, 'b': 3}"),
        ({"a": [1.0, float("nan")], "b": [2.0, 3.0]}, "a"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(scores, error):
    with pytest.raises(ValueError, match=error):
        blocked_differences(scores, [("a", "b")])


def test_arms_without_any_scatter_differ_for_certain_or_not_at_all():
    scores = {"a": [1.0, 2.0], "b": [0.0, 1.0], "c": [1.0, 2.0]}
    apart, same = blocked_differences(scores, [("a", "b"), ("a", "c")])
    assert (apart.p, apart.low, same.p) == pytest.approx((0.0, 1.0, 1.0), abs=1e-9)
