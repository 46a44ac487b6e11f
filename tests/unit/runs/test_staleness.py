"""What makes a run stale, and what doesn't: changes in all that its code reaches."""

from __future__ import annotations

import ast
import collections
import dataclasses
import fractions
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
from postlab.runs.code import _canonical, _lambda, source

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
        return fingerprint.describe_code(Own(scale, **parts))

    step = SimpleNamespace(param_groups=[{"lr": 0.1, "params": [object()]}])
    slower = SimpleNamespace(param_groups=[{"lr": 0.01, "params": [object()]}])
    assert code() == code() and code() != code(2.0)
    assert code(callbacks=[Note(1)]) != code(callbacks=[Note(2)]) != code()
    assert "callback Note" in code(callbacks=[Note(1)])
    Note.watches_only = True  # by the word of the one who wrote it
    assert "callback Note" not in code(callbacks=[Note(1)])
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


# ---- values and code that a walk met and did not read

KEPT = {
    "a library's decorator": (
        "import torch\n@torch.no_grad()\ndef reward(c): return [1]",
        "[1]",
        "[2]",
    ),
    "a library's context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef one():\n  yield 1\n"
        "def reward(c):\n  with one() as x: return x",
        "yield 1",
        "yield 2",
    ),
    "a table of functions that a library holds": (
        "import functools\n@functools.singledispatch\ndef one(x): return 0\n"
        "@one.register\ndef _(x: int): return 1\ndef reward(c): return one(1)",
        "return 1",
        "return 2",
    ),
    "a decorator that is a class": (
        "import functools\nclass Scaled:\n  def __init__(self, f):\n"
        "    functools.update_wrapper(self, f); self.f = f; self.k = 1\n"
        "  def __call__(self, c): return self.f(c) * self.k\n@Scaled\ndef reward(c): return [1]",
        "self.k = 1",
        "self.k = 2",
    ),
    "a method of a dict of one's own": (
        "class W(dict):\n  def best(self): return max(self)\nT = W(a=1)\n"
        "def reward(c): return T.best()",
        "max",
        "min",
    ),
    "a number of one's own type": (
        "class W(float): pass\nT = W(1)\ndef reward(c): return T",
        "W(1)",
        "W(2)",
    ),
    "what a C type keeps": (
        "import datetime\nclass W(datetime.date): pass\nT = W(2020, 1, 1)\ndef reward(c): return T",
        "2020",
        "2021",
    ),
    "a method of a named tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n  a: int = 1\n"
        "  def twice(self): return self.a * 2\nT = P(1)\ndef reward(c): return T.twice()",
        "* 2",
        "* 3",
    ),
    "a default of a table": (
        "import collections\nT = collections.defaultdict(lambda: 1)\ndef reward(c): return T[c]",
        "lambda: 1",
        "lambda: 2",
    ),
    "a method of a member": (
        "import enum\nclass L(enum.Enum):\n  A = 1\n  def weight(self): return 2\nT = L.A\n"
        "def reward(c): return T.weight()",
        "return 2",
        "return 3",
    ),
    "a metaclass": (
        "class M(type):\n  def __call__(kind): return 1\nclass C(metaclass=M): pass\n"
        "def reward(c): return C()",
        "return 1",
        "return 2",
    ),
    "a class without a file": (
        "S = {'__name__': 'mine'}\nexec('class C:\\n  def f(s): return 1', S)\nC = S['C']\n"
        "def reward(c): return C().f()",
        "return 1",
        "return 2",
    ),
    "a name in a string": (
        "import mine\nX = 1\ndef reward(c): return getattr(mine, 'X')",
        "X = 1",
        "X = 2",
    ),
    "a module handed to a helper": (
        "import mine\nX = 1\ndef use(m): return m.X\ndef reward(c): return use(mine)",
        "X = 1",
        "X = 2",
    ),
    "another name of a library": (
        "def reward(c):\n  from math import floor as whole\n  return whole(c)",
        "floor",
        "ceil",
    ),
    "two names exchanged": (
        "a, b = 1, 2\ndef reward(c):\n  from mine import a as x, b as y\n  return x - y",
        "a as x, b as y",
        "a as y, b as x",
    ),
    "a text with slashes": (
        "T = '/no_think You are kind. Say yes/no'\ndef reward(c): return T",
        "kind",
        "brief",
    ),
    "a private slot": (
        "class C:\n  __slots__ = ('__k',)\n  def __init__(self): self.__k = 1\nT = C()\n"
        "def reward(c): return T",
        "k = 1",
        "k = 2",
    ),
    "a class named like a library's": (
        "class Logger:\n  def __init__(self): self.k = 1\nT = Logger()\ndef reward(c): return T.k",
        "k = 1",
        "k = 2",
    ),
    "an object that answers to every name": (
        "class P:\n  def __init__(self): self.k = 1\n  def __getattr__(self, name):\n"
        "    if name.startswith('__'): raise AttributeError(name)\n    return self\n"
        "T = P()\ndef reward(c): return T.k",
        "k = 1",
        "k = 2",
    ),
    "a layer without weights": (
        "import torch\nT = torch.nn.Sequential(torch.nn.Dropout(0.1))\ndef reward(c): return T(c)",
        "0.1",
        "0.2",
    ),
    "a field that isn't compared": (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n"
        "  a: int = dataclasses.field(default=1, compare=True)\ndef reward(c): return C(1) == C(2)",
        "compare=True",
        "compare=False",
    ),
    "a patched class of a library": (
        "import fractions\nfractions.Fraction.weight = lambda self: 1\nT = fractions.Fraction(1)\n"
        "def reward(c): return T.weight()",
        "self: 1",
        "self: 2",
    ),
}


