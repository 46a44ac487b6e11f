"""What makes a run stale, and what doesn't: changes in all that its code reaches."""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from postlab import storage
from postlab.runs import key as fingerprint
from postlab.runs import trace_code
from postlab.runs.code import source

REWARD = {
    "helpers/__init__.py": "",
    "helpers/score.py": """
from helpers.table import WEIGHTS, longest
LIMIT = 3
MEMO = {}
def points(text, bonus=1.0):
    '''The points of a text.'''
    if not text:
        raise ValueError(f"got {text!r}; expected a text")
    assert isinstance(text, str), "no text"
    print("scored", text)
    return WEIGHTS["right"] * min(longest(text), LIMIT) + bonus
""",
    "helpers/table.py": """
import re
WEIGHTS = {"right": 1.0, "wrong": [0.0, 0.5]}
WORD = re.compile(r"[a-z]+")
def longest(text: str) -> int:
    return max(map(len, WORD.findall(text)), default=0)
""",
    "rewards.py": """
import helpers.score
def reward(completions, **columns):
    return [helpers.score.points(text) for text in completions]
""",
    "lazy.py": """
def reward(completions, **columns):
    from helpers import score as scoring
    return [scoring.points(text) for text in completions]
""",
    "direct.py": """
from helpers.score import points as p
def reward(completions, **columns):
    return [p(text) for text in completions]
""",
    "object.py": """
from helpers.score import points
class Reward:
    __name__ = "reward"
    def __init__(self, scale):
        self.scale = scale
    def __call__(self, completions, **columns):
        return [self.scale * points(text) for text in completions]
reward = Reward(2.0)
""",
    "partial.py": """
import functools
from helpers.score import points
def scaled(completions, scale, **columns):
    return [scale * points(text) for text in completions]
reward = functools.partial(scaled, scale=2.0)
""",
    "wrapped.py": """
import functools
from helpers.score import points
def logged(function):
    @functools.wraps(function)
    def inner(*args, **columns):
        return function(*args, **columns)
    return inner
cached = functools.lru_cache(points)
@logged
def reward(completions, **columns):
    return [cached(text) for text in completions]
""",
    "inherited.py": """
from helpers import score
class Base:
    def one(self, text):
        return score.points(text)
class Child(Base):
    def __call__(self, completions, **columns):
        return [self.one(text) for text in completions]
reward = Child()
""",
}
ENTRIES = ("rewards", "lazy", "direct", "object", "partial", "wrapped", "inherited")
CHANGES = {
    "a helper's helper": ("helpers/table.py", "max(map", "min(map"),
    "a table": ("helpers/table.py", '"right": 1.0', '"right": 2.0'),
    "inside a table": ("helpers/table.py", "[0.0, 0.5]", "[0.0, 0.6]"),
    "a pattern": ("helpers/table.py", "[a-z]+", "[a-z]*"),
    "a constant": ("helpers/score.py", "LIMIT = 3", "LIMIT = 4"),
    "a default": ("helpers/score.py", "bonus=1.0", "bonus=2.0"),
    "a helper": ("helpers/score.py", "+ bonus", "- bonus"),
}
NO_CHANGES = {
    "a docstring": ("helpers/score.py", "The points of a text.", "What a text is worth."),
    "an error's words": ("helpers/score.py", "expected a text", "a text is expected"),
    "an error's values": ("helpers/score.py", "got {text!r}; ", "got {text!r} of {len(text)}; "),
    "an assertion's words": ("helpers/score.py", '"no text"', '"this is no text"'),
    "a printed line": ("helpers/score.py", 'print("scored", ', 'print("points for", '),
    "a comment": ("helpers/score.py", "LIMIT = 3", "LIMIT = 3  # letters"),
    "layout": ("helpers/table.py", '"right": 1.0, ', '"right":   1.0,\n  '),
    "a type hint": ("helpers/table.py", "text: str", "text: 'str | None'"),
}


