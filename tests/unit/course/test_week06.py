"""Week 6: its figures say what they draw, and its exercises agree with `stats`."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from postlab import stats
from postlab.course.week06 import figures
from postlab.course.week06.exercises import holm, mcnemar_p, swapped_win_rate
from postlab.judge import judge_pairs, noisy_judge, preference_rate

ROOT = Path(__file__).resolve().parents[3]


def title(figure) -> str:
    assert not plt.get_fignums()  # closed, or a notebook shows it twice
    figure.canvas.draw()
    return " ".join(figure.get_suptitle().split())


# --- the references of the exercises, against the package and by brute force ---


@pytest.mark.parametrize(("gained", "lost"), [(4, 1), (1, 4), (0, 6), (3, 3), (0, 0), (12, 10)])
def test_mcnemar_p_is_the_share_of_coin_falls_and_what_stats_says(gained, lost):
    n = gained + lost
    if n <= 12:  # every fall of n coins, counted
        falls = [abs(2 * sum(fall) - n) for fall in itertools.product((0, 1), repeat=n)]
        assert mcnemar_p(gained, lost) == np.mean([f >= abs(gained - lost) for f in falls])
    before, after = [0] * gained + [1] * lost + [1], [1] * gained + [0] * lost + [1]
    assert mcnemar_p(gained, lost) == pytest.approx(stats.mcnemar(before, after).p)


def test_holm_is_stats_holm_and_keeps_the_order():
    g = np.random.default_rng(0)
    for m in (1, 2, 5, 9):
        p = g.random(m) ** 3
        assert holm(torch.from_numpy(p)).numpy() == pytest.approx(stats.holm(p))
        turned = g.permutation(m)
        again = holm(torch.from_numpy(p[turned])).numpy()
        assert again == pytest.approx(stats.holm(p)[turned])


def test_swapped_win_rate_is_preference_rate():
    judge = noisy_judge(lambda p, x, y: "tie", accuracy=0.4, position_bias=0.3, seed=3)
    prompts = [str(i) for i in range(50)]
    votes = judge_pairs(judge, prompts, [f"{p} a" for p in prompts], [f"{p} b" for p in prompts])
    b = votes["choice"].map({"a": 0.0, "tie": 0.5, "b": 1.0})
    b_first = b[votes["order"] == "ba"].tolist()  # a vote for b is one for the first here
    a_first = (1 - b[votes["order"] == "ab"]).tolist()
    assert 1 - swapped_win_rate(a_first, b_first) == pytest.approx(preference_rate(votes).value)
    assert swapped_win_rate(b_first, a_first) == pytest.approx(preference_rate(votes).value)
    assert swapped_win_rate([1] * 9, [1] * 9) == 0.5  # always the first: no preference


# --- the figures ---


def test_detectable_names_the_ends_and_says_nothing_where_nothing_can_be_found():
    rows = [
        {"n": n, "disagreement": d, "effect": effect}
        for d, effects in ((0.05, (math.inf, 0.044)), (0.4, (0.2, 0.129)))
        for n, effect in zip((50, 200), effects, strict=True)
    ]
    assert title(figures.plot_detectable(pd.DataFrame(rows), at=200)) == (
        "200 prompts can find 4.4 points where 5% change, 12.9 points where 40% change"
    )
    said = title(figures.plot_detectable(pd.DataFrame(rows), at=50))
    assert said.startswith("50 prompts can find nothing where 5% change, 20.0 points")


def test_power_says_how_often_for_each_number_of_prompts():
    rows = [
        {"n": n, "effect": e, "value": value, "low": value - 0.01, "high": value + 0.01}
        for n, values in ((50, (0.02, 0.06)), (800, (0.05, 1.0)))
        for e, value in zip((0.0, 0.05), values, strict=True)
    ]
    assert title(figures.plot_power(pd.DataFrame(rows), at=0.05)) == (
        "A true change of 5 points is found this often: 6% with 50 prompts, 100% with 800"
    )


def test_bootstrap_compares_the_widths():
    paired, unpaired = np.arange(-10, 11) / 200, np.arange(-20, 21) / 200
    said = title(figures.plot_bootstrap(paired, unpaired, metric="facts"))
    assert said.startswith("On the same prompts the interval is 9.5 points wide")
    assert said.endswith("with other prompts for each stage 19.0")


def test_coverage_counts_the_intervals_that_hold_the_truth():
    frame = pd.DataFrame({"difference": [0.1, 0.3], "low": [0.0, 0.2], "high": [0.2, 0.4]})
    assert title(figures.plot_coverage(frame, truth=0.1)) == (
        "1 of 2 intervals contain the true change"
    )


def change(metric, low, high, adjusted):
    middle = (low + high) / 2
    return {"metric": metric, "low": low, "high": high, "difference": middle, "adjusted": adjusted}


def test_metrics_counts_what_interval_and_corrected_p_support():
    rows = [
        change("safety", 0.2, 0.4, 0.001),  # better
        change("over_refusal", 0.1, 0.2, 0.001),  # up, and that is worse
        change("facts", 0.01, 0.2, 0.2),  # the interval alone is not enough
        change("lists", -0.1, 0.1, 0.01),  # nor p alone
    ]
    said = title(figures.plot_metrics(pd.DataFrame(rows), stages=("sft", "dpo"), margin=0.05))
    assert said == "DPO against SFT: 1 of 4 metrics better, 1 worse, 2 inconclusive"
    down = pd.DataFrame([change("over_refusal", -0.2, -0.1, 0.001)])
    assert "1 of 1 metrics better" in title(
        figures.plot_metrics(down, stages=("sft", "dpo"), margin=0.05)
    )


def test_seeds_names_the_metric_that_differs_most_and_whether_intervals_overlap():
    def rows(metric, *values):
        return [
            {"metric": metric, "seed": s, "difference": v, "low": v - 0.05, "high": v + 0.05}
            for s, v in enumerate(values)
        ]

    frame = pd.DataFrame(rows("facts", 0.15, 0.0, 0.02) + rows("safety", 0.5, 0.52, 0.55))
    assert title(figures.plot_seeds(frame)) == (
        "The same recipe with another seed: Facts differs by up to 15 points; for Facts some "
        "intervals do not even overlap"
    )
    said = title(figures.plot_seeds(pd.DataFrame(rows("safety", 0.5, 0.52, 0.55))))
    assert said.endswith("Safety differs by up to 5 points; all intervals overlap")


def test_every_seed_is_drawn_and_coloured_by_the_side_its_interval_lies_on():
    """Over-refusal is worse where it rises; a bar that holds zero is neither."""
    frame = pd.DataFrame(
        {"metric": metric, "seed": seed, "difference": d, "low": d - 0.02, "high": d + 0.02}
        for metric in ("facts", "over_refusal")
        for seed, d in enumerate((0.1, -0.1, 0.01, 0.2, 0.3, 0.4, -0.3, 0.0))
    )
    (axes,) = figures.plot_seeds(frame).axes
    dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
    shades = [line.get_color() for line in dots]
    better, worse, neither = figures.BETTER_COLOUR, figures.WORSE_COLOUR, figures.GREY
    facts = [better, worse, neither, better, better, better, worse, neither]
    other = {better: worse, worse: better, neither: neither}
    assert shades == facts + [other[shade] for shade in facts]
    places = [line.get_xdata()[0] for line in dots]
    assert places == sorted(places) and "seed (0 to 7)" in axes.get_title("left")


def test_judges_goes_from_what_was_shown_to_what_was_corrected():
    rows = [
        {"case": "DPO", "step": step, "value": v, "low": v - 0.02, "high": v + 0.02, "truth": 0.63}
        for step, v in (("as shown", 0.42), ("orders swapped", 0.57))
    ]
    said = title(figures.plot_judges(pd.DataFrame(rows)))
    assert said == "DPO 42% as shown, 57% corrected, truth 63%"


# --- what the notebook's prose relies on ---


def test_the_rule_of_thumb_agrees_with_the_exact_reach():
    """The notebook's formula, at the number of prompts it gives, finds the effect it was asked."""
    text = (ROOT / "notebooks" / "src" / "week06_compare_sft_dpo.py").read_text(encoding="utf-8")
    start = text.index("def prompts_needed")
    space: dict = {"math": math}
    exec(text[start : text.index("\n\n\n", start)], space)
    for effect in (0.08, 0.04, 0.02):
        n = space["prompts_needed"](effect, 0.1)
        assert stats.minimum_detectable_effect(n, disagreement=0.1) == pytest.approx(
            effect, rel=0.2
        )


def test_at_the_same_length_the_chatty_case_has_nothing_to_prefer():
    """Every second answer gets a kind word; a judge put right prefers neither."""
    from postlab.judge import length_controlled_rate

    kind, sft = " I hope that this is of help to you.", [f"answer {i}" for i in range(400)]
    chatty = [text + kind * (i % 2) for i, text in enumerate(sft)]
    judge = noisy_judge(lambda p, x, y: "tie", position_bias=0.3, length_bias=0.3)
    votes = judge_pairs(judge, sft, sft, chatty)
    assert preference_rate(votes, swapped=False).high < 0.5  # the place
    assert preference_rate(votes).low > 0.5  # then the length
    assert length_controlled_rate(votes).value == pytest.approx(0.5, abs=0.02)
