"""One call makes the portfolio; the checklist and the record follow from its files."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
from portfolio_runs import filled

import postlab
from postlab.portfolio import (
    audit_documents,
    checklist,
    checklist_table,
    make_portfolio,
    publish,
    solved_exercises,
    verify_record,
    write_record,
)
from postlab.portfolio.exports import place_exports, read_exports, told_exports
from postlab.portfolio.publish import file_hashes
from postlab.storage import file_hash

publish_module = sys.modules["postlab.portfolio.publish"]  # its door has the function of that name


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
    card.write_text(text.replace("97.5%", "98.5%", 1), "utf-8")
    assert card.read_text("utf-8") != text
    problems = audit_documents(folder, values, expected=whole.texts)
    assert any(p.path == "models/tiny-dpo/README.md" and p.code == "stale" for p in problems)


CARD, ROWS = "models/tiny-dpo/README.md", "datasets/tiny-sft-rows/train.jsonl"
SECRET = "hf_" + "aB3dE5fG7hI9" * 3


def test_changed_cards_and_rows_stop_an_upload_without_further_arguments(
    whole, shipped, tmp_path, monkeypatch
):
    monkeypatch.setenv("POSTLAB_RUNS", str(shipped))
    folder = tmp_path / "portfolio"
    shutil.copytree(whole.folder, folder)
    assert {p.split(": ")[1] for p in publish(folder, profile="tiny").problems} == {"hole"}

    def change(path, old, new):
        text = (folder / path).read_text("utf-8")
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1), "utf-8")

    change(CARD, "+61", "+64")
    change("datasets/tiny-dpo-rows/README.md", "## What it isn't", "It outperforms the original.")
    change(ROWS, '"}', f' {SECRET} in /home/somebody/x"}}')
    (folder / "datasets/tiny-sft-rows/more.jsonl").write_text('{"a": "b"}\n', "utf-8")
    plan = publish(folder, profile="tiny")
    problems = {tuple(p.split(": ")[:2]) for p in plan.problems}
    paths = {(path.rpartition(":")[0], code) for path, code in problems}
    assert paths >= {
        (CARD, "stale"), ("datasets/tiny-dpo-rows/README.md", "stale"), (ROWS, "stale"),
        (ROWS, "secret"), ("datasets/tiny-sft-rows/more.jsonl", "unbound"),
    }  # fmt: skip
    assert "+64" in str(plan) and "outperforms" in str(plan) and SECRET not in str(plan)


@pytest.mark.parametrize(
    ("row", "codes"),
    [
        ('{"prompt": "The password is: swordfish1, in /home/somebody/x, ask me@a.example"}', set()),
        (f'{{"prompt": "key:{SECRET}"}}', {"secret"}),
        ('{"prompt": "-----BEGIN RSA PRIVATE KEY-----\\nMIIE"}', {"secret"}),
    ],
)
def test_only_keys_are_looked_for_in_rows_that_follow_from_the_runs(
    values, finished, tmp_path, row, codes
):
    folder = tmp_path / "portfolio"
    shutil.copytree(finished, folder)
    (folder / ROWS).parent.mkdir(parents=True)
    (folder / ROWS).write_text(row + "\n", "utf-8")
    problems = audit_documents(folder, values, expected={ROWS: row + "\n"})
    assert {p.code for p in problems} == codes
    other = audit_documents(folder, values, expected={})
    assert "unbound" in {p.code for p in other}


def test_the_checklist_is_computed(whole, values, shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("POSTLAB_RUNS", str(shipped))
    before = {item.what: item.done for item in checklist(whole, values)}
    assert before["DPO project"] and not before["posts written"] and not before["published"]
    (audited,) = (item for item in checklist(whole, values) if item.what == "audit")
    holes = len(whole.problems)
    assert (audited.done, audited.evidence) == (False, f"{holes} holes, nothing else")
    folder = tmp_path / "portfolio"
    shutil.copytree(whole.folder, folder)
    texts = {p.stem: p.read_text("utf-8") for p in (folder / "drafts").glob("*.md")}
    for name, text in filled(texts).items():
        (folder / "drafts" / f"{name}.md").write_text(text, "utf-8")
    again = make_portfolio("tiny", to=folder)
    after = {item.what: item.done for item in checklist(again, values)}
    assert after["posts written"] and after["audit"]
    assert not after["published"] and not after["exports re-evaluated"]
    table = checklist_table(checklist(again, values))
    assert set(table["done"]) <= {"✓", "–"} and table.loc["posts written", "to do"] == ""


def export_record(to, formats, weights):
    """A folder as `handover` leaves it. formats: {format: (verdict, why it is blocked)}."""
    held = {}
    for form, (verdict, blocked) in formats.items():
        folder, _, kind = form.partition("-")
        name = f"gguf/model-{kind}.gguf" if kind else "merged/model.safetensors"
        file = to / name
        file.parent.mkdir(parents=True, exist_ok=True)
        magic = b"GGUF" if kind else (2).to_bytes(8, "little") + b"{}"
        file.write_bytes(magic + form.encode())
        row = {
            "metric": "honesty", "before": 0.9, "after": 0.8875, "difference": -0.0125,
            "low": -0.03, "high": 0.005, "n": 60, "verdict": verdict,
        }  # fmt: skip
        held[form] = {"verdict": verdict, "blocked": blocked, "rows": [row]}
        held[form]["files"] = {name: file_hash(file)}
    body = {"weights_sha256": weights, "margin": 0.05, "formats": held}
    (to / "handover.json").write_text(json.dumps(body))
    return to


def test_exports_that_passed_go_out_and_the_others_say_why(shipped, values, tmp_path, monkeypatch):
    root = tmp_path / "runs"
    shutil.copytree(shipped, root)
    monkeypatch.setenv("POSTLAB_RUNS", str(root))
    home = root / "tiny" / "seed-0"
    formats = {"merged": ("equivalent", ""), "gguf-f16": ("equivalent", "")}
    formats |= {"gguf-q8_0": ("inconclusive", ""), "gguf-q4_k_m": ("different", "it differs")}
    weights = file_hash(home / "dpo" / "model" / "adapter_model.safetensors")
    export_record(home / "export" / "dpo", formats, weights)
    made = make_portfolio("tiny", to=tmp_path / "portfolio")
    assert {p.code for p in made.problems} == {"hole"}
    monkeypatch.setattr(publish_module, "_audit", lambda *_: [])
    plan = publish(made.folder, profile="tiny")
    files = {r.id.split("/")[1]: [f.path for f in r.files] for r in plan.repositories}
    assert files["postlab-tiny-dpo-merged"] == ["README.md", "model.safetensors"]
    assert files["postlab-tiny-dpo-gguf"] == ["README.md", "model-f16.gguf"]
    left_out = {path: why for path, why in plan.left_out if path.startswith("the export")}
    assert list(left_out) == ["the export of dpo as gguf-q8_0", "the export of dpo as gguf-q4_k_m"]
    assert "inconclusive" in left_out["the export of dpo as gguf-q8_0"]
    card = made.texts["models/tiny-dpo-gguf/README.md"]
    assert "| 90.0% | 88.8% | −1.2 (−3.0 to 0.5) | 60 |" in card and "converted to GGUF" in card
    items = {item.what: item for item in checklist(made, values)}
    assert items["exports re-evaluated"].done


def test_only_the_evaluated_files_of_a_stages_own_weights_go_out(tmp_path):
    folder = export_record(tmp_path / "export", {"merged": ("equivalent", "")}, "w")
    to = tmp_path / "portfolio"

    def placed(weights):
        exports = read_exports([folder], weights)
        places = [place for place, *_ in place_exports(exports, profile="tiny", to=to)]
        return places, told_exports(to)[0]["left_out"]

    assert placed({"w": "dpo"}) == (["models/tiny-dpo-merged"], "")
    assert (to / "models/tiny-dpo-merged/model.safetensors").is_file()
    assert placed({"other": "dpo"}) == ([], "it wasn't made from the current weights of any stage")
    assert not (to / "models/tiny-dpo-merged").exists()  # of the call before
    (folder / "merged" / "model.safetensors").write_bytes(b"other")
    assert "isn't the file that was evaluated" in placed({"w": "dpo"})[1]
    export_record(folder, {"gguf-f16": ("equivalent", "gguf_ids: 4 give other ids")}, "w")
    assert placed({"w": "dpo"}) == ([], "gguf_ids: 4 give other ids")
    (folder / "handover.json").write_text('{"formats": {}}')
    with pytest.raises(ValueError, match="isn't what handover writes"):
        read_exports([folder], {})


def test_published_holds_until_a_document_is_edited(whole, values, shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("POSTLAB_RUNS", str(shipped))
    folder = tmp_path / "portfolio"
    shutil.copytree(whole.folder, folder)
    made = replace(whole, folder=folder)

    def published():
        return next(item for item in checklist(made, values) if item.what == "published")

    record = {"sent": ["https://example.com/a"], "files": dict(file_hashes(folder))}
    (folder / "published.json").write_text(json.dumps(record))
    made = make_portfolio("tiny", to=folder)
    write_record(made, values)
    assert published().done  # writing it all again changes nothing
    draft = folder / "drafts" / "dpo.md"
    draft.write_text(draft.read_text("utf-8") + "\nI would ask for more labels.\n", "utf-8")
    assert not published().done and "drafts/dpo.md" in published().evidence
    (folder / "published.json").write_text(json.dumps({"sent": ["https://example.com/a"]}))
    assert not published().done  # of an older version, which kept no hashes


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
    assert "the record was changed after it was written" in wrong
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
