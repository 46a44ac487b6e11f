"""Test scripts and rows as public data sets have them: a right program passes, wrong ones don't."""
# ruff: noqa: E501 - a program and its tests, which read best on a line

import functools
import time

import pytest

from postlab.rewards import code_reward, read_tests
from pace import within

weak = functools.partial(code_reward, allow_weak_sandbox=True)

STACK = """
class Stack:
    def __init__(self, items=()): self.items = list(items)
    def push(self, x): self.items.append(x); return self
    def pop(self): return self.items.pop()
    def is_empty(self): return not self.items
    def __len__(self): return len(self.items)
    @classmethod
    def of(cls, *items): return cls(items)
"""
POINT = """
class Point:
    def __init__(self, x, y=0): self.x, self.y = x, y
    def __add__(self, other): return Point(self.x + other.x, self.y + other.y)
    def __mul__(self, k): return Point(self.x * k, self.y * k)
    def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)
    def __repr__(self): return f"Point({self.x}, {self.y})"
    def __contains__(self, k): return k in (self.x, self.y)
def points(n): return [Point(k) for k in range(n)]
"""
SQUARE = "def f(x): return x * x"
DOUBLE = "def f(x): return x + x"  # right for 0 and 2
# (right program, wrong program, tests)
READ = {
    "keywords": ("def f(a, *, b=1): return a - b", "def f(a, b=1): return b - a", "assert f(b=2, a=5) == 3"),
    "starred": ("def f(a, b): return a - b", "def f(a, b): return a", "assert f(*[5, 2]) == 3"),
    "two stars": ("def f(a, b): return a - b", "def f(a, b): return a", "k = {'b': 2, 'a': 5}\nassert f(**k) == 3 and k['b'] == 2"),
    "bytes": ("def f(x): return x[::-1]", "def f(x): return x", "assert f(b'ab\\x00') == b'\\x00ba'"),
    "bytearray": ("def f(x): return x[::-1]", "def f(x): return x", "assert f(bytearray(b'ab')) == b'ba'"),
    "complex": ("def f(x): return x.conjugate()", SQUARE, "assert f(1 + 2j) == 1 - 2j"),
    "large integers": ("def f(x): return x + 1", DOUBLE, "assert f(10**5000) == 10**5000 + 1"),
    "a factorial": ("import math\nf = math.factorial", SQUARE, "assert f(2000) % (2**64) == 0 and f(3) == 6"),
    "long ranges": ("def f(x): return len(x)", "def f(x): return 0", "assert f(range(20000)) == 20000"),
    "deep data": ("def f(x): return x", "def f(x): return 0", f"assert f({'[' * 45 + ']' * 45}) == {'[' * 45 + ']' * 45}"),
    "deep dicts": ("def f(x): return x", "def f(x): return 0", f"assert f({'{1: ' * 40 + '0' + '}' * 40})[1][1] != 0"),
    "views": ("def f(d): return d.keys()", "def f(d): return d.values()", "assert list(f({'b': 1, 'a': 2})) == ['b', 'a']"),
    "dict items": ("def f(d): return d.items()", "def f(d): return d.keys()", "assert dict(f({1: 2})) == {1: 2}"),
    "generators": ("def f():\n    k = 0\n    while True:\n        yield k\n        k += 2", "def f(): yield 0", "g = f()\nassert [next(g) for _ in range(3)] == [0, 2, 4]"),
    "variables": (SQUARE, DOUBLE, "x = 3\ny: int = f(x)\nassert y == 9\ny += 1\nassert y == 10"),
    "unpacking": ("def f(x): return x, -x", "def f(x): return -x, x", "a, b = f(3)\nassert a == 3 and b == -3"),
    "loops": (SQUARE, DOUBLE, "for x, y in ((0, 0), (2, 4), (3, 9)):\n    assert f(x) == y, f'{x} failed'"),
    "results in a list": (SQUARE, DOUBLE, "r = []\nfor x in range(4): r.append(f(x))\nassert r == [0, 1, 4, 9]"),
    "results in a dict": (SQUARE, DOUBLE, "r = {}\nfor x in range(4): r[x] = f(x)\nassert r[3] == 9"),
    "comprehensions": (SQUARE, DOUBLE, "assert [f(x) for x in range(5) if x % 2] == [1, 9]"),
    "a dict of results": (SQUARE, DOUBLE, "assert {x: f(x) for x in (2, 3)} == {2: 4, 3: 9}"),
    "any and all": (SQUARE, DOUBLE, "assert all(f(x) == x * x for x in range(5)) and any(f(x) == 9 for x in (1, 3))"),
    "items of a result": ("def f(n): return list(range(n))", "def f(n): return [n]", "assert all(0 <= x < 5 for x in f(5)) and len(f(5)) == 5"),
    "map": (SQUARE, DOUBLE, "assert list(map(f, [1, 2, 3])) == [1, 4, 9]"),
    "sorted by a key": ("def f(): return [(1, 2), (2, 1)]", "def f(): return [(1, 2)]", "assert sorted(f(), key=lambda p: p[1]) == [(2, 1), (1, 2)]"),
    "functions as arguments": ("def f(g, x): return g(x)", "def f(g, x): return x", "assert f(lambda y: y + 1, 3) == 4\nassert f(len, [1]) == 1\nassert f(f, abs, -1) if False else True"),
    "its own functions as arguments": ("def g(x): return x + 1\ndef f(h, x): return h(x)", "def g(x): return x\ndef f(h, x): return h(x)", "assert f(g, 1) == 2"),
    "results as arguments": ("def enc(s): return s[::-1]\ndef dec(s): return s[::-1]", "def enc(s): return s[::-1]\ndef dec(s): return s", "for s in ('ab', 'abc'):\n    assert dec(enc(s)) == s"),
    "changes in place": ("def f(x): x.sort()", "def f(x): return sorted(x)", "x = [3, 1, 2]\nf(x)\nassert x == [1, 2, 3]"),
    "changes in place by keyword": ("def f(x, k): x[k] = 0", "def f(x, k): pass", "x = {1: 1}\nf(k=1, x=x)\nassert x == {1: 0}"),
    "methods of results": ("def f(x): return ' Ab '", "def f(x): return 'b'", "assert f(1).strip().lower() == 'ab' and f(1).count('A') == 1"),
    "a field of a result": ("def f(x): return complex(x, 2)", SQUARE, "assert f(1).imag == 2"),
    "or": ("def f(x): return None", DOUBLE, "assert f(1) is None or f(1)[0] == 3"),
    "a chain": (SQUARE, DOUBLE, "assert 8 < f(3) < 10 != f(1)"),
    "if else": (SQUARE, DOUBLE, "assert (f(3) if True else f(1)) == 9\nif 1 < 2:\n    assert f(4) == 16"),
    "a helper": (SQUARE, DOUBLE, "def near(a, b=9): return abs(a - b) < 1e-9\nassert near(f(3))\nassert near(b=16, a=f(4))"),
    "a seeded generator": (SQUARE, DOUBLE, "import random\nrng = random.Random(0)\nfor _ in range(9):\n    x = rng.randint(3, 99)\n    assert f(x) == x ** 2"),
    "modules": ("from math import pi\ndef f(r): return pi * r * r", SQUARE, "import math, copy\nfrom collections import Counter\nassert math.isclose(f(2), 4 * math.pi) and Counter('aab')['a'] == 2"),
    "a builtin's name": ("def sum(a, b): return a + b", "def sum(a, b): return a", "assert sum(10, 15) == 25"),
    "raises": ("def f(x):\n    if x < 0: raise ValueError\n    return x", "def f(x): return x", "import pytest\nwith pytest.raises(ValueError):\n    f(-1)\nassert f(1) == 1"),
    "raises its own": ("class Bad(KeyError): pass\ndef f(x): raise Bad", "def f(x): raise ValueError", "import pytest\nwith pytest.raises(KeyError): f(1)"),
    "try": ("def f(x):\n    if x < 0: raise ValueError\n    return x", "def f(x): return x", "try:\n    f(-1)\n    assert False\nexcept (TypeError, ValueError):\n    pass\nelse:\n    assert False\nassert f(1) == 1"),
    "an object": (STACK, STACK.replace("pop()", "pop(0)"), "s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2\nassert not s.is_empty() and len(s) == 1"),
    "chained methods": (STACK, STACK.replace("return self", "return 0"), "assert Stack().push(1).push(2).pop() == 2\nassert Stack.of(1, 2).items == [1, 2]"),
    "objects in a loop": (STACK, STACK.replace("append(x)", "insert(0, x)"), "s = Stack()\nfor k in range(3):\n    s.push(k)\nassert [s.pop() for _ in range(3)] == [2, 1, 0]"),
    "objects compared": (POINT, POINT.replace("self.x + other.x", "self.x"), "assert Point(1, 2) + Point(3) == Point(4, 2)"),
    "objects and numbers": (POINT, POINT.replace("self.x * k", "self.x"), "p = Point(1, 2) * 3\nassert (p.x, p.y) == (3, 6) and 2 in Point(1, 2)"),
    "objects as text": (POINT, POINT.replace("Point({", "P({"), "assert str(Point(1)) == 'Point(1, 0)' == repr(Point(x=1))"),
    "lists of objects": (POINT, POINT.replace("Point(k)", "Point(0)"), "assert points(2) == [Point(0), Point(1)]\nassert isinstance(points(1)[0], Point)"),
    "attributes": (POINT, POINT.replace("self.x, self.y = x, y", "self.x, self.y = y, x"), "p = Point(1, 2)\nassert p.x == 1\np.x = 5\nassert p.x == 5 and hasattr(p, 'y')"),
    "a method of Solution": ("class Solution:\n    def f(self, x): return x * x", "class Solution:\n    def f(self, x): return x", "assert Solution().f(x=3) == 9"),
}  # fmt: skip
HUMAN = {
    "prompt": "from typing import List\n\ndef helper(x):\n    return x + 1\n\ndef f(x: List[int]) -> int:\n"
    '    """Sum and one."""\n',
    "test": "METADATA = {'author': 'me'}\n\ndef check(candidate):\n    assert candidate([1, 2]) == 4\n"
    "    assert candidate([]) == helper(0), 'empty'\n",
    "entry_point": "f",
}
ADD = {"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}
ROWS = [
    (HUMAN, "    return helper(sum(x))\n", "    return sum(x)\n"),
    (HUMAN, "```python\ndef f(x: List[int]): return sum(x) + 1\n```", "def f(x): return 1"),
    (HUMAN | {"entry_point": "Solution().f"}, "class Solution:\n    def f(s, x): return sum(x) + 1", "def f(x): return sum(x) + 1"),
    ({"test_list": ["assert f([1]) == 1"], "test_setup_code": "import collections", "challenge_test_list": []}, "def f(x): return len(x)", SQUARE),
    ({"test_list": ["assert depth(root) == 2"], "test_setup_code": "root = Node(1)\nroot.left = Node(2)"}, "class Node:\n    def __init__(self, v): self.left = None\ndef depth(n): return 1 + depth(n.left) if n else 0", "class Node:\n    def __init__(self, v): self.left = None\ndef depth(n): return 1"),
    ({"test_list": ["assert math.isclose(f(4), 2)"], "test_imports": ["import math"]}, "def f(x): return x ** .5", SQUARE),
    ({"function": "f", "args": [1], "kwargs": {"k": 2}, "expected": 3}, "def f(x, *, k): return x + k", "def f(x, k): return x"),
    ({"fn_name": "f", "inputs": [[1, 2], [3, 4]], "outputs": [[3], 7]}, "class Solution:\n    def f(self, a, b): return a + b", "def f(a, b): return a - b"),
    ({"fn_name": "f", "input": "[1, 2]\n3", "output": "6", "testtype": "functional"}, "def f(a, b): return sum(a) + b", "def f(a, b): return a"),
    ({"fn_name": "f", "inputs": [[2]], "outputs": [{"2": 4}]}, "def f(k): return {k: 4}", "def f(k): return {k: 5}"),
    (ADD, "print(sum(map(int, input().split()))) if 0 else print(sum(int(x) for x in __import__('sys').stdin.read().split()))", "print(3)"),
    ({"question": "Add.", "input_output": '{"inputs":["1 2\\n"],"outputs":["3\\n"]}'}, "a, b = map(int, input().split())\nif __name__ == '__main__':\n    print(a + b)\n    exit()", "print(input())"),
    ([{"input": "2", "output": "1 2\n3"}], "```python\nprint(1, 2 )\nprint('3\\n')\n```\nFor the input\n```\n2\n```", "print('1 2 3')"),
    ({"inputs": ["3"], "outputs": ["0.3333333333"]}, "import os\nos.write(1, b'%.9f' % (1 / int(open(0).read())))", "print(0.34)"),
    ({"inputs": [""], "outputs": ["ok"]}, "import threading\nthreading.Thread(target=print, args=('ok',)).start()", "print('ok')\nraise ValueError"),
]  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_scripts_pass_right_programs_and_no_wrong_ones(name):
    right, wrong, tests = READ[name]
    assert weak([right, wrong, "pass"], [tests] * 3) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("case", range(len(ROWS)))
def test_rows_of_public_data_sets(case):
    tests, right, wrong = ROWS[case]
    assert weak([right, wrong, ""], [tests] * 3) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "tests"),
    [
        ("E()", "assert abs(f(2) - 4) < 1e-3"),
        ("E()", "assert f(2).startswith('a')"),
        ("E()", "assert 4 in f(2)"),
        ("E()", "assert f(2) > 3 and f(2)[0] == 4"),
        ("E()", "assert set(f(2)).issubset({4})"),
        ("[E()]", "assert f(2) == [4]"),
        ("E", "assert f(2)(3) == 4"),
    ],
)
def test_an_object_that_says_yes_to_everything_is_not_a_value(answer, tests):
    yes = "".join(
        f"    def {name}(self, *values): return True\n"
        for name in ("__eq__", "__gt__", "__contains__", "__abs__", "startswith", "issubset")
    )
    program = (
        f"class E:\n{yes}    __sub__ = __getitem__ = lambda *a: E()\ndef f(x): return {answer}"
    )
    assert weak([program], [tests]) == [0.0]


