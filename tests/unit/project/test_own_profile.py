"""A profile of one's own: what the YAML file changes, what it keeps, and what it is refused for."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

import postlab
from postlab import profile as module
from postlab import rewards
from postlab.datasets import instruction_rows, preference_rows
from postlab.evals import suite_rows
from postlab.profile import (
    PROFILES,
    check_own,
    get_profile,
    read_profile,
    stage_command,
    trl_arguments,
)

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "data" / "examples" / "tickets" / "mine.yaml"
ROW = '{"question": "How long?", "reply": "Three days."}\n'
SUITE = '{"prompt": "How long?", "scorer": "contains", "accept": ["three days"]}\n'
BEGIN = "name: mine\nlike: tiny\n"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_FILES", {})
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    for name in ("POSTLAB_PROFILE", "POSTLAB_SEED", "POSTLAB_REPORT_TO"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write(tmp_path):
    """Write mine.yaml into a folder with a space in its name, beside two data files."""
    folder = tmp_path / "my own data"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(ROW, encoding="utf-8")
    (folder / "suite.jsonl").write_text(SUITE, encoding="utf-8")

    def write(text: str, begin: str = BEGIN) -> Path:
        path = folder / "mine.yaml"
        path.write_text(begin + text, encoding="utf-8")
        return path

    return write


def test_nested_fields_merge_and_all_others_are_the_parents(write):
    mine = read_profile(write("lora: {r: 8}\nsft: {trainer: {max_steps: 30}}\n"))
    parent = get_profile("tiny")
    assert (mine.name, mine.lora, mine.dpo.trainer) == (
        "mine", dict(parent.lora) | {"r": 8}, parent.dpo.trainer
    )  # fmt: skip
    assert mine.sft.trainer == dict(parent.sft.trainer) | {"max_steps": 30}
    kept = replace(mine, name=parent.name, lora=parent.lora, sft=parent.sft, dpo=parent.dpo)
    assert replace(kept, grpo=parent.grpo) == parent
    assert get_profile("tiny") == PROFILES["tiny"]  # and the parent is as it was
    assert mine.sft.minutes == mine.dpo.eval_minutes == 0  # measured with other settings


def test_files_are_found_from_the_yaml_file_and_used_whole(write, monkeypatch, tmp_path):
    path = write("sft: {source: rows.jsonl}\nsuite: ./suite.jsonl\nbase_model: '.'\n")
    monkeypatch.chdir(path.parent)
    mine = read_profile("mine.yaml")
    monkeypatch.chdir(tmp_path)  # a notebook runs elsewhere
    assert Path(mine.sft.source).read_text(encoding="utf-8") == ROW
    assert (mine.sft.rows, mine.eval_prompts) == (None, None)
    assert Path(mine.base_model).samefile(path.parent)
    assert mine.dpo.source == "tinyworld"  # a name stays one
    assert read_profile(write("sft: {source: rows.jsonl, rows: 7}\n")).sft.rows == 7
    assert read_profile(write("base_model: someone/a-model\n")).base_model == "someone/a-model"


def test_epochs_win_over_the_parents_steps(write):
    trainer = read_profile(write("sft: {trainer: {num_train_epochs: 2}}\n")).sft.trainer
    assert trainer["num_train_epochs"] == 2 and "max_steps" not in trainer


@pytest.mark.parametrize("number", ["2e-4", "2.0e-4", "0.0002", "2E-04"])
def test_a_number_is_read_as_people_write_it(write, number):
    mine = read_profile(write(f"dpo: {{trainer: {{learning_rate: {number}}}}}\n"))
    assert mine.dpo.trainer["learning_rate"] == 2e-4


FAULTS = [  # what the file says, and words of the message in their order
    ("lorra: {r: 8}", ["mine.yaml, lorra", "did you mean 'lora'"]),
    ("sft: {sorce: rows.jsonl}", ["mine.yaml, sft.sorce", "did you mean 'source'"]),
    ("lora: {rank: 8}", ["mine.yaml, lora.rank", "expected", "lora_alpha"]),
    ("grpo: {trainer: {max_stps: 3}}", ["grpo.trainer.max_stps", "GRPOConfig", "'max_steps'"]),
    ("dpo: {trainer: {num_generations: 3}}", ["dpo.trainer.num_generations", "DPOConfig"]),
    ("sft: {trainer: {seed: 1}}", ["sft.trainer.seed", "notebook"]),
    ("sft: {rows: many}", ["mine.yaml, sft.rows is 'many' (a text)", "whole number or null"]),
    ("sft: {rows: 0}", ["sft.rows is 0", "at least 1"]),
    ("sft: {rows: true}", ["sft.rows is True", "whole number"]),
    ("lora: {r: 8.5}", ["lora.r is 8.5", "whole number"]),
    ("load_in_4bit: 4", ["load_in_4bit is 4", "true or false"]),
    ("sft: {trainer: {max_steps: '30'}}", ["max_steps is '30' (a text)", "whole number"]),
    ("sft: {trainer: {learning_rate: fast}}", ["learning_rate is 'fast'", "a number"]),
    ("dpo: {trainer: {loss_type: sigmoid}}", ["loss_type is 'sigmoid'", "a list"]),
    ("sft: rows.jsonl", ["mine.yaml, sft is 'rows.jsonl'", "expected"]),
    ("sft: {trainer: null}", ["sft.trainer is null", "a mapping"]),
    ("sft: {source: row.jsonl}", ["sft.source is 'row.jsonl'", "there is no file", "own data"]),
    ("sft: {columns: {prompt: 3}}", ["sft.columns.prompt is 3", "a text"]),
    ("suite: ./gone.jsonl", ["suite is './gone.jsonl'", "there is no file"]),
    ("base_model: llama", ["base_model is 'llama'", "a Hub id"]),
    ("dtype: fp16", ["dtype is 'fp16'", "float16"]),
    ("grpo: {reward: maths}", ["grpo.reward is 'maths'", "math_reward"]),
    ("sft: {reward: math_reward}", ["sft.reward", "no reward but GRPO's"]),
    ("sft: {rows: 3}\nsft: {rows: 4}", ["mine.yaml, line 4", "'sft' stands there twice"]),
    ("sft: {rows: 3", ["mine.yaml, line", "YAML"]),
]


@pytest.mark.parametrize(("text", "words"), FAULTS, ids=[text for text, _ in FAULTS])
def test_a_fault_names_the_file_the_field_what_it_got_and_what_was_expected(write, text, words):
    with pytest.raises((ValueError, TypeError)) as error:
        read_profile(write(text + "\n"))
    message, place = str(error.value), 0
    for word in words:
        assert word in message[place:], message
        place = message.index(word, place)


@pytest.mark.parametrize("name", ["tiny", "Smol", "a/b", "..", "a\\\\b", "", "12", "no", "x y"])
def test_a_name_is_a_folders_and_not_taken(write, name):
    begin = (
        f'name: "{name}"\nlike: tiny\n'
        if name not in ("12", "no")
        else f"name: {name}\nlike: tiny\n"
    )
    with pytest.raises((ValueError, TypeError), match="name is"):
        read_profile(write("", begin))


@pytest.mark.parametrize(
    "begin", ["name: mine\n", "name: mine\nlike: huge\n", "like: tiny\n", "- a\n"]
)
def test_name_and_like_are_needed(write, begin):
    with pytest.raises(ValueError, match="mine.yaml"):
        read_profile(write("", begin))


def test_a_missing_file_and_an_unknown_name_say_what_a_profile_can_be(monkeypatch):
    with pytest.raises(FileNotFoundError, match="no profile 'gone.yaml'"):
        get_profile("gone.yaml")
    with pytest.raises(ValueError, match="tiny, smol, t4, rented, or a file"):
        get_profile("mine")


def test_the_built_in_profiles_would_pass():
    """So no rule is stricter than what postlab itself does, and TRL's fields were found."""
    for profile in PROFILES.values():
        check_own(replace(profile, name="mine"))
    assert trl_arguments("grpo")["num_generations"] == {"int", "NoneType"}
    assert all(hasattr(rewards, name) for name in module.REWARDS)


