"""The run folder without a trainer: files that survive, keys that see what matters, stages."""

from __future__ import annotations

import errno
import functools
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from modules import module_at

from postlab import storage
from postlab.claims import read_runs
from postlab.lab import Lab
from postlab.profile import get_profile
from postlab.progress import Bar, progress
from postlab.report import summary as report
from postlab.runs import DamagedStage, MissingStage, Run, find_stage, machine, run_root
from postlab.runs import code as sourcecode
from postlab.runs import key as fingerprint
from postlab.runs import run as runs
from postlab.runs.space import spare_folders
from postlab.storage import DiskFull, ReadOnlyFolder, StageBusy

ship = module_at(
    Path(__file__).resolve().parents[3] / "notebooks" / "experiments" / "ship.py", "ship"
)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(runs, "data_dir", lambda: tmp_path / "data")
    return tmp_path / "runs"


def finished(run: Run, *, weights: bytes = b"w", **manifest) -> Run:
    """A complete run without training one."""
    run.model_dir.mkdir(parents=True)
    (run.model_dir / "adapter_model.safetensors").write_bytes(weights)
    made = {"status": "complete", "seed": run.seed, "parent": run.parent, "key": "k"}
    made |= {"device": {"gpu": None, "cpus": 2, "ram_gib": 8.0}}
    made |= {"weights_sha256": storage.weights_hash(run.model_dir)} | manifest
    (run.folder / "trainer_state.json").write_text('{"log_history": []}')
    (run.folder / "manifest.json").write_text(json.dumps(made))
    return run


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a", "b", "b"],
            "family": ["facts", "arithmetic", "arithmetic"],
            "prompt": ["Who?", "1 + 1?", "1 + 1?"],
            "sample": [0, 0, 1],
            "answer": ["Me.\u2028é", "2", "3"],
            "closed": [True, True, False],
            "arithmetic": [np.nan, 1.0, 0.0],
            "length": [0.1 + 0.2, 1.0, 2.0],
            "kl": [np.nan, np.nan, np.nan],
        }
    )


# ---- files


