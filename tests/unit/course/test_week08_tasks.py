"""Verifiable tasks beyond sums: rows, their splits and gold replies, other people's verifiers."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from modules import module_at
from test_rewards_infra import needs_namespaces

from postlab import models as bases
from postlab.course.week08 import (
    RUNS_ANSWERS,
    gym,
    gym_reward,
    gym_rows,
    plot_seen_and_unseen,
)
from postlab.datasets import code_rows, json_rows
from postlab.profile import data_dir
from postlab.rewards import code_reward, schema_reward
from postlab.tinyworld import tasks, words

EXPERIMENTS = Path(__file__).resolve().parents[3] / "notebooks" / "experiments"
weak = {"allow_weak_sandbox": True}  # programs of our own
needs_gym = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None,
    reason="reasoning-gym is not installed (pip install 'postlab[gym]')",
)


def asked(rows):
    return [row["prompt"][0]["content"] for row in rows]


def gold(rows):
    return [row["completion"][0]["content"] for row in rows]


def test_docstring_examples():
    found = doctest.testmod(sys.modules["postlab.datasets.verifiable"])
    assert found.attempted and not found.failed


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_gold_programs_pass_both_kinds_of_tests(split):
    rows = code_rows("tinyworld", split=split, n=60, seed=1)
    for column in ("tests", "held_back"):
        assert code_reward(gold(rows), [row[column] for row in rows], **weak) == [1.0] * 60


@needs_namespaces
def test_gold_programs_pass_in_the_sandbox():
    rows = code_rows("tinyworld", split="heldout", n=8)
    assert code_reward(gold(rows), [row["tests"] for row in rows]) == [1.0] * 8


def test_a_forgotten_or_another_operation_fails_the_tests_and_the_first_two_are_weak():
    rows = code_rows("tinyworld", split="train", n=400, seed=2)
    bounded = next(row for row in rows if "largest, then at most" in asked([row])[0])
    wrong = [
        "def f(x): return max(x)",
        gold([bounded])[0].replace("max", "min"),
        "def f(x): ret",
        "",
    ]
    assert code_reward(wrong, [bounded["tests"]] * 4, **weak) == [0.0] * 4
    assert code_reward(wrong, [bounded["tests"][:2]] * 4, **weak) == [1.0, 0.0, 0.0, 0.0]


def test_each_test_of_a_row_says_what_its_gold_program_returns():
    for row in code_rows("tinyworld", split="train", n=80, seed=3):
        scope: dict = {}
        exec(gold([row])[0], scope)  # our own text, not a model's
        for test in row["tests"] + row["held_back"]:
            exec(test, scope)


def test_gold_records_fit_their_schema_and_are_true():
    rows = json_rows("tinyworld", split="heldout", n=200, seed=1)
    assert schema_reward(gold(rows), [row["schema"] for row in rows]) == [1.0] * 200
    for row, text in zip(rows, gold(rows), strict=True):
        record = json.loads(text)
        assert f"the {record['name']} " in asked([row])[0]
        known = words.traits(record["name"])
        assert all(known[field] == value for field, value in record.items() if field != "name")
        assert asked([row])[0].split(": ")[1] == ", ".join(record) + "."


def test_a_schema_sees_the_form_and_not_the_truth():
    row = json_rows("tinyworld", split="train", n=1)[0]
    record = json.loads(gold([row])[0])
    field = list(record)[1]
    untrue = next(value for value in tasks.VALUES[field] if value != record[field])
    replies = [record | {field: untrue}, record | {field: "?"}, record | {"age": 3}]
    replies += [{key: value for key, value in record.items() if key != field}]
    scores = schema_reward([json.dumps(reply) for reply in replies], [row["schema"]] * 4)
    assert scores == [1.0, 0.0, 0.0, 0.0]


def test_splits_share_no_constant_creature_or_wording():
    train, held = (code_rows("tinyworld", split=s, n=2000) for s in ("train", "heldout"))
    constants = [{re.findall(r"\d+", text)[-1] for text in asked(rows)} for rows in (train, held)]
    assert not constants[0] & constants[1] and len(constants[1]) >= 10
    train, held = (json_rows("tinyworld", split=s, n=2000) for s in ("train", "heldout"))
    names = [{json.loads(text)["name"] for text in gold(rows)} for rows in (train, held)]
    assert not any(map(words.is_heldout, names[0])) and all(map(words.is_heldout, names[1]))
    for make in (code_rows, json_rows):
        firsts = [
            {
                re.sub(r"\b(the|a) (\w+) (in|as)", r"\1 _ \3", text).split(":")[0]
                for text in asked(rows)
            }
            for rows in (make("tinyworld", split=s, n=500) for s in ("train", "heldout"))
        ]
        assert not firsts[0] & firsts[1]


@pytest.mark.parametrize("make", [code_rows, json_rows])
def test_a_seed_decides_the_rows_and_a_wrong_split_is_named(make):
    one, again = (make("tinyworld", split="train", n=50, seed=4) for _ in range(2))
    assert one == again != make("tinyworld", split="train", n=50, seed=5)
    assert len(make("tinyworld", split="train")) == 1000
    with pytest.raises(ValueError, match="split 'test' is unknown; expected 'train' or 'heldout'"):
        make("tinyworld", split="test")


def test_the_embedded_tokenizer_spells_programs_and_records_shortly():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bases.resolve_base(""))
    for make, longest in ((code_rows, 24), (json_rows, 32)):
        rows = make("tinyworld", split="train", n=300, seed=6)
        for text in gold(rows) + asked(rows):
            assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
        assert max(len(tokenizer(text)["input_ids"]) for text in gold(rows)) <= longest


def write(folder, rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_mbpp_shows_its_first_test_and_keeps_its_gold_program(tmp_path):
    tests = ["assert f(3) == 9", "assert f(4) == 16"]
    raw = {"text": "Square.", "code": "def f(x): return x * x", "test_list": tests}
    bad = raw | {"test_list": ["for x in y: pass"]}
    rows = code_rows(write(tmp_path, [raw, bad]), split="train")
    assert asked(rows) == ["Square.\n\nYour code must pass: assert f(3) == 9"]
    assert rows[0]["tests"] == tests and gold(rows) == [raw["code"]]
    assert rows.dropped == {"with tests that cannot be read": 1}
    assert code_reward(gold(rows), [rows[0]["tests"]], **weak) == [1.0]


BODY = "    return sum(x)\n"
HUMANEVAL = {
    "task_id": "HumanEval/0", "prompt": 'def f(x):\n    """Add them."""\n', "entry_point": "f",
    "canonical_solution": BODY, "test": "def check(candidate):\n    assert candidate([1, 2]) == 3",
}  # fmt: skip
SOLUTION = "class Solution:\n    def f(self, x):\n    " + BODY
LEETCODE = {
    "problem_description": "Add them.", "prompt": "import math\nfrom typing import *\n\n",
    "starter_code": "class Solution:\n    def f(self, x: List[int]) -> int:\n        ",
    "entry_point": "Solution().f", "completion": SOLUTION,
    "test": "def check(candidate):\n    assert candidate(x = [1, 2]) == 3\n",
}  # fmt: skip
MBPP = {
    "text": "Add to the base.", "code": "def f(x): return base + sum(x)", "challenge_test_list": [],
    "test_list": ["assert f([1]) == 11"], "test_setup_code": "base = 10",
}  # fmt: skip
PRINTS = "print(sum(map(int, input().split())))"
APPS = {
    "question": "Add.", "solutions": json.dumps([PRINTS, "?"]), "starter_code": "",
    "input_output": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}),
}  # fmt: skip
CALLS = {"fn_name": "f", "inputs": [[[1, 2]]], "outputs": [3]}
TACO = APPS | {
    "solutions": json.dumps(["def f(x):\n" + BODY]), "starter_code": "def f(x):",
    "input_output": json.dumps(CALLS),
}  # fmt: skip
# (rows of one set, what stands below the question, a program that does something else)
PUBLISHED = {
    "HumanEval": ([HUMANEVAL], "Your code must define: f", "def f(x):\n    return 4"),
    "HumanEval, the body alone": ([HUMANEVAL], "Your code must define: f", "    return len(x)"),
    "LeetCode": ([LEETCODE], "define: Solution\n\nStart from:", SOLUTION.replace("sum", "len")),
    "MBPP": (
        [MBPP, MBPP | {"test_setup_code": "", "code": "def f(x): return 11"}],
        "Your code must pass: assert f([1]) == 11", "def f(x): return sum(x)",
    ),
    "APPS": ([APPS, TACO], "read from standard input", "print(12)"),
    "TACO": ([TACO, TACO | {"input_output": CALLS}], "f\n\nStart from:\n\ndef f(x):", "f = len"),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_code_reward_pays_the_gold_program_of_a_published_set_and_no_other(tmp_path, name):
    from datasets import Dataset

    raw, hint, wrong = PUBLISHED[name]
    rows = code_rows(write(tmp_path, [*raw, *raw]), split="train")
    assert hint in asked(rows)[0] and not rows.dropped
    columns = Dataset.from_list(rows)  # one type per column, or it raises
    assert code_reward(gold(rows), columns["tests"], **weak) == [1.0] * len(rows)
    assert code_reward([wrong] * len(rows), columns["tests"], **weak) == [0.0] * len(rows)


def test_a_published_row_without_a_gold_program_is_kept_without(tmp_path):
    raw = [APPS | {"solutions": each} for each in ("", "[]", "[", "[1]")]
    rows = code_rows(write(tmp_path, raw), split="train")
    assert len(rows) == 4 and not any("completion" in row for row in rows)


def test_schemas_become_text_and_a_broken_one_is_dropped(tmp_path):
    raw = {"prompt": "Who?", "schema": {"type": "object"}, "completion": "{}"}
    bad = {"prompt": "Who?", "schema": {"type": "nothing"}}
    rows = json_rows(write(tmp_path, [raw, bad]), split="train")
    assert rows[0]["schema"] == '{"type": "object"}' and rows[0]["schema"] in asked(rows)[0]
    assert gold(rows) == ["{}"] and rows.dropped == {"with a schema that is none": 1}


@pytest.mark.parametrize("make", [code_rows, json_rows])
def test_rows_that_lack_a_field_are_named(make, tmp_path):
    with pytest.raises(ValueError, match="rows.jsonl, row 1: no field"):
        make(write(tmp_path, [{"prompt": "Who?"}]), split="train")
    with pytest.raises(ValueError, match="unknown source 'nowhere'"):
        make("nowhere", split="train")


def test_tests_of_a_wrong_kind_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="field 'tests' must be tests as code_reward reads them"):
        code_rows(write(tmp_path, [{"prompt": "f?", "tests": 5}]), split="train")


# reasoning-gym ---------------------------------------------------------------------------------


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r'pip install "postlab\[gym\]"'):
        gym_rows("knights_knaves", split="train", n=1)
    gym._entry.cache_clear()
    puzzle = json.dumps({"task": "knights_knaves", "seed": 0, "index": 0})
    with pytest.raises(ImportError, match="reasoning-gym is not installed"):
        gym_reward(["?"], [puzzle])


def test_gym_reward_wants_a_puzzle_a_completion_and_skips_what_names_none():
    with pytest.raises(ValueError, match="2 completions and 1 puzzles"):
        gym_reward(["a", "b"], ["{}"])
    assert gym_reward(["a", "b"], ["no json", '{"task": "aiw"}']) == [None, None]


class Stub:
    """A data set whose verifier raises on '5', gives half for half, and full marks for gold."""

    def __getitem__(self, index):
        return {"question": "?", "answer": "gold"}

    def score_answer(self, answer, entry):
        if answer == "5":
            raise TypeError("'int' object is not iterable")
        return {"gold": 1.0, "half": 0.5}.get(answer, 0.0)


def test_full_marks_only_no_errors_and_a_fence_is_taken_off(monkeypatch):
    monkeypatch.setattr(gym, "puzzles", lambda task, *, seed, size: Stub())
    gym._entry.cache_clear()
    replies = ["gold", " gold\n", "```json\ngold\n```", "<think>gold</think>", "half", "5", ""]
    replies += ["gold\n```\ngold\n```", [{"role": "assistant", "content": "gold"}]]
    puzzle = json.dumps({"task": "stub", "seed": 0, "index": 0})
    rewards = gym_reward(replies, [puzzle] * len(replies))
    gym._entry.cache_clear()
    assert rewards == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


@needs_gym
def test_gym_rows_are_made_again_and_splits_share_no_question():
    train, held = (gym_rows("knights_knaves", split=s, n=40, seed=1) for s in ("train", "heldout"))
    assert train == gym_rows("knights_knaves", split="train", n=40, seed=1)
    assert not set(asked(train)) & set(asked(held)) and len(held) == 40
    made = gym.puzzles("knights_knaves", seed=1, size=160)
    answers = [made[json.loads(row["puzzle"])["index"]]["answer"] for row in train]
    assert gym_reward(answers, [row["puzzle"] for row in train]) == [1.0] * 40
    assert gym_reward(answers[1:], [row["puzzle"] for row in train][:-1]) != [1.0] * 39
    with pytest.raises(ValueError, match="split 'test' is unknown"):
        gym_rows("knights_knaves", split="test")


@needs_gym
def test_the_refused_tasks_are_those_that_hand_the_answer_to_eval():
    import reasoning_gym

    runs = re.compile(r"(?<!\w)(?:eval|(?:\w+\.)?parse_expr)\(\s*answer\b")
    found = {
        name
        for name, (kind, _) in reasoning_gym.factory.DATASETS.items()
        if runs.search(inspect.getsource(kind.score_answer))
    }
    assert found == RUNS_ANSWERS
    with pytest.raises(ValueError, match="'n_queens' is refused"):
        gym_rows("n_queens", split="train")
    with pytest.raises(ValueError, match="no task 'chess'; it has .*knights_knaves"):
        gym_rows("chess", split="train")


@needs_gym
def test_the_recorded_probes_are_what_the_package_gives():
    script = module_at(EXPERIMENTS / "week08_gym.py", "week08_gym")
    recorded = json.loads((data_dir() / "results/week08/gym_probe.json").read_text())["probes"]
    assert [row for task in script.PROBES for row in script.probe(task)] == recorded


# What is recorded, and its figures -----------------------------------------------------------


def test_the_schema_with_the_truth_accepts_the_gold_record_alone():
    script = module_at(EXPERIMENTS / "week08_tasks.py", "week08_tasks")
    row = json_rows("tinyworld", split="train", n=1)[0]
    record = json.loads(gold([row])[0])
    untrue = [json.dumps(record | {field: "red fox"}) for field in record]
    replies = [*gold([row]), *untrue, "{}"]
    true = [1.0] + [0.0] * (len(record) + 1)
    assert schema_reward(replies, [script.true_schema(row)] * len(replies)) == true
    assert [float(script.same_record(reply, gold([row])[0])) for reply in replies] == true
    assert not script.same_record("no json", gold([row])[0])


def test_the_recorded_runs_measure_every_arm_and_seed_on_the_same_prompts():
    recorded = json.loads((data_dir() / "results/week08/tasks.json").read_text())
    seeds = recorded["provenance"]["seeds"]
    made = [(run["arm"], run["seed"]) for run in recorded["runs"]]
    assert sorted(made) == sorted((arm, seed) for arm in recorded["arms"] for seed in seeds)
    for run in recorded["runs"]:
        start = recorded["start"][run["task"]]
        for name in {"few", "tests", "held_back"} if run["task"] == "code" else {"schema", "true"}:
            for values in (start[name], run["end"][name]):
                assert len(values) == recorded["settings"]["heldout"] and set(values) <= {0, 1}
        assert len(run["log"]["reward"]) == recorded["settings"]["steps"]


def test_the_recorded_probes_hold_right_answers_paid_and_lies_of_every_task():
    probes = pd.DataFrame(
        json.loads((data_dir() / "results/week08/gym_probe.json").read_text())["probes"]
    )
    right = probes[probes["kind"] == "right"]
    assert (right["full"] == right["puzzles"]).all() and len(right) == 5
    assert probes.groupby("task")["kind"].nunique().eq(3).all()


def test_seen_and_unseen_are_said_by_arm():
    rows = [
        {"task": "code", "arm": arm, "seed": seed, "measure": measure, "points": points + seed}
        for arm, pair in {"weak": (30, 0), "full": (20, 20)}.items()
        for measure, points in zip(("the reward", "unseen"), pair, strict=True)
        for seed in (-1, 1)
    ]
    frame = pd.DataFrame(rows).assign(low=lambda f: f["points"] - 5, high=lambda f: f["points"] + 5)
    fig = plot_seen_and_unseen(frame)
    title = " ".join(fig.get_suptitle().split())
    assert title.endswith("stricter check: +30 and +0 (weak); +20 and +20 (full)")
    assert [tick.get_text() for tick in fig.axes[0].get_yticklabels()] == ["weak", "full"]
