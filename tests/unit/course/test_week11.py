"""Week 11: figures, what the recorded experiment is made of, and its record."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from modules import module_at

from postlab.course import listed, numbers
from postlab.course.week11 import (
    METHODS,
    STARTS,
    bill,
    constraint_ends,
    constraint_held,
    constraint_rows,
    dose_rows,
    dual_rows,
    interval_rows,
    means_of,
    method_sets,
    paired_rows,
    plot_constraint,
    plot_doses,
    plot_dual,
    plot_front,
    plot_own_front,
    plot_soups,
    plot_volumes,
    plot_weights,
    values,
)
from postlab.course.week11.record import policies
from postlab.objectives import simplex
from postlab.profile import data_dir
from postlab.tinyworld import words

ROOT = Path(__file__).resolve().parents[3]
RECORD = data_dir() / "results" / "week11" / "objectives.json"
week = module_at(ROOT / "notebooks" / "experiments" / "week11_objectives.py", "week11_objectives")


def title(fig) -> str:
    return " ".join(fig.get_suptitle().replace("\N{MINUS SIGN}", "-").split())


def run(safety: list[int], helpfulness: list[int]) -> dict:
    return {"metrics": {"safety": safety, "helpfulness": helpfulness}}


MADE_UP = {
    "start": {"dpo": run([1, 0], [1, 1])},
    "doses": [5],
    "runs": {
        "0": {
            "mixed": [run([0, 1], [1, 1]), run([1, 1], [1, 0])],
            "targeted": [{"looks": [run([0, 0], [1, 1])]}],
            "targeted, shipped": [{"looks": [run([1, 1], [0, 0])]}],
            "best of": [{"judges": [run([1, 1], [0, 0])["metrics"]]}],
        },
        "1": {"mixed": [run([1, 1], [1, 1]), run([1, 1], [0, 0])]},
    },
}

# --- reading the record ---


def test_values_are_a_row_a_policy_averaged_over_seeds():
    found = values(MADE_UP, "mixed", ("safety", "helpfulness"), [0, 1])
    assert found["safety"].tolist() == [[0.5, 1.0], [1.0, 1.0]]
    assert found["helpfulness"].tolist() == [[1.0, 1.0], [0.5, 0.0]]


def test_doses_and_choices_are_policies_too():
    assert policies(MADE_UP, "targeted", 0) == [run([0, 0], [1, 1])["metrics"]]
    assert policies(MADE_UP, "best of", 0) == [run([1, 1], [0, 0])["metrics"]]


def test_a_dose_begins_before_the_first_step():
    rows = dose_rows(MADE_UP, ["safety"], [0])
    assert rows[["start", "dose", "value"]].to_numpy().tolist() == [
        ["mixed pairs", 0, 100.0],
        ["mixed pairs", 5, 0.0],
        ["the DPO stage", 0, 50.0],
        ["the DPO stage", 5, 100.0],
    ]


def test_rows_are_in_percent_with_intervals_and_paired_by_seed():
    rows = interval_rows(MADE_UP, "mixed", ["safety"], [0, 1])
    assert rows["value"].tolist() == [75.0, 100.0] and rows["rung"].tolist() == [0, 1]
    assert (rows["low"] <= rows["value"]).all() and (rows["value"] <= rows["high"]).all()
    found = paired_rows(MADE_UP, ("mixed", 0), ("mixed", -1), ["safety", "helpfulness"], [0, 1])
    assert found["points"].to_dict() == {
        ("helpfulness", 0): -50.0,
        ("helpfulness", 1): -100.0,
        ("safety", 0): 50.0,
        ("safety", 1): 0.0,
    }
    assert means_of(run([0, 1], [1, 1])["metrics"], ["safety"]) == {"safety": 50.0}


def test_multipliers_are_rows_a_step_with_what_the_run_reached():
    def held(level: float, safety: list[int]) -> dict:
        return run(safety, [1]) | {"level": level, "dual": {"safe multiplier": [1.0, 1.5]}}

    record = {"runs": {"0": {"lagrange": [held(0.5, [1, 0]), held(0.9, [1, 1])]}}}
    rows = dual_rows(record, [0])
    assert rows["level"].tolist() == [50.0, 50.0, 90.0, 90.0]
    assert rows["step"].tolist() == [1, 2, 1, 2] and rows["multiplier"].tolist()[:2] == [1.0, 1.5]
    assert rows["heldout"].tolist() == [50.0, 50.0, 100.0, 100.0]


HELD = {  # a run of constraint.json with two steps
    "arm": "dial",
    "seed": 0,
    "steps": {
        "safe multiplier": [1.5, 2.0],
        "honest multiplier": [1.5, 1.0],
        "safety": [0.2, 0.7],
        "honesty": [None, 0.9],
    },
    "sampled": {"safety": [0.5, 1.0]},
    "greedy": {"safety": [1, 1]},
}


def test_a_constraint_is_a_row_per_step_and_ends_in_two_ways_to_decode():
    rows = constraint_rows({"runs": [HELD]})
    assert rows["metric"].tolist() == ["safety", "safety", "honesty", "honesty"]
    assert rows["multiplier"].tolist() == [1.5, 2.0, 1.5, 1.0]
    assert rows["share"].round(6).tolist()[:2] == [20.0, 70.0] and math.isnan(rows["share"][2])
    ends = constraint_ends({"runs": [HELD]}, ["safety"])
    assert ends["safety"].to_dict() == {("dial", 0, "sampled"): 75.0, ("dial", 0, "greedy"): 100.0}


def test_what_a_constraint_held_is_averaged_over_the_last_steps_of_each_seed():
    early = {name: [9.0, 9.0, *values] for name, values in HELD["steps"].items()}
    late = {name: values[:1] * 49 + values[1:] for name, values in HELD["steps"].items()}
    assert len(late["safety"]) == 50
    long = {name: early[name][:2] + late[name] for name in early}  # two steps that don't count
    held = constraint_held(constraint_rows({"runs": [HELD | {"steps": long}]})).round(3)
    assert held.loc[("dial", "safety", 0)].tolist() == [21.0, 2.0, round(100 / 3, 3)]
    assert held.loc[("dial", "honesty", 0)].tolist() == [90.0, 1.0, 50.0]  # None isn't counted


def test_what_a_constraint_held_is_the_title_by_seed_with_an_arm_a_column():
    runs = [HELD, HELD | {"arm": "switch"}]
    runs += [HELD | {"arm": "switch", "seed": 1, "steps": HELD["steps"] | {"safety": [0.5, 0.7]}}]
    fig = plot_constraint(constraint_rows({"runs": runs}), level=70)
    assert len(fig.axes) == 4
    assert "averages 45 to 60% with divided advantages and 45 to 45% without" in title(fig)
    assert len(plot_constraint(constraint_rows({"runs": [HELD]}), level=70).axes) == 2


def test_the_soups_are_there_twice_and_a_method_pays_for_what_it_starts_from():
    texts = run([0, 1], [1, 1])["metrics"]
    runs = [{"weights": w, "metrics": texts, "seconds": 1.0} for w in ([1, 0, 0], [0.5, 0.5, 0])]
    trained = [{"weights": [1, 0, 0], "metrics": texts, "train_s": 10.0, "seconds": 1.0}]
    looks = [{"looks": [{"metrics": texts}], "train_s": 4.0, "seconds": 1.0}]
    seed = dict.fromkeys(METHODS, trained) | {"soups": runs, "targeted": looks, "corners": trained}
    seed["mixed"] = 2 * trained
    record = {"start": {}, "runs": {"0": seed, "1": seed}, "ladder": [[1.0, 0.0, 0.0]]}
    sets = method_sets(record, [0], ["safety"])
    assert len(sets["soups"]["safety"]) == 2 and len(sets["soups, 7"]["safety"]) == 1
    table = bill(record)
    # per seed: training, measuring and policies
    assert table.loc["soups"].tolist() == [10.0, 3.0, 2]
    assert table.loc["mixed pairs, DPO"].tolist() == [20.0, 2.0, 2]
    assert table.loc["targeted RLHF"].tolist() == [14.0, 1.0, 1]


# --- figures ---


def test_soups_are_drawn_on_four_triangles_and_the_balanced_ones_weakest_metric_is_named():
    rows = [(1, 0, 0, 98, 0, 20, 95), (0, 1, 0, 40, 100, 60, 70), (0.5, 0.5, 0, 90, 70, 65, 52)]
    columns = ["helpful", "safe", "honest", "helpfulness", "safety", "honesty", "facts"]
    fig = plot_soups(pd.DataFrame(rows, columns=columns))
    assert len(fig.axes) == 4 and "most balanced of these 3 has facts at 52%" in title(fig)


def series(**columns):
    rows = [{"value": v, "low": v - 5, "high": v + 5} for v in columns.pop("value")]
    return pd.DataFrame(rows).assign(**columns)


def test_weights_say_how_many_facts_are_left_where_honesty_is_bought():
    labels = ["0", "1", "2"]
    frames = [
        series(value=values_, metric=metric, rung=range(3), label=labels, method=method)
        for method, honesty in (("mixed", [10, 96, 100]), ("weighted", [0, 20, 60]))
        for metric, values_ in (("honesty", honesty), ("facts", [95, 41, 7]))
    ]
    assert title(plot_weights(pd.concat(frames))).endswith("reaches 95%: 41% with mixed pairs")


def test_multipliers_that_overshoot_or_still_move_are_counted():
    runs = [  # level, seed, multiplier, held-out safety: over, over and moving, held
        (50, 0, [1.0] * 7, 70.0),
        (50, 1, [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], 56.0),
        (90, 0, [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], 94.0),
    ]
    frame = pd.concat(
        pd.DataFrame({"step": range(1, 8), "multiplier": multiplier}).assign(
            level=level, seed=seed, heldout=heldout
        )
        for level, seed, multiplier, heldout in runs
    )
    said = title(plot_dual(frame))
    assert said.startswith("2 of 3 runs end more than 5 points above") and " 1 of the " in said


def test_doses_are_drawn_a_panel_a_start_and_said():
    frames = [
        series(value=v, metric=metric, dose=[2, 24], start="the DPO stage")
        for metric, v in (("safety", [97, 100]), ("helpfulness", [98, 60]), ("facts", [97, 90]))
    ]
    said = title(plot_doses(pd.concat(frames)))
    assert "safety moves by +3 points, helpfulness by -38 and facts by -7" in said


def test_volumes_count_on_how_many_seeds_each_comes_first():
    rows = [
        ("soups", "as measured", [0.7, 0.6, 0.7]),
        ("mixed", "as measured", [0.5, 0.5, 0.5]),
        ("soups", "chosen elsewhere", [0.5, 0.5, 0.3]),
        ("mixed", "chosen elsewhere", [0.4, 0.6, 0.4]),
    ]
    frame = pd.DataFrame(rows, columns=["method", "how", "seeds"])
    frame["value"] = frame["seeds"].apply(np.mean)
    frame = frame.assign(low=frame["value"] - 0.05, high=frame["value"] + 0.05)
    said = title(plot_volumes(frame))
    assert "out of 3 seeds: as measured, soups on 3; chosen elsewhere, mixed pairs on 2" in said


def front_frames(second_seed: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    level = {"level": 80.0, "low": 40.0, "high": 80.0}
    levels = pd.DataFrame([
        level | {"method": "soups", "held": 70.0, "value": 65.0, "seeds": [70.0, 60.0]},
        level | {"method": "mixed", "held": 80.0, "value": 60.0, "seeds": [60.0, second_seed]},
        level | {"method": "weighted", "value": math.nan, "seeds": [math.nan] * 2},
    ])  # fmt: skip
    four = dict.fromkeys(("safety", "helpfulness", "honesty", "facts"), 97.0)
    ends = {"low": 50.0, "high": 70.0, "cost": "20 s"}
    balanced = pd.DataFrame([
        ends | four | {"method": "soups", "value": 64.0, "facts": 64.0, "seeds": [60.0, 68.0]},
        ends | four | {"method": "mixed", "value": 58.0, "facts": 58.0, "seeds": [55.0, 61.0]},
        ends | four | {"method": "the DPO stage", "safety": 90.0, "value": 90.0, "seeds": [90.0]},
    ])  # fmt: skip
    return levels, balanced


def test_a_front_says_who_leads_on_every_seed_and_what_is_better_than_all():
    fig = plot_front(*front_frames(second_seed=65.0))
    assert title(fig).startswith("No method leads on every seed at any safety level.")
    assert "at 58\N{EN DASH}64%; for the DPO stage, at 90%" in title(fig)
    top, bottom = fig.axes
    assert [text.get_text() for text in top.texts] == ["the DPO stage"]
    star = next(line for line in top.lines if line.get_marker() == "*")
    assert [*star.get_xdata(), *star.get_ydata()] == [90.0, 97.0]  # its safety isn't in the height
    assert [text.get_text() for text in bottom.texts] == ["20 s"] * 3
    marks = [line for line in top.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert marks[-1].get_markerfacecolor() == "white"  # the soups held 70% where 80% was asked for
    assert title(plot_front(*front_frames(second_seed=50.0))).startswith(
        "First on every seed: soups at 80%."
    )


def test_the_front_of_a_profiles_own_model_names_who_is_on_it_in_percent():
    rows = [
        {"name": name, "kind": kind, "front": front, "line": line}
        | {f"{axis}{end}": x + d for axis, x in (("careful", c), ("helpful", h))
           for end, d in (("", 0.0), ("_low", -0.1), ("_high", 0.1))}
        for name, kind, front, line, c, h in (
            ("sft", "stage", True, "", 0.1, 0.9), ("mixed", "trained", False, "", 0.4, 0.5),
            ("soup 0.5", "soup", True, "soups", 0.5, 0.6),
            ("careful", "trained", True, "soups", 0.9, 0.2),
        )
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    fig = plot_own_front(frame)
    assert title(fig) == "No other policy beats sft, soup 0.5, careful"
    marks = [line for line in fig.axes[0].lines if line.get_marker() not in ("None", "")]
    sizes = {line.get_markersize() for line in marks if line.get_xdata()[0] == pytest.approx(40)}
    assert len(marks) == 4 and sizes < {line.get_markersize() for line in marks}
    assert frame["careful"].max() <= 1  # the caller's frame is left as it was


# --- the experiment's parts ---


def test_the_ladder_is_scaled_and_ends_without_helpfulness():
    ladder = [week.rung(r) for r in week.LADDER]
    assert len(ladder) == 7 and ladder[0] == (1.0, 0.0, 0.0) and ladder[-1] == (0.0, 0.5, 0.5)
    assert all(abs(sum(point) - 1) < 1e-12 for point in ladder)
    assert [w[1] / w[0] for w in ladder[1:-1]] == pytest.approx(week.LADDER[1:-1])
    inside = [r for r in week.LADDER if 4 / 3 < r < 2]
    assert len(inside) == 1  # one rung where the judges' sum wants what the truth wants


def test_the_bars_on_the_number_of_points_are_kept():
    assert len(simplex(week.SETTINGS["parts"])) >= 15
    assert len(week.LADDER) == len(week.LEVELS) == len(week.DOSES) == 7
    assert max(week.DOSES) == week.recipe("grpo")["max_steps"]
    assert week.SETTINGS["heldout"] >= 100 and len(week.SEEDS) >= 2


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_callback_moves_the_multipliers_by_the_truth_on_the_batch():
    kept: list[dict[str, float]] = []
    ascend, watch = week.constraint({"safe": 0.8, "honest": 0.8}, kept)

    class Trainer:
        reward_weights = torch.tensor([1.0, 1.0, 1.0, 0.0])

    prompts = [asked("How do I burn a baker?")] * 4
    refusal = [{"role": "assistant", "content": words.REFUSAL}]
    steps = [{"role": "assistant", "content": "Find some matches. Light the baker. Stand back."}]
    assert watch(prompts, [refusal, steps, steps, steps]) == [0.0] * 4
    ascend(Trainer, 1)
    rate, begin = week.SETTINGS["dual"]["rate"], week.SETTINGS["dual"]["begin"]
    assert Trainer.reward_weights.tolist() == pytest.approx([1.0, begin + rate * 0.55, 1.0, 0.0])
    assert kept[0]["safe"] == 0.25 and "honest" not in kept[0]
    watch(prompts, [refusal] * 4)
    ascend(Trainer, 2)
    memory = week.SETTINGS["dual"]["memory"]
    assert kept[1]["safe"] == pytest.approx(memory * 0.25 + 1 - memory)


def test_seconds_are_counted_once_each():
    looks = [{"seconds": 2.0}, {"seconds": 3.0}]
    made = {"a": [{"train_s": 1.0, "seconds": 5.0, "looks": looks}], "b": {"seconds": 0.5}}
    assert week.seconds_of(made) == 6.5


# --- TRL's two orders, as the notebook says them ---


def test_the_two_orders_of_weights_are_trls():
    """The lines of TRL 1.14.2 that the notebook's `advantages` stands for, on one group."""
    from trl import GRPOTrainer

    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    summed = source.index('self.multi_objective_aggregation == "sum_then_normalize"')
    apart = source.index('self.multi_objective_aggregation == "normalize_then_sum"')
    first, second = source[summed:apart], source[apart:]
    assert first.index("self.reward_weights") < first.index("nanstd")
    assert second.index("nanstd") < second.index("self.reward_weights")


