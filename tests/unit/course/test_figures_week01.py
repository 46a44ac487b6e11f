"""Week 1's figures: the titles say what was drawn."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from postlab.course.week01 import figures


def title(figure):
    assert not plt.get_fignums()  # closed, or a notebook shows it twice
    figure.canvas.draw()
    return " ".join(figure.get_suptitle().split())  # a long title is wrapped


def test_trained_share_names_the_smallest_and_the_largest():
    frame = pd.DataFrame({"read": [30, 20], "trained": [10, 60]}, index=["facts", "sums"])
    assert title(figures.plot_trained_share(frame)) == (
        "Between 25% (facts) and 75% (sums) of a row's tokens are trained"
    )


def test_surprise_adds_up_and_names_the_two_most_surprising_tokens():
    surprise = {"base": [3.0, 1.0, 6.0], "sft": [0.25, 0.25, 0.0]}
    figure = figures.plot_surprise(["The", "fox", "end"], surprise)
    assert title(figure) == ("'The' and 'end' make up 90% of the base's 10.0 nats; SFT has 0.50")


def test_falling_says_how_far_and_whether_all_did():
    falls = {"reply": [4.0] * 5 + [1.0] * 5, "prompt too": [4.0] * 5 + [2.0] * 5}
    assert title(figures.plot_falling(falls)) == (
        "The training loss falls in every run, by 50% to 75%"
    )
    rises = falls | {"no end of turn": [1.0] * 5 + [2.0] * 5}
    assert title(figures.plot_falling(rises)) == "The training loss doesn't fall in every run"


def interval(run, value, **named):
    return {"run": run, "value": value, "low": value - 0.1, "high": value + 0.1, "n": 9} | named


def test_parts_compare_the_ends_of_the_trained_runs():
    frame = pd.DataFrame(
        interval(run, value, part=part)
        for part in ("words", "end of turn")
        for run, value in (("base", 9.0), ("reply", 0.2), ("no end of turn", 6.0))
    )
    assert title(figures.plot_parts(frame)) == (
        "The end of turn costs 'no end of turn' 6.0 nats, and 'reply' only 0.20"
    )


def test_behaviour_compares_the_end_of_turn():
    values = {"ended": (0.0, 1.0), "right": (0.1, 0.5), "tokens": (60, 12)}
    frame = pd.DataFrame(
        interval(run, both[place], metric=metric)
        for metric, both in values.items()
        for place, run in enumerate(("no end of turn", "reply"))
    )
    assert title(figures.plot_behaviour(frame)) == (
        "Without the end of turn, 0% of replies end and 10% are right; with it, 100% and 50%"
    )


@pytest.mark.parametrize("run", ["base", "reply", "prompt too", "no end of turn"])
def test_every_run_has_a_colour(run):
    assert figures.RUN_COLOURS[run].startswith("#")
