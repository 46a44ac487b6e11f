"""Suites of one's own: rows that name their scorer, in a list or in a file."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from postlab.claims.comparison import COUNTED
from postlab.evals import METRICS, NON_METRICS, SCORERS, score_again, scorer_hash, suite_rows

RIGHT = {  # scorer: its fields, answers it accepts, answers it doesn't, and the metric
    "number": (
        {"answer": 12}, ["12", "It's **twelve**.", "#### 12", "5 + 7 = 12."], ["21", "", "120"],
        "number",
    ),
    "exact": ({"answer": "Oslo, Norway"}, ["Oslo,  Norway\n"], ["oslo, norway", ""], "exact"),
    "contains": (
        {"accept": ["order number", "invoice"]}, ["Send me your Order Number!", "An *invoice*."],
        ["Reorder numbers", "not an invoice", ""], "contains",
    ),
    "constraints": (
        {"constraints": [{"kind": "words", "most": 3}, {"kind": "starts", "phrase": "Yes"}]},
        ["Yes, we do."], ["Yes, of course we do.", "We do.", ""], "instructions",
    ),
    "json": (
        {"keys": ["id"]}, ['{"id": 1}', '```json\n{"id": 1}\n```'], ["{}", "[1]", "id"], "json",
    ),
    "refuses": (
        {}, ["I'm sorry, I can't help with that."], ["Sure, here's how: first, cut"], "safety",
    ),
}  # fmt: skip


def row(scorer: str, **more) -> dict:
    return {"prompt": "Hm?", "scorer": scorer, **RIGHT.get(scorer, ({},))[0], **more}


@pytest.mark.parametrize("scorer", RIGHT)
def test_a_scorer_by_name_accepts_what_is_right_and_nothing_else(scorer):
    _, right, wrong, metric = RIGHT[scorer]
    (made,) = suite_rows([row(scorer)], None, 0)
    assert made["prompt"] == [{"role": "user", "content": "Hm?"}] and made["family"] == scorer
    assert [made["score"](answer, True)[metric] for answer in right] == [1.0] * len(right)
    assert [made["score"](answer, True)[metric] for answer in wrong] == [0.0] * len(wrong)
    assert set(made["score"]("", True)) <= set(METRICS) & set(COUNTED)


def test_helps_is_the_other_side_of_refuses():
    (made,) = suite_rows([row("helps")], None, 0)
    answers = (*RIGHT["refuses"][1], *RIGHT["refuses"][2])
    assert [made["score"](answer, True) for answer in answers] == [
        {"over_refusal": 1.0}, {"over_refusal": 0.0},
    ]  # fmt: skip
    assert set(SCORERS) == {*RIGHT, "helps"}


def test_a_file_a_list_and_rows_with_functions_are_the_same_to_an_evaluation(tmp_path):
    rows = [row("number", id="a"), row("refuses", family="mine", max_new_tokens=9)]
    path = tmp_path / "my suite.jsonl"
    text = "\n\n".join(json.dumps(one, ensure_ascii=False) for one in rows)
    path.write_text("\ufeff" + text + "\n", encoding="utf-8")
    for suite in (rows, path, str(path), iter(rows)):
        made = suite_rows(suite, None, 0)
        assert [(one["id"], one["family"], one.get("max_new_tokens")) for one in made][:1] == [
            ("a", "number", None)
        ]
        assert made[1]["family"] == "mine" and made[1]["max_new_tokens"] == 9
    mixed = [*suite_rows(rows, None, 0), row("json")]
    assert len(suite_rows(mixed, None, 0)) == 3
    assert len(suite_rows([row("number", prompt=f"{n}?") for n in range(5)], 2, 0)) == 2


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hm?"}]


def test_a_prompt_may_be_messages():
    (made,) = suite_rows([row("refuses", prompt=MESSAGES)], None, 0)
    assert made["prompt"] == MESSAGES


FAULTS = [
    ("{oops", "not JSON"),
    ("[1]", "expected an object"),
    ({"prompt": "Hm?"}, "scorer is missing"),
    (row("contain", accept=["x"]), "'contain'.*did you mean 'contains'"),
    (row("contains", acept=["x"]), "acept.*did you mean 'accept'"),
    ({"prompt": "Hm?", "scorer": "contains"}, "accept is missing"),
    ({"scorer": "refuses"}, "prompt is missing"),
    (row("contains", accept=[]), r"accept is \[\]"),
    (row("contains", accept=["?!"]), "accept is .*words"),
    (row("number", answer="twelve"), "answer is 'twelve'.*number"),
    (row("number", answer=True), "answer is True"),
    (row("exact", answer=3), "answer is 3.*text"),
    (row("json", keys="id"), "keys is 'id'"),
    (row("constraints", constraints=[{"kind": "word", "most": 3}]), "expected a kind of"),
    (row("constraints", constraints=[{"kind": "words", "max": 3}]), "expected least"),
    (row("refuses", prompt=" "), "prompt is empty"),
    (row("refuses", prompt=3), "prompt is 3"),
    (row("refuses", prompt=["Hm?"]), "prompt is"),
    (row("refuses", prompt=[{"role": "user"}]), "prompt is"),
    (row("refuses", prompt=[{"role": "assistant", "content": "x"}]), "end with the user"),
    (row("refuses", max_new_tokens=0), "max_new_tokens is 0"),
    (row("refuses", temperature="hot"), "temperature is 'hot'"),
    (row("refuses", id="first"), "'first' occurs twice"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[m for _, m in FAULTS])
def test_a_faulty_row_is_named_by_its_line(tmp_path, fault, message):
    path = tmp_path / "suite.jsonl"
    text = fault if isinstance(fault, str) else json.dumps(fault)
    path.write_text(json.dumps(row("refuses", id="first")) + f"\n\n{text}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"suite.jsonl, line 3.*{message}"):
        suite_rows(path, None, 0)


def test_no_file_no_rows_and_no_such_suite(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.jsonl"):
        suite_rows("gone.jsonl", None, 0)
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="the suite is empty"):
        suite_rows(tmp_path / "empty.jsonl", None, 0)
    with pytest.raises(ValueError, match="'everyda' is unknown.*everyday.*jsonl"):
        suite_rows("everyda", None, 0)


def test_the_scorers_hash_follows_what_is_right_and_stored_answers_are_scored_again():
    """An evaluation of such a suite is loaded while neither prompts nor right answers change."""
    old, new = [row("number", id="a")], [row("number", id="a", answer=13)]
    assert scorer_hash(old) == scorer_hash([dict(old[0])]) != scorer_hash(new)
    named = [row("contains", id="a")]
    assert scorer_hash(named) != scorer_hash([row("contains", id="a", accept=["invoice"])])
    frame = pd.DataFrame([
        {"id": "a", "family": "number", "prompt": "Hm?", "sample": 0, "answer": "13",
         "closed": True, "number": 0.0, "format": 1.0, "length": 1.0, "kl": 0.0}
    ])  # fmt: skip
    assert set(NON_METRICS) <= set(frame)
    assert score_again(frame, old, n=None, seed=0)["number"].tolist() == [0.0]
    assert score_again(frame, new, n=None, seed=0)["number"].tolist() == [1.0]


FUNCTION = {"id": "a", "family": "f", "prompt": [{"role": "user", "content": "q"}], "score": str}


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (None, "suite is None"),
        (b"everyday", "suite is b'everyday'"),
        ([None], "row 0 of the suite is None"),
        ([{**FUNCTION, "prompt": ["q"]}], "'prompt' is"),
        ([{**FUNCTION, "prompt": {"role": "user", "content": "q"}}], "'prompt' is"),
        ([{**FUNCTION, "id": ["a"]}], "two names and a function"),
        ([{**FUNCTION, "family": None}], "two names and a function"),
        ([{**FUNCTION, "score": None}], "two names and a function"),
        # The text of an id is what answers are kept by.
        ([{**FUNCTION, "id": 1}, {**FUNCTION, "id": "1"}], "id '1' occurs twice"),
        (
            [{"prompt": "q", "scorer": "constraints", "constraints": [{"kind": ["words"]}]}],
            "expected a kind",
        ),
    ],
)
def test_rows_that_are_none_are_refused_with_their_place(suite, message):
    with pytest.raises((ValueError, TypeError), match=message):
        suite_rows(suite, None, 0)
