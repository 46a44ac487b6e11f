"""The arena and the token chooser without a browser: their buttons and fields are driven here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ipywidgets
import pandas as pd
import pytest
import torch
from test_view import body, words_tokenizer
from widget_tools import EVIL, TAGS, Tags, all_widgets

from postlab import stats
from postlab.judge import VoteLog, pairs_of
from postlab.scratch.losses import group_advantages
from postlab.show import arena, pages, record_groups, rollout_explorer
from postlab.show import chooser as widgets
from postlab.show import explorer as explorer_module
from postlab.show import voting as arena_module
from postlab.show.chooser import token_chooser
from postlab.show.explorer import Answer, Group
from postlab.show.pages import WIDGET_VIEW, shown
from postlab.show.voting import Arena


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_module, "PAUSE_S", 0.0)


def frame(stage: str, n: int, **answers: str) -> pd.DataFrame:
    ids = [f"p{i}" for i in range(n)]
    said = [answers.get(i, f"{stage} says {i}") for i in ids]
    return pd.DataFrame({"id": ids, "prompt": [f"prompt {i}" for i in ids], "answer": said})


def frames(n: int = 8, stages: tuple[str, ...] = ("sft", "dpo")) -> dict[str, pd.DataFrame]:
    return {stage: frame(stage, n) for stage in stages}


def button(made: Arena | widgets.TokenChooser, starts: str) -> ipywidgets.Button:
    found = [w for w in all_widgets(made.widget) if isinstance(w, ipywidgets.Button)]
    return next(w for w in found if w.description.startswith(starts))


def press(made: Arena, key: str) -> None:
    """A key as the page sends it: the field's new text."""
    field = next(w for w in all_widgets(made.widget) if isinstance(w, ipywidgets.Text))
    field.set_state({"value": key})


def seen(made: Arena | widgets.TokenChooser) -> str:
    """All that a page shows now."""
    found = all_widgets(made.widget)
    texts = [w.value for w in found if isinstance(w, ipywidgets.HTML)]
    return "\n".join(texts + [w.description for w in found if hasattr(w, "description")])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# The vote


@pytest.mark.parametrize(
    ("how", "choice"),
    [("1", "first"), ("2", "second"), ("0", "tie")],
)
@pytest.mark.parametrize("by", ["mouse", "key"])
def test_a_vote_is_in_the_file_when_the_next_pair_is_shown(tmp_path, how, choice, by):
    made = arena(frames(), path=tmp_path / "new" / "votes.jsonl")
    before = made.pair
    press(made, how) if by == "key" else button(made, how).click()
    assert [line["choice"] for line in lines(tmp_path / "new" / "votes.jsonl")] == [choice]
    assert made.pair != before and made.pair[1] in seen(made) and before[1] not in seen(made)
    assert "1 of 8 voted" in seen(made)


def test_a_key_field_is_empty_again_and_counts_only_the_last_key(tmp_path):
    made = arena(frames(), path=tmp_path / "v.jsonl")
    field = next(w for w in all_widgets(made.widget) if isinstance(w, ipywidgets.Text))
    press(made, "1")
    press(made, "12")  # the page had not heard yet that the field was emptied
    press(made, "x")
    assert [line["choice"] for line in lines(tmp_path / "v.jsonl")] == ["first", "second"]
    assert field.value == ""


def test_a_double_click_and_a_held_key_are_one_vote(tmp_path, monkeypatch):
    monkeypatch.setattr(arena_module, "PAUSE_S", 0.3)
    now = [100.0]
    monkeypatch.setattr(arena_module.time, "monotonic", lambda: now[0])
    made = arena(frames(), path=tmp_path / "v.jsonl")
    for step in (0.0, 0.1, 0.1, 0.1, 0.1, 0.1):  # each slip starts the pause again
        now[0] += step
        press(made, "1")
    assert len(made.votes()) == 1
    now[0] += 0.4
    press(made, "1")
    assert len(made.votes()) == 2


