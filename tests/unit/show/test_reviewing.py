"""The review without a browser: its buttons and its field are driven here."""

from __future__ import annotations

import json

import ipywidgets
import pytest
from widget_tools import EVIL, TAGS, Tags, all_widgets

from postlab.show import review, reviewing
from postlab.show.pages import WIDGET_VIEW


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewing, "PAUSE_S", 0.0)


def row(prompt: str, reply: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": reply}],
    }


def rows(n: int) -> list[dict]:
    return [row(f"prompt {i}", f"reply {i}") for i in range(n)]


def button(made, label: str) -> ipywidgets.Button:
    buttons = (w for w in all_widgets(made.widget) if isinstance(w, ipywidgets.Button))
    return next(w for w in buttons if w.description == label)


def seen(made) -> str:
    """All that a page shows now."""
    return "\n".join(w.value for w in all_widgets(made.widget) if isinstance(w, ipywidgets.HTML))


def field(made) -> ipywidgets.Text:
    return next(w for w in all_widgets(made.widget) if isinstance(w, ipywidgets.Text))


def enter(made, text: str) -> None:
    """A line as the page sends it after Enter."""
    field(made).set_state({"value": text})


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_decision_is_in_the_file_when_the_next_row_is_shown(tmp_path):
    made = review(rows(5), path=tmp_path / "new" / "r.jsonl")
    before = made.item
    field(made).value = "wrong sum"
    button(made, "Drop").click()
    (line,) = lines(tmp_path / "new" / "r.jsonl")
    assert (line["row"], line["pass"]) == (before.row, 1)
    assert (line["decision"], line["reason"]) == ("drop", "wrong sum")
    assert made.item != before and made.item.prompt in seen(made) and field(made).value == ""
    assert "1 of 5" in seen(made)


@pytest.mark.parametrize(
    ("line", "decision", "reason"),
    [("k", "keep", ""), ("D wrong sum", "drop", "wrong sum"), (" u  odd ", "unsure", "odd")],
)
def test_a_letter_and_a_reason_decide(tmp_path, line, decision, reason):
    made = review(rows(3), path=tmp_path / "r.jsonl")
    enter(made, line)
    (saved,) = lines(tmp_path / "r.jsonl")
    assert (saved["decision"], saved["reason"]) == (decision, reason)


def test_a_reason_alone_waits_for_a_button(tmp_path):
    made = review(rows(3), path=tmp_path / "r.jsonl")
    enter(made, "dubious advice")  # begins with a d, but is no letter of its own
    assert not (tmp_path / "r.jsonl").exists()
    button(made, "Unsure").click()
    assert lines(tmp_path / "r.jsonl")[0]["reason"] == "dubious advice"


@pytest.mark.parametrize("how", ["Drop", "Unsure"])
def test_who_drops_a_row_says_why(tmp_path, how):
    made = review(rows(3), path=tmp_path / "r.jsonl")
    before = made.item
    button(made, how).click()
    assert not (tmp_path / "r.jsonl").exists() and made.item == before
    assert "give a reason" in seen(made)


def test_a_double_click_is_one_decision(tmp_path, monkeypatch):
    monkeypatch.setattr(reviewing, "PAUSE_S", 60.0)
    made = review(rows(3), path=tmp_path / "r.jsonl")
    for _ in range(3):
        button(made, "Keep").click()
    assert len(lines(tmp_path / "r.jsonl")) == 1


def test_the_second_pass_follows_the_first_and_hides_it(tmp_path):
    made = review(rows(4), path=tmp_path / "r.jsonl")
    for _ in range(4):
        made.decide("drop", "the first pass's reason")
    assert made.item.round == 2 and "Pass 2 of 2" in seen(made)
    assert made.decisions()["second"].tolist() == [""] * 4
    made.decide("keep")
    assert "the first pass" not in seen(made) and "kappa" not in seen(made)
    for _ in range(3):
        made.decide("keep")
    assert made.item is None and "kappa" in seen(made)
    assert button(made, "Keep").disabled
    with pytest.raises(ValueError, match="every row has both"):
        made.decide("keep")


def test_only_rows_kept_twice_are_kept(tmp_path):
    made = review(rows(3), path=tmp_path / "r.jsonl")
    while made.item:
        fickle = made.item.row == 1 and made.item.round == 2
        dropped = made.item.row == 2 or fickle
        made.decide("drop" if dropped else "keep", "x")
    assert made.kept() == rows(3)[:1]
    assert made.agreement()["value"].tolist()[0] == pytest.approx(2 / 3)


def test_a_new_review_goes_on_and_undo_goes_back(tmp_path):
    first = review(rows(3), path=tmp_path / "r.jsonl")
    first.decide("keep")
    waiting = first.item
    again = review(rows(3), path=tmp_path / "r.jsonl")
    assert again.item == waiting
    button(again, "Undo").click()
    assert again.item != waiting and again.decisions().empty
    assert button(again, "Undo").disabled


def test_a_decision_on_a_row_that_another_review_has_decided_on_is_not_saved_twice(tmp_path):
    one, other = (review(rows(3), path=tmp_path / "r.jsonl") for _ in range(2))
    one.decide("keep")
    other.decide("drop", "x")  # it still shows the first row
    assert [line["decision"] for line in lines(tmp_path / "r.jsonl")] == ["keep"]


def test_words_of_a_row_are_escaped_everywhere(tmp_path):
    made = review([row(EVIL, EVIL)], path=tmp_path / "r.jsonl")
    made.decide("drop", EVIL)
    page = made._repr_mimebundle_()["text/html"]
    tags = Tags(page + seen(made))
    assert tags.found <= TAGS and not {"onerror", "src"} & tags.attributes
    assert EVIL in tags.text


def test_the_static_form_shows_the_first_row_and_the_agreement(tmp_path):
    made = review(rows(3), path=tmp_path / "r.jsonl")
    first = made.item
    data = made._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", WIDGET_VIEW}
    assert first.prompt in data["text/html"] and "No row has both" in data["text/plain"]
    while made.item:
        made.decide("drop" if made.item.row else "keep", "x")
    data = made._repr_mimebundle_()
    assert first.reply in data["text/plain"] and "kappa" in data["text/html"]


@pytest.mark.parametrize(
    ("decision", "reason", "message"),
    [("maybe", "", "expected one of keep, drop, unsure"), ("drop", " ", "give a reason")],
)
def test_a_bad_decision_is_refused(tmp_path, decision, reason, message):
    with pytest.raises(ValueError, match=message):
        review(rows(2), path=tmp_path / "r.jsonl").decide(decision, reason)
