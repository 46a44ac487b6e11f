"""Week 8: its figures."""

from __future__ import annotations

import math

import pytest

from postlab.course.week08 import plot_signals


def test_signals_are_drawn_with_gaps_and_said_by_quarters():
    log = [{"step": i, "reward": i / 7, "kl": 1.0 if i else math.nan} for i in range(8)]
    fig = plot_signals(log, ["reward", "kl"])
    reward, kl = (axes.lines[0].get_ydata() for axes in fig.axes)
    assert list(reward) == [i / 7 for i in range(8)]
    assert math.isnan(kl[0]) and list(kl[1:]) == [1.0] * 7
    said = " ".join(fig.get_suptitle().split())
    assert "reward rises from 0.071 to 0.93" in said and "stays at 1" in said


def test_a_signal_that_was_not_logged_is_named_with_those_that_were():
    with pytest.raises(ValueError, match="nothing was logged as 'kl'; this log has loss, step"):
        plot_signals([{"step": 1, "loss": 0.5}], ["kl"])
