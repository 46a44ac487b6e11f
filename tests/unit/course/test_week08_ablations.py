"""Week 8's ablations: figures, and what the experiment's arms change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from modules import module_at
from scipy import stats as scipy_stats

from postlab.course.week08 import ablations
from postlab.course.week08 import figures_ablations as figures
from postlab.profile import data_dir, get_profile

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


@pytest.fixture(scope="module")
def experiment():
    return module_at(EXPERIMENT, "week08_ablations")


def test_every_arm_differs_from_its_base_in_what_its_name_says(experiment):
    recipe = dict(get_profile("tiny").grpo.trainer)
    for name, arm in experiment.ARMS.items():
        base = experiment.ARMS[arm["base"]]["how"] if arm["base"] else {}
        one, other = recipe | arm["how"], recipe | base
        changed = {k for k in one.keys() | other.keys() if one.get(k) != other.get(k)}
        assert changed or arm.get("dynamic") or name == "recipe", name
        if name.startswith("groups"):
            assert changed == {"num_generations"}, name
    sizes = {
        (recipe | arm["how"])["per_device_train_batch_size"]
        * arm["how"].get("steps_per_generation", 1)
        for arm in experiment.ARMS.values()
    }
    assert sizes == {recipe["per_device_train_batch_size"]}


def test_a_run_is_made_again_when_its_arm_or_its_start_changes(experiment, monkeypatch):
    keys = {arm: experiment.key_of(arm) for arm in experiment.ARMS}
    assert len(set(keys.values())) == len(keys)
    assert experiment.key_of("GSPO") == keys["GSPO"]
    monkeypatch.setattr(experiment, "adapter_hash", lambda stage: "another start")
    assert experiment.key_of("GSPO") != keys["GSPO"]


@pytest.fixture(scope="module")
def recorded():
    file = data_dir() / "results" / "week08" / "ablations.json"
    assert file.stat().st_size < 300_000
    return json.loads(file.read_text(encoding="utf-8"))


def test_every_arm_is_recorded_on_every_seed_and_on_the_same_prompts(experiment, recorded):
    assert {"command", "commit", "seeds", "date", "device", "versions"} <= set(
        recorded["provenance"]
    )
    assert recorded["arms"] == experiment.ARMS and recorded["settings"] == experiment.SETTINGS
    assert len(recorded["provenance"]["seeds"]) == 5
    made = [(run["arm"], run["seed"]) for run in recorded["runs"]]
    wanted = [(arm, seed) for seed in experiment.SEEDS for arm in experiment.ARMS]
    assert made == wanted
    counts = {name: len(values) for name, values in recorded["start"].items()}
    assert counts["arithmetic"] == 200
    for run in recorded["runs"]:
        assert {name: len(values) for name, values in run["end"].items()} == counts
        batches = len(run["log"]["reward"])
        assert batches == (5 if "max_steps" in recorded["arms"][run["arm"]]["how"] else 12)
        assert len(run["sampled"]) == batches


def test_only_dynamic_sampling_draws_more_and_only_several_steps_clip(recorded):
    for run in recorded["runs"]:
        how = recorded["arms"][run["arm"]]
        assert (sum(run["sampled"]) > 64 * len(run["sampled"])) == bool(how.get("dynamic"))
        clipped = run["log"]["clip_ratio/region_mean"]
        reused = "steps_per_generation" in how["how"] and run["arm"] != "no clip"
        assert any(clipped) == reused, run["arm"]


def made_up() -> dict:
    """A record with one base and two arms, whose differences are known."""
    log = {"reward": [0.5, 0.75], "frac_reward_zero_std": [0.25, 0.25], "entropy": [0.1, 0.1],
           "clip_ratio/region_mean": [0.02, 0.02], "completions/mean_length": [10, 20]}  # fmt: skip
    arms = {
        "base": {"base": None, "how": {}},
        "up": {"base": "base", "how": {"epsilon": 10.0}},
        "same": {"base": "base",
                 "how": {"loss_type": "cispo", "epsilon_high": 5.0}},
    }  # fmt: skip
    scores = {"base": (0.5, 0.6, 0.7), "up": (0.7, 0.81, 0.9), "same": (0.51, 0.6, 0.69)}
    runs = [
        {"arm": arm, "seed": seed, "end": {"arithmetic": [score]}, "log": log, "sampled": [64, 64]}
        for arm, values in scores.items() for seed, score in enumerate(values)
    ]  # fmt: skip
    return {"arms": arms, "runs": runs}


def test_differences_are_paired_by_seed_and_corrected_over_all_arms():
    frame = ablations.ablation_differences(made_up()).set_index("arm")
    assert frame["points"].round(2).to_dict() == {"up": 20.33, "same": 0.0}
    assert [round(d) for d in frame.loc["up", "seeds"]] == [20, 21, 20]
    assert frame.loc["up", "shown"] and not frame.loc["same", "shown"]
    assert frame.loc["up", "corrected"] == pytest.approx(2 * frame.loc["up", "p"])


def grouped() -> dict:
    """The same record with groups, and an arm whose runs end exactly as the base's."""
    record = made_up()
    record["arms"]["copy"] = {"base": "base", "how": {"beta": 0.04}}
    copies = [run | {"arm": "copy"} for run in record["runs"] if run["arm"] == "base"]
    few = [run | {"arm": "few"} for run in record["runs"] if run["arm"] == "up"][:2]
    record["arms"]["few"] = {"base": "base", "how": {}}
    record["runs"] += copies + few
    for name, arm in record["arms"].items():
        arm["group"] = "losses" if name == "up" else "recipe"
    return record


