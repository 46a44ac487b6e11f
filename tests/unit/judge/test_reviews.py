"""Rows in two passes: what is asked in which order, and how far two passes agree."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from postlab.judge import (
    ReviewLog,
    review_agreement,
    review_frame,
    review_items,
)


def rows(n: int) -> list[dict]:
    return [row(f"prompt {i}", f"reply {i}") for i in range(n)]


def row(prompt: str, reply: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": reply}],
    }


def passes(items) -> tuple[list[int], list[int]]:
    first, second = ([item.row for item in items if item.round == n] for n in (1, 2))
    return first, second


def test_every_row_comes_once_in_each_pass_and_in_another_order():
    items = review_items(rows(30), seed=0)
    first, second = passes(items)
    assert [item.round for item in items] == [1] * 30 + [2] * 30
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second and first != list(range(30))
    assert passes(review_items(rows(30), seed=1))[0] != first


def test_a_decision_belongs_to_the_words_and_to_the_pass():
    before = {(i.row, i.round): i.key for i in review_items(rows(3), seed=0)}
    assert len(set(before.values())) == 6
    changed = [*rows(2), row("prompt 2", "another reply")]
    after = {(i.row, i.round): i.key for i in review_items(changed, seed=0)}
    assert {place for place in before if before[place] != after[place]} == {(2, 1), (2, 2)}


def test_copies_of_a_row_are_decided_on_one_by_one():
    items = review_items([row("a", "b")] * 3, seed=0)
    assert len({item.key for item in items}) == 6


def test_turns_are_shown_with_their_roles():
    talk = row("x", "y") | {
        "prompt": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
        ]
    }
    item = review_items([talk], seed=0)[0]
    assert item.prompt == "user: Hi\n\nassistant: Hello\n\nuser: Bye" and item.reply == "y"


@pytest.mark.parametrize(
    ("bad", "message"),
    [([], "at least one row"), ([{"prompt": [{"content": "x"}]}], "row 0 has no 'completion'")],
)
def test_rows_that_cannot_be_reviewed_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        review_items(bad, seed=0)


def decided(first: str, second: str) -> pd.DataFrame:
    """A frame of decisions, a letter each: k, d, u, or - for none."""
    words = {"k": "keep", "d": "drop", "u": "unsure", "-": ""}
    sides = {"first": first, "second": second}
    return pd.DataFrame({name: [words[letter] for letter in text] for name, text in sides.items()})


def test_agreement_by_hand():
    # 8 of 10 agree. By chance: keep 0.6 * 0.6, drop 0.4 * 0.4, so 0.52; (0.8 - 0.52) / 0.48 = 7/12
    table = review_agreement(decided("kkkkkkdddd", "kkkkkddddk")).set_index("measure")
    assert table.loc["same decision", "value"] == 0.8
    assert table.loc["kappa", "value"] == pytest.approx(7 / 12)
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    assert (table["rows"] == 10).all()


def test_only_rows_with_both_decisions_count():
    table = review_agreement(decided("kkdd-", "kkd-k"))
    assert (table["rows"] == 3).all() and (table["value"] == 1).all()
    assert review_agreement(decided("kd", "--")).empty


def test_chance_agreement_is_no_agreement():
    table = review_agreement(decided("kkdd", "kdkd")).set_index("measure")
    assert table.loc["kappa", "value"] == 0 and table.loc["same decision", "value"] == 0.5


def test_the_frame_puts_the_passes_side_by_side():
    items = review_items(rows(2), seed=0)
    keys = {(item.row, item.round): item.key for item in items}
    decisions = {
        keys[1, 1]: {"decision": "drop", "reason": "wrong"},
        keys[1, 2]: {"decision": "keep", "reason": ""},
    }
    frame = review_frame(items, decisions)
    wanted = [1, "prompt 1", "reply 1", "drop", "keep", "wrong", ""]
    assert frame.values.tolist() == [wanted]
    assert review_frame(items, {}).empty


@pytest.mark.parametrize(
    "line",
    [
        {"pair": "a", "first": "x", "second": "y", "choice": "tie"},
        {"review": "a", "reason": "", "decision": "maybe"},
        {"review": "a", "decision": "keep"},
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path, line):
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="expected a decision on a row"):
        ReviewLog(path).add({"review": "b", "decision": "keep", "reason": ""})
    assert path.read_text() == json.dumps(line) + "\n"


def test_the_later_decision_counts_and_undo_takes_it_back(tmp_path):
    log = ReviewLog(tmp_path / "r.jsonl")
    for decision in ("keep", "drop"):
        log.add({"review": "a", "decision": decision, "reason": "x"})
    assert log.read()["a"]["decision"] == "drop"
    log.add({"review": "a", "undo": True})
    assert log.read() == {}