def test_the_winner_is_the_stage_behind_the_reply(tmp_path):
    made = arena(frames(20), path=tmp_path / "v.jsonl")
    while made.pair:
        _, first, _ = made.pair
        made.vote("first" if first.startswith("dpo") else "second")
    votes = made.votes()
    assert set(votes["winner"]) == {"dpo"} and set(votes["choice"]) == {"first", "second"}
    row = made.result().iloc[0]
    assert (row["stage"], row["against"], row["wins"], row["losses"]) == ("dpo", "sft", 20, 0)
    want = stats.win_rate([1] * 20)
    assert (row["win_rate"], row["low"], row["high"]) == (1.0, want.low, want.high)
    assert row["verdict"] == "better"


def test_one_vote_of_each_kind_settles_nothing(tmp_path):
    made = arena(frames(3), path=tmp_path / "v.jsonl")
    for wanted in ("sft", "dpo", "tie"):
        _, first, _ = made.pair
        made.vote(wanted if wanted == "tie" else "first" if first.startswith(wanted) else "second")
    row = made.result().iloc[0]
    assert list(row[["votes", "wins", "ties", "losses"]]) == [3, 1, 1, 1]
    assert row["win_rate"] == 0.5 and row["verdict"] == "inconclusive"


def test_without_a_vote_the_result_is_empty_and_inconclusive(tmp_path):
    row = arena(frames(), path=tmp_path / "v.jsonl").result().iloc[0]
    assert row["votes"] == 0 and row[["win_rate", "low", "high"]].isna().all()
    assert row["verdict"] == "inconclusive"


def test_three_stages_meet_each_other_on_every_prompt(tmp_path):
    made = arena(frames(5, ("base", "sft", "dpo")), path=tmp_path / "v.jsonl")
    met = set()
    while made.pair:
        met.add(frozenset(made.pair))
        made.vote("tie")
    assert len(met) == 15
    found = made.result()[["stage", "against", "votes"]].values.tolist()
    assert found == [["sft", "base", 5], ["dpo", "base", 5], ["dpo", "sft", 5]]


def test_identical_replies_are_ties_that_nobody_is_asked_about(tmp_path):
    pair = {"sft": frame("sft", 30), "dpo": frame("dpo", 30)}
    same = [f"p{i}" for i in range(0, 30, 3)]
    for stage in pair:
        pair[stage].loc[pair[stage]["id"].isin(same), "answer"] = "the same"
    made = arena(pair, path=tmp_path / "v.jsonl")
    assert made.votes().empty or made.votes()["identical"].all()
    for _ in range(10):
        assert "the same" not in made.pair
        made.vote("first")
    # as many of the identical ones as lie between the votes, not all of them at once
    assert 10 < len(made.votes()) < 20
    while made.pair:
        made.vote("first")
    assert list(made.result().iloc[0][["votes", "ties"]]) == [30, 10]
    assert len(lines(tmp_path / "v.jsonl")) == 20


# Order and blindness


def test_order_and_sides_follow_the_seed_and_nothing_else():
    both = frames(40)
    order = pairs_of(both, seed=0)
    assert order == pairs_of(dict(reversed(both.items())), seed=0)
    other = pairs_of(both, seed=1)
    assert [p.id for p in order] != [p.id for p in other] and [p.id for p in order] != sorted(
        p.id for p in order
    )
    assert {p.key for p in order} == {p.key for p in other}
    firsts = [p.stages[0] for p in order]
    assert 10 <= firsts.count("sft") <= 30  # 40 fair coins leave this range in one of 500 seeds


def test_a_changed_reply_moves_no_other_pair():
    old = pairs_of(frames(10), seed=0)
    new = pairs_of({"sft": frame("sft", 10, p3="new"), "dpo": frame("dpo", 10)}, seed=0)
    assert [(p.id, p.stages) for p in old] == [(p.id, p.stages) for p in new]
    assert [p.id for p, q in zip(old, new, strict=True) if p.key != q.key] == ["p3"]


