"""`make portfolio`, as the command it runs."""

import json

import pytest

from postlab.portfolio.__main__ import main


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    import postlab

    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path))
    monkeypatch.setenv("POSTLAB_PROFILE", "tiny")
    postlab.start(profile="tiny").results("base", "sft")
    return tmp_path / "tiny" / "portfolio"


def test_it_writes_checks_and_verifies(shipped, capsys, monkeypatch):
    monkeypatch.chdir(shipped.parent)
    assert main(["check"]) == 1  # holes are left
    out = capsys.readouterr().out
    assert "holes to fill" in out and "posts written" in out and "drafts/sft.md" in out
    record = shipped / "completion.json"
    assert json.loads(record.read_text("utf-8"))["profile"] == "tiny"
    assert main(["verify", str(record)]) == 0
    (shipped / "sft.md").write_text("changed", "utf-8")
    assert main(["verify", str(record)]) == 1
    assert "sft.md has changed" in capsys.readouterr().out


def test_evaluations_alone_are_told_from_damaged_weights(root, monkeypatch, capsys):
    monkeypatch.setenv("POSTLAB_RUNS", str(root))
    monkeypatch.setenv("POSTLAB_PROFILE", "tiny")
    assert main(["make"]) == 2
    said = capsys.readouterr().err
    assert "its weights aren't here" in said and "weights=False" in said
    assert "Delete" not in said


def test_a_wrong_command_is_answered_with_the_right_ones(capsys):
    assert main(["mak"]) == 2
    assert "postlab.portfolio check" in capsys.readouterr().err


def test_without_runs_the_shipped_stages_are_taken_or_the_command_is_named(
    tmp_path, monkeypatch, capsys
):
    from postlab.portfolio.__main__ import take_shipped
    from postlab.runs import CHAIN

    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path))
    monkeypatch.setenv("POSTLAB_PROFILE", "smol")
    assert main(["make"]) == 2
    said = capsys.readouterr().err
    assert "make stages PROFILE=smol" in said
    assert "data/results/smol holds a summary but no answers or weights" in said
    assert take_shipped("tiny") == list(CHAIN)
    assert take_shipped("tiny") == []  # runs are there now
