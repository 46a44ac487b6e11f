"""Week 8's ablations: figures, and what the experiment's arms change."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from modules import module_at

from postlab.course.week08 import ablations
from postlab.course.week08 import figures_ablations as figures
from postlab.profile import data_dir

EXPERIMENT = (
    Path(__file__).resolve().parents[3] / "notebooks" / "experiments" / "week08_ablations.py"
)


def title(figure) -> str:
    return figure.texts[0].get_text() if figure.texts else figure.axes[0].get_title(loc="left")


def rows(**shown: bool) -> pd.DataFrame:
    return pd.DataFrame([
        {"arm": "groups of 2", "base": "recipe", "seeds": [-9.0, -7.0, -8.0], "points": -8.0,
         "low": -10.5, "high": -5.5, "shown": shown.get("groups", False)},
        {"arm": "GSPO", "base": "four steps", "seeds": [1.0, -1.0, 3.0], "points": 1.0,
         "low": -4.0, "high": 6.0, "shown": False},
    ])  # fmt: skip


def test_an_arm_is_shown_with_every_seed_and_named_only_where_it_is_settled():
    figure = figures.plot_ablations(rows(groups=True))
    assert "Of 2 changes, 1 makes a significant difference: groups of 2" in title(figure)
    panel = figure.axes[0]
    assert list(panel.lines[1].get_xdata()) == [-9.0, -7.0, -8.0]
    assert [text.get_text() for text in panel.get_yticklabels()] == [
        "groups of 2 vs. recipe", "GSPO vs. four steps",
    ]  # fmt: skip
    assert panel.get_xlim() == (-12.5, 8.0)
    assert "0 make a significant difference: none" in title(figures.plot_ablations(rows()))


def test_silent_groups_are_drawn_by_size():
    frame = pd.DataFrame(
        {
            "size": [2, 16],
            "measured": [0.8, 0.25],
            "low": [0.7, 0.2],
            "high": [0.9, 0.3],
            "alike": [0.5, 0.01],
        }
    )
    figure = figures.plot_groups(frame)
    said = "80% of the groups of 2 have zero variance, and 25% of those of 16"
    assert said in " ".join(title(figure).split())
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.8, 0.25]


@pytest.fixture(scope="module")
def experiment():
    return module_at(EXPERIMENT, "week08_ablations")


def test_every_arm_of_the_recipe_changes_what_its_name_says(experiment):
    recipe = experiment.arguments({"learning_rate": 1e-4})
    for name, spec in experiment.RECIPE.items():
        how = experiment.arguments({"learning_rate": 1e-4, **spec})
        changed = {key for key in how if recipe.get(key) != how[key]}
        assert changed or set(spec) & {"dynamic", "overlong", "method"}, name
        assert how["max_steps"] == recipe["max_steps"] == experiment.SETTINGS["batches"]
        if name.startswith("groups"):
            assert changed == {"num_generations"}, name


def test_every_way_of_updating_takes_the_same_completions(experiment):
    for name, spec in experiment.REUSE.items():
        how = experiment.arguments({"learning_rate": 1e-4, **spec})
        size = how["per_device_train_batch_size"] * how.get("steps_per_generation", 1)
        uses = how["num_iterations"] * how.get("steps_per_generation", 1)
        batches = how["max_steps"] / uses
        assert size * batches == 4 * experiment.SETTINGS["completions"], name
        assert how["max_steps"] == (4 if name == "one update" else 16), name


def test_a_run_is_made_again_when_its_spec_or_its_start_changes(experiment, monkeypatch):
    key = experiment.key_of({"learning_rate": 1e-4})
    assert experiment.key_of({"learning_rate": 1e-4}) == key
    assert experiment.key_of({"learning_rate": 2e-4}) != key
    monkeypatch.setattr(experiment, "adapter_hash", lambda stage: "another start")
    assert experiment.key_of({"learning_rate": 1e-4}) != key


@pytest.fixture(scope="module")
def recorded():
    file = data_dir() / "results" / "week08" / "ablations.json"
    assert file.stat().st_size < 400_000
    return json.loads(file.read_text(encoding="utf-8"))


def test_arms_are_recorded_on_the_same_prompts_and_the_seeds_of_their_base(experiment, recorded):
    assert {"command", "commit", "seeds", "date", "device", "versions"} <= set(
        recorded["provenance"]
    )
    assert recorded["settings"] == experiment.SETTINGS
    assert len(recorded["start"]) == experiment.SETTINGS["heldout_sums"]
    scores = ablations.scores_of(recorded)
    assert set(scores) == set(recorded["arms"])
    for name, arm in recorded["arms"].items():
        assert len(scores[name]) >= 3, name
        assert arm["base"] is None or set(scores[name]) <= set(scores[arm["base"]])
    for run in recorded["runs"]:
        assert len(run["end"]) == len(recorded["start"])
        assert run["tokens"] > 0 and run["updates"] in (4, 16)


def test_the_chosen_rates_and_clips_are_the_best_of_their_trials(recorded):
    trials = ablations.tuning_table(recorded)
    assert len(trials) == len(recorded["tuning"])
    for name in {trial["name"] for trial in recorded["tuning"]} - {"four quarters"}:
        own = [trial for trial in recorded["tuning"] if trial["name"] == name]
        best = max(own, key=lambda trial: sum(trial["scores"]))
        assert recorded["arms"][name]["spec"] == best["spec"], name


def test_only_dynamic_sampling_samples_more(recorded):
    for run in recorded["runs"]:
        assert (sum(run["sampled"]) > 256) == (run["arm"] == "dynamic sampling"), run["arm"]


def made_up() -> dict:
    """A record with one base and two arms, whose differences are known."""
    spec = {"learning_rate": 1e-3}
    log = {"reward": [0.5], "frac_reward_zero_std": [0.25], "entropy": [0.1],
           "clip_ratio/region_mean": [0.02]}  # fmt: skip
    arms = {
        "base": {"group": "reuse", "base": None, "spec": spec},
        "up": {"group": "reuse", "base": "base", "spec": spec | {"epsilon": 10.0}},
        "same": {"group": "reuse", "base": "base",
                 "spec": spec | {"loss_type": "cispo", "epsilon_high": 5.0}},
    }  # fmt: skip
    scores = {"base": (0.5, 0.6, 0.7), "up": (0.7, 0.81, 0.9), "same": (0.51, 0.6, 0.69)}
    runs = [
        {"arm": arm, "seed": seed, "end": [score], "log": log, "updates": 4, "sampled": [64] * 4,
         "tokens": 1000}
        for arm, values in scores.items() for seed, score in enumerate(values)
    ]  # fmt: skip
    return {"arms": arms, "runs": runs, "tuning": []}


def test_differences_are_paired_by_seed_and_corrected_over_all_arms():
    frame = ablations.ablation_differences(made_up()).set_index("arm")
    assert frame["points"].round(2).to_dict() == {"up": 20.33, "same": 0.0}
    assert [round(d) for d in frame.loc["up", "seeds"]] == [20, 21, 20]
    assert frame.loc["up", "shown"] and not frame.loc["same", "shown"]
    assert frame.loc["up", "corrected"] == pytest.approx(2 * frame.loc["up", "p"])


def test_the_table_tells_what_each_arm_cost():
    table = ablations.ablation_table(made_up(), "reuse")
    assert table["clip"].to_dict() == {"base": "0.2", "up": "none", "same": "weight at most 5"}
    assert table.loc["base", ["updates", "answers", "tokens", "seeds"]].tolist() == [
        4,
        256,
        1000,
        3,
    ]
    assert table.loc["up", "clipped, %"] == 2 and table.loc["base", "right, %"] == pytest.approx(60)