def test_trls_fields_are_those_of_its_classes():
    code = (
        "import dataclasses, trl; from postlab.profile import trl_arguments as read\n"
        "for stage in ('sft', 'dpo', 'grpo'):\n"
        "    config = getattr(trl, stage.upper() + 'Config')\n"
        "    print(set(read(stage)) ^ {f.name for f in dataclasses.fields(config) if f.init})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["set()"] * 3


def test_the_example_starts_and_reads_its_files(monkeypatch, capsys):
    monkeypatch.setenv("POSTLAB_PROFILE", str(EXAMPLE))
    lab = postlab.start(week=3)
    assert "tickets.jsonl, all rows" in capsys.readouterr().out
    assert lab.folder.parts[-2:] == ("tickets", "seed-0")
    sft, dpo = lab.profile.sft, lab.profile.dpo
    rows = instruction_rows(sft.source, split="train", n=sft.rows, columns=sft.columns)
    pairs = preference_rows(dpo.source, split="train", n=dpo.rows, columns=dpo.columns)
    heldout = suite_rows(lab.profile.suite, lab.profile.eval_prompts, 0)
    assert (len(rows), len(pairs), len(heldout)) == (60, 40, 24)
    assert not (rows.dropped or pairs.dropped)
    trained = {row["prompt"][-1]["content"].lower() for row in [*rows, *pairs]}
    assert not trained & {row["prompt"][-1]["content"].lower() for row in heldout}
    command = stage_command("tickets", "dpo", 1)
    assert command == f"make week N=05 PROFILE={shlex.quote(str(EXAMPLE))} SEED=1"
    shared = stage_command("tickets", "dpo", 1, portable=True)
    assert shared == f"make week N=05 PROFILE={EXAMPLE.name} SEED=1"


def test_start_takes_a_profile_and_checks_it(capsys):
    mine = replace(get_profile("tiny"), name="mine", eval_prompts=2)
    assert postlab.start(profile=mine).profile is mine
    assert postlab.start(profile=get_profile("tiny")).profile == PROFILES["tiny"]
    with pytest.raises(ValueError, match="name is 'tiny'"):  # runs/tiny is tiny's
        postlab.start(profile=replace(mine, name="tiny"))
    wrong = replace(mine.sft, trainer=dict(mine.sft.trainer) | {"max_lenght": 64})
    with pytest.raises(ValueError, match="sft.trainer.max_lenght.*'max_length'"):
        postlab.start(profile=replace(mine, sft=wrong))
    with pytest.raises(ValueError, match="row 0 of the suite.*scorer"):  # before a model is loaded
        postlab.start(profile=replace(mine, suite=[{"prompt": "Hm?"}]))
    assert "make" not in stage_command("mine", "sft", 0)  # there is no file to name to it


def test_reading_a_profile_loads_no_torch():
    code = f"import sys, postlab; postlab.start(profile={str(EXAMPLE)!r})"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


@pytest.mark.parametrize("name", ["mine.yaml", "a b/it's mine.yml"])
def test_make_hands_over_a_path_with_spaces_and_quotes(name, tmp_path):
    """Run for real, with a program in Python's place that writes down what it is given."""
    show = tmp_path / "show"
    show.write_text('#!/bin/sh\nprintf "%s\\n" "$POSTLAB_PROFILE" "$2"\n', encoding="utf-8")
    show.chmod(0o755)
    for goal, line in (("week", 0), ("stages", 0), ("rehearse", 1)):
        command = ["make", "-s", "-o", "setup", goal, "N=03", f"PROFILE={name}", f"PY={show}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[line] == str(ROOT / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suite: 2026-13-01", "line 3 .*month"),
        ("sft: {rows: 0x_}", "line 3 "),
        ("load_in_4bit: !!bool abc", "line 3 "),
        ("suite: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("sft: {trainer: {learning_rate: .nan}}", "sft.trainer.learning_rate is nan"),
        ("sft: {minutes: .inf}", "sft.minutes is inf"),
        ("base_model: ~nobody-has-this-name/model", "base_model is '~nobody"),
        ("sft: {source: ~nobody-has-this-name/rows.jsonl}", "sft.source is '~nobody"),
    ],
)
def test_a_value_that_cannot_be_built_is_an_error_with_the_files_name(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{BEGIN}{text}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"mine\.yaml.*{message}"):
        read_profile(path)


