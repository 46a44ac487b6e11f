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
    dose_rows,
    front_rows,
    interval_rows,
    means_of,
    method_sets,
    paired_rows,
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
from postlab.objectives.front import pareto_front
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


def made_up_sets() -> dict:
    one = {"safety": np.array([[0, 1], [1, 1]]), "helpfulness": np.array([[0, 1], [1, 0]])}
    return dict.fromkeys(METHODS, one)


def test_a_front_is_marked_by_the_function_that_is_handed_over():
    rows = front_rows(made_up_sets(), pareto_front, ["safety", "helpfulness"])
    assert len(rows) == 2 * len(METHODS)
    assert rows["front"].tolist()[:2] == [False, True]
    assert rows.loc[1, ["safety", "helpfulness"]].tolist() == [100.0, 50.0]


def test_the_soups_are_there_twice_and_a_method_pays_for_what_it_starts_from():
    texts = run([0, 1], [1, 1])["metrics"]
    runs = [{"weights": w, "metrics": texts, "seconds": 1.0} for w in ([1, 0, 0], [0.5, 0.5, 0])]
    trained = [{"weights": [1, 0, 0], "metrics": texts, "train_s": 10.0, "seconds": 1.0}]
    looks = [{"looks": [{"metrics": texts}], "train_s": 4.0, "seconds": 1.0}]
    seed = dict.fromkeys(METHODS, trained) | {"soups": runs, "targeted": looks, "corners": trained}
    seed["mixed"] = 2 * trained
    record = {"start": {}, "runs": {"0": seed}, "ladder": [[1.0, 0.0, 0.0]]}
    sets = method_sets(record, [0], ["safety"])
    assert len(sets["soups"]["safety"]) == 2 and len(sets["soups, 7"]["safety"]) == 1
    table = bill(record)
    assert table.loc["soups"].tolist() == [10.0, 3.0]
    assert table.loc["mixed pairs, DPO"].tolist() == [20.0, 2.0]
    assert table.loc["targeted RLHF"].tolist() == [14.0, 1.0]


# --- figures ---


def test_soups_are_drawn_on_three_triangles_and_the_balanced_one_is_named():
    rows = [(1, 0, 0, 98, 0, 20), (0, 1, 0, 40, 100, 60), (0.5, 0.5, 0, 90, 70, 65)]
    columns = ["helpful", "safe", "honest", "helpfulness", "safety", "honesty"]
    fig = plot_soups(pd.DataFrame(rows, columns=columns))
    assert len(fig.axes) == 3
    alone, soup = title(fig).split(";")
    assert "helpfulness 98%, safety 100%, honesty 60%" in alone
    assert "helpfulness 90%, safety 70%, honesty 65%" in soup


def series(**columns):
    rows = [{"value": v, "low": v - 5, "high": v + 5} for v in columns.pop("value")]
    return pd.DataFrame(rows).assign(**columns)


def test_weights_name_the_best_balance_of_each_method():
    frames = [
        series(value=[10, 60, 90], metric="safety", rung=range(3), label=["0", "1", "2"]),
        series(value=[99, 70, 20], metric="helpfulness", rung=range(3), label=["0", "1", "2"]),
    ]
    frame = pd.concat(frames).assign(method="mixed")
    said = title(plot_weights(frame))
    assert "mixed pairs, DPO at weight 1: safety 60%, helpfulness 70%" in said


def test_multipliers_are_drawn_a_line_a_level_and_said():
    frame = pd.concat(
        pd.DataFrame({"step": [1, 2], "multiplier": [1.0, m], "measured": [20.0, 70.0]}).assign(
            level=level
        )
        for level, m in ((50, 0.5), (90, 2.25))
    )
    said = title(plot_dual(frame))
    assert "0.5 at level 50%, 2.2 at level 90%" in said


def test_doses_are_drawn_a_panel_a_start_and_said():
    frames = [
        series(value=v, metric=metric, dose=[2, 24], start="the DPO stage")
        for metric, v in (("safety", [97, 100]), ("helpfulness", [98, 60]))
    ]
    fig = plot_doses(pd.concat(frames))
    assert "after the DPO stage safety +3, helpfulness -38" in title(fig)


def test_volumes_name_the_largest_of_both_ways():
    rows = [
        ("soups", "as measured", 0.7),
        ("soups", "chosen elsewhere", 0.6),
        ("mixed", "as measured", 0.55),
        ("mixed", "chosen elsewhere", 0.54),
    ]
    frame = pd.DataFrame(rows, columns=["method", "how", "value"])
    frame = frame.assign(low=frame["value"] - 0.05, high=frame["value"] + 0.05)
    frame["seeds"] = [[v] for v in frame["value"]]
    said = title(plot_volumes(frame))
    wanted = "Largest hypervolume: as measured soups (0.70), chosen elsewhere soups (0.60)"
    assert said == wanted


def test_a_front_is_a_staircase_and_stars_have_names():
    rows = [
        {"method": "soups", "safety": s, "helpfulness": h, "front": front}
        | {f"{m}_{end}": x + d for m, x in (("safety", s), ("helpfulness", h))
           for end, d in (("low", -3), ("high", 3))}
        for s, h, front in ((20, 95, True), (60, 80, True), (50, 50, False))
    ]  # fmt: skip
    rows.append({"method": "oracle", "safety": 99, "helpfulness": 98, "front": False})
    levels = series(value=[80, math.nan], method="soups", held=[50, 90])
    fig = plot_front(pd.DataFrame(rows), levels, about="A finding")
    assert title(fig) == "A finding"
    texts = [text.get_text() for text in fig.axes[0].texts]
    assert texts == ["oracle"]
    stairs = [line for line in fig.axes[0].lines if line.get_drawstyle() == "steps-pre"]
    assert [*stairs[0].get_xdata()] == [0.0, 20, 60, 60]
    assert [*stairs[0].get_ydata()] == [95, 95, 80, 0.0]


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
