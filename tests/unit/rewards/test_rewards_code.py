"""code_reward: honest programs, then hostile ones; the weak sandbox is tested on every machine."""

import functools
import multiprocessing
import os
import tempfile
import threading
from pathlib import Path

import pytest

import postlab.rewards._sandbox as sandbox
from postlab.rewards import code_reward, read_tests
from postlab.rewards._jail import decode, encode

SQUARE = "assert f(2) == 4\nassert f(3) == 9"
weak = functools.partial(code_reward, allow_weak_sandbox=True)

RIGHT = [
    "def f(x): return x * x",
    "f = lambda x: x ** 2",
    "```python\ndef f(x):\n    return x * x\n```",
    "First:\n```\ndef f(x): return 0\n```\nBetter:\n```py\ndef f(x): return x * x\n```\nDone.",
    "<think>\n```python\ndef f(x): return 0\n```\n</think>\ndef f(x): return x * x",
    "print('checking')\ndef f(x):\n    print(x)\n    return x * x",
    "import math\ndef f(x): return int(math.pow(x, 2))",
    "def f(x): return float(x * x)",
    "open('note', 'w').write('2')\ndef f(x): return x ** int(open('note').read())",
]
WRONG = [
    "",
    "I cannot do that.",
    "def f(x): return x + 2",
    "def g(x): return x * x",
    "def f(x): return str(x * x)",
    "def f(x): return [x * x]",
    "def f(x): print(x * x)",
    "def f(x) return x * x",
    "<think>def f(x): return x * x</think>",
    "<think>def f(x): return x * x",
    "```python\ndef f(x): return x * x\n```\n```python\ndef f(x): return 0\n```",
    "```python\ndef f(x): return x * x",
    "```bash\ndef f(x): return x * x\n```",
    "\0def f(x): return x * x",
    "def f(x): return x * x\n" + "#" * 60_000,
]
# What tries to pass without the right values. None of it needs a jail to fail.
FORGED = {
    "exits before the tests": "import sys\nsys.exit(0)",
    "exits hard": "import os\nos._exit(0)",
    "exits in the call": "def f(x): raise SystemExit(0)",
    "prints success": 'print(\'{"value": 4}\\n{"value": 9}\\nOK, all tests passed\')',
    "equal to all": "class E:\n    __eq__ = lambda a, b: True\ndef f(x): return E()",
    "an int equal to all": "class E(int):\n    __eq__ = lambda a, b: True\ndef f(x): return E(0)",
    "a list equal to all": "class E(list):\n    __eq__ = lambda a, b: True\ndef f(x): return E()",
    "overrides builtins": "import builtins\nfor n in ('all', 'bool', 'isinstance'):\n"
    "    setattr(builtins, n, lambda *a, **k: True)\ndef f(x): return 0",
    "overrides json": "import json\njson.dumps = lambda *a, **k: 'true'\ndef f(x): return 0",
    "overrides exit": "import os, sys\nsys.exit = os._exit = lambda *a: None\ndef f(x): return 0",
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 0",
    "writes garbage results": "import os\nos.write(3, b'true\\n' * 9)\ndef f(x): return 0",
    "writes one result more": "import os\nos.write(3, b'{\"value\": 4}\\n')\n"
    "def f(x): return x * x",
    "claims a set-up error": "import os\nos.write(3, b'!no space')\nos._exit(0)",
    "nested results": "def f(x):\n    a = []\n    for _ in range(900): a = [a]\n    return a",
    "a NaN": "def f(x): return float('nan')",
    "an assertion swallowed": "def f(x):\n    assert False",
    "recurses": "def f(x): return f(x)",
    "crashes": "import ctypes\nctypes.string_at(0)\ndef f(x): return x * x",
    "raises everything": "def f(x): raise BaseException",
    "floods its results": "def f(x): return 'x' * 10**6",
    "an endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "patches the driver": "import __main__\n__main__.encode = lambda v: 4\ndef f(x): return 0",
}


@pytest.mark.parametrize("completion", RIGHT)
def test_right_programs_pass(completion):
    assert weak([completion], [SQUARE]) == [1.0]


@pytest.mark.parametrize("completion", WRONG)
def test_wrong_programs_fail(completion):
    assert weak([completion], [SQUARE]) == [0.0]


@pytest.mark.parametrize("name", FORGED)
def test_success_cannot_be_forged(name):
    assert weak([FORGED[name]], [SQUARE]) == [0.0]