BLOCKS = "```python\n{}\n```\nFor example:\n```python\n{}\n```\n"


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        (BLOCKS.format(SQUARE, "print(f(2))"), 1.0),
        (BLOCKS.format(SQUARE, "assert f(2) == 4\ng = f"), 1.0),
        (BLOCKS.format("def f(x): return 0", SQUARE), 1.0),
        (BLOCKS.format(SQUARE, "def f(x): return 0"), 0.0),
        (BLOCKS.format(SQUARE, "def f(x) return 0"), 0.0),
        (BLOCKS.format(SQUARE, "def ff(x): return 0"), 1.0),
        (BLOCKS.format(SQUARE, ">>> f(2)\n4"), 1.0),
        (f'1. Write\n   ```Python title="f.py"\n   {SQUARE}\n   ```\n', 1.0),
        (f"```python3.11\n{SQUARE}\n```\n```text\ndef f(x): return 0\n```", 1.0),
        (f"```python\nf = lambda x: x * x\n```\n```\n{DOUBLE[6:]}\n```", 1.0),
    ],
)
def test_the_code_is_the_last_block_that_defines_what_is_called(reply, reward):
    tests = ["assert f(3) == 9", "assert f(4) == 16"]
    assert weak([reply], [tests]) == [reward]


@pytest.mark.parametrize(
    "tests",
    [
        "assert f(0) == 0" + " and f(0) == 0" * 1500,
        "assert [" + "f(0)," * 3000 + "]",
        "assert f(1) == 1\n" * 1500,
        "assert f([" + "1," * 20_000 + "]) == 1",
    ],
)
def test_long_tests_are_read_in_time(tests):
    begun = time.process_time()
    assert read_tests(tests) is not None
    assert within(time.process_time() - begun, 2)


@pytest.mark.parametrize(
    "tests",
    [
        "assert round(7, f(2)) == 7",
        "assert 2 ** f(2) == 4",
        "assert [1] * f(2) == 4",
        "assert 'ab'.ljust(f(2)) == 'x'",
        "assert bytes(f(2)) == b''",
        "assert len(set(range(f(2)))) == 1",
        "assert 1 << f(2) == 2",
        "assert pow(3, f(2)) == 2",
    ],
)
def test_a_result_cannot_make_the_judge_work(tests):
    begun = time.process_time()
    programs = [f"def f(x): return {n}" for n in (-3_000_000, 10**12, 10**7)]
    assert weak(programs, [tests] * 3) == [0.0] * 3
    assert within(time.process_time() - begun, 1)