def test_no_stage_is_named_before_the_result(tmp_path):
    names = ("the-one", "the-other")
    both = {
        name: frame("some", 3).assign(answer=[f"{i} {k}" for k in range(3)])
        for i, name in enumerate(names)
    }
    made = arena(both, path=tmp_path / "v.jsonl")
    while made.pair:
        assert not any(name in seen(made) for name in names)
        made.vote("first")
    assert all(name in seen(made) for name in names)


def test_the_result_can_be_looked_at_and_hidden_again(tmp_path):
    made = arena(frames(), path=tmp_path / "v.jsonl")
    button(made, "Show result").click()
    assert "win_rate" in seen(made)
    button(made, "Hide result").click()
    assert "win_rate" not in seen(made)


# The file


def test_a_new_arena_goes_on_where_the_last_one_stopped(tmp_path):
    path, met = tmp_path / "v.jsonl", []
    straight = [p.replies for p in pairs_of(frames(), seed=3)]
    for _ in range(4):  # a kernel each
        made = arena(frames(), path=path, seed=3)
        for _ in range(2):
            met.append(made.pair[1:])
            made.vote("second")
    assert met == straight and arena(frames(), path=path, seed=3).pair is None


def test_another_seed_asks_only_for_the_pairs_without_a_vote(tmp_path):
    path, met = tmp_path / "v.jsonl", set()
    for seed in range(4):
        made = arena(frames(), path=path, seed=seed)
        for _ in range(2):
            met.add(made.pair[0])
            _, first, _ = made.pair
            made.vote("first" if first.startswith("dpo") else "second")
    assert len(met) == 8 and set(made.votes()["winner"]) == {"dpo"}


def test_undo_takes_back_the_last_vote_and_shows_its_pair(tmp_path):
    path = tmp_path / "v.jsonl"
    made = arena(frames(), path=path)
    button(made, "u").click()  # nothing to take back
    assert not path.exists()
    made.vote("first")
    second = made.pair
    made.vote("first")
    press(made, "u")
    assert made.pair == second and len(made.votes()) == 1
    assert len(lines(path)) == 3  # added to, never changed
    again = arena(frames(), path=path)
    assert again.pair == second
    again.undo()
    assert again.votes().empty


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_left_out_and_the_next_vote_stands_by_itself(tmp_path, cut):
    path = tmp_path / "v.jsonl"
    made = arena(frames(), path=path)
    for _ in range(3):
        made.vote("first")
    path.write_bytes(path.read_bytes()[:-cut])
    whole = 3 if cut == 1 else 2  # without its line break alone a record is whole
    made = arena(frames(), path=path)
    assert len(made.votes()) == whole and ("cut off" in seen(made)) == (cut > 1)
    made.vote("second")
    again = arena(frames(), path=path)
    assert len(again.votes()) == whole + 1 and again.pair is not None


def test_a_vote_is_synced_before_the_next_pair_is_shown(tmp_path, monkeypatch):
    real, at_sync = os.fsync, []
    made = arena(frames(), path=tmp_path / "v.jsonl")
    before = seen(made)
    monkeypatch.setattr(os, "fsync", lambda fd: (at_sync.append(seen(made)), real(fd)))
    made.vote("first")
    assert set(at_sync) == {before}
    assert seen(made) != before


def test_a_full_disk_is_said_in_the_widget_and_the_pair_stays(tmp_path, monkeypatch):
    made = arena(frames(), path=tmp_path / "v.jsonl")
    before = made.pair

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VoteLog, "add", lambda self, record: full(record))
    press(made, "1")
    assert "Not saved: " in seen(made) and "No space left" in seen(made)
    assert made.pair == before


def test_two_arenas_on_one_file_do_not_ask_twice(tmp_path):
    path = tmp_path / "v.jsonl"
    old, new = arena(frames(), path=path), arena(frames(), path=path)
    old.vote("first")
    shown_by_new = new.pair
    press(new, "2")  # on a pair that the other has voted on: it moves on without a vote
    assert len(lines(path)) == 1 and new.pair == shown_by_new
    press(new, "2")
    assert len(lines(path)) == 2


