"""Week 7: figures, and the records of its experiments."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from modules import module_at

from postlab.course import listed
from postlab.course.week07 import figures
from postlab.evals import readings
from postlab.profile import data_dir
from postlab.runs import frames

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENTS = ROOT / "notebooks" / "experiments"
RECORDED = data_dir() / "results" / "week07"


def title(figure) -> str:
    return " ".join(figure._suptitle.get_text().replace("\N{MINUS SIGN}", "-").split())


# --- figures ---


def test_a_climb_says_the_spread_half_way():
    rows = [
        {"method": m, "seed": s, "step": t, "best": 0.1 * s + 0.01 * t}
        for m in ("plain", "better")
        for s in (1, 2)
        for t in range(1, 11)
    ]
    said = title(figures.plot_climb(pd.DataFrame(rows)))
    assert said.startswith("After 5 updates, P(best answer) is 15% to 25% plain")


def test_two_runs_are_called_the_same_only_if_they_are():
    ours = pd.DataFrame({"reward": [0.5, 0.75], "grad_norm": [1.0, 1.0]})
    names = ("yours", "TRL")
    assert title(figures.plot_pair(ours, ours, names=names)).endswith("are the same")
    other = ours.assign(reward=[0.5, 0.5])
    assert title(figures.plot_pair(ours, other, names=names)).endswith("differ by up to 0.25")


def test_the_other_titles_are_what_is_drawn():
    reuse = pd.DataFrame({"update": [1, 2], "outside": [0.0, 0.2], "clipped": [0.0, 0.15]})
    assert "0% of the tokens at the first update and of 15.0% at update 2" in title(
        figures.plot_reuse(reuse)
    )
    good = pd.DataFrame({"reward": [0.5, 0.9], "silent": [0.0, 0.5]})
    said = title(figures.plot_hunt(good, good[:1].assign(reward=0.1)))
    assert "colleague's reward is 0.10" in said and "yours was 0.50" in said
    gains = [
        {"run": run, "part": part, "points": points, "low": points - 1, "high": points + 1}
        for run, both in (("a", (30, 0)), ("b", (40, 5)))
        for part, points in zip(("sums", "format"), both, strict=True)
    ]
    said = title(figures.plot_gains(pd.DataFrame(gains)))
    assert said == "The runs gain 30 to 45 points, of which 0.0 to 5.0 are only format"


def test_rates_say_where_the_trained_measure_is_best_and_what_it_cost():
    rows = [
        {"schedule": schedule, "rate": rate, "seed": 0, "sums": sums, "other prompts": others}
        for schedule in ("constant", "decay")
        for rate, sums, others in ((1e-4, 0.8, 0.7), (1e-3, 0.9, 0.5), (1e-2, 0.0, 0.1))
    ]
    start = {"sums": 0.6, "other prompts": 0.7}
    assert title(figures.plot_rates(pd.DataFrame(rows), start=start)) == (
        "At a rate of 0.001, sums reach 90% and other prompts 50% (before: 70%); at 0.01, "
        "most runs collapse"
    )


def test_pass_at_k_says_how_both_ends_moved():
    shares = {"dpo": (0.2, 0.6), "grpo": (0.7, 0.7)}
    rows = [
        {"stage": stage, "seed": seed, "k": k, "value": value + 0.1 * seed}
        for stage, values in shares.items()
        for seed in (0, 1)
        for k, value in zip((1, 8), values, strict=True)
    ]
    said = title(figures.plot_pass(pd.DataFrame(rows)))
    assert said == "pass@1 goes from 25% to 75%, pass@8 from 65% to 75%"


# --- the experiments ---


def test_an_answer_loses_its_marker_and_nothing_else():
    experiment = module_at(EXPERIMENTS / "week07_arms.py", "week07_arms")
    assert experiment.unmarked("12+30=42, 42+15=57. #### 57") == "12+30=42, 42+15=57."
    assert experiment.unmarked("#### 57") == experiment.unmarked("57") == "57"


def test_the_strict_reward_pays_for_marked_answers_only():
    experiment = module_at(EXPERIMENTS / "week07_arms.py", "week07_arms")
    said = [[{"role": "assistant", "content": text}] for text in ("#### 57", "57", "#### 5")]
    assert experiment.strict_reward(said, answer=["57"] * 3) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["seeds", "arms", "rates"])
def test_a_record_says_where_it_comes_from(name):
    recorded = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    wanted = {"command", "commit", "seeds", "date", "device", "versions"}
    assert wanted <= set(recorded["provenance"])
    assert (RECORDED / f"{name}.json").stat().st_size < 150_000


def test_grpo_gains_twenty_points_on_each_of_five_seeds_and_they_are_no_format():
    """The bar of the issue, on the record: 200 held-out sums a seed, the oracle's extractor."""
    recorded = json.loads((RECORDED / "seeds.json").read_text(encoding="utf-8"))
    assert [one["seed"] for one in recorded["seeds"]] == [0, 1, 2, 3, 4]
    for one in recorded["seeds"]:
        means = {
            (when, how): torch.tensor(one[when][f"arithmetic, {how}"], dtype=float).mean().item()
            for when in ("start", "end")
            for how in ("strict", "lenient")
        }
        assert len(one["end"]["arithmetic, strict"]) == 200
        assert means["end", "strict"] - means["start", "strict"] >= 0.20
        assert means["end", "lenient"] - means["start", "lenient"] >= 0.20


def test_the_recorded_seed_0_is_the_shipped_stage():
    """By what it did, step by step and sum by sum: its key changes with the reward's wording."""
    recorded = json.loads((RECORDED / "seeds.json").read_text(encoding="utf-8"))["seeds"][0]
    shipped = data_dir() / "tiny-stages" / "grpo"
    state = json.loads((shipped / "trainer_state.json").read_text(encoding="utf-8"))
    log = [entry for entry in state["log_history"] if "reward" in entry]
    for name in ("reward", "loss", "entropy", "completions/mean_length"):
        assert recorded["log"][name] == listed(entry[name] for entry in log), name
    manifest = json.loads((shipped / "manifest.json").read_text(encoding="utf-8"))
    frame = frames.read(shipped, manifest["eval"]["columns"])
    for family in ("arithmetic", "arithmetic_sampled"):
        found = readings(frame, family)
        for how in ("strict", "lenient"):
            assert recorded["end"][f"{family}, {how}"] == listed(found[how])
    sums = frame[frame["family"] == "arithmetic"]
    assert recorded["end"]["tokens"] == listed(sums["length"])
