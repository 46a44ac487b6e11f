"""Week 4's figures say what they draw, and its experiment runs the notebook's own code."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pandas as pd
import pytest
from modules import module_at

from postlab.course.week04 import figures
from postlab.profile import data_dir

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENT = ROOT / "notebooks" / "experiments" / "week04_preferences.py"
RECORDED = data_dir() / "results" / "week04" / "preferences.json"


def title(figure) -> str:
    return " ".join(figure._suptitle.get_text().replace("\N{MINUS SIGN}", "-").split())


def curve(beta: float, golds: list[float]) -> list[dict]:
    return [
        {"method": "ppo", "beta": beta, "seed": seed, "step": 10 * i, "kl": 1.0 * i**2}
        | {"proxy": 1.0 * i, "gold": gold}
        for i, gold in enumerate(golds)
        for seed in (0, 1)
    ]


def test_the_title_tells_of_a_peak_and_a_fall_of_the_run_with_the_least_penalty():
    frame = pd.DataFrame(curve(0.0, [0.5, 0.9, 0.6]) + curve(1.0, [0.5, 0.6, 0.7]))
    said = title(figures.plot_overoptimisation(frame))
    assert "Beta 0: the truth peaks at 90% and ends at 60%" in said and "1.0 to 2.0" in said


def test_no_fall_is_claimed_where_there_is_none():
    said = title(figures.plot_overoptimisation(pd.DataFrame(curve(0.1, [0.5, 0.6, 0.7]))))
    assert "still at its best at the end, 70%" in said


def test_the_title_of_a_ppo_run_counts_from_its_first_to_its_last_steps():
    log = [dict.fromkeys(figures.CURVES, 0.0) | {"reward": 1.0 * i, "kl": 2.0} for i in range(6)]
    assert "0.00 \N{RIGHTWARDS ARROW} 5.00 for 2.0 nats" in title(figures.plot_ppo(log))


def test_a_calibration_names_the_share_and_the_worst_family():
    row = {"low": 0.5, "high": 0.95}
    rows = [
        row | {"group": "all", "label": "all", "value": 0.8},
        row | {"group": "family", "label": "helpfulness", "value": 0.6},
        row | {"group": "family", "label": "safety", "value": 0.9},
        row | {"group": "confidence", "label": 0, "value": 0.7, "stated": 0.99},
    ]
    said = title(figures.plot_calibration(pd.DataFrame(rows)))
    assert said.startswith("80% of held-out pairs") and "(50% to 95%), 60%" in said
    assert said.endswith("on helpfulness")


def test_bars_of_the_bandit_are_the_frames_numbers():
    frame = pd.DataFrame({"ref": [0.2, 0.8], "dpo": [0.4, 0.6]}, index=["aa", "ab"])
    bars = figures.plot_bandit(frame, "moved 0.2").axes[0].patches
    assert [round(bar.get_height(), 2) for bar in bars] == [0.2, 0.8, 0.4, 0.6]


def test_what_is_neither_chosen_nor_rejected_is_drawn_as_the_rest():
    rows = [{"metric": "safety", "method": "dpo", "chosen": 0.5, "rejected": 0.1}] * 1
    rows += [{"metric": "honesty", "method": "dpo", "chosen": 0.9, "rejected": 0.1}]
    first = figures.plot_support(pd.DataFrame(rows), "title").axes[0]
    assert [round(bar.get_width(), 2) for bar in first.patches] == [0.5, 0.1, 0.4]


def test_faults_are_ranked_apart():
    frame = pd.DataFrame({"fault": ["a"] * 4 + ["b"] * 4, "margin": [1, 2, 3, -1] + [1, -1] * 2})
    assert title(figures.plot_faults(frame)).endswith("75% against a, 50% against b")


def test_matched_runs_are_joined_by_seed():
    ends = [
        {"method": method, "seed": seed, "gold": gold, "kl": 1.0}
        for method, golds in (("ppo", (0.1, 0.2)), ("dpo", (0.3, 0.4)))
        for seed, gold in enumerate(golds)
    ]
    panel = figures.plot_matched(pd.DataFrame(ends), "title").axes[0]
    joined = [list(line.get_ydata()) for line in panel.lines if line.get_marker() == "None"]
    assert joined == [[0.1, 0.3], [0.2, 0.4]]


@pytest.fixture(scope="module")
def experiment():
    return module_at(EXPERIMENT, "week04_preferences")


def test_the_shared_cells_define_all_that_the_experiment_uses(experiment):
    code = experiment.shared_cells(experiment.NOTEBOOK.read_text(encoding="utf-8"))
    defined = {node.name for node in ast.parse(code).body if hasattr(node, "name")}
    wanted = {"load_sft", "manners", "RewardModel", "fit", "scorer", "learner", "measure"}
    assert wanted | {"both_sides", "tokens", "reply_logps", "train_dpo"} <= defined


def test_the_recorded_run_says_where_it_comes_from():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert {"command", "commit", "seeds", "date", "device", "versions"} <= set(
        recorded["provenance"]
    )
    assert RECORDED.stat().st_size < 150_000
    curves = pd.DataFrame(recorded["curves"])
    assert set(curves["seed"]) == set(recorded["provenance"]["seeds"])
    starts = curves[curves["step"] == 0]
    assert (starts["kl"] == 0).all() and curves["gold"].between(0, 1).all()


def test_matched_runs_pair_every_seed_at_one_beta():
    recorded = json.loads(RECORDED.with_name("matched.json").read_text(encoding="utf-8"))
    ends = pd.DataFrame(recorded["ends"])
    assert set(ends["beta"]) == {1.0} and (ends.groupby("seed")["method"].nunique() == 2).all()
    assert set(ends["seed"]) == set(recorded["provenance"]["seeds"])