TESTS_READ = [
    ("assert f(1) == 2", True),
    (["assert f(1) == 2", "assert f(2) == 3"], True),
    ("import math\nassert math.isclose(f(1), 2.0, rel_tol=1e-3)", True),
    ("assert f(1) == 2, 'a message'", True),
    ("assert not f(1) == 3 and f(1) > 1", True),
    ("assert sorted([f(2), f(1)]) == [2, 3]", True),
    ("assert f(1) in (2, 3)", True),
    ("assert [f(1)][0] == 2", True),
    ("assert f(10**3) == 1001", True),
    ({"function": "f", "args": [1], "expected": 2}, True),
    ('[{"function": "f", "args": [1], "expected": 2.0}]', True),
    ('["assert f(1) == 2"]', True),
    ("assert f(1) == 3", False),
    ("assert f(1) is None", False),
    ("assert f(1) == 2\nassert f(1) == 3", False),
    ({"function": "f", "args": [1], "expected": True}, False),
    ({"function": "f", "args": [1], "expected": "2"}, False),
    ("assert f(1) == (2,)", False),
    ("assert f(1)[0] == 2", False),
]
UNREADABLE = [
    *(None, "", [], 7, "assert", "assert True", "assert 1 == 1", "not code at all", "f(1)"),
    *("import os\nassert f(1) == 2", "assert f(open('x')) == 2", "while f(1): assert f(2)"),
    *("assert f(9**9**9) == 2", "assert f([0] * 10**9) == 2", "assert f(range(10**9)) == 2"),
    *("assert f(1) == y", "assert f == 1", "if f(1): assert f(2) == 3", "assert f(1) == f'{1}'"),
    *("for x in f(1): assert f(x)", "assert all(f(x) for x in f(1))", "assert f(f(1) + 1) == 3"),
    *("class A: pass\nassert f(A()) == 1", "import numpy\nassert f(numpy.array([1])) == 2"),
    *("x = [1]\nwhile True: x.append(f(1))", "assert f(" + "[" * 60 + "]" * 60 + ") == 1"),
    *("for i in range(10**9): assert f(i)", "assert f(1) == '%d' % 9", "assert f(1).__class__"),
    *({"function": "f"}, {"function": 1, "args": [], "expected": 1}, "[1, 2]", "(" * 5000),
    *({"function": "f", "args": [{1, object()}], "expected": 1}, {"inputs": ["1"], "outputs": []}),
    *({"test": "def check(c): assert c(1)", "entry_point": "1 + 1"}, {"tests": "assert f(1)"}, "{"),
    *({"test_list": ["assert f(1) == 2"], "test_setup_code": "import numpy"}, {"test_list": "x"}),
    {"inputs": [[1]], "outputs": [2], "testtype": "functional"},
]


@pytest.mark.parametrize(("tests", "passes"), TESTS_READ)
def test_tests_are_read_and_judged_here(tests, passes):
    assert weak(["def f(x): return x + 1"], [tests]) == [float(passes)]


@pytest.mark.parametrize("tests", UNREADABLE, ids=range(len(UNREADABLE)))
def test_tests_that_cannot_be_read_give_none_and_a_warning(tests):
    with pytest.warns(RuntimeWarning, match="None for tests that cannot be read .2 in this batch"):
        rewards = weak(["def f(x): return x + 1"] * 3, [tests, "assert f(1) == 2", tests])
    assert rewards == [None, 1.0, None]


# So many digits that no address in a repr holds them by chance.
LOOKS_FOR_THE_EXPECTED = """
import gc, sys
def f(x):
    wanted, frame, seen = int("9182736455464") - 1, sys._getframe().f_back, gc.get_objects()
    while frame:
        seen += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    for each in seen:
        if each is not seen and (each == wanted or str(wanted) in repr(each)[:10**5]):
            return wanted
"""


def test_a_program_finds_no_expected_value():
    assert weak([LOOKS_FOR_THE_EXPECTED], ["assert f(2) == 9182736455463"]) == [0.0]
    assert weak([LOOKS_FOR_THE_EXPECTED], ["assert f(9182736455463) == 9182736455463"]) == [
        1.0
    ]  # it does look