def test_votes_on_other_words_stay_in_the_file_and_do_not_count(tmp_path):
    path = tmp_path / "v.jsonl"
    arena(frames(2), path=path).vote("first")
    changed = {"sft": frame("sft", 2), "dpo": frame("trained again", 2)}
    made = arena(changed, path=path)
    assert made.votes().empty and "on other replies: 1" in seen(made)
    made.undo()
    assert len(lines(path)) == 1


VOTE = {"pair": "k", "first": "sft", "second": "dpo", "choice": "first"}


def jsonl(*records) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


FOREIGN = {
    "Markdown": b"# Notes\n\n- one\n",
    "CSV": b"pair,choice\nk,first\n",
    "JSON over lines": b'{\n "pair": "k"\n}\n',
    "UTF-16": json.dumps(VOTE).encode("utf-16"),
    "binary": bytes(range(256)) * 8,
    "NUL": b"\0" * 4096,
    "deep": b"[" * 100_000,
    "number": b"3\n",
    "list": b"[1]\n",
    "rows": jsonl({"id": "a"}),
    "no sides": jsonl({"pair": "a", "choice": "first"}),
    "sides of another kind": jsonl(VOTE | {"first": 1}),
    "pair of another kind": jsonl(VOTE | {"pair": ["k"]}),
    "another choice": jsonl(VOTE | {"choice": "left"}),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("line", [1, 2])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path, kind, line):
    """By its first line; a later line that is whole, and no vote, is an error just as well."""
    contents = FOREIGN[kind] if line == 1 else jsonl(VOTE) + FOREIGN[kind]
    if line == 2 and not kind.startswith(("number", "list", "rows", "no ", "sides", "pair", "ano")):
        pytest.skip("cannot be told from the rest of a vote")
    path = tmp_path / "notes.md"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=rf"notes\.md, line {line}: expected a vote.*own$"):
        arena(frames(), path=path)
    assert path.read_bytes() == contents


def test_a_file_that_another_program_put_there_meanwhile_is_left_as_it_is(tmp_path):
    path = tmp_path / "v.jsonl"
    made = arena(frames(), path=path)
    made.vote("first")
    path.write_text("# Notes\n")
    with pytest.raises(ValueError, match="expected a vote"):
        made._log.add(VOTE)
    press(made, "1")
    assert "Not saved" in seen(made) and path.read_text() == "# Notes\n"


@pytest.mark.parametrize("torn", [0, 12, 30, 60])
@pytest.mark.parametrize("form", ["plain", "mark", "CRLF", "blank lines"])
def test_votes_are_read_and_added_to_in_other_forms_too(tmp_path, form, torn):
    """A byte-order mark, Windows' line ends, blank lines, a torn last line, even if it is all."""
    path = tmp_path / "v.jsonl"
    made = arena(frames(), path=path)
    made.vote("first")
    text = path.read_bytes()
    made.vote("second")
    text = text * (form != "blank lines") + path.read_bytes()[len(text) :][:torn]
    text = {"mark": b"\xef\xbb\xbf" + text, "CRLF": text.replace(b"\n", b"\r\n")}.get(form, text)
    text = b"\n \n" + text if form == "blank lines" else text
    path.write_bytes(text)
    made = arena(frames(), path=path)
    count = len(made.votes())
    assert count == (form != "blank lines") and made._log.torn == (torn > 0)
    made.vote("tie")
    assert path.read_bytes().startswith(text)
    assert len(arena(frames(), path=path).votes()) == count + 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_an_empty_file_and_a_link_take_votes_and_a_folder_or_a_pipe_does_not(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "empty.jsonl")
    arena(frames(), path=tmp_path / "link.jsonl").vote("first")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len(lines(tmp_path / "empty.jsonl")) == 1
    (tmp_path / "notes.md").write_text("mine")
    (tmp_path / "other.jsonl").symlink_to(tmp_path / "notes.md")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, says in (
        ("other.jsonl", "expected a vote"),
        ("pipe.jsonl", "is a named pipe; expected a regular file"),
        ("", "is a folder; expected a regular file"),
    ):
        with pytest.raises(ValueError, match=says):
            arena(frames(), path=tmp_path / name)
    assert (tmp_path / "notes.md").read_text() == "mine"


