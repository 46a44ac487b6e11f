"""What a message for a full disk names as spare is spare, and nothing that is needed is named."""

import json
from pathlib import Path

import pytest

from postlab import storage
from postlab.runs import space


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "my runs"))
    return tmp_path / "my runs"


def checkpoint(stage: Path, step: int, *, kilobytes: int = 200, whole: bool = True) -> Path:
    folder = stage / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_bytes(b"x" * kilobytes * 1000)
    storage.seal(folder)
    if not whole:
        (folder / "optimizer.pt").write_bytes(b"x")
    return folder


def status(stage: Path, word: str) -> Path:
    stage.mkdir(parents=True, exist_ok=True)
    (stage / "manifest.json").write_text(json.dumps({"status": word}))
    return stage


def test_spare_are_old_checkpoints_finished_stages_and_runs_moved_aside(root):
    stages = root / "t4" / "seed-0"
    done, going = status(stages / "sft", "complete"), status(stages / "dpo", "running")
    aside = status(stages / "sft.previous-2", "complete")
    first, second = checkpoint(going, 2), checkpoint(going, 10)
    cut, old = checkpoint(going, 20, whole=False), checkpoint(done, 4)
    in_aside = checkpoint(aside, 4)
    (stages / ".dpo.lock").touch()
    assert set(space.spare_folders(root)) == {first, cut, old, aside}
    assert second not in space.spare_folders(root) and in_aside.exists()


def test_without_a_whole_checkpoint_none_is_called_spare(root):
    going = status(root / "t4" / "seed-0" / "dpo", "running")
    checkpoint(going, 2, whole=False)
    assert space.spare_folders(root) == []


def test_advice_lists_the_largest_first_with_sizes_and_no_absolute_path(root):
    stages = root / "t4" / "seed-0"
    sizes = {"a": 300, "b": 2_500, "c": 400, "d": 500, "e": 600, "f": 700, "small": 20}
    for name, kilobytes in sizes.items():
        checkpoint(status(stages / name, "complete"), 1, kilobytes=kilobytes)
    going = status(stages / "dpo", "running")
    checkpoint(going, 7)
    text = space.advice(going / "checkpoints")
    assert text.startswith("then run this again: it goes on from checkpoint-7")
    listed = text[text.index("runs/") :].rstrip(".").split(", ")
    assert listed[0] == "runs/t4/seed-0/b/checkpoints/checkpoint-1 (2.5 MB)"
    assert [entry.split("/")[3] for entry in listed] == ["b", "f", "e", "d", "c"]
    assert str(root) not in text


def test_where_nothing_is_spare_the_largest_stages_are_named_as_needed(root):
    stages = root / "t4" / "seed-0"
    (status(stages / "sft", "complete") / "model").mkdir()
    (stages / "sft" / "model" / "w").write_bytes(b"x" * 3_000_000)
    text = space.advice(stages / "dpo" / "checkpoints")
    assert "it goes on where it can" in text and "No longer needed" not in text
    assert "trained again: runs/t4/seed-0/sft (3.0 MB)" in text


def test_an_empty_or_missing_run_root_has_nothing_to_list(root):
    text = space.advice(root / "t4" / "seed-0" / "dpo" / "checkpoints")
    assert text == "then run this again: it goes on where it can."
