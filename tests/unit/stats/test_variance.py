"""The split of variance into runs, prompts and the rest: by hand, and in worlds that are known."""

import numpy as np
import pytest

from postlab.stats import variance_split


def changes(rng, *, runs, prompts, spread):
    """Changes of right-or-wrong answers: prompts differ, and a run's own luck shifts its gains."""
    gains = rng.uniform(0.1, 0.4, prompts)
    luck = rng.normal(0, spread, runs)[:, None]
    draw = rng.random((runs, prompts))
    return np.where(draw < np.clip(gains + luck, 0, 1), 1, np.where(draw > 0.95, -1, 0))


def test_by_hand():
    # rows average 0.5 and 1; columns 0.5, 1, 1.5 and 0; what is left is -+1/4 twice and +-1/4 twice
    split = variance_split([[0, 1, 1, 0], [1, 1, 2, 0]])
    assert split.mean == 0.75
    assert split.interaction == pytest.approx((8 * 0.0625) / 3)
    assert split.runs == pytest.approx((4 * 0.125 - split.interaction) / 4)
    assert split.prompts == pytest.approx((2 * 1.25 / 3 - split.interaction) / 2)
    assert (split.n_runs, split.n_prompts) == (2, 4)


def test_the_parts_add_up_to_the_variance_of_a_run():
    """Between runs the mean varies by runs + interaction / N; within a run, by the other two."""
    x = np.random.default_rng(0).normal(size=(6, 50))
    split = variance_split(x)
    assert x.mean(axis=1).var(ddof=1) == pytest.approx(split.runs + split.interaction / 50)
    within = x.var(axis=1, ddof=1).mean()
    assert within == pytest.approx(split.prompts + split.interaction, rel=1e-9)


def test_order_units_and_shifts_play_no_part():
    rng = np.random.default_rng(1)
    x = changes(rng, runs=5, prompts=80, spread=0.1).astype(float)
    split = variance_split(x)
    turned = variance_split(x[rng.permutation(5)][:, rng.permutation(80)])
    assert turned.runs == pytest.approx(split.runs) and turned.p == pytest.approx(split.p)
    assert variance_split(100 * x).runs == pytest.approx(1e4 * split.runs)
    shifted = variance_split(x + rng.normal(size=80))  # a prompt's own part is no run's
    assert shifted.runs == pytest.approx(split.runs)


@pytest.mark.parametrize("runs", [3, 8])
def test_without_a_run_effect_the_estimate_scatters_around_zero(runs):
    """And the naive reading, the spread of the runs' means, finds points where there are none."""
    rng = np.random.default_rng(2)
    worlds = [changes(rng, runs=runs, prompts=200, spread=0) for _ in range(600)]
    splits = [variance_split(world) for world in worlds]
    found = np.array([split.runs for split in splits])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    assert np.mean([split.runs_low <= 0 <= split.runs_high for split in splits]) > 0.92
    assert np.mean([split.p < 0.05 for split in splits]) < 0.08
    naive = np.mean([world.mean(axis=1).var(ddof=1) for world in worlds]) ** 0.5
    assert 0.02 < naive < 0.05


@pytest.mark.parametrize("spread", [0.05, 0.1])
def test_a_run_effect_is_found_in_its_size(spread):
    rng = np.random.default_rng(3)
    splits = [variance_split(rng.normal(0, 0.5, (8, 200)) + rng.normal(0, 0.3, 200)
                             + rng.normal(0, spread, (8, 1))) for _ in range(600)]  # fmt: skip
    found = np.array([split.runs for split in splits])
    assert found.mean() == pytest.approx(spread**2, abs=3 * found.std() / np.sqrt(600))
    covered = np.mean([s.runs_low <= spread**2 <= s.runs_high for s in splits])
    assert 0.92 < covered < 0.98
    assert np.mean([s.prompts for s in splits]) == pytest.approx(0.09, rel=0.05)
    assert np.mean([s.interaction for s in splits]) == pytest.approx(0.25, rel=0.02)


def test_what_has_no_variance_is_not_an_error():
    same = variance_split(np.zeros((3, 10)))
    assert (same.runs, same.interaction, same.p) == (0, 0, 1.0)
    apart = variance_split(np.repeat([[0.0], [1.0]], 10, axis=1))
    assert apart.p == 0.0 and apart.runs == pytest.approx(0.5)


@pytest.mark.parametrize(
    "scores", [[1, 2, 3], [[1, 2, 3]], [[1], [2]], [[1, float("nan")], [1, 2]]]
)
def test_other_shapes_and_missing_scores_are_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        variance_split(scores)