def test_a_file_is_whole_or_as_before(tmp_path):
    path = tmp_path / "a.json"
    storage.atomic_text(path, "old")
    with pytest.raises(KeyError), storage.atomic_file(path) as temporary:
        temporary.write_text("ne")
        raise KeyError
    assert path.read_text() == "old" and [f.name for f in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_whole_or_as_before(tmp_path):
    path = tmp_path / "model"
    for text in ("one", "two"):
        with storage.atomic_folder(path) as temporary:
            (temporary / "w").write_text(text)
    with pytest.raises(KeyError), storage.atomic_folder(path) as temporary:
        (temporary / "w").write_text("th")
        raise KeyError
    assert (path / "w").read_text() == "two" and [f.name for f in tmp_path.iterdir()] == ["model"]


def test_leftovers_of_a_killed_process_are_swept(tmp_path):
    (tmp_path / ".model.tmp-7").mkdir()
    (tmp_path / ".model.tmp-7" / "w").write_text("half")
    (tmp_path / ".manifest.json.tmp-7").write_text("half")
    (tmp_path / "manifest.json").write_text("{}")
    storage.sweep(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["manifest.json"]


def test_a_seal_sees_truncation_a_flipped_bit_and_a_missing_file(tmp_path):
    def fresh(name: str) -> Path:
        folder = tmp_path / name
        (folder / "ref").mkdir(parents=True)
        (folder / "w").write_bytes(b"12345678")
        (folder / "ref" / "v").write_bytes(b"1")
        storage.seal(folder)
        assert storage.sealed(folder)
        return folder

    (fresh("cut") / "w").write_bytes(b"1234567")
    (fresh("flip") / "w").write_bytes(b"12345679")
    (fresh("gone") / "ref" / "v").unlink()
    (fresh("open") / storage.SEAL).unlink()
    names = ("cut", "flip", "gone", "open", "never")
    assert [storage.sealed(tmp_path / name) for name in names] == [False] * 5


@pytest.mark.parametrize(
    "error, full",
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (ValueError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704"), True),
        (RuntimeError("basic_ios::clear: iostream error"), True),
        (RuntimeError("PytorchStreamReader failed, in inline_container.cc"), False),
        (PermissionError(errno.EACCES, "no"), False),
    ],
)
def test_every_librarys_full_disk_is_recognised(tmp_path, error, full):
    caught = DiskFull if full else type(error)
    guard = storage.disk_guard(
        "a checkpoint", tmp_path, needed=12_300_000, shown="runs/x", advice="run again."
    )
    with pytest.raises(caught) as info, guard:
        raise error
    if full:
        assert "saving a checkpoint: at least 12.3 MB are needed in runs/x" in str(info.value)
        assert str(tmp_path) not in str(info.value)


def test_a_lock_is_seen_by_another_process_and_freed_by_its_death(tmp_path):
    lock = tmp_path / ".sft.lock"
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX);"
        "print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StageBusy, match="wait"), storage.locked(lock, "wait"):
            pass
    finally:
        other.kill()
        other.wait()
    with storage.locked(lock, "wait"):
        pass


# ---- the key


def test_changes_name_the_part_and_its_short_values():
    old = {"config": {"learning_rate": 0.1, "save_steps": 5}, "data": {"train": {"sha256": "a"}}}
    new = {"config": {"learning_rate": 0.2, "save_steps": 9}, "data": {"train": {"sha256": "b"}}}
    assert fingerprint.changes(old, new) == [
        "config.learning_rate (0.1 → 0.2)",
        "data.train.sha256 (a → b)",
    ]
    assert fingerprint.digest(old) != fingerprint.digest(new)
    new["config"]["learning_rate"], new["data"] = 0.1, old["data"]
    assert fingerprint.digest(old) == fingerprint.digest(new) and not fingerprint.changes(old, new)


def test_a_folder_that_was_evaluated_and_never_trained_is_no_crash():
    old = dict.fromkeys(fingerprint.PARTS)  # as `_prepare` reads it from such a manifest
    new = {"config": {"learning_rate": 0.2}, "data": {"train": {"sha256": "b"}}}
    assert "config.learning_rate (None → 0.2)" in fingerprint.changes(old, new)


def test_a_moved_base_is_the_same_base_and_other_weights_are_not():
    there = {"model": {"base": "tiny-base", "weights": "abc"}}
    moved = {"model": {"base": "copy", "weights": "abc"}}
    hub = {"model": {"base": "owner/one", "weights": None}}
    assert fingerprint.digest(there) == fingerprint.digest(moved)
    assert fingerprint.digest(hub) != fingerprint.digest({"model": hub["model"] | {"base": "o/2"}})


def test_rows_are_hashed_by_content_not_by_container():
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": f"p{i}", "ids": [i, i + 1]} for i in range(3)]
    plain = fingerprint._rows(rows)
    assert fingerprint._rows(datasets.Dataset.from_list(rows)) == plain
    assert fingerprint._rows([r | {"ref_chosen_logps": 0.1} for r in rows]) == plain
    assert fingerprint._rows(rows[::-1])["sha256"] != plain["sha256"]
    assert fingerprint._rows({"a": rows}) == {"a": plain} and fingerprint._rows(None) is None


def defined(text: str, name: str = "reward"):
    """A function as a notebook cell defines it: its source is known to linecache only."""
    import linecache

    place = f"<cell {defined.count}>"
    defined.count += 1
    linecache.cache[place] = (len(text), None, text.splitlines(True), place)
    space = {"__name__": "__main__", "re": re}
    exec(compile(text, place, "exec"), space)
    return space[name]


defined.count = 0
REWARD = """
BONUS = 1.0
def helper(c):
    return len(c)
def reward(completions, **columns):
    return [helper(c) + BONUS for c in completions]
"""


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("return len(c)", "return len(c)  # tokens", True),
        ("    return len(c)", "    '''Tokens.'''\n    return  len( c )", True),
        ("return len(c)", "return 2 * len(c)", False),
        ("BONUS = 1.0", "BONUS = 2.0", False),
        ("+ BONUS", "- BONUS", False),
    ],
)
def test_source_follows_helpers_and_constants_but_not_layout(old, new, same):
    before, after = defined(REWARD), defined(REWARD.replace(old, new))
    assert (sourcecode.source(before) == sourcecode.source(after)) is same


