"""One call makes the portfolio; the checklist and the record follow from its files."""

import json
import shutil

import pytest
from portfolio_runs import filled

import postlab
from postlab.portfolio import (
    audit_documents,
    checklist,
    checklist_table,
    make_portfolio,
    solved_exercises,
    verify_record,
    write_record,
)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A run root with the shipped stages, weights included."""
    root = tmp_path_factory.mktemp("shipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTLAB_RUNS", str(root))
        postlab.start(profile="tiny").results()
    return root


@pytest.fixture(scope="module")
def whole(shipped, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTLAB_RUNS", str(shipped))
        return make_portfolio("tiny", to=tmp_path_factory.mktemp("whole") / "portfolio")


def test_cards_weights_and_space_are_where_publish_looks(whole):
    folder = whole.folder
    for stage in ("sft", "dpo", "grpo"):
        place = folder / "models" / f"tiny-{stage}"
        assert (place / "README.md").is_file() and list(place.glob("*.safetensors"))
        assert not list(place.rglob("*.bin"))
        config = json.loads((place / "adapter_config.json").read_text("utf-8"))
        assert config["base_model_name_or_path"] == "tiny-base"
    assert (folder / "datasets" / "tiny-dpo-rows" / "train.jsonl").is_file()
    stages = json.loads((folder / "space" / "stages.json").read_text("utf-8"))["stages"]
    assert "dpo" in stages and "prm" not in stages


def test_all_that_is_left_is_for_the_learner(whole):
    assert {problem.code for problem in whole.problems} == {"hole"}


def test_a_changed_card_is_found(whole, values, tmp_path):
    folder = tmp_path / "portfolio"
    shutil.copytree(whole.folder, folder)
    card = folder / "models" / "tiny-dpo" / "README.md"
    text = card.read_text("utf-8")
    card.write_text(text.replace("98%", "99%", 1), "utf-8")
    assert card.read_text("utf-8") != text
    problems = audit_documents(folder, values, expected=whole.texts)
    assert any(p.path == "models/tiny-dpo/README.md" and p.code == "stale" for p in problems)


def test_the_checklist_is_computed(whole, values, shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("POSTLAB_RUNS", str(shipped))
    before = {item.what: item.done for item in checklist(whole, values)}
    assert before["DPO project"] and not before["posts written"] and not before["published"]
    folder = tmp_path / "portfolio"
    shutil.copytree(whole.folder, folder)
    texts = {p.stem: p.read_text("utf-8") for p in (folder / "drafts").glob("*.md")}
    for name, text in filled(texts).items():
        (folder / "drafts" / f"{name}.md").write_text(text, "utf-8")
    (folder / "handover.json").write_text(json.dumps({"verdicts": {"merged": "equivalent"}}))
    (folder / "published.json").write_text(json.dumps({"sent": ["https://example.com/a"]}))
    again = make_portfolio("tiny", to=folder)
    after = {item.what: item.done for item in checklist(again, values)}
    assert after["posts written"] and after["audit"] and after["published"]
    assert after["what is handed over was evaluated again"]
    table = checklist_table(checklist(again, values))
    assert set(table["done"]) <= {"✓", "–"} and table.loc["posts written", "to do"] == ""


def test_a_record_agrees_until_something_changes(whole, values, tmp_path):
    folder = tmp_path / "portfolio"
    shutil.copytree(whole.folder, folder)
    record = write_record(whole, values, to=folder / "completion.json")
    assert verify_record(record, known=values) == []
    post = folder / "dpo.md"
    post.write_text(post.read_text("utf-8") + "\nmore\n", "utf-8")
    (folder / "sft.md").unlink()
    assert verify_record(record) == ["dpo.md has changed", "sft.md is missing"]
    body = json.loads(record.read_text("utf-8"))
    body["runs"]["dpo/seed-0"]["weights_sha256"] = "0" * 64
    record.write_text(json.dumps(body), "utf-8")
    wrong = verify_record(record, known=values)
    assert "the record was changed after it had been written" in wrong
    assert "the weights of dpo/seed-0 have changed" in wrong
    record.write_text("[]", "utf-8")
    with pytest.raises(ValueError, match="holds no record"):
        verify_record(record)


def test_solved_exercises_are_read_from_saved_notebooks(tmp_path):
    def cell(text, source="def f(): ..."):
        outputs = [{"output_type": "stream", "text": [text]}]
        return {"cell_type": "code", "source": [source], "outputs": outputs}

    cells = [cell("✓ gae: right\n"), cell("✗ holm: Not yet."), cell("I say ✓ holm: right")]
    (tmp_path / "week04.ipynb").write_text(json.dumps({"cells": cells}), "utf-8")
    (tmp_path / "broken.ipynb").write_text("{", "utf-8")
    assert list(solved_exercises(tmp_path)) == ["gae"]