def key(folder: Path, entry: str, change=None) -> str:
    """The reward's text in a project of these files, as a new process reads it."""
    for name, text in REWARD.items():
        if change and change[0] == name:
            assert change[1] in text
            text = text.replace(change[1], change[2])
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    mine = {name.removesuffix(".py").partition("/")[0] for name in REWARD}
    for name in [name for name in sys.modules if name.partition(".")[0] in mine]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return trace_code(importlib.import_module(entry).reward).sha256


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


@pytest.mark.parametrize("entry", ENTRIES)
def test_whatever_a_reward_reaches_is_in_its_key(project, entry):
    before = key(project, entry)
    assert key(project, entry) == before
    changed = {name: key(project, entry, change) for name, change in CHANGES.items()}
    assert not [name for name, after in changed.items() if after == before]
    assert len(set(changed.values())) == len(CHANGES)
    same = {name: key(project, entry, change) for name, change in NO_CHANGES.items()}
    assert not [name for name, after in same.items() if after != before]


def test_a_file_edited_after_its_import_counts_as_it_runs(project):
    key(project, "direct")
    reward = importlib.import_module("direct").reward
    before = trace_code(reward).sha256
    table = project / "helpers" / "table.py"
    table.write_text(table.read_text().replace("max(map", "min(map"))
    os.utime(table, (1, 1))
    stale = trace_code(reward).sha256  # the old code still runs: not the key of the new file's code
    assert stale not in (before, key(project, "direct", CHANGES["a helper's helper"]))


def test_closures_defaults_objects_and_code_without_a_source():
    def make(value):
        def reward(completions, **columns):
            return [value for _ in completions]

        return reward

    def default(value):
        def reward(completions, weight=value, **columns):
            return [weight for _ in completions]

        return reward

    def run(text):
        space = {}
        exec(text, space)
        return space["reward"]

    @dataclasses.dataclass
    class Settings:
        weight: float = 1.0
        rest: tuple = ()

    class Slots:
        __slots__ = ("weight",)

        def __init__(self, weight):
            self.weight = weight

    pairs = [
        (make(1), make(2)),
        (make({"a": [1, {2, 3}]}), make({"a": [1, {2, 4}]})),
        (make(collections.deque([1])), make(collections.deque([2]))),
        (make(np.array([1.0, 2.0])), make(np.array([1.0, 3.0]))),
        (make(np.array([1, {}], dtype=object)), make(np.array([2, {}], dtype=object))),
        (make(Settings(1.0)), make(Settings(2.0))),
        (make(Settings(rest=(Settings(),))), make(Settings(rest=(Settings(3.0),)))),
        (make(Slots(1)), make(Slots(2))),
        (make(SimpleNamespace(a=1)), make(SimpleNamespace(a=2))),
        (make(random.Random(1)), make(random.Random(2))),
        (make(make(1)), make(make(2))),
        (default(1), default(2)),
        (functools.partial(make(1), w=1), functools.partial(make(1), w=2)),
        (lambda c: 1, lambda c: 2),
        (run("reward = lambda c, **k: [1]"), run("reward = lambda c, **k: [2]")),
        (run("def reward(c): return [1]"), run("def reward(c): return [2]")),
        (
            run("W = {'a': 1}\ndef reward(c): return W"),
            run("W = {'a': 2}\ndef reward(c): return W"),
        ),
    ]
    for number, (one, other) in enumerate(pairs):
        assert source(one) == source(one), number
        assert source(one) != source(other), number
        assert " at 0x" not in source(one), number


def test_a_circle_of_references_ends():
    ring = []
    ring.append(ring)

    def even(n):
        return ring and (n == 0 or odd(n - 1))

    def odd(n):
        return n != 0 and even(n - 1)

    assert source(even) == source(even)


def test_a_key_does_not_depend_on_the_process_or_the_place():
    code = (
        "from postlab.runs import trace_code; from postlab.rewards import math_reward;"
        "print(trace_code([math_reward, {'b', 'a', 'c', 'd'}, frozenset('xyz')]).sha256)"
    )
    keys = set()
    for seed in "123":
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        keys.add(done.stdout)
    assert len(keys) == 1 and len(keys.pop()) == 65