def test_source_sees_closures_partials_objects_and_builtins():
    def make(bonus):
        def reward(completions):
            return [bonus] * len(completions)

        return reward

    class Judge:
        def __init__(self, strict):
            self.strict = strict

        def __call__(self, completions):
            return [float(self.strict)] * len(completions)

    source = sourcecode.source
    assert source(make(1)) == source(make(1)) != source(make(2))
    assert source(functools.partial(make(1), x=1)) != source(functools.partial(make(1), x=2))
    assert source(Judge(True)) != source(Judge(False)) and source(len)
    assert " at 0x" not in "".join(map(source, (make(1), Judge(True), len, functools.partial(len))))


def test_every_function_the_trainer_was_given_is_in_its_code():
    def trainer(**functions):
        made = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[]), **functions)
        return fingerprint.describe_code(made)

    one = defined(REWARD)
    other = defined(REWARD.replace("+ BONUS", "- BONUS"))
    for name in ("rollout_func", "compute_loss_func", "data_collator"):
        assert trainer(**{name: one}) == trainer(**{name: defined(REWARD)})
        assert trainer(**{name: one}) != trainer(**{name: other}) != trainer()
    assert trainer(reward_funcs=[one]) != trainer(reward_funcs=[other])
    assert "reward reward" in trainer(reward_funcs=[one])


def test_plain_values_hold_no_address_and_no_absolute_path():
    value = {"a": Path("/home/somebody/base"), "b": object(), "c": {3, 1}, "d": re.compile("x")}
    assert sourcecode.plain(value) == {
        "a": "base",
        "b": "object",
        "c": ["1", "3"],
        "d": ["x", 32],
    }
    json.dumps(sourcecode.plain(value | {"e": np.arange(2), "f": functools.reduce}))


# ---- evaluations


def test_an_evaluation_comes_back_as_it_was(root):
    run = finished(Run("tiny", 0, "sft", "base"))
    run.save_eval(frame(), "key", eval_s=1.5)
    pd.testing.assert_frame_equal(run.load_eval("key"), frame())
    assert run.load_eval("another") is None and run.load_eval() is not None
    assert run.manifest["eval_s"] == 1.5 and run.manifest["wall_s"] > 0 and run.complete
    prompts = [json.loads(line) for line in (run.folder / "eval.jsonl").open()]
    assert [(p["id"], p["arithmetic"], p["length"]) for p in prompts] == [
        ("a", None, 0.1 + 0.2),
        ("b", 0.5, 1.5),
    ]
    assert prompts[1]["answer"] == "2" and prompts[1]["family"] == "arithmetic"


def test_a_curation_is_noted_without_a_change_of_the_key(root):
    curation = {"kept": 3, "dropped": {"duplicate": 2, "wrong": 0}}
    run = finished(Run("tiny", 0, "sft", "base"))
    key = run.manifest["key"]
    run.save_curation(**curation)
    assert run.manifest["curation"] == curation and run.manifest["key"] == key and run.complete
    with pytest.raises(ValueError, match="isn't trained"):
        Run("tiny", 0, "dpo", "sft").save_curation(**curation)


def test_the_base_gets_a_folder_by_being_evaluated(root):
    run = Run("tiny", 0, "base")
    run.save_eval(frame(), "key")
    manifest = run.manifest
    assert run.complete and manifest["stage"] == "base" and manifest["parent"] is None
    assert "device" in manifest and os.path.expanduser("~") not in json.dumps(manifest)


def test_an_evaluation_cut_short_is_none(root):
    run = finished(Run("tiny", 0, "sft"))
    run.save_eval(frame(), "key")
    file = run.folder / "samples.jsonl"
    text = file.read_text()
    file.write_text(text[: text.rindex("{")])
    assert run.load_eval("key") is None
    file.write_text(text[:-5])
    assert run.load_eval("key") is None
    file.unlink()
    assert run.load_eval("key") is None


