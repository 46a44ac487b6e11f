"""Step labels from files: ProcessBench, PRM800K, Math-Shepherd and TRL's own form."""

from __future__ import annotations

import json

import pytest

from postlab import process as prm
from postlab.datasets import step_rows

BENCH = {
    "id": "gsm8k-0", "generator": "Qwen2-7B-Instruct", "problem": "2+3+4?",
    "steps": ["2+3=6", "6+4=10", "So 10."], "final_answer_correct": False, "label": 0,
}  # fmt: skip
SHEPHERD = {
    "input": "2+3+4? Step 1: 2+3=5 ки\nStep 2: 5+4=10 The answer is: 10 ки",
    "label": "2+3+4? Step 1: 2+3=5 +\nStep 2: 5+4=10 The answer is: 10 -",
    "task": "GSM8K",
}


def rated(*options: tuple[str, int | None], chosen: int | None = 0, human: str | None = None):
    found = [{"text": text, "rating": rating, "flagged": None} for text, rating in options]
    person = {"text": human, "rating": None, "flagged": False} if human else None
    return {"completions": found, "human_completion": person, "chosen_completion": chosen}


def prm800k(*steps: dict, reason: str = "solution") -> dict:
    return {
        "labeler": "x", "timestamp": "2022-07-17", "generation": 9,
        "is_quality_control_question": False, "is_initial_screening_question": False,
        "question": {"problem": "2+3+4?", "ground_truth_answer": "9"},
        "label": {"steps": list(steps), "total_time": 1, "finish_reason": reason},
    }  # fmt: skip


def load(tmp_path, *rows: object, n: int | None = None):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return step_rows(str(path), split="train", n=n)


ASKED = [{"role": "user", "content": "2+3+4?"}]


def test_processbench_knows_the_first_wrong_step_and_nothing_behind_it(tmp_path):
    rows = load(tmp_path, BENCH, BENCH | {"label": 2}, BENCH | {"label": -1})
    assert rows[0] == {
        "prompt": ASKED, "completions": BENCH["steps"], "labels": [0, None, None], "right": False,
    }  # fmt: skip
    assert [row["labels"] for row in rows[1:]] == [[1, 1, 0], [1, 1, 1]]
    assert [prm.first_wrong(row["labels"]) for row in rows] == [0, 2, -1]


def test_prm800k_follows_the_solution_that_was_gone_on_with(tmp_path):
    row = prm800k(
        rated(("2+3=5", 1)),
        rated(("5+4=8", -1), ("Let us see.", 0), chosen=1),
        rated(("5+4=11", -1), chosen=None, human="5+4=9"),
        rated(("So 10.", -1), chosen=None),
        reason="found_error",
    )
    (found,) = load(tmp_path, row)
    assert found["prompt"] == ASKED
    assert found["completions"] == ["2+3=5", "Let us see.", "5+4=9", "So 10."]
    assert found["labels"] == [1, 1, 1, 0]  # a person writes a step that is right


@pytest.mark.parametrize("human", ["5+4=9", {"text": "5+4=9"}, {"text": "5+4=9", "rating": 1}])
def test_a_persons_step_is_read_as_text_or_with_its_rating(tmp_path, human):
    step = rated(("5+4=11", -1), chosen=None) | {"human_completion": human}
    (found,) = load(tmp_path, prm800k(rated(("2+3=5", 1)), step))
    assert (found["completions"][1], found["labels"]) == ("5+4=9", [1, 1])
    flagged = step | {"human_completion": {"text": "5+4=8", "rating": -1}}
    assert load(tmp_path, prm800k(flagged))[0]["labels"] == [0]
    assert load(tmp_path, prm800k(step | {"human_completion": ""}))[0]["labels"] == [0]


def test_prm800k_drops_what_the_annotator_gave_up(tmp_path):
    rows = load(tmp_path, prm800k(rated(("2+3=5", 1))), prm800k(reason="bad_problem"))
    assert len(rows) == 1
    assert rows.dropped == {"which the annotator left (bad_problem)": 1}


def test_math_shepherds_marks_become_labels(tmp_path):
    (found,) = load(tmp_path, SHEPHERD)
    steps = ["Step 1: 2+3=5", "Step 2: 5+4=10 The answer is: 10"]
    assert found == {"prompt": ASKED, "completions": steps, "labels": [1, 0]}


def test_a_small_first_step_begins_the_solution_too(tmp_path):
    small = {k: v.replace("Step", "step") for k, v in SHEPHERD.items()}
    asked = {k: "Give step 1: then 2. " + SHEPHERD[k] for k in ("input", "label")}
    rows = load(tmp_path, small, asked)
    assert rows[0]["completions"] == ["step 1: 2+3=5", "step 2: 5+4=10 The answer is: 10"]
    assert rows[1]["prompt"][0]["content"] == "Give step 1: then 2. 2+3+4?"  # the last one counts
    assert rows[1]["completions"] == ["Step 1: 2+3=5", "Step 2: 5+4=10 The answer is: 10"]
    assert [row["labels"] for row in rows] == [[1, 0]] * 2


def test_a_solution_whose_beginning_nobody_can_tell_is_dropped_and_counted(tmp_path):
    without = {"input": "2+3+4? 2+3=5 ки 9 ки", "label": "2+3+4? 2+3=5 + 9 +"}
    marked = {"input": "2+3 ки+4? Step 1: 9 ки", "label": "2+3 ++4? Step 1: 9 +"}
    rows = load(tmp_path, SHEPHERD, without, marked, without)
    assert len(rows) == 1
    assert rows.dropped == {"without 'Step 1:'": 2, "with a mark in the question": 1}