def test_what_cannot_be_read_is_named(tmp_path):
    def make(value):
        def reward(completions, **columns):
            return [value for _ in completions]

        return reward

    with (tmp_path / "log").open("w") as log:
        for value, kind in (((i for i in "ab"), "generator"), (log, "TextIOWrapper")):
            assert trace_code(make(value), "reward").unreadable == (f"reward.value ({kind})",)
    assert source(make({1: 2}.get)) != source(make({1: 3}.get))
    # A lock holds nothing that a result depends on.
    assert not trace_code(make(threading.Lock())).unreadable
    stream = {"data": {"train": {"rows": None, "stream": "IterableDataset"}, "eval": None}}
    assert fingerprint.unreadable(stream) == ["train rows (IterableDataset)"]


def test_a_trainers_own_class_settings_and_optimizer_are_in_its_code():
    class Own:
        def __init__(self, scale, callbacks=(), **parts):
            self.scale = scale
            self.callback_handler = SimpleNamespace(callbacks=list(callbacks))
            vars(self).update(parts)

        def compute_loss(self):
            return self.scale

    class Note:
        def __init__(self, every):
            self.every = every

    def code(scale=1.0, **parts):
        return fingerprint._code(Own(scale, **parts))

    step = SimpleNamespace(param_groups=[{"lr": 0.1, "params": [object()]}])
    slower = SimpleNamespace(param_groups=[{"lr": 0.01, "params": [object()]}])
    assert code() == code() and code() != code(2.0)
    assert code(callbacks=[Note(1)]) != code(callbacks=[Note(2)]) != code()
    Note.watches_only = True  # by the word of the one who wrote it
    assert code(callbacks=[Note(1)]) == code(callbacks=[Note(2)]) == code()
    assert code(optimizer=step) == code(optimizer=step) != code(optimizer=slower)
    two = [lambda c: 1, lambda c: 2]
    for one in two:
        one.__name__ = "reward"
    assert len(code(reward_funcs=two)) == len(code()) + 2  # of one name, and both count


# ---- files

KILL = """
import os, shutil, sys
from pathlib import Path
from postlab import storage

path, left = Path(sys.argv[1]), int(sys.argv[2])
if sys.argv[3] == "renames":
    storage._exchange = lambda one, other: False


def counted(name, module):
    plain = getattr(module, name)

    def call(*args, **options):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return plain(*args, **options)

    setattr(module, name, call)


for name in ("replace", "rmdir", "unlink", "fsync", "mkdir"):
    counted(name, os)
counted("_exchange", storage)
with storage.atomic_folder(path) as folder:
    for name in ("a", "b"):
        (folder / name).write_text("new")
"""


@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_a_folder_survives_a_kill_at_every_step(tmp_path, how):
    outcomes = []
    for step in range(100):
        path = tmp_path / str(step) / "model"
        path.mkdir(parents=True)
        for name in ("a", "b"):
            (path / name).write_text("old")
        done = subprocess.run([sys.executable, "-c", KILL, str(path), str(step), how])
        storage.sweep(path.parent)
        assert [entry.name for entry in path.parent.iterdir()] == ["model"], step
        texts = {file.name: file.read_text() for file in path.iterdir()}
        assert texts in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"}), step
        outcomes.append(texts["a"])
        if done.returncode == 0:
            break
    assert done.returncode == 0 and len(outcomes) > 6
    assert outcomes == sorted(outcomes, reverse=True) and set(outcomes) == {"old", "new"}


def test_a_seal_covers_settings_but_not_where_the_base_lies(tmp_path):
    config = '{"base_model_name_or_path": "/elsewhere/base", "r": 8, "target_modules": ["q", "k"]}'
    for name, text in {"adapter_config.json": config, "tokenizer.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    hashes = storage.folder_hashes(tmp_path)
    moved = '{"r": 8, "target_modules": ["k", "q"], "base_model_name_or_path": "tiny-base"}'
    (tmp_path / "adapter_config.json").write_text(moved)
    assert storage.changed_files(tmp_path, hashes) == []
    (tmp_path / "adapter_config.json").write_text(moved.replace("8", "9"))
    (tmp_path / "tokenizer.json").unlink()
    assert storage.changed_files(tmp_path, hashes) == ["adapter_config.json", "tokenizer.json"]
