"""Week 10: figures, what the recorded experiment is made of, and its record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from modules import module_at

from postlab import process as prm
from postlab.course import numbers
from postlab.course.week10 import figures, figures_credit, figures_heads
from postlab.course.week10 import figures_gamed as gamed
from postlab.process import error_f1
from postlab.profile import data_dir
from postlab.stats import paired_difference
from postlab.tinyworld import tasks
from postlab.tinyworld.oracle import read

ROOT = Path(__file__).resolve().parents[3]
RECORD = data_dir() / "results" / "week10" / "prm.json"
experiment = module_at(ROOT / "notebooks" / "experiments" / "week10_prm.py", "week10_prm")


def title(fig) -> str:
    return " ".join(fig.get_suptitle().replace("\N{MINUS SIGN}", "-").split())


# --- figures ---


def test_gains_are_paired_and_averaged_over_seeds():
    told = {"majority": [[0, 1, 0, 1], [0, 1, 0, 1]], "process, min": [[1, 1, 0, 1], [1, 1, 1, 1]]}
    row = figures.gains(told, ["process, min"]).iloc[0]
    assert (row["value"], row["points"], row["seeds"]) == (87.5, 37.5, [25.0, 50.0])
    assert row["low"] <= 37.5 <= row["high"]
    other = figures.gains(told, ["majority"], over="process, min").iloc[0]
    assert other["points"] == -37.5


def test_the_choice_says_what_16_replies_are_worth():
    rows = [
        {"selector": name, "n": n, "value": value * n / 16, "low": 0.1, "high": 0.9}
        for name, value in (("majority", 0.5), ("process, min", 0.75), ("something", 0.1))
        for n in (1, 16)
    ]
    said = title(figures.plot_choice(pd.DataFrame(rows)))
    assert said == (
        "With 16 replies, best-of-n by the process model is right on 75% of the prompts,"
        " the majority on 50%"
    )


def test_a_choice_by_form_counts_steps_and_nothing_else():
    run = {"prompts": [0, 0, 0, 1, 1], "sizes": [1, 3, 3, 1, 1], "truth": [-1, -1, 0, -1, 0]}
    # A sum of three terms: two replies have three steps, and one of them is right. The other sum
    # has no reply with four steps, so any of its two is taken.
    assert figures.form_only([run], (3, 4)) == [[0.5, 0.5]]
    assert figures.form_only([run | {"sizes": [3, 1, 3, 4, 1]}], (3, 4)) == [[0.5, 1.0]]


FOUND = {"process": [0, 1, -1, -1], "random": [0, 0, 0, -1]}


def test_errors_are_pooled_over_seeds_and_can_leave_short_replies_out():
    run = {"prompts": [0, 0, 1, 2], "truth": [0, 1, -1, -1], "sizes": [1, 3, 3, 3], "found": FOUND}
    both = figures.found_errors([run, run]).set_index("finder")
    assert both.loc["process", "f1"] == 1.0 and both.loc["process", "replies"] == 8
    assert both.loc["process", "slips"] == 4
    assert both.loc["random", ["wrong", "right"]].tolist() == [0.5, 0.5]
    wanted = error_f1([0, 0, 0, -1], [0, 1, -1, -1])
    assert both.loc["random", "f1"] == pytest.approx(wanted["f1"])
    assert both.loc["random", "low"] <= wanted["f1"] <= both.loc["random", "high"]
    long = figures.found_errors([run], least=2).set_index("finder")
    assert long.loc["random", "f1"] == 0.0 and long.loc["random", "replies"] == 3
    said = title(figures.plot_errors({"all": both.reset_index()}))
    assert "all 1.00 (random guesses 0.50)" in said


def test_the_outcomes_verdict_is_read_at_the_last_step_and_at_the_first():
    run = {"prompts": [0, 1, 2, 3], "truth": [0, 1, -1, 2], "sizes": [3, 3, 3, 3]}
    run |= {"found": {"outcome, then last": [2, 2, -1, -1], "random": [0, 0, 0, -1]}}
    found = figures.found_errors([run]).set_index("finder")
    assert list(found.index) == ["outcome, then last", "outcome, then first", "random"]
    assert found["wrong"].tolist() == [0.0, pytest.approx(1 / 3), pytest.approx(1 / 3)]
    places = figures.hits_by_place([run, run])
    assert places["slips"].to_dict() == {0: 2, 1: 2, 2: 2}
    assert places["outcome, then first"].tolist() == [1.0, 0.0, 0.0]
    assert places["random"].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="none of 4 replies has 9 steps and is wrong"):
        figures.hits_by_place([run], least=9)


def test_what_was_paid_is_drawn_above_what_was_true():
    log = {"step": [1, 2], "proxy": [0.5, 2], "truth": [0.5, 0], "steps": [4, 9]}
    looks = [
        {"step": 0, "truth": [1, 0], "steps": [4, 4]},
        {"step": 2, "truth": [0, 0], "steps": [9, 8]},
    ]
    run = {"arm": "sum", "seed": 0, "log": log, "heldout": looks}
    fig = gamed.plot_gamed(*gamed.curves([run, run | {"seed": 1}]))
    assert title(fig) == "Seeds that end below 50% on held-out sums: sum 2 of 2"
    assert [panel.get_ylabel() for panel in fig.axes] == [
        "reward",
        "steps per reply",
        "share right",
    ]


def test_step_scores_count_what_was_caught():
    rows = [
        {"completions": ["1+2=3.", "#### $3"], "scores": [0.9, 0.8], "labels": [1, 1]},
        {"completions": ["1+2=4.", "#### 4"], "scores": [0.9, 0.2], "labels": [0, 0]},
        {"completions": ["#### 4"], "scores": [0.1], "labels": [0]},
    ]
    said = title(figures.plot_step_scores(rows))
    assert said == "1 of 2 first wrong steps score below 0.5 (wrong steps in bold)"


def test_labels_that_would_overlap_are_moved_apart_and_keep_their_order():
    places = figures.apart([50.0, 50.5, 51.0, 90.0], 5.0)
    assert places == sorted(places) and np.diff(places).min() >= 5.0 - 1e-6
    assert places[-1] == 90.0


# --- the experiment's parts ---


def test_prompts_are_sums_of_so_many_terms_and_the_splits_are_apart():
    held = experiment.prompts_of("heldout", 30, "")
    train = experiment.prompts_of("train", 30, "0")
    for prompts, split in ((held, True), (train, False)):
        items = [read(p[0]["content"]) for p in prompts]
        assert {len(item.args) for item in items} == set(experiment.SETTINGS["terms"])
        assert all(tasks.held_out_numbers(item.args) is split for item in items)
    assert held == experiment.prompts_of("heldout", 30, "")
    assert len({p[0]["content"] for p in train}) == 30


def test_answers_are_read_at_the_end_only():
    said = ["1+2=3. #### 3", "#### 12", "3", "#### 3 or 4", ""]
    assert [experiment.answer_of(text) for text in said] == ["3", "12", None, None, None]


MADE = {
    "seed": 0,
    "rows": [
        {"prompt": [], "completions": ["a,", "b"], "labels": [None, None]},
        {"prompt": [], "completions": ["c"], "labels": [None]},
    ],
    "oracle": [[1, 0], [0]],
    "soft": [[0.25, 1.0], [0.0]],
    "outcome": [1.0, 0.0],
}


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("process", [[1, 0], [0]]), ("rollouts", [[1, 1], [0]]), ("outcome", [[None, 1.0], [0.0]])],
)
def test_the_heads_differ_in_labels_only(kind, labels):
    rows = experiment.rows_for(kind, MADE)
    assert [row["labels"] for row in rows] == labels
    assert [row["completions"] for row in rows] == [["a,", "b"], ["c"]]


def test_agreement_is_told_for_all_replies_and_for_those_with_steps():
    told = {(r["hard"], r["replies"]): r for r in experiment.agreed(MADE)}
    assert told["any", "all"]["agreed"][0] == round(2 / 3, 4)
    assert told["half", "with steps"]["agreed"][0] == 0.0


def test_a_gated_reward_pays_for_right_answers_only(monkeypatch):
    monkeypatch.setattr(experiment, "head", lambda folder: None)
    monkeypatch.setattr(experiment, "start", lambda: (None, None))
    paid = [2.5, 3.5]
    monkeypatch.setattr(prm, "process_reward", lambda *_, **__: lambda *_: paid)
    prompts = [[{"role": "user", "content": "What is 2+3?"}]] * 2
    said = [[{"role": "assistant", "content": text}] for text in ("#### 5", "2+3=6. #### 6")]
    gated = experiment.proxy_of("sum, if the answer is right", Path("x"))
    assert gated(prompts, said) == [2.5, 0.0]
    assert experiment.proxy_of("sum of steps", Path("x"))(prompts, said) == paid


# --- the record ---


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def test_the_record_says_where_it_comes_from_and_has_every_part(record):
    wanted = {"command", "commit", "seeds", "date", "device", "versions"}
    assert wanted <= set(record["provenance"]) and record["provenance"]["seeds"] == [0, 1, 2]
    assert {(one["kind"], one["seed"]) for one in record["heads"]} == {
        (kind, seed) for kind in experiment.HEADS for seed in (0, 1, 2)
    }
    assert {(one["arm"], one["seed"]) for one in record["grpo"]} == {
        (arm, seed) for arm in experiment.ARMS for seed in (0, 1, 2)
    }
    assert RECORD.stat().st_size < 500_000


def test_the_budget_is_the_same_for_both_heads(record):
    for seed in (0, 1, 2):
        heads = {one["kind"]: one for one in record["heads"] if one["seed"] == seed}
        assert len({one["solutions"] for one in heads.values()}) == 1
        assert heads["outcome"]["labels"] == heads["outcome"]["solutions"]
        assert heads["process"]["labels"] == heads["rollouts"]["labels"]
        assert heads["process"]["labels"] > heads["outcome"]["labels"]


def test_the_record_holds_the_bars(record):
    """Majority of 16 right on 40 to 80%, and the process model 5 points above it in every seed."""
    told = record["by_prompt"]
    prompts = record["settings"]["heldout"]["prompts"]
    for majority, process in zip(told["majority"], told["process, min"], strict=True):
        before, after = numbers(majority), numbers(process)
        assert len(before) == len(after) == prompts
        assert 0.4 <= before.mean() <= 0.8
        found = paired_difference(before, after)
        assert found.difference >= 0.05 and found.low > 0


def test_the_oracle_is_the_ceiling_and_one_reply_is_the_mean(record):
    choice = pd.DataFrame(record["choice"]).pivot(index="n", columns="selector", values="value")
    best = [name for name in choice if not name.startswith(("vote", "majority"))]
    assert (choice[best].le(choice["oracle"] + 1e-6, axis=0)).all().all()
    assert np.ptp(choice.loc[1, best].to_numpy()) < 1e-4


def test_of_the_record_step_labels_and_answers_name_as_much_and_little_behind_the_first_step(
    record,
):
    found = figures.found_errors(record["errors"], least=2).set_index("finder")
    assert found.loc["process", "f1"] == pytest.approx(found.loc["rollouts", "f1"], abs=0.01)
    assert found.loc["outcome, then first", "f1"] > found.loc["outcome, then last", "f1"]
    places = figures.hits_by_place(record["errors"])
    assert places["slips"].sum() == found.loc["process", "slips"]
    behind = places.loc[1:]
    assert (behind["process"] * behind["slips"]).sum() <= 0.05 * behind["slips"].sum()
    assert places.loc[0, "process"] > places.loc[0, "outcome, then first"] > 0


def test_the_heads_over_the_outcome_are_inconclusive_when_corrected(record):
    from postlab.stats import holm

    names = [n for n in record["by_prompt"] if n.startswith(("process", "rollouts"))]
    found = figures.gains(record["by_prompt"], names, over="outcome, last")
    assert (holm(found["p"]) >= 0.05).all() and (found["p"] < 0.05).any()


def test_every_reported_reply_of_the_errors_has_its_first_wrong_step_inside(record):
    for run in record["errors"]:
        truth, sizes = numbers(run["truth"]), numbers(run["sizes"])
        assert len(truth) == len(sizes) and ((truth >= -1) & (truth < sizes)).all()
        last = numbers(run["found"]["always last"])
        assert (last == sizes - 1).all()


# --- what a head sees, and credit for steps ---


def recorded(name: str) -> dict:
    return json.loads((RECORD.parent / f"{name}.json").read_text(encoding="utf-8"))


def test_an_auc_counts_pairs_and_halves_ties():
    assert figures_heads.auc([2, 1], [1, 0]).mean() == 0.875
    runs = [{"scores": {"digits, 2000": {"right": [0.9, 0.8], "wrong": [0.1, 0.85]}}}]
    row = figures_heads.auc_rows(runs).iloc[0]
    assert row["auc"] == 0.75 and row["low"] <= 0.75 <= row["high"] and row["seeds"] == [0.75]
    assert row["twins"] == 0.5  # 0.9 is above its own 0.1, 0.8 is below its own 0.85


def test_natural_slips_are_compared_with_all_right_additions():
    scores = {"right": [0.9, 0.5], "wrong": [0.5, 0.1]}
    row = figures_heads.natural_rows([{"natural": {"a head": scores}}] * 2).iloc[0]
    assert row["auc"] == 0.875 and (row["right additions"], row["wrong additions"]) == (4, 4)


def test_the_record_of_heads_says_what_the_lesson_says():
    rows = figures_heads.auc_rows(recorded("heads")["runs"]).set_index("head")
    assert list(rows["seeds"].map(len).unique()) == [3]
    lesson = rows.loc["the lesson's head, 3 or 4 terms"]
    assert lesson["low"] < 0.5 < lesson["high"] < 0.55
    assert (
        rows.loc[["the step's digits, 32,000", "the policy's log-prob, no labels"], "auc"] > 0.995
    ).all()
    assert rows.loc["the step's digits, 2,000", "auc"] < 0.7
    assert round(lesson["twins"], 2) == 0.51
    assert round(rows.loc["frozen, the step's tokens, 2,000", "twins"], 2) == 0.90
    said = title(figures_heads.plot_auc(rows.reset_index()))
    assert said.startswith("AUC on wrong additions: 0.51 for the lesson's head")


def test_the_record_of_hard_sums_says_what_the_lesson_says():
    record = recorded("hard")
    frame = figures_heads.hard_choice(record["runs"])
    rows = figures_heads.hard_gains(record["runs"], greedy=record["greedy"])
    assert rows.loc["digits", "high"] < 0 < rows.loc["vote by digits", "low"]
    assert rows.loc["vote by form", "points"] < rows.loc["vote by digits", "points"]
    assert rows.loc["one greedy answer", "points"] > rows.loc["log-prob, lowest step", "points"]
    said = title(figures_heads.plot_hard_choice(frame, greedy=record["greedy"]))
    assert said.startswith("16 replies to hard sums: 33% right by the digits' head alone, 69% by")


def test_the_record_of_credit_says_what_the_lesson_says():
    record = recorded("credit")
    rows = figures_credit.credit_rows(record)
    assert list(rows.index) == ["outcome", "sum of steps", "to go", "lowest to go"]
    others = rows.drop("outcome")
    assert (others["low"] < 0).all() and (others["high"] > 0).all()
    assert others[["low", "high"]].abs().max().max() < 0.7 and (others["p, all"] > 0.5).all()
    left = figures_credit.mistakes_left(record)
    assert left.sum(axis=1).tolist() == pytest.approx([100] * len(left))
    assert (left.drop("at the start")["wrong and blurted"] < 5).all()
    mended = figures_credit.mended(record)
    blurted, worked, _, apart = (mended[name] for name in mended)
    assert blurted.between(52, 53).all() and worked.tolist() == [13, 10, 12, 13]
    assert apart.to_dict() == {"outcome": 0, "sum of steps": 16, "to go": 7, "lowest to go": 1}
    assert "to about 80% in 16 steps" in title(figures_credit.plot_credit(record))


def test_the_record_of_longer_credit_runs_says_what_the_lesson_says():
    record = recorded("credit_long")
    assert record["chosen"] == {"outcome": 1e-3, "to go": 1e-3}
    rows = figures_credit.credit_rows(record).round(1)
    assert rows.loc["to go", ["points", "low", "high"]].tolist() == [-1.8, -3.9, 0.4]
    mended = figures_credit.mended(record)
    assert mended["unlike the outcome (of 960 per seed)"].tolist() == [0, 613]
    assert numbers(record["start"]["right"]).mean() == pytest.approx(0.479, abs=1e-3)