def test_the_sandbox_is_told_no_expected_value():
    from postlab.rewards.code import _requests

    for tests in (
        "assert f(2) == 9182736455463",
        "assert f(2).startswith('9182736455463')",
        "assert abs(f(2) - 9182736455463) < 1e-3",
        "assert 9182736455463 in f(2)",
        "assert Shape(2).area() == 9182736455463",
        "assert Shape(2) == 9182736455463",
        "assert Shape(2).name().count('9182736455463')",
        "x = [2]\nf(x)\nassert x == [9182736455463]",
        {"function": "f", "args": [2], "expected": 9182736455463},
        {"fn_name": "f", "inputs": [[2]], "outputs": [9182736455463]},
        {"inputs": ["2"], "outputs": ["9182736455463"]},
    ):
        (request,) = _requests("pass", read_tests(tests))
        assert "2" in request and "9182736455463" not in request


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, -3, 1.5, "a\ud800", [1, [2]], (1, (2,)), {1, 2}, frozenset([1]), {1: (2,)}),
        *(10**5000, -(2**64), b"\0\xff", bytearray(b"a"), 1 - 2j, range(3, 10**4, 2), float("inf")),
        *([[]] * 3, {"a": {"b": {"c": [b"d"]}}}, {(1, b"2"): {3j}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_back_as_they_went(value):
    assert decode(encode(value)) == value and type(decode(encode(value))) is type(value)


@pytest.mark.parametrize(
    "forged",
    [
        *(
            {},
            {"a": 1},
            {"set": 3},
            {"set": [[1]]},
            {"dict": [[[], 1]]},
            {"int": 3},
            {"bytes": "x"},
        ),
        *({"ref": 0}, {"name": "f"}, {"source": "exit()"}, {"range": [0, 10**12, 1]}),
        {"set": [k * (2**61 - 1) for k in range(5000)]},
        {"dict": [[{"complex": [-1000003 * k, k]}, 0] for k in range(5000)]},
    ],
)
def test_forged_values_are_refused(forged):
    with pytest.raises((ValueError, TypeError)):
        decode(forged)


def test_a_group_is_scored_in_order_and_the_same_twice():
    programs = [f"def f(x): return x + {i % 5}" for i in range(20)]
    tests = ["assert f(1) == 3"] * 20
    assert weak(programs, tests) == weak(programs, tests) == [float(i % 5 == 2) for i in range(20)]
    noisy = ["import random\ndef f(x): return random.random() + hash('a')"]
    pins = ["assert f(1) == f(1)", "assert f(1) != f(1)"]
    assert weak(noisy * 2, pins) == weak(noisy * 2, pins)


def test_without_namespaces_it_refuses_and_says_what_limits_do_not_stop(monkeypatch):
    monkeypatch.setattr(sandbox, "missing", lambda: "unshare: Operation not permitted")
    with pytest.raises(RuntimeError, match="not permitted.*allow_weak_sandbox.*read your files"):
        code_reward(RIGHT[:1], [SQUARE])
    assert weak(RIGHT[:1], [SQUARE]) == [1.0]
    assert weak(["while True: pass", "x = bytearray(10 ** 10)"], [SQUARE] * 2) == [0.0, 0.0]


def test_messages_and_the_columns_of_trl_are_taken_and_wrong_use_is_an_error():
    message = [{"role": "assistant", "content": RIGHT[0]}]
    assert weak(completions=[message], tests=[SQUARE], prompts=["?"], completion_ids=[[1]]) == [1.0]
    assert code_reward.__name__ == "code_reward"
    with pytest.raises(ValueError, match="2 completions and 1 rows"):
        code_reward(["a", "b"], [SQUARE])


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_nothing_is_left_behind_after_200_scorings_from_a_worker_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # others may score beside this test

    def files():
        return set(Path(tempfile.gettempdir()).glob("postlab-sandbox-*"))

    weak(RIGHT[:1], [SQUARE])
    before = children(), threading.active_count(), len(os.listdir("/proc/self/fd")), files()
    programs = [f"def f(x): return x * x + {i} * 0" for i in range(190)]
    left = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60{})\nos._exit(0)"
    programs += [left.format(i) for i in range(10)]
    rewards = []
    thread = threading.Thread(target=lambda: rewards.extend(weak(programs, [SQUARE] * 200)))
    thread.start()
    thread.join()
    assert rewards == [1.0] * 190 + [0.0] * 10
    after = children(), threading.active_count(), len(os.listdir("/proc/self/fd")), files()
    assert after == before
    assert not multiprocessing.active_children()
    for folder in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in folder.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