def test_trls_own_form_is_read(tmp_path):
    row = {"prompt": "2+3+4?", "completions": ["2+3=5", "5+4=10"], "labels": [True, False]}
    assert load(tmp_path, row)[0] == {
        "prompt": ASKED, "completions": row["completions"], "labels": [1, 0],
    }  # fmt: skip


def test_every_form_can_be_encoded(tmp_path):
    """The rows go on as they are: their labels stand where they should."""
    from postlab.lab import Lab
    from postlab.models import load_policy
    from postlab.profile import get_profile

    folder = Lab(get_profile("tiny"), 0).checkpoint("sft")
    tokenizer = load_policy(folder, profile="tiny", bits=32)[1]
    rows = [*load(tmp_path, BENCH), *load(tmp_path, SHEPHERD)]
    found = prm.encode_steps(rows, tokenizer, separator="\n")
    assert [[x for x in row["labels"] if x != -100] for row in found] == [[0], [1, 0]]
    assert [len(row["ends"]) for row in found] == [3, 2]


def test_rows_without_a_step_are_dropped_and_counted(tmp_path):
    rows = load(tmp_path, BENCH, BENCH | {"steps": [], "label": -1}, BENCH | {"steps": [" "]})
    assert len(rows) == 1
    assert rows.dropped == {"without a step": 1, "with an empty step": 1}


def test_a_range_and_a_draw_work_as_in_the_other_loaders(tmp_path):
    many = [BENCH | {"problem": f"{i}?"} for i in range(9)]
    load(tmp_path, *many)
    path = str(tmp_path / "rows.jsonl")
    part = step_rows(path, split="train[3:6]")
    assert [row["prompt"][0]["content"] for row in part] == ["3?", "4?", "5?"]
    drawn = step_rows(path, split="train", n=4, seed=1)
    assert drawn == step_rows(path, split="train", n=4, seed=1) and len(drawn) == 4


STEPWISE = {"prompt": "?", "completions": ["a", "b"], "labels": [True, False]}
MALFORMED = {
    "no label": ({"problem": "?", "steps": ["a"]}, "row 1: no field 'label'"),
    "a place beyond the steps": (BENCH | {"label": 3}, "must be the place of the first wrong step"),
    "a place that is text": (BENCH | {"label": "0"}, "-1 to 2, got '0'"),
    "a place that is true": (BENCH | {"label": True}, "-1 to 2, got True"),
    "steps that are text": (BENCH | {"steps": "a"}, "field 'steps' must be a list, got str"),
    "a step that is a list": (BENCH | {"steps": ["a", ["b", "c"]]}, "field 'steps' must be text"),
    "a problem that is null": (BENCH | {"problem": None}, "no field 'problem'"),
    "a question without problem": (
        prm800k(rated(("a", 1))) | {"question": {"text": "?"}}, "'question' has no 'problem'",
    ),
    "a label without steps": (
        prm800k() | {"label": {"finish_reason": "solution"}}, "'label' has no list 'steps'",
    ),
    "a step that is text": (prm800k("a"), "step 0 of field 'label' has no list 'completions'"),
    "a choice beyond": (
        prm800k(rated(("a", 1), chosen=4)), "chosen_completion is 4 of 1 completions",
    ),
    "a rating of two": (prm800k(rated(("a", 2))), "is rated 2; expected 1, 0, -1"),
    "a completion without text": (
        prm800k({"completions": [{"rating": 1}], "chosen_completion": 0}), "has no text",
    ),
    "no mark": (SHEPHERD | {"input": "? Step 1: a"}, "no mark"),
    "no first step": (SHEPHERD | {"input": "? a ки"}, "no usable row: 1 without 'Step 1:'"),
    "a person's step that is a list": (
        prm800k(rated(("a", -1), chosen=None) | {"human_completion": ["b"]}),
        "step 0 of field 'label': human_completion must hold a text or null, got ['b']",
    ),
    "another text under the labels": (
        SHEPHERD | {"label": "2+3+4? Step 1: 2+3=6 +\n"}, "no + or - for step 1",
    ),
    "labels cut off": (SHEPHERD | {"label": SHEPHERD["label"][:-1]}, "no + or - for step 2"),
    "a label too few": (STEPWISE | {"labels": [True]}, "for each step, got [True] for 2 steps"),
    "labels that are text": (STEPWISE | {"labels": "+-"}, "'labels' must be a list"),
    "a label of a half": (STEPWISE | {"labels": [0.5, 1]}, "must hold true, false or null"),
    "a row that is text": ("a", "expected an object with named fields"),
}  # fmt: skip


@pytest.mark.parametrize("n", [None, 5], ids=["in order", "drawn"])
@pytest.mark.parametrize("wrong", MALFORMED)
def test_the_error_names_file_row_and_field(tmp_path, wrong, n):
    row, said = MALFORMED[wrong]
    with pytest.raises(ValueError) as error:
        load(tmp_path, row, n=n)
    usable = "no usable row" in said  # it was dropped, and was the only one
    place = f"{tmp_path / 'rows.jsonl'}, {'split' if usable else 'row 1'}"
    assert str(error.value).startswith(place)
    assert said in str(error.value)


def test_tinyworld_has_no_file_and_the_error_says_what_to_do():
    with pytest.raises(ValueError, match="label them with prm.oracle_labels"):
        step_rows("tinyworld", split="train")
