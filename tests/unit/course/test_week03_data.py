"""Week 3's data: the rows in the form of public sets, what happens to each, and the build."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from postlab.course.week03 import dataset_build as build
from postlab.course.week03.hygiene import fate_table, known_faults, row_fates, sample_file
from postlab.datasets import instruction_rows
from postlab.evals import suite_rows
from postlab.tinyworld import oracle, words

OPENHERMES = {
    *("custom_instruction", "topic", "model_name", "model", "skip_prompt_formatting", "category"),
    *("conversations", "views", "language", "id", "title", "idx", "hash", "avatarUrl"),
    *("system_prompt", "source"),
}


def raw_rows(name: str) -> list[dict]:
    lines = sample_file(name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# --- rows in the form of public sets ---


@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [("openhermes", OPENHERMES, 24), ("slimorca", {"conversations"}, 16)],
)
def test_our_rows_have_the_columns_and_turns_of_the_public_set(name, columns, rows):
    raw = raw_rows(name)
    assert len(raw) == len(known_faults(name)) == rows
    assert all(set(row) == columns for row in raw)
    for row in raw:
        assert all(set(turn) == {"from", "value", "weight"} for turn in row["conversations"])
        assert {turn["from"] for turn in row["conversations"]} <= {"system", "human", "gpt"}


def test_rules_on_text_find_the_faults_of_form_and_no_others():
    heldout = suite_rows("everyday", None, 0)
    fates = [
        (fault, fate.partition(":")[2].strip())
        for name in ("openhermes", "slimorca")
        for fault, fate in zip(
            known_faults(name), row_fates(sample_file(name), heldout=heldout), strict=True
        )
    ]
    reasons = {fault: reason for fault, reason in fates}
    assert reasons["copy"] == "duplicate" and reasons["near copy"] == "near duplicate"
    assert reasons["cut off"] == "truncated" and reasons["test prompt"] == "contaminated"
    assert reasons["template text"] == reasons["echo"] == "malformed"
    assert reasons["no reply"] == "with no reply" and reasons["not to be trained"]
    kept = Counter(fault for fault, reason in fates if not reason)
    assert kept == {
        **{"": 12, "refusal": 3, "wrong sum": 3, "harmful help": 2},
        **{"no last reply": 1, "wrong answer": 1, "empty system prompt": 1},
    }


def test_an_empty_system_prompt_makes_no_turn():
    rows = instruction_rows(str(sample_file("slimorca")), split="train")
    assert all(turn["content"] for row in rows for turn in row["prompt"])
    assert Counter(len(row["prompt"]) for row in rows) == {2: 13, 1: 1}


def test_a_score_drops_what_it_calls_wrong_and_the_table_counts_every_row():
    faults = known_faults("slimorca")
    fates = row_fates(
        sample_file("slimorca"),
        score=lambda row: "I'm sorry" not in row["completion"][0]["content"],
    )
    assert fates[faults.index("refusal")] == "curate: wrong"
    table = fate_table(faults, fates)
    assert table[["loader", "curate", "kept"]].to_numpy().sum() == len(faults)
    assert table.loc["refusal", "reason"] == "wrong"


# --- the build ---


@pytest.fixture(scope="module")
def pool() -> list[dict]:
    return build.pool()


def test_the_pool_holds_its_planted_faults_and_the_teachers_habits(pool):
    counts = build.describe(pool)
    assert counts["rows"] == build.POOL and counts["not in the pool"] == 0
    assert counts["held-out prompts"] == build.LEAKS
    assert counts["copies"] >= build.COPIES  # the teachers repeat themselves as well
    assert 0.25 < counts["wrong"] / counts["rows"] < 0.35


def test_our_choice_keeps_every_rule_within_the_budget(pool):
    budget = build.Budget()
    rows = build.our_choice(pool, budget)
    counts = build.describe(rows)
    assert 780 <= len(rows) <= build.ROWS and 0 < budget.used <= build.VERDICTS
    assert counts["wrong"] == counts["copies"] == counts["held-out prompts"] == 0
    assert counts["refusals"] > 40 and counts["families without rows"] == 0


def test_a_verdict_is_the_oracles_and_costs_one(pool):
    budget = build.Budget(verdicts=2)
    assert [budget.judge(row) for row in pool[:2]] == [oracle.judge(row) for row in pool[:2]]
    assert budget.left == 0
    with pytest.raises(build.BudgetSpent, match="all 2 verdicts"):
        budget.judge(pool[0])


def edited(rows, budget):
    rows[0]["completion"][0]["content"] = "better"
    return rows[:10]


def leaked(rows, budget):
    asked = {row["prompt"][0]["content"] for row in build.heldout()}
    return [row for row in rows if row["prompt"][0]["content"] in asked][:5]


def refuses(row):
    return words.REFUSAL in row["completion"][-1]["content"]


def unfinished(rows, budget):
    raise NotImplementedError


WRONG = {
    "not_attempted": unfinished,
    "error": lambda rows, budget: rows[10_000],
    "not_rows": lambda rows, budget: 800,
    "empty": lambda rows, budget: [],
    "too_many": lambda rows, budget: rows,
    "verdicts_spent": lambda rows, budget: [row for row in rows if budget.judge(row)],
    "not_in_the_pool": edited,
    "leaks": leaked,
    "copies": lambda rows, budget: [rows[0], rows[0]],
    "no_refusals": lambda rows, budget: [
        row for row in build.our_choice(rows, budget) if not refuses(row)
    ],
}


@pytest.mark.parametrize("code", WRONG)
def test_a_broken_rule_is_named_and_the_notebook_goes_on(code, monkeypatch, capsys):
    monkeypatch.setattr(build, "train_and_score", None)  # none of these is trained on
    monkeypatch.setattr(build, "_recorded_scores", dict)
    result = build.check_dataset(WRONG[code])
    assert result.code == code and result.status != "right"
    assert len(result.rows) > 700 and build.describe(result.rows)["wrong"] == 0
    assert ("✗", "·")[code == "not_attempted"] in capsys.readouterr().out


def overspent(rows, budget):
    budget.verdicts = len(rows)
    return [row for row in rows if budget.judge(row)][:100]


def set_back(rows, budget):
    right = []
    for row in rows:
        budget.used = 0
        right += [row] * bool(budget.judge(row))
    return right[:100]


def leaves(rows, budget):
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("choose", "code", "says"),
    [
        (lambda rows, budget: None, "not_rows", "is a `return` missing"),
        (lambda rows, budget: [3, 5], "not_rows", "the list that choose returned holds an int"),
        (lambda rows, budget: [(rows[0], True)], "not_rows", "holds a tuple"),
        (lambda rows, budget: (row for row in rows), "not_rows", "returned a generator"),
        (lambda rows, budget: {0: rows[0]}, "not_rows", "returned a dict"),
        (overspent, "verdicts_spent", "asked for 6,400 verdicts"),
        (set_back, "verdicts_spent", "asked for 6,400 verdicts"),
        (leaves, "error", "SystemExit"),
        ([{"prompt": []}], "not_a_function", "hand over the function itself"),
    ],
)
def test_what_came_instead_of_rows_is_named(choose, code, says, monkeypatch, capsys):
    monkeypatch.setattr(build, "train_and_score", None)
    monkeypatch.setattr(build, "_recorded_scores", dict)
    assert build.check_dataset(choose).code == code
    assert says in " ".join(capsys.readouterr().out.split())


def scores(share: float) -> dict[str, str]:
    right = round(share * build.PROMPTS)
    text = "1" * right + "0" * (build.PROMPTS - right)
    return dict.fromkeys([*oracle.METRIC, "over_refusal"], text)


@pytest.mark.parametrize(
    ("choose", "reached", "code"),
    [
        (build.our_choice, 0.9, "better_than_random"),
        (build.our_choice, 0.4, "not_recognised"),
        (lambda rows, budget: build.our_choice(rows, budget)[:300], 0.4, "few_rows"),
        (
            lambda rows, budget: [
                row for row in build.our_choice(rows, budget) if row["family"] != "lists"
            ],
            0.4,
            "missing_families",
        ),
    ],
)
def test_a_score_is_compared_with_chance_and_a_reason_is_only_named_if_it_is_there(
    choose, reached, code, monkeypatch
):
    chance = {"arm": "random", "seed": 0, "scores": scores(0.5), "counts": {"rows": 8, "wrong": 2}}
    runs = [chance, chance | {"arm": "ours", "scores": scores(0.8)}]
    monkeypatch.setattr(build, "recorded", lambda: {"runs": runs})
    monkeypatch.setattr(build, "train_and_score", lambda rows: scores(reached))
    result = build.check_dataset(choose)
    assert result.code == code
    assert result.scores["yours"]["all"] == pytest.approx(reached)
    assert result.scores["random"]["all"] == pytest.approx(0.5)