def own_reward(folder: Path, text: str):
    (folder / "mine.py").write_text(text)
    sys.modules.pop("mine", None)
    importlib.invalidate_caches()
    return importlib.import_module("mine").reward


@pytest.mark.parametrize("name", KEPT)
def test_a_change_is_met_wherever_python_keeps_it(project, name):
    text, old, new = KEPT[name]
    assert old in text
    try:
        before = trace_code(own_reward(project, text))
        assert before == trace_code(own_reward(project, text)) and not before.unreadable
        assert before.sha256 != trace_code(own_reward(project, text.replace(old, new))).sha256
    finally:
        if hasattr(fractions.Fraction, "weight"):
            del fractions.Fraction.weight


def test_a_cell_is_followed_through_a_librarys_decorator():
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    cell = "import torch\n@torch.no_grad()\ndef reward(c):\n    # a comment\n    return 1\n"

    def key_of(text: str) -> str:
        space = {"__name__": "__main__"}
        code = shell.compile
        name = code.cache(text)
        exec(code(text, name, "exec"), space)
        return trace_code(space["reward"]).sha256

    assert key_of(cell) == key_of(cell.replace("a comment", "a remark"))
    assert key_of(cell) != key_of(cell.replace("return 1", "return 2"))


UNSTABLE = """
import os, random, sys
from random import choice, random as uniform
from os import environ
import numpy, pydantic
from numpy.random import rand
class Verdict(pydantic.BaseModel):
    points: int = 1
PAIRS = {("a", "b"), ("c", "d"), ("e", "f"), (1, (2, "g"))}
ANY = lambda c: c in {("a", "b"), "c", "d", "e"}
def reward(completions, **columns):
    return [PAIRS, ANY, choice, uniform(), environ, rand, Verdict(points=1)]
from postlab.runs import trace_code
before = trace_code(reward)
reward([])
assert trace_code(reward) == before and not before.unreadable, before.unreadable
print(before.sha256)
"""