def test_a_full_disk_while_saving_an_evaluation_keeps_the_last_one(root, monkeypatch):
    run = finished(Run("tiny", 0, "sft"))
    run.save_eval(frame(), "key")

    plain, left = storage.atomic_text, []

    def no_space(path, text):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        plain(path, text)

    monkeypatch.setattr(storage, "atomic_text", no_space)
    with pytest.raises(DiskFull, match="the evaluation of sft"):
        run.save_eval(frame().assign(length=0.0), "key 2")
    pd.testing.assert_frame_equal(run.load_eval("key"), frame())
    left.append(0)  # room for samples.jsonl only: the manifest still tells of the old ones
    with pytest.raises(DiskFull):
        run.save_eval(frame().assign(length=0.0), "key 2")
    assert run.load_eval("key") is None and run.load_eval("key 2") is None and run.complete


# ---- stages


def test_a_missing_stage_names_the_one_command(root):
    with pytest.raises(MissingStage, match="make week N=05 PROFILE=t4 SEED=2"):
        find_stage("t4", 2, "dpo")
    with pytest.raises(MissingStage, match="make week N=09 PROFILE=t4 SEED=0"):
        find_stage("t4", 0, "cai")
    with pytest.raises(MissingStage, match="make week N=07 PROFILE=t4 SEED=0"):
        find_stage("t4", 0, "sft-small")
    with pytest.raises(MissingStage, match="make week N=03 PROFILE=tiny SEED=0"):
        find_stage("tiny", 0, "sft")


