"""What the recorded experiments share: stored arms, their keys, and how a log is read."""

from __future__ import annotations

import doctest
import json
import sys
from pathlib import Path

import pytest
from modules import module_at

EXPERIMENTS = Path(__file__).resolve().parents[3] / "notebooks" / "experiments"
SCRIPTS = sorted(file.name for file in EXPERIMENTS.glob("w*.py"))
common = module_at(EXPERIMENTS / "_common.py", "_common")


@pytest.fixture
def script(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "week00_toy.py"
    file.write_text(
        'def run(arm, seed):\n    """Toy."""\n    return seed\n\ndef main():\n    pass\n'
    )
    return str(file)


def key(script: str, *modules: str, **settings) -> str:
    return common.arm_key(settings, *modules, own=script)


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(common)
    assert results.attempted == 2 and results.failed == 0


def test_an_arm_is_stale_when_its_settings_its_code_or_a_named_module_changes(script, monkeypatch):
    first = key(script, "kl", lr=1e-3)
    assert first == key(script, "kl", lr=1e-3)
    changed = {key(script, "kl", lr=2e-3), key(script, "evals", lr=1e-3)}
    text = Path(script).read_text()
    Path(script).write_text(text.replace("return seed", "return 2 * seed"))
    assert key(script, "kl", lr=1e-3) == first  # the run that goes on is of the old code
    common.functions_of.cache_clear()
    changed.add(key(script, "kl", lr=1e-3))
    monkeypatch.setattr(common, "CODE_AT_START", {("kl",): "another module"})
    changed.add(key(script, "kl", lr=1e-3))
    assert len(changed | {first}) == 5


def test_comments_docstrings_and_main_cost_no_training(script):
    first, text = key(script), Path(script).read_text()
    Path(script).write_text("# new\n" + text.replace("Toy", "A toy").replace("pass", "print()"))
    common.functions_of.cache_clear()
    assert key(script) == first


def test_arms_are_run_once_seed_by_seed(script):
    trained = []

    def run(arm: str, seed: int) -> dict:
        trained.append((arm, seed))
        return {"arm": arm, "seed": seed}

    order = [("a", 0), ("b, 40%", 0), ("a", 1), ("b, 40%", 1)]
    for _ in range(2):
        arms = common.Arms(script)
        runs = arms.run_all(["a", "b, 40%"], (0, 1), run, key=lambda arm: f"key{arm[0]}")
        assert [(one["arm"], one["seed"]) for one in runs] == trained == order
    assert (arms.folder.name, arms.folder.parent.name) == ("week00-toy", "runs")
    assert sorted(file.name for file in arms.folder.iterdir())[-1] == "keyb-b-40-1.json"


def test_a_limit_stops_before_the_next_new_arm_and_counts_no_stored_one(script):
    def all_arms(limit: int | None) -> list:
        return common.Arms(script, limit=limit).run_all(
            ["a"], (0, 1, 2), lambda arm, seed: {"seed": seed}, key=lambda arm: "key"
        )

    for _ in range(2):
        with pytest.raises(SystemExit, match="run the same command again"):
            all_arms(1)
    assert [one["seed"] for one in all_arms(1)] == [0, 1, 2]
    assert len(all_arms(0)) == 3


RECORD = {
    "provenance": {"commit": "b"}, "settings": {"steps": 4, "betas": [0.1, 1]},
    "runs": [{"arm": "a", "seed": 0, "lr": 0.1}, {"arm": "a", "seed": 1, "lr": 0.1}],
    "earlier": [{"commit": "a"}],
}  # fmt: skip


def keeping(script: str, **settings) -> common.Arms:
    target = Path(script).with_name("toy.json")
    target.write_text(json.dumps(RECORD))
    return common.Arms(script, record=target, settings=settings)


def test_a_records_runs_are_kept_and_only_new_seeds_are_trained(script):
    arms = keeping(script, settings={"steps": 4, "betas": (0.1, 1)})
    trained = []

    def run(seed: int) -> dict:
        trained.append(seed)
        return {"arm": "a", "seed": seed, "lr": 0.1}

    runs = [
        arms.kept("runs", {"arm": "a", "seed": seed}, lr=0.1)
        or arms.result(f"a {seed}", "key", lambda seed=seed: run(seed))
        for seed in (0, 1, 2)
    ]
    assert trained == [2] and runs[:2] == RECORD["runs"] and runs[2]["seed"] == 2
    assert arms.history() == {"earlier": [{"commit": "a"}, {"commit": "b"}]}
    assert arms.with_kept("runs", runs[2:], "arm", "seed") == [runs[2], *RECORD["runs"]]
    assert arms.with_kept("runs", runs, "arm", "seed") == runs


def test_a_run_with_other_settings_is_not_kept(script):
    for settings in ({"steps": 5, "betas": (0.1, 1)}, {"steps": 4}):
        with pytest.raises(SystemExit, match="toy.json can't be kept.*today's settings"):
            keeping(script, settings=settings)
    with pytest.raises(SystemExit, match="today's weights"):  # the record doesn't say which
        keeping(script, settings=RECORD["settings"], weights=None)
    arms = keeping(script)
    with pytest.raises(SystemExit, match="'seed': 1.*today's lr"):
        arms.kept("runs", {"arm": "a", "seed": 1}, lr=0.2)
    assert arms.kept("runs", {"arm": "b", "seed": 1}, lr=0.2) is None
    assert arms.kept("trials", {"arm": "a"}) is None


def test_without_an_earlier_record_nothing_is_kept(script):
    absent = Path(script).with_name("absent.json")
    arms = common.Arms(script, record=absent, settings={"steps": 4})
    assert arms.kept("runs", {"seed": 0}) is None and arms.history() == {}
    assert arms.with_kept("runs", [{"seed": 0}], "seed") == [{"seed": 0}]


def test_a_shared_measure_counts_only_for_the_experiments_that_use_it(script, monkeypatch):
    def keys(shared: dict[str, str]) -> list[str]:
        code = {"users": {"run": "sampled_sums(model)"}, "others": {"run": "pass"}}
        monkeypatch.setattr(common, "functions_of", lambda file: code.get(file, shared))
        return [key("users"), key("others")]

    before = keys({"policy": "p", "sampled_sums": "s"})
    changed = keys({"policy": "p", "sampled_sums": "changed"})
    assert before[0] != changed[0] and before[1] == changed[1]
    assert keys({"policy": "changed", "sampled_sums": "s"})[1] != before[1]


def test_a_log_is_read_by_the_names_of_the_record():
    log = [{"reward": 0.5, "a": None}, {"reward": 1.0, "a": 2.0}, {"train_loss": 0.1}]
    series = common.log_series(log, {"paid": "reward", "some": "a", "kl": "kl"})
    assert series == {"paid": [0.5, 1], "some": [None, 2]}
    assert common.log_series([log[0] | {"kl": 0.25}], ["kl"]) == {"kl": [0.25]}
    with pytest.raises(KeyError):
        common.log_series(log, ["entropy"])


def test_a_script_is_called_in_its_own_process_and_its_failure_is_shown(tmp_path):
    file = tmp_path / "child.py"
    file.write_text(
        "import json, os, sys\nprint('noise')\nassert len(sys.argv) == 2, 'one argument'\n"
        "print(json.dumps([sys.argv[1], os.environ['PLACE']]))\n"
    )
    assert common.in_own_process(str(file), "x", PLACE="here") == ["x", "here"]
    with pytest.raises(SystemExit, match="one argument"):
        common.in_own_process(str(file))


def test_a_record_begins_with_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "ROOT", tmp_path)
    script, target = tmp_path / "x.py", tmp_path / "week00" / "x.json"
    common.write_record(str(script), target, {"runs": []}, seeds=(0, 1), training_minutes=1.5)
    record = json.loads(target.read_text())
    assert list(record) == ["provenance", "runs"]
    origin = record["provenance"]
    assert list(origin)[:3] == ["command", "commit", "seeds"] and list(origin)[-1] == (
        "training_minutes"
    )
    assert origin["command"] == "python x.py" and origin["seeds"] == [0, 1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_experiment_leaves_keys_and_hashes_to_the_shared_module(name):
    text = (EXPERIMENTS / name).read_text(encoding="utf-8")
    assert "postlab.runs.key" not in text and "package_source" not in text
    assert "_common" in text


def test_every_experiment_explains_itself_without_training(monkeypatch, tmp_path):
    """`--help` ends before anything is loaded or trained, also from another folder."""
    import subprocess

    monkeypatch.chdir(tmp_path)
    command = [sys.executable, str(EXPERIMENTS / "week05_preferences.py"), "--help"]
    root = str(EXPERIMENTS.parents[1])
    process = subprocess.run(
        command, env=common.os.environ | {"PYTHONPATH": root}, capture_output=True, text=True
    )
    assert process.returncode == 0 and "--runs" in process.stdout
    assert "what loss, beta and the length" in " ".join(process.stdout.split())
