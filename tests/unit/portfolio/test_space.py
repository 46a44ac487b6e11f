"""The Space: its files, its rounds and votes, and its page where gradio is installed."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

from postlab.judge.votes import VoteLog
from postlab.portfolio import write_space

REPOSITORY = Path(__file__).parents[3]
TINY = REPOSITORY / "data" / "tiny-base"
MARKUP = "<img src=x onerror=alert(1)> **bold** $x$ &amp;"


def loaded(file):
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def space(tmp_path, monkeypatch):
    """A Space of two stages with the same weights, and its modules."""
    monkeypatch.delenv("ARENA_VOTES", raising=False)
    for stage in ("sft", "dpo"):
        shutil.copytree(TINY, tmp_path / "models" / stage)
    stages = {stage: tmp_path / "models" / stage for stage in ("sft", "dpo")}
    folder = write_space(tmp_path / "space", stages)
    monkeypatch.syspath_prepend(str(folder))
    yield folder, loaded(folder / "arena.py")
    for name in ("arena", "app"):
        sys.modules.pop(name, None)


def test_its_files_are_what_the_hub_needs(space):
    folder, _ = space
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert front["sdk"] == "gradio" and (folder / front["app_file"]).is_file()
    assert f"gradio=={front['sdk_version']}" in project["optional-dependencies"]["space"]
    assert len(front["short_description"]) <= 60  # the Hub's limit
    stages = json.loads((folder / "stages.json").read_text(encoding="utf-8"))["stages"]
    assert stages == {"sft": "../models/sft", "dpo": "../models/dpo"}
    with pytest.raises(ValueError, match="two or more"):
        write_space(folder, {"sft": TINY})
    with pytest.raises(ValueError, match="'dpo' is at 'gone/a/b'"):
        write_space(folder, {"sft": TINY, "dpo": "gone/a/b"})


def test_votes_are_kept_counted_and_read_by_the_arena_of_week_6(space):
    folder, arena = space
    replies = {"../models/sft": "one", "../models/dpo": MARKUP}

    def made():
        return arena.Arena(
            {"sft": "../models/sft", "dpo": "../models/dpo"}, folder / "votes.jsonl",
            lambda where, prompt: replies[where],
        )  # fmt: skip

    room, orders = made(), set()
    for k in range(40):
        asked = room.ask(f"Question {k}?")
        orders.add(asked.stages)
        assert asked.replies == tuple(replies[f"../models/{stage}"] for stage in asked.stages)
        room.vote(asked, "first" if asked.stages[0] == "dpo" else "second")
        with pytest.raises(ValueError, match="has its vote"):
            room.vote(asked, "tie")
    assert len(orders) == 2  # by chance one order alone once in 2**39 runs
    assert room.tally() == [["dpo", "sft", 40, 0, 0]]
    with (folder / "votes.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"pair": "cut')
    again = made()
    assert again.tally() == room.tally() and again.torn == 1
    again.vote(again.ask("After the crash?"), "tie")
    assert made().tally() == [["dpo", "sft", 40, 1, 0]]
    text = (folder / "votes.jsonl").read_text(encoding="utf-8")
    assert "Question" not in text and "onerror" not in text
    assert len(VoteLog(folder / "votes.jsonl").read()) == 41


def test_two_stages_that_say_the_same_are_a_tie(space):
    _, arena = space
    pytest.importorskip("transformers", reason="no transformers: pip install 'postlab[train]'")
    room = arena.from_files()  # the same weights twice, from local folders
    asked = room.ask("What is 2 + 3?")
    assert asked.voted and asked.replies[0] and room.tally() == [["dpo", "sft", 0, 1, 0]]
    for wrong, message in (("", "1 to 2000"), ("x" * 2001, "1 to 2000"), ("a b " * 300, "fit")):
        with pytest.raises(ValueError, match=message):
            room.ask(wrong)


@pytest.mark.skipif(
    find_spec("gradio") is None,
    reason="no gradio here: it pins an older pillow; pip install 'postlab[space]' elsewhere",
)
def test_the_page_asks_votes_and_tells_nothing_before(space, monkeypatch):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio
    from gradio_client import Client

    folder, arena = space
    replies = {"../models/sft": "one", "../models/dpo": MARKUP}

    def reply(where, prompt):
        if prompt == "break":
            raise RuntimeError(f"cannot load {where}")
        return replies[where]

    stages = {"sft": "../models/sft", "dpo": "../models/dpo"}
    app = loaded(folder / "app.py")
    demo = app.page(arena.Arena(stages, folder / "votes.jsonl", reply))
    kinds = {type(block) for block in demo.blocks.values()}
    assert gradio.HTML not in kinds and gradio.Chatbot not in kinds
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        client = Client(url, verbose=False)
        with pytest.raises(Exception, match="Ask a question first"):
            client.predict(api_name="/vote_first")
        with pytest.raises(Exception, match="could not answer") as caught:
            client.predict("break", api_name="/ask")
        assert "models" not in str(caught.value)
        first, second, status, table = client.predict("Who?", api_name="/ask")
        assert {first, second} == {"one", MARKUP}  # as it was written: text, and no markup
        assert "sft" not in status + str(table) and "dpo" not in status + str(table)
        choice = "first" if first == MARKUP else "second"
        status, table = client.predict(api_name=f"/vote_{choice}")
        said = "from dpo, reply 2 from sft" if choice == "first" else "from sft, reply 2 from dpo"
        assert said in status and table["data"] == [["dpo", "sft", 1, 0, 0]]
        with pytest.raises(Exception, match="Ask a question first"):
            client.predict(api_name="/vote_first")
        assert len(Client(url, verbose=False).predict("Who?", api_name="/ask")) == 4
    finally:
        demo.close()