def test_a_merge_of_a_mapping_that_merges_another_is_no_repetition(tmp_path):
    path = tmp_path / "mine.yaml"
    deep = "lora: {<<: &r {r: 4}}\nsft: {trainer: {<<: &t {learning_rate: 1e-3}}}\n"
    chain = "grpo: {columns: {prompt: a}, trainer: &g {<<: *t, learning_rate: 2e-3}}\n"
    # A shallower mapping is built first, and its merge fills the deeper one in.
    twice = "fast_inference: {<<: *g}\n"
    path.write_text(BEGIN + deep + chain + twice, encoding="utf-8")
    profile = read_profile(path)
    assert profile.grpo.trainer["learning_rate"] == 2e-3
    assert profile.fast_inference["learning_rate"] == 2e-3


def test_a_profiles_name_may_be_a_path_and_nothing_else_is_a_name():
    assert get_profile(Path("tiny")) == get_profile("tiny")
    with pytest.raises(ValueError, match="unknown profile"):
        get_profile(["tiny"])


def reported(profile) -> set[str]:
    stages = [profile.sft, profile.dpo, profile.grpo, profile.grpo.warm_start]
    return {stage.trainer["report_to"] for stage in stages if stage}


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(
        module, "util", SimpleNamespace(find_spec=lambda name: find_spec(name) or name)
    )


@pytest.mark.parametrize("tracker", module.TRACKERS)
def test_a_tracker_follows_every_stage(write, installed, monkeypatch, tracker):
    profile = read_profile(write(f"report_to: {tracker}", begin="name: mine\nlike: t4\n"))
    assert reported(profile) == {tracker} and profile.report_to == tracker
    assert reported(read_profile(write(""))) == {"none"}
    monkeypatch.setenv("POSTLAB_REPORT_TO", tracker)
    assert reported(get_profile("t4")) == {tracker}
    assert reported(read_profile(write("report_to: none"))) == {tracker}
    assert reported(PROFILES["t4"]) == {"none"}


def test_a_tracker_that_is_unknown_or_not_there_is_refused(write, monkeypatch):
    with pytest.raises(ValueError, match="mine.yaml, report_to is 'mlflow'.*expected one of track"):
        read_profile(write("report_to: mlflow"))

    def missing(name):
        return None if name in module.TRACKERS else find_spec(name)

    monkeypatch.setattr(module, "util", SimpleNamespace(find_spec=missing))
    with pytest.raises(ValueError, match="trackio, which is not installed: pip install trackio"):
        read_profile(write("report_to: trackio"))