def test_a_stage_under_way_is_missing_and_a_changed_one_damaged(root):
    run = finished(Run("smol", 0, "sft"))
    assert find_stage("smol", 0, "sft") == run.model_dir
    manifest = run.manifest
    (run.folder / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    with pytest.raises(MissingStage):
        find_stage("smol", 0, "sft")
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    (run.model_dir / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(runs.DamagedStage, match="runs/smol/seed-0/sft"):
        find_stage("smol", 0, "sft")


def test_the_shipped_stage_is_copied_for_tiny_and_its_own_seed(root, tmp_path, monkeypatch):
    made = finished(Run("tiny", 0, "sft"))
    (tmp_path / "data" / "tiny-stages").mkdir(parents=True)
    made.folder.rename(tmp_path / "data" / "tiny-stages" / "sft")
    folder = find_stage("tiny", 0, "sft")
    assert folder == made.model_dir and made.manifest["shipped"] is True
    assert (tmp_path / "data" / "tiny-stages" / "sft" / "model").exists()
    for profile, seed in (("tiny", 1), ("smol", 0)):
        with pytest.raises(MissingStage):
            find_stage(profile, seed, "sft")


def shipped(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "tiny-stages").mkdir(parents=True, exist_ok=True)
    finished(run).folder.rename(tmp_path / "data" / "tiny-stages" / run.stage)


def test_what_a_kill_leaves_of_a_copied_stage_goes_with_the_next_lock(root, tmp_path, monkeypatch):
    run = Run("tiny", 0, "sft")
    shipped(run, tmp_path)
    copytree, fork = shutil.copytree, multiprocessing.get_context("fork")

    def killed(*args, **kwargs):
        copytree(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", killed)
        for _ in range(2):
            process = fork.Process(target=find_stage, args=("tiny", 0, "sft"))
            process.start()
            process.join(60)
    assert list(run.folder.parent.glob(".sft.tmp-*"))
    find_stage("tiny", 0, "sft")
    assert {path.name for path in run.folder.parent.iterdir()} == {"sft", ".sft.lock"}


def test_what_cannot_be_removed_is_named(root, monkeypatch, capsys):
    run = finished(Run("tiny", 0, "sft"))
    left = run.folder / ".model.tmp-7"
    left.mkdir()
    monkeypatch.setattr(storage, "_remove", lambda path: None)  # as another user's files
    with run._lock():
        pass
    assert ".model.tmp-7 in runs/tiny/seed-0/sft was left by" in capsys.readouterr().out


def test_a_process_that_copies_a_stage_is_waited_for(root, tmp_path, monkeypatch):
    run = Run("tiny", 0, "sft")
    shipped(run, tmp_path)
    lock = run._lock()
    lock.__enter__()
    threading.Timer(0.3, lock.__exit__, (None, None, None)).start()
    assert find_stage("tiny", 0, "sft") == run.model_dir
    monkeypatch.setattr(runs, "PATIENCE_S", 0.1)
    with run._lock(), pytest.raises(StageBusy, match="Another process works on runs/tiny"):
        run.save_eval(frame(), "key")


@pytest.mark.parametrize("replaced", [True, False])
def test_an_evaluation_goes_to_the_weights_it_is_of(root, replaced):
    """While one process evaluates, another may replace the run, or delete it."""
    run = finished(Run("tiny", 0, "sft"))
    before = run.manifest["weights_sha256"]
    shutil.rmtree(run.folder)
    if replaced:
        finished(run, weights=b"other")
    manifest = run.manifest
    with pytest.raises(StageBusy, match="deleted or replaced while it was evaluated"):
        run.save_eval(frame(), "key", of=before)
    assert run.manifest == manifest and not (run.folder / "samples.jsonl").exists()
    if replaced:
        run.save_eval(frame(), "key", of=manifest["weights_sha256"])
        assert run.load_eval("key") is not None


@pytest.mark.parametrize("text", ["[1, 2]", '"x"', "null", "{", "3"])
def test_a_manifest_that_is_no_object_is_none(root, text):
    run = finished(Run("tiny", 0, "sft"))
    (run.folder / "manifest.json").write_text(text)
    assert run.manifest is None and not run.complete and run.load_eval() is None
    with pytest.raises(MissingStage):
        find_stage("tiny", 0, "sft")
    (run.folder / "manifest.json").write_text('{"status": "complete", "eval": [], "files": []}')
    assert run.load_eval() is None
    with pytest.raises(runs.DamagedStage):
        find_stage("tiny", 0, "sft")


def test_two_processes_write_one_report_after_the_other(root, monkeypatch):
    run = finished(Run("tiny", 0, "base"))
    run.save_eval(frame(), "key")
    left = root / "tiny" / ".report.html.tmp-7"
    left.write_text("of a killed process")
    lock = storage.locked(root / "tiny" / ".report.lock", "busy")
    lock.__enter__()
    threading.Timer(0.3, lock.__exit__, (None, None, None)).start()
    report.summarise("tiny")
    assert not left.exists()
    monkeypatch.setattr(storage.time, "monotonic", iter(range(0, 10**6, 1000)).__next__)
    with (
        storage.locked(root / "tiny" / ".report.lock", "busy"),
        pytest.raises(StageBusy, match="Another process is writing the report in runs/tiny"),
    ):
        report.summarise("tiny")


@pytest.mark.parametrize("jump", [-3600.0, 86400.0])
def test_a_clock_that_is_set_changes_no_duration(monkeypatch, jump):
    plain, offset = machine.time.time, 0.0
    monkeypatch.setattr(machine, "_charged", None)
    monkeypatch.setattr(machine.time, "time", lambda: plain() + offset)
    first = machine.spent({})["wall_s"]
    offset = jump
    assert 0 <= machine.spent({})["wall_s"] < 60
    monkeypatch.setattr(machine, "_charged", None)
    assert 0 < first <= machine.spent({})["wall_s"] < first + 60


@pytest.mark.parametrize("own_parent", [False, True])
def test_a_shipped_stage_of_a_branch_comes_only_beside_its_own_parent(root, tmp_path, own_parent):
    """A cai of the package's SFT says nothing of an SFT that was made here."""
    shipped = tmp_path / "data" / "tiny-stages"
    shipped.mkdir(parents=True)
    sft = finished(Run("tiny", 0, "sft"))
    cai = finished(Run("tiny", 0, "cai", "sft"), parent_weights=sft.manifest["weights_sha256"])
    for made in (cai, sft):
        made.folder.rename(shipped / made.stage)
    if own_parent:
        finished(Run("tiny", 0, "sft"), weights=b"made here")
    assert runs.adopt_shipped(Run("tiny", 0, "cai")) is not own_parent
    assert cai.folder.exists() is not own_parent


def test_what_came_with_the_package_is_shipped_again_without_the_mark_of_a_copy(root, tmp_path):
    run = finished(Run("tiny", 0, "sft"))
    manifest = run.manifest
    (run.folder / "manifest.json").write_text(json.dumps(manifest | {"shipped": True}))
    ship._copy_manifest(run.folder / "manifest.json", tmp_path / "made.json")
    assert json.loads((tmp_path / "made.json").read_text()) == manifest


def compared_with(folder, seeds):
    """A summary.json of these seeds, in which SFT takes safety from 0.2 to 0.8."""
    before, after = ({"value": v, "low": v, "high": v, "n": 9} for v in (0.2, 0.8))
    change = {"difference": 0.6, "low": 0.5, "high": 0.7, "p": 0.01}
    stages = [
        {"name": name, "parent": parent, "seed": seed, "metrics": {"safety": value},
         "versus_parent": {"safety": change} if parent else {}, "train_s": 1.0, "eval_s": 1.0}
        for seed in seeds
        for name, parent, value in (("base", None, before), ("sft", "base", after))
    ]  # fmt: skip
    summary = {"profile": "tiny", "wall_s": 1.0, "peak_rss_gb": 1.0, "stages": stages}
    (folder / "summary.json").write_text(json.dumps(summary | {"problems": []}))


def test_more_seeds_are_shipped_beside_those_that_were(root, tmp_path):
    data, tiny = tmp_path / "shipped", root / "tiny"
    results = data / "results" / "tiny"
    for seeds in ((0, 1), (1, 5)):
        shutil.rmtree(tiny, ignore_errors=True)
        for seed in seeds:
            for stage in runs.CHAIN:
                took = {"wall_s": 60.0 + seed, "peak_rss_gb": 1.0, "date": "2026-11-30"}
                run = finished(Run("tiny", seed, stage, "sft"), **took)
                for name in ship.KEPT:
                    (run.folder / name).touch()
                (run.model_dir / "adapter_config.json").write_text('{"target_modules": []}')
        compared_with(tiny, seeds)
        ship.ship(tiny, data)
    summary = json.loads((results / "summary.json").read_text())
    assert [(e["seed"], e["name"]) for e in summary["stages"]] == [
        (seed, stage) for seed in (0, 1, 5) for stage in ("base", "sft")
    ]
    assert summary["wall_s"] == 4 * (60 + 61 + 65)
    assert {f.name[:6] for f in results.glob("*.manifest.json")} == {"seed-0", "seed-1", "seed-5"}


def test_a_whole_chain_is_shipped_and_what_else_was_made_of_a_seed(root, tmp_path):
    data, tiny = tmp_path / "shipped", root / "tiny"
    said = {"date": "2026-11-27", "device": {"gpu": "T4"}}
    said["parent_weights"] = finished(Run("tiny", 9, "sft")).manifest["weights_sha256"]
    shutil.rmtree(tiny / "seed-9")
    for seed, stages in ((0, (*runs.CHAIN, "cai")), (1, runs.CHAIN)):
        for stage in stages:
            run = finished(Run("tiny", seed, stage, "sft"), **said)
            (run.model_dir / "adapter_config.json").write_text('{"target_modules": ["b", "a"]}')
            for name in ship.KEPT:
                (run.folder / name).touch()
    compared_with(tiny, seeds=(0, 1))
    ship.ship(tiny, data)
    assert {f.name for f in (data / "tiny-stages").iterdir()} == {*runs.CHAIN, "cai"}
    config = json.loads(
        (data / "tiny-stages" / "cai" / "model" / "adapter_config.json").read_text()
    )
    assert config == {"target_modules": ["a", "b"], "base_model_name_or_path": "tiny-base"}
    noted = {f.name for f in (data / "results" / "tiny").glob("*.manifest.json")}
    assert len(noted) == 9 and "seed-0-cai.manifest.json" in noted
    cai = Run("tiny", 0, "cai")
    (cai.folder / "manifest.json").write_text(json.dumps(cai.manifest | {"status": "running"}))
    ship.ship(tiny, data)  # a run under way takes nothing from what was shipped before
    assert (data / "tiny-stages" / "cai" / "model" / "adapter_model.safetensors").exists()
    other = cai.manifest | {"status": "complete", "parent_weights": "another"}
    (cai.folder / "manifest.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="seed-0/cai was made from another sft .*N=09 SEED=0"):
        ship.ship(tiny, data)
    shutil.rmtree(cai.folder)
    shutil.rmtree(tiny / "seed-1" / "dpo")
    with pytest.raises(FileNotFoundError):
        ship.ship(tiny, data)


def test_a_stage_name_is_checked():
    with pytest.raises(ValueError, match=r"stage is '\.\./dpo'"):
        Run("tiny", 0, "../dpo")


def test_runs_lie_at_the_top_of_a_clone(tmp_path, monkeypatch):
    monkeypatch.delenv("POSTLAB_RUNS")
    (tmp_path / "clone" / "notebooks" / "src").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clone" / "notebooks")
    assert run_root() == tmp_path / "clone" / "runs"
    monkeypatch.chdir(tmp_path)
    assert run_root() == tmp_path / "runs"


def test_walls_of_stages_add_up_to_the_wall_of_the_process(monkeypatch):
    monkeypatch.setattr(machine, "_charged", None)
    clock = iter([130.0, 150.0, 155.0])
    monkeypatch.setattr(machine, "_process_age", lambda: 30.0)
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    base, sft = machine.spent({}), machine.spent({})
    assert (base["wall_s"], sft["wall_s"]) == (30.0, 20.0)
    assert machine.spent(sft)["wall_s"] == 25.0
    assert 0 < base["peak_rss_gb"] < 64


# ---- progress


def test_a_log_file_gets_one_line(capsys):
    with progress(8, "evaluate") as bar:
        for _ in range(8):
            bar.update(1, "arithmetic")
    assert capsys.readouterr().out == "evaluate 25% 50% 75% 100% arithmetic\n"


def timed(monkeypatch, seconds: float, updates: list[int], *, done: int = 0) -> None:
    """A bar in a log file whose every step takes so long."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("postlab.progress.time.monotonic", lambda: clock.now)
    bar = Bar(8, "evaluate", done=done)
    for n in updates:
        clock.now += n * seconds
        bar.update(n)
    bar.close()


@pytest.mark.parametrize(
    ("seconds", "updates", "line"),
    [
        (7, [1] * 8, "25% 50% 75% 100%"),  # 42 s at three quarters
        (40, [2, 2, 4], "25% (about 4 min left) 50% (about 3 min left) 75% 100%"),
        (20, [2, 2, 2, 2], "25% 50% (about 1 min left) 75% (about 1 min left) 100%"),
        (90, [5, 3], "25% 50% (about 4 min left) 75% 100%"),  # two quarters in one batch
        (3600, [8], "25% 50% 75% 100%"),
    ],
)  # fmt: skip
def test_a_log_file_gets_the_time_left_if_a_step_takes_long(
    monkeypatch, capsys, seconds, updates, line
):
    timed(monkeypatch, seconds, updates)
    assert capsys.readouterr().out == f"evaluate {line}\n"


def test_what_an_earlier_session_did_says_nothing_about_the_pace(monkeypatch, capsys):
    timed(monkeypatch, 60, [2, 2], done=4)
    assert capsys.readouterr().out == "evaluate 75% (about 2 min left) 100%\n"


def test_a_resumed_step_starts_where_it_was(capsys):
    bar = Bar(8, "sft", done=4)
    bar.update(2)
    bar.close()
    bar.close()
    assert capsys.readouterr().out == "sft 75%\n"


def test_a_terminal_line_is_rewritten_and_ends_without_times(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("postlab.progress.REFRESH_S", 0)
    with progress(2, "sft") as bar:
        bar.update(1, "loss 0.5")
        bar.update(1, "loss 0.4")
    first, *_, half, _, last = capsys.readouterr().out.removeprefix("\r").split("\r")
    assert first.startswith(f"sft |{' ' * 20}| 0/2, ")
    assert half.startswith(f"sft |{'█' * 10}{' ' * 10}| 1/2, loss 0.5, 00:00 left")
    assert last.split() == f"sft |{'█' * 20}| 2/2, loss 0.4".split() and last[-1] == "\n"


def test_a_notebook_display_is_updated_in_place(monkeypatch, capsys):
    shown = []
    display = SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))
    monkeypatch.setattr("postlab.progress._notebook_display", lambda: display)
    with progress(2, "sft") as bar:
        bar.update(2, "loss 0.4")
    assert shown[0].startswith("sft 0/2, ") and shown[0].endswith(" left")
    assert shown[-1] == "sft 2/2, loss 0.4" and capsys.readouterr().out == ""


def test_a_bar_starts_no_thread():
    before = threading.active_count()
    with progress(2, "sft"):
        assert threading.active_count() == before


# ---- a folder that can be read and not written


def test_a_read_only_folder_is_read(root, tmp_path, read_only, capsys):
    base, sft = (finished(Run("tiny", 0, stage)) for stage in ("base", "sft"))
    for run in (base, sft):
        run.save_eval(frame(), "key")
    shipped = finished(Run("tiny", 0, "dpo", "sft"))
    (tmp_path / "data" / "tiny-stages").mkdir(parents=True)
    shipped.folder.rename(tmp_path / "data" / "tiny-stages" / "dpo")
    (sft.folder / ".manifest.json.tmp-7").write_text("left by a killed process")
    before = sorted(root.rglob("*"))
    read_only(root)

    here = Lab(get_profile("tiny"), 0)
    assert here.checkpoint("sft") == str(find_stage("tiny", 0, "sft")) == str(sft.model_dir)
    assert here.run("sft") == Run("tiny", 0, "sft", "base") and here.run("sft").complete
    assert list(here.results("base", "sft")) == ["base", "sft"]
    pd.testing.assert_frame_equal(sft.load_eval("key"), frame())
    assert [run.stage for run in read_runs(root / "tiny")[0]] == ["base", "sft"]
    with sft._lock("k"):
        sft._prepare("k", {})  # as `train` does for a run that is complete
    assert not runs.adopt_shipped(Run("tiny", 0, "dpo"))  # shipped, but there is no place for it
    with pytest.raises(MissingStage, match="That folder is read-only. Set POSTLAB_RUNS"):
        here.checkpoint("dpo")
    assert sorted(root.rglob("*")) == before


def test_a_write_into_a_read_only_folder_is_refused_in_a_sentence(root, read_only, capsys):
    sft = finished(Run("tiny", 0, "sft"))
    sft.save_eval(frame(), "key")
    damaged = finished(Run("tiny", 0, "dpo"))
    (damaged.model_dir / "adapter_model.safetensors").write_bytes(b"")
    read_only(root)
    writes = {
        "another key": lambda: sft._lock("another").__enter__(),
        "damaged": lambda: damaged._lock("k").__enter__(),
        "evaluation": lambda: sft.save_eval(frame(), "key"),
        "a new stage": lambda: Lab(get_profile("tiny"), 0).run("grpo"),
        "the report": lambda: report.write_report("tiny"),
    }
    for write in writes.values():
        with pytest.raises(
            ReadOnlyFolder, match="set POSTLAB_RUNS to a folder you can write to"
        ) as error:
            write()
        assert str(error.value).startswith(f"Cannot write to {root / 'tiny'}")
    assert report.main(["tiny"]) == 1 and "set POSTLAB_RUNS" in capsys.readouterr().err


# ---- damaged folders


@pytest.mark.parametrize("held", [None, "", '{"log_hist', "[1]", "{}", '{"log_history": [1]}'])
def test_a_log_that_is_missing_or_cut_says_so(root, held):
    run = finished(Run("tiny", 0, "sft", "base"))
    (run.folder / "trainer_state.json").unlink()
    if held is not None:
        (run.folder / "trainer_state.json").write_text(held)
    with pytest.raises(
        DamagedStage, match="tiny/seed-0/sft is not .*: trainer_state.json cut.*Delete"
    ):
        _ = run.log
    (run.folder / "trainer_state.json").write_text('{"log_history": [{"loss": 1.0}]}')
    assert run.log == [{"loss": 1.0}]


@pytest.mark.parametrize(
    "held",
    ["[1, 2]", '"x"', "null", '{"status": 1}', '{"config": [1], "versions": {"trl": 1}}']
    + ['{"eval": [1]}', '{"eval": {"key": "k"}}', '{"status": "complete", "files": [1]}'],
)
def test_a_manifest_of_another_kind_is_as_good_as_none(root, held):
    """It is moved aside with what lies beside it, and the stage can be trained."""
    run = finished(Run("tiny", 0, "sft", "base"))
    (run.folder / "samples.jsonl").write_text("{")
    (run.folder / "manifest.json").write_text(held)
    assert run.load_eval("k") is None
    if run.complete:
        with pytest.raises(DamagedStage):
            find_stage("tiny", 0, "sft")
    assert spare_folders(root) == []
    run._prepare("another", {"config": {"seed": 0}})
    assert run.manifest["status"] == "running"