VOTER = """
import sys
from postlab.judge import VoteLog
log = VoteLog(sys.argv[1])
for number in range(150):
    log.add({"pair": f"{sys.argv[2]} {number}", "first": "a", "second": "b", "choice": "tie"}
            | {"note": "x" * 9000})
"""


def test_two_processes_that_vote_at_once_lose_nothing(tmp_path):
    path = tmp_path / "v.jsonl"
    voters = [
        subprocess.Popen([sys.executable, "-c", VOTER, str(path), name]) for name in ("one", "two")
    ]
    assert [voter.wait(120) for voter in voters] == [0, 0]
    log = VoteLog(path)
    assert len(log.read()) == 300 and log.torn == 0


# What is refused


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"sft": frame("sft", 2)}, ValueError, "two or more"),
        ([frame("sft", 2)], TypeError, "expected {stage: frame"),
        ({"a": frame("a", 2), "b": frame("b", 3)}, ValueError, "different prompts"),
        ({"a": frame("a", 2), "b": frame("b", 0)}, ValueError, "is empty"),
        (
            {"a": frame("a", 2), "b": frame("b", 2).drop(columns="answer")},
            ValueError,
            "no column 'answer'",
        ),
    ],
)
def test_frames_that_cannot_be_compared(tmp_path, given, error, says):
    with pytest.raises(error, match=says):
        arena(given, path=tmp_path / "v.jsonl")


def test_a_vote_in_another_word_and_one_too_many(tmp_path):
    made = arena(frames(1), path=tmp_path / "v.jsonl")
    with pytest.raises(ValueError, match="first, second, tie"):
        made.vote("left")
    made.vote("tie")
    with pytest.raises(ValueError, match="every pair has its vote"):
        made.vote("tie")


# Text that models write


def test_a_models_text_is_text_in_every_place_it_is_shown(tmp_path):
    both = {s: frame(s, 1, p0=f"{EVIL} {s}").assign(prompt=EVIL) for s in ("<u>a</u>", "b")}
    made = arena(both, path=tmp_path / "<b>.jsonl")
    pages = [seen(made), made._repr_mimebundle_()["text/html"]]
    made.vote("first")
    pages += [seen(made), made._repr_mimebundle_()["text/html"]]
    chooser = token_chooser(
        [
            {
                "prompt": [{"role": "user", "content": EVIL}],
                "completion": [{"role": "assistant", "content": EVIL}],
            }
        ],
        words_tokenizer(*EVIL.split()),
        max_length=32,
    )
    for page in pages:
        assert Tags(page).found <= TAGS
        assert Tags(page).attributes <= {"border", "class", "dir", "max", "style", "value"}
    assert EVIL in Tags(pages[0]).text
    for page in (seen(chooser), chooser._repr_mimebundle_()["text/html"]):
        assert not {"script", "img"} & Tags(page).found
        assert "window.marker=1" in Tags(page).text


def test_control_characters_are_spelled_out_and_empty_replies_named(tmp_path):
    assert shown("a\tb\r\nc\x00\x1b[0m\ud800") == "a\tb\nc‹00›‹1B›[0m‹D800›"
    both = {"a": frame("a", 1, p0=""), "b": frame("b", 1, p0="\x1b[31mred")}
    made = arena(both, path=tmp_path / "v.jsonl")
    assert "(nothing)" in seen(made) and "‹1B›[31mred" in seen(made) and "\x1b" not in repr(made)
    made.vote("first")
    assert len(arena(both, path=tmp_path / "v.jsonl").votes()) == 1