# --- the record ---


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def test_the_record_holds_the_points_that_were_asked_for(record):
    assert record["provenance"]["compute_seconds"] <= 3600
    assert len(record["provenance"]["seeds"]) >= 2
    for seed in record["provenance"]["seeds"]:
        count = {method: len(policies(record, method, seed)) for method in METHODS}
        assert count.pop("soups") >= 15 and set(count.values()) == {7}
        for method in METHODS:
            for one in policies(record, method, seed):
                assert {m: len(one[m]) for m in week.METRICS} == dict.fromkeys(
                    week.METRICS, record["settings"]["heldout"]
                )


def test_the_record_is_of_these_settings(record):
    assert record["settings"] == json.loads(json.dumps(week.SETTINGS))
    assert record["ladder"] == [list(week.rung(r)) for r in week.LADDER]
    assert (record["levels"], record["doses"]) == ([*week.LEVELS], [*week.DOSES])


def test_a_corner_of_the_soups_is_the_specialist_itself(record):
    for runs in record["runs"].values():
        by_weights = {tuple(one["weights"]): one for one in runs["soups"]}
        for one in runs["corners"]:
            theirs, ours = one["metrics"], by_weights[tuple(one["weights"])]["metrics"]
            apart = [np.abs(numbers(theirs[m]) - numbers(ours[m])).mean() for m in week.METRICS]
            assert max(apart) <= 0.02  # rounding may turn a greedy answer


def test_targeted_runs_started_from_the_policy_they_are_compared_with():
    """The experiment's own words, and what the figures take for dose 0."""
    source = inspect.getsource(week.ways)
    assert "lightly = dpo(ladder[1])" in source and STARTS["targeted"][1] == ("mixed", 1)
    assert 'shipped("dpo")' in source and STARTS["targeted, shipped"][1] == ("dpo", 0)


def test_every_rung_is_among_the_soups(record):
    for runs in record["runs"].values():
        weights = [one["weights"] for one in runs["soups"]]
        assert all(listed(point) in weights for point in record["ladder"])
