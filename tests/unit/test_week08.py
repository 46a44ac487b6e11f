"""Week 8: its figures."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from postlab.figures_week08 import plot_signals, plot_verdicts


def test_signals_are_drawn_with_gaps_and_said_by_quarters():
    log = [{"step": i, "reward": i / 7, "kl": 1.0 if i else math.nan} for i in range(8)]
    fig = plot_signals(log, ["reward", "kl"])
    reward, kl = (axes.lines[0].get_ydata() for axes in fig.axes)
    assert list(reward) == [i / 7 for i in range(8)]
    assert math.isnan(kl[0]) and list(kl[1:]) == [1.0] * 7
    assert "reward 0.071 to 0.93" in fig.get_suptitle()


def test_a_signal_that_was_not_logged_is_named_with_those_that_were():
    with pytest.raises(ValueError, match="nothing was logged as 'kl'; this log has loss, step"):
        plot_signals([{"step": 1, "loss": 0.5}], ["kl"])


def test_verdicts_are_counted_in_the_title():
    logs = pd.DataFrame(
        [
            {"name": "a", "kind": "truncation", "hit": True, "false_alarms": []},
            {"name": "b", "kind": "nan", "hit": False, "false_alarms": ["kl_blow_up"]},
            {"name": "c", "kind": "healthy", "hit": True, "false_alarms": []},
            {"name": "d", "kind": "absent", "hit": False, "false_alarms": []},
        ]
    )
    fig = plot_verdicts(logs)
    title = " ".join(fig.get_suptitle().split())
    assert title == "1 of 2 faults named, 1 false alarms in 4 runs made after the rules"
    assert any("false alarm: kl_blow_up" in text.get_text() for text in fig.axes[0].texts)