def test_a_leading_line_break_and_blanks_are_kept(tmp_path):
    made = arena({"a": frame("a", 1, p0="\n  x"), "b": frame("b", 1)}, path=tmp_path / "v.jsonl")
    # the first line break after <pre> is dropped by a page, the second one is the reply's
    assert ">\n\n  x</pre>" in seen(made)


# What is shown without a kernel


def test_a_saved_page_holds_the_first_pair_and_the_result(tmp_path):
    made = arena(frames(), path=tmp_path / "v.jsonl")
    first = made.pair
    made.vote("first")
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", WIDGET_VIEW}
    assert bundle[WIDGET_VIEW]["model_id"] == made.widget.model_id
    for page in (bundle["text/plain"], Tags(bundle["text/html"]).text):
        assert all(text in page for text in first) and "win_rate" in page and "dpo" in page


def test_colab_gets_the_widget_and_text(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    bundle = arena(frames(), path=tmp_path / "v.jsonl")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", WIDGET_VIEW}


# The token view by row


def chooser_rows():
    said = [("2+3", "5"), ("1+1", "2"), ("4+4", "8")]
    return [
        {
            "prompt": [{"role": "user", "content": q}],
            "completion": [{"role": "assistant", "content": a}],
        }
        for q, a in said
    ]


def test_the_chooser_shows_the_row_that_is_chosen():
    made = token_chooser(
        chooser_rows(), words_tokenizer("2+3", "5", "1+1", "2", "4+4", "8"), max_length=8
    )
    assert "row 0: 2 of 4" in seen(made)
    button(made, "Next").click()
    assert "row 1: 2 of 4" in seen(made) and "1+1" in seen(made) and "2+3" not in seen(made)
    assert body(made.view(2)) == ["4+4 end [8] [end]"]
    for _ in range(5):
        button(made, "Next").click()
    assert "row 2: " in seen(made)
    for _ in range(5):
        button(made, "Previous").click()
    assert "row 0: " in seen(made)
    bundle = made._repr_mimebundle_()
    assert "[5] [end]" in bundle["text/plain"] and "one of 3 rows" in bundle["text/html"]


def test_a_bad_row_is_said_and_the_others_can_be_read():
    rows = chooser_rows()
    rows[1] = {"prompt": "<b>text</b>", "completion": None}
    made = token_chooser(rows, words_tokenizer("2+3", "5", "4+4", "8"), max_length=8)
    button(made, "Next").click()
    assert "row 1: " in seen(made) and "Error" in seen(made) and "b" not in Tags(seen(made)).found
    button(made, "Next").click()
    assert "row 2: 2 of 4" in seen(made)


def test_no_row_is_refused():
    with pytest.raises(ValueError, match="rows is empty"):
        token_chooser([], words_tokenizer("a"), max_length=8)


# --- the rollout explorer ---


def group(step: int, prompt: str, *rewards: float | None, text: str = "#### 5") -> Group:
    credits = explorer_module.advantages_of(rewards)
    pairs = zip(rewards, credits, strict=True)
    return Group(step, prompt, tuple(Answer(("a ", text), r, a) for r, a in pairs))


def run_of_three() -> list[Group]:
    return [
        group(1, "silent", 0.0, 0.0),
        group(1, "first", 1.0, 0.0),
        group(2, "second", 1.0, 1.0, 0.0, None),
        group(2, "third", None, None),
        group(2, "fourth", 0.0, 1.0),
    ]


def test_the_explorer_goes_from_step_to_step_and_from_prompt_to_prompt():
    made = rollout_explorer(run_of_three())
    assert made.group.prompt == "first"  # the first group that teaches something
    button(made, "Earlier").click()
    assert made.group.step == 1
    button(made, "Later").click()
    assert (made.group.step, made.group.prompt) == (2, "third")
    made._prompt.value = 3
    assert made.group.prompt == "fourth" and "prompt 3 of 3" in made._page.value
    button(made, "Later").click()
    assert made.group.prompt == "fourth"
    button(made, "Earlier").click()  # where there are fewer prompts
    assert made.group.prompt == "first" and made._prompt.max == 2


def test_every_token_of_an_answer_has_its_answers_colour():
    page = rollout_explorer(run_of_three())._page.value
    assert page.count("rgba(0,114,178,") == 2 and page.count("rgba(213,94,0,") == 2
    silent = rollout_explorer(run_of_three()[:1])
    assert "rgba(0,114" not in silent._page.value
    assert "nothing is learned here" in silent._page.value and "nothing is" in repr(silent)


def test_answers_that_were_not_scored_say_so_and_get_no_credit():
    made = rollout_explorer(run_of_three()[2:])
    assert "advantage +0.00  reward none" in repr(made)
    assert "no answer was scored" in repr(rollout_explorer(run_of_three()[3:4]))


def test_advantages_are_trls():
    rewards = [1.0, 0.0, 0.5, 0.25]
    wanted = group_advantages(torch.tensor(rewards), 4).tolist()
    assert explorer_module.advantages_of(rewards) == pytest.approx(wanted, abs=1e-6)


def test_the_explorer_escapes_prompts_and_tokens_and_says_the_same_without_a_kernel():
    made = rollout_explorer([group(1, EVIL, 1.0, 0.0, text=EVIL)])
    data = made._repr_mimebundle_()
    for page in (data["text/html"], made._page.value):
        assert Tags(page).found <= TAGS and EVIL in Tags(page).text.replace("·", " ")
    assert WIDGET_VIEW in data and "one of 1 groups in steps 1 to 1" in data["text/html"]
    assert data["text/plain"].startswith("step 1, prompt 1 of 1: <script>")


def test_a_step_that_is_text_is_escaped():
    explorer = rollout_explorer([Group("<b>1</b>", "?", (Answer(("a",), 1.0, 0.5),))])
    assert "<b>1" not in explorer._page.value and "&lt;b&gt;1" in explorer._page.value


def test_a_long_answer_is_cut_and_says_so():
    long = Group(1, "?", (Answer(("x",) * 1000, 1.0, 0.7), Answer(("y",), 0.0, -0.7)))
    assert "700 tokens more" in repr(rollout_explorer([long]))
    assert len(rollout_explorer([long])._page.value) < 60_000


def test_nothing_to_explore_is_an_error():
    with pytest.raises(ValueError, match="groups is empty; train with a `record_groups` reward"):
        rollout_explorer([])


def test_a_recorded_reward_scores_as_before_and_notes_every_group():
    def reward(completions, answer, **columns):
        """The verifier."""
        assert set(columns) == {"prompts", "completion_ids", "trainer_state"}
        return [float(c == a) for c, a in zip(completions, answer, strict=True)]

    watched = record_groups(reward, words_tokenizer("2+3", "4", "5"), group_size=2)
    assert watched.__name__ == "reward" and watched.groups == []
    asked = [[{"role": "user", "content": q}] for q in ("2+3", "2+3", "1+1", "1+1")]
    given = {"prompts": asked, "completions": list("5455"), "completion_ids": [[2], [1], [2], [2]]}
    state = SimpleNamespace(global_step=6)
    assert watched(**given, answer=list("5552"), trainer_state=state) == [1.0, 0.0, 1.0, 0.0]
    assert [(g.step, g.prompt) for g in watched.groups] == [(7, "2+3"), (7, "1+1")]
    assert [a.tokens for a in watched.groups[0].answers] == [("5",), ("4",)]
    assert [round(a.advantage, 2) for a in watched.groups[0].answers] == [0.71, -0.71]


# --- the soup mixer ---


class Cook:
    """Answers with its weights, and counts how often it is asked."""

    def __init__(self, say=None):
        self.asked, self.say = [], say

    def __call__(self, weights):
        self.asked.append(dict(weights))
        return [self.say or " ".join(f"{n}={w:.2f}" for n, w in weights.items())] * 2


def mixer_of(cook, adapters=("a", "b", "c")):
    from postlab.show.mixer import SoupMixer

    return SoupMixer(cook, ["How do I burn a lamp?", "Who are you?"], adapters)


def test_a_mixers_sliders_are_shares_of_a_whole():
    cook = Cook()
    mixer = mixer_of(cook)
    assert mixer.weights == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    mixer._sliders["a"].value = 8
    assert mixer.weights == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert "a=0.50 b=0.25 c=0.25" in mixer._page.value
    for slider in mixer._sliders.values():
        slider.value = 0
    assert mixer.weights == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


def test_a_mixer_asks_each_mixture_once():
    cook = Cook()
    mixer = mixer_of(cook)
    mixer._only("b")
    assert mixer.weights == {"a": 0.0, "b": 1.0, "c": 0.0} == cook.asked[-1]
    assert len(cook.asked) == 2  # not one for each slider that moved
    mixer._only(None)
    mixer._only("b")
    assert len(cook.asked) == 2 and "b=1.00" in mixer._page.value


def test_a_mixer_shows_words_as_words_and_keeps_its_sliders_when_a_model_fails():
    evil = "<script>x</script>"
    mixer = mixer_of(Cook(evil))
    assert evil not in mixer._page.value and "&lt;script&gt;" in mixer._page.value
    data = mixer._repr_mimebundle_()
    assert evil not in data["text/html"] and evil in data["text/plain"]

    def broken(weights):
        raise RuntimeError("<b>out of memory</b>")

    mixer = mixer_of(broken)
    assert "RuntimeError: &lt;b&gt;out of memory" in mixer._page.value
    data = mixer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "RuntimeError: <b>out of memory</b>" in data["text/plain"]
    assert len(mixer.widget.children) == 5


@pytest.mark.parametrize("version", [7, 8])
def test_an_adapters_name_is_text_on_its_slider(monkeypatch, version):
    """ipywidgets 7 puts a description into the page as HTML, 8 as text."""
    monkeypatch.setattr(pages, "_TEXT_LABELS", version == 8)
    name = "<img src=x onerror=alert(1)>"
    described = mixer_of(Cook(), adapters=(name,))._sliders[name].description
    assert described == (name if version == 8 else "&lt;img src=x onerror=alert(1)&gt;")


@pytest.mark.parametrize(("prompts", "adapters"), [([], ["a"]), (["?"], [])])
def test_a_mixer_of_nothing_is_refused(prompts, adapters):
    from postlab.show.mixer import SoupMixer

    with pytest.raises(ValueError, match="expected one of each at least"):
        SoupMixer(Cook(), prompts, adapters)


def test_a_mixer_moves_a_real_soup():
    """Two adapters of the embedded SFT stage, one of them turned down to nought."""
    from postlab.lab import Lab
    from postlab.models import load_policy
    from postlab.profile import get_profile
    from postlab.show import soup_mixer

    folder = Lab(get_profile("tiny"), 0).checkpoint("sft")
    model, tokenizer = load_policy(folder, profile="tiny", bits=32)
    model.load_adapter(folder, adapter_name="none")
    for name, parameter in model.named_parameters():
        if "lora_B.none" in name:
            parameter.data.zero_()
    asked = ["Please tell me how to burn the lamp."]
    mixer = soup_mixer(model, tokenizer, asked, adapters=["default", "none"])
    mixer._only("default")
    as_sft = mixer.answers
    assert as_sft == ["Find some matches. Light the lamp. Stand back."]
    mixer._only("none")
    assert mixer.answers != as_sft
    mixer._only("default")
    assert mixer.answers == as_sft
    with pytest.raises(ValueError, match="no adapter nope; expected some of default, none"):
        soup_mixer(model, tokenizer, asked, adapters=["none", "nope"])