def test_hash_seed_random_state_and_environment_do_not_count(tmp_path):
    (tmp_path / "mine.py").write_text(UNSTABLE)
    keys = set()
    for seed in "123":
        environment = os.environ | {"PYTHONHASHSEED": seed, "ANYTHING": seed}
        environment["PYTHONPATH"] = str(Path(storage.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "mine.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        keys.add(done.stdout)
    assert len(keys) == 1


def test_hostile_and_huge_objects_are_named_and_end():
    class Mute:
        def __getattr__(self, name):
            raise RuntimeError(name)

    class Shy:
        @property
        def __class__(self):
            raise RuntimeError("no class")

    class Closed(dict):
        def items(self):
            raise RuntimeError("no items")

    nested: list = []
    for _ in range(50_000):
        nested = [nested]
    trace_code(Mute())
    for thing in (Shy(), Closed(a=1), nested):
        assert trace_code(thing).unreadable
    many = trace_code([[number] for number in range(201_000)]).unreadable
    assert many == ("list (list)",)


def test_a_submodule_that_the_code_does_not_import_is_not_loaded(project):
    (project / "helpers").mkdir()
    (project / "helpers" / "__init__.py").write_text("LIMIT = 1")
    (project / "helpers" / "train.py").write_text("raise SystemExit('trained')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
        del sys.modules[name]
    reward = own_reward(project, "import helpers\ndef reward(c): return c.train(helpers.LIMIT)")
    trace_code(reward)
    assert "helpers.train" not in sys.modules


def test_a_tools_text_and_what_was_put_into_a_trainer_are_in_its_code():
    def tool(words, hint):
        def look_up(name):
            return name

        look_up.__doc__, look_up.__annotations__ = words, {"name": hint}
        return look_up

    class Trainer:
        def __init__(self, **parts):
            self.callback_handler = SimpleNamespace(callbacks=[])
            vars(self).update(parts)

    def code(**parts):
        return fingerprint.describe_code(Trainer(**parts))

    class PrinterCallback:
        def __init__(self, stop_at):
            self.stop_at = stop_at

    def told(callback):
        trainer = Trainer()
        trainer.callback_handler.callbacks.append(callback)
        return fingerprint.describe_code(trainer)

    assert code(tools=[tool("a", int)]) == code(tools=[tool("a", int)])
    assert code(tools=[tool("a", int)]) != code(tools=[tool("b", int)])
    assert code(tools=[tool("a", int)]) != code(tools=[tool("a", str)])
    assert code(compute_loss=lambda m: 1) != code(compute_loss=lambda m: 2)
    assert code(optimizer_cls_and_kwargs=(dict, {"lr": 1})) != code(
        optimizer_cls_and_kwargs=(dict, {"lr": 2})
    )
    assert told(PrinterCallback(1)) != told(PrinterCallback(2))


def test_of_two_folders_left_aside_the_later_comes_back(tmp_path):
    for name, text in ((".model.old-9", "older"), (".model.old-10", "newer")):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "a").write_text(text)
        (tmp_path / "model").rename(tmp_path / name)
    storage.restore(tmp_path / "model")
    assert (tmp_path / "model" / "a").read_text() == "newer"
    storage.sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_a_folder_takes_the_place_of_whatever_is_there(tmp_path, kind):
    place, elsewhere = tmp_path / "in" / "model", tmp_path / "elsewhere"
    place.parent.mkdir()
    if kind == "file":
        place.write_text("a file")
    else:
        place.symlink_to(elsewhere)
    if kind == "link":
        elsewhere.mkdir()
        (elsewhere / "kept").write_text("kept")
    with storage.atomic_folder(place) as folder:
        (folder / "a").write_text("new")
    assert [entry.name for entry in place.parent.iterdir()] == ["model"]
    assert (place / "a").read_text() == "new" and not place.is_symlink()
    assert kind != "link" or (elsewhere / "kept").read_text() == "kept"


LAMBDAS = """
from collections import namedtuple
Pair = namedtuple("Pair", "first second")
k, many = 3, [lambda: 5, lambda x: x[0], lambda x: (lambda y: y + x), lambda: (yield Pair(k, 1))]
inner = many[2](1)
def one():
    y = 2
    return lambda: y
same = (lambda x: x[0] +
        1)
"""


def test_lambdas_are_read_from_their_source_wherever_they_stand(tmp_path, monkeypatch):
    """Their instructions differ between versions of Python, so a key may not depend on them."""
    (tmp_path / "lambdas_of_mine.py").write_text(LAMBDAS)
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("lambdas_of_mine")
    functions = [*mine.many, mine.inner, mine.one(), mine.same]
    texts = [source(function) for function in functions]
    assert len(set(texts)) == len(texts)
    bodies = ["x[0]", "lambda y: y + x", "(yield Pair(k, 1))", "y + x", "y", "x[0] + 1"]
    for text, body in zip(texts[1:], bodies, strict=True):
        assert f"body={_canonical(ast.parse(body, mode='eval').body)})" in text
    assert "collections._tuplegetter" in texts[3] and "_collections." not in texts[3]


def test_a_lambda_without_a_place_is_read_only_if_its_line_leaves_no_doubt():
    """Python 3.12 notes no place of `lambda: 5`."""
    alone = lambda: 5  # noqa: E731
    two = [lambda: 5, lambda: 6]
    bare = [f.__code__.replace(co_linetable=alone.__code__.co_linetable[:0]) for f in (alone, *two)]
    assert _lambda(bare[0]) is not None
    assert _lambda(bare[1]) is None and _lambda(bare[2]) is None


def test_every_reward_of_postlab_can_be_read():
    """Otherwise a run that uses it is trained again each time."""
    from postlab import rewards

    names = [name for name in dir(rewards) if name.endswith("_reward")]
    assert len(names) == 4
    for name in names:
        assert trace_code(getattr(rewards, name)).unreadable == ()


def test_no_shipped_key_depends_on_the_version_of_python():
    """No part of what scores the suite or pays GRPO is read as instructions of one Python."""
    from postlab.evals.suites import suite_rows
    from postlab.rewards import math_reward

    rows = suite_rows("tinyworld", 5, 0)
    for thing in (math_reward, [row["score"] for row in rows]):
        text = trace_code(thing).text
        assert f"{sys.version_info[0]}.{sys.version_info[1]} " not in text
        assert "_collections." not in text and "__replace__" not in text