def test_each_arm_is_tested_with_the_noise_of_its_own_pairs():
    frame = ablations.paired_differences(grouped()).set_index("arm")
    assert list(frame.index) == ["up", "same", "copy"]  # two seeds in common are too few
    # Differences of 20, 21 and 20 points: mean 20.33, standard error 1/3; t(2) at 97.5% is 4.303.
    assert frame.loc["up", "points"] == pytest.approx(61 / 3)
    assert frame.loc["up", "low"] == pytest.approx(61 / 3 - 4.3027 / 3, abs=1e-3)
    assert frame.loc["up", "p"] == pytest.approx(scipy_stats.ttest_1samp([20, 21, 20], 0).pvalue)
    assert frame.loc["up", "corrected"] == pytest.approx(3 * frame.loc["up", "p"])
    assert frame.loc["up", "moved"] == 100 and frame.loc["same", "moved"] == pytest.approx(200 / 3)
    assert len(ablations.paired_differences(grouped(), least=2)) == 4


def test_an_arm_that_ends_as_its_base_has_no_interval_but_counts_as_a_comparison():
    copy = ablations.paired_differences(grouped()).set_index("arm").loc["copy"]
    assert copy["points"] == copy["moved"] == 0 and copy["p"] == copy["corrected"] == 1
    assert np.isnan([copy[name] for name in ("low", "high", "detectable")]).all()
    assert not copy["shown"]


def test_the_detectable_difference_is_found_with_the_wanted_power():
    frame = ablations.paired_differences(grouped(), power=0.9).set_index("arm")
    spread, freedom = np.std([20, 21, 20], ddof=1), 2
    for column, alpha in (("detectable", 0.05), ("detectable, first of Holm", 0.05 / 3)):
        critical = scipy_stats.t.isf(alpha / 2, freedom)
        shift = frame.loc["up", column] / (spread / np.sqrt(3))
        assert scipy_stats.nct.sf(critical, freedom, shift) == pytest.approx(0.9, abs=1e-6)


def test_variants_are_drawn_by_question_and_without_an_interval_where_there_is_none():
    frame = ablations.paired_differences(grouped())
    figure = figures.plot_variants(frame, {"losses": "Which loss?", "recipe": "What else?"})
    assert "Of 3 changes to GRPO, 1 makes a difference" in title(figure).replace("\n", " ")
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["up", "same", "copy"]
    assert len(panel.collections) == 2  # intervals
    texts = [text.get_text() for text in panel.texts]
    assert "Which loss? (compared with base)" in texts and "80.3%" in texts
    quiet = figures.plot_variants(frame.assign(shown=False), {"losses": "a", "recipe": "b"})
    assert title(quiet).startswith("None of 3 changes to GRPO")


def test_the_table_tells_what_each_arm_cost():
    table = ablations.ablation_table(made_up())
    assert table["clip"].to_dict() == {"base": "0.2", "up": "none", "same": "weight at most 5"}
    assert table.loc["base", ["updates", "answers", "tokens", "seeds"]].tolist() == [
        2,
        128,
        1920,
        3,
    ]
    assert table.loc["up", "clipped, %"] == 2 and table.loc["base", "right, %"] == pytest.approx(60)


def test_rewards_are_set_against_the_updates_that_the_policy_had():
    record = made_up()
    record["arms"]["up"]["how"] = {"steps_per_generation": 4}
    frame = ablations.rewards_by_update(record, ["base", "up"])
    shown = frame[frame["seed"] == 0].groupby("arm")["updates"].agg(list).to_dict()
    assert shown == {"base": [0, 1], "up": [0, 4]}
    assert set(frame["reward"]) == {0.5, 0.75}


MATCHED = EXPERIMENT.with_name("week08_matched.py")


def test_the_matched_experiment_takes_the_same_completions_in_every_arm():
    matched = module_at(MATCHED, "week08_matched")
    for name, spec in matched.REUSE.items():
        how = matched.arguments({"learning_rate": 1e-4, **spec})
        uses = how["num_iterations"] * how.get("steps_per_generation", 1)
        size = how["per_device_train_batch_size"] * how.get("steps_per_generation", 1)
        assert size * how["max_steps"] / uses == 4 * matched.SETTINGS["completions"], name
        assert how["max_steps"] == (4 if name == "one update" else 16), name
    named = {name for names, _ in matched.STAGES for name in names}
    assert named == {*matched.REUSE, *matched.LOSSES, *matched.RECIPE, "GSPO"}


def test_the_matched_record_holds_whole_stages_in_their_order():
    matched = module_at(MATCHED, "week08_matched")
    file = data_dir() / "results" / "week08" / "matched.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["settings"] == matched.SETTINGS and len(record["start"]) == 200
    made, whole = [(run["arm"], run["seed"]) for run in record["runs"]], []
    for names, seeds in matched.STAGES:
        if len(whole) < len(made):
            whole += [(name, seed) for seed in seeds for name in names]
    assert made == whole
    assert len(set(made)) == len(made) == len(record["arms"]) * len(matched.SEEDS)
    for run in record["runs"]:
        assert len(run["end"]["arithmetic"]) == 200, run["arm"]
        assert sum(run["sampled"]) >= 256, run["arm"]  # dynamic sampling takes more
    for name, arm in record["arms"].items():
        trials = [one for one in record["tuning"] if one["name"] == name]
        best = max(trials, key=lambda one: sum(one["scores"]), default={"spec": arm["how"]})
        assert best["spec"] == arm["how"], name
