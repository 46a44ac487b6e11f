"""The tests of a row, in the shapes that public datasets have, read once for all its completions.

Understood are test scripts (see `_asserts`), function calls with what they should return, and
inputs with what a program should print. Left out: unittest classes, programs that check an output
themselves, and set-ups that need a package.
"""

import ast
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from postlab.rewards._asserts import Unreadable, plan
from postlab.rewards._jail import encode

MAX_PRINTED = 200_000  # characters that a program may be asked to print


class Tests(NamedTuple):
    """What the sandbox is to do with a program, and the verdict on its results."""

    names: frozenset[str]  # what the program has to define
    before: list[str]  # code that runs before the program, and after it, of the dataset's own
    after: list[str]
    steps: list[list]  # see `_jail`; none for a program that reads stdin
    passes: Callable[[list[dict]], bool]  # of the steps' results
    printed: list[tuple[str, str]]  # inputs, and what the program should print


def read_tests(tests: Any) -> Tests | None:
    """The tests of a row; None where they cannot be read. `parse_tests` says why.

    >>> (step,) = read_tests("assert f([1, 2]) == {2, 1}").steps
    >>> step
    ['call', [{'name': 'f'}, [1, 2]], {}]
    >>> read_tests({"function": "f", "args": [2], "expected": 4}).passes([{"value": 4}])
    True
    >>> read_tests("while f(1): pass") is None
    True
    """
    try:
        return parse_tests(tests)
    except Unreadable:
        return None


def parse_tests(tests: Any) -> Tests:
    """The tests of a row, as `code_reward` describes them.

    Raises:
        Unreadable: with the reason.
    """
    if isinstance(tests, str) and tests.lstrip().startswith(("[", "{")):
        try:
            tests = json.loads(tests)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"tests that are no JSON ({error})") from None
    if isinstance(tests, dict) and isinstance(tests.get("input_output"), str | dict):
        return parse_tests(tests["input_output"])  # as APPS and TACO keep them
    if isinstance(tests, dict) and "test_list" in tests:
        return _mbpp(tests)
    if isinstance(tests, dict) and "test" in tests:
        return _checked(tests)
    if isinstance(tests, str | dict):
        tests = [tests]
    if not isinstance(tests, list | tuple) or not tests:
        raise Unreadable(f"tests that are a {type(tests).__name__}, or none")
    scripts = [each for each in tests if isinstance(each, str)]
    cases = [case for each in tests if not isinstance(each, str) for case in _cases(each)]
    printed = [case for case in cases if isinstance(case, tuple)]
    calls = [case for case in cases if isinstance(case, _Call)]
    if printed and (calls or scripts):
        raise Unreadable("tests of printed text beside tests of functions")
    return _together("\n".join(scripts), calls, printed)


@dataclass(frozen=True)
class _Call:
    """A function's call, and what it should return: one of `expected`, as JSON has it."""

    name: str
    step: list
    expected: list


def _together(
    script: str,
    calls: list[_Call] = [],  # noqa: B006 - never changed
    printed: list[tuple[str, str]] = [],  # noqa: B006
    *,
    before: list[str] = [],  # noqa: B006
    after: list[str] = [],  # noqa: B006
) -> Tests:
    """Tests of a script and of calls, which follow it."""
    ours = {name for source in before + after for name in _defined(source)}
    planned = plan(script, defined=ours) if script.strip() else None
    steps = planned.steps if planned else []
    if not (planned or calls or printed):
        raise Unreadable("no test at all")

    def passes(results: list[dict]) -> bool:
        if len(results) != len(steps) + len(calls):
            return False
        if planned and not planned.passes(results[: len(steps)]):
            return False
        for call, result in zip(calls, results[len(steps) :], strict=True):
            if not any("value" in result and agree(result["value"], e) for e in call.expected):
                return False
        return True

    names = {call.name for call in calls} | (planned.names if planned else set())
    return Tests(
        frozenset(names - ours or names),
        before,
        after,
        steps + [call.step for call in calls],
        passes,
        printed,
    )


def _cases(test: Any) -> list:
    """The calls, or the pairs of input and output, of one test that is a dict."""
    if not isinstance(test, dict):
        raise Unreadable(f"a test that is a {type(test).__name__}")
    if {"function", "args", "expected"} <= test.keys():
        keywords = test.get("kwargs") or {}
        return [_call(test["function"], test["args"], keywords, [test["expected"]])]
    for ins, outs in (("inputs", "outputs"), ("input", "output")):
        if ins in test and outs in test:
            given, wanted = test[ins], test[outs]
            if isinstance(given, str):
                given, wanted = [given], [wanted]
            if not isinstance(given, list) or not isinstance(wanted, list):
                raise Unreadable(f"{ins} that are a {type(given).__name__}")
            if len(given) != len(wanted) or not given:
                raise Unreadable(f"{len(given)} {ins} and {len(wanted)} {outs}")
            if name := test.get("fn_name"):
                return [_listed_call(name, i, o) for i, o in zip(given, wanted, strict=True)]
            if test.get("testtype") == "functional":
                raise Unreadable("a functional test without its function's name, `fn_name`")
            return [_printed(i, o) for i, o in zip(given, wanted, strict=True)]
    raise Unreadable(
        f"a test with the keys {', '.join(map(str, list(test)[:8]))}; understood are "
        "function, args and expected; inputs and outputs; test and entry_point; test_list"
    )


def _listed_call(name: Any, given: Any, wanted: Any) -> _Call:
    """A call as in APPS: arguments as a list or, in LiveCodeBench, a line of JSON each."""
    if isinstance(given, str):
        try:
            given = [json.loads(line) for line in given.splitlines() if line.strip()]
            wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
        except ValueError:
            raise Unreadable("inputs of a function that are not JSON") from None
    # APPS has some results in a list of their own.
    alone = wanted if isinstance(wanted, list) and len(wanted) == 1 else []
    return _call(name, given, {}, [wanted, *alone])


def _call(name: Any, arguments: Any, keywords: Any, expected: list) -> _Call:
    if not isinstance(name, str) or not isinstance(arguments, list | tuple):
        raise Unreadable("a call without a function's name and a list of arguments")
    if not isinstance(keywords, dict) or not all(isinstance(key, str) for key in keywords):
        raise Unreadable("keyword arguments that are no dict of names")
    try:
        operands = [{"name": name}, *(encode(argument) for argument in arguments)]
        named = {word: encode(value) for word, value in keywords.items()}
        return _Call(name, ["call", operands, named], expected)
    except (TypeError, ValueError) as error:
        raise Unreadable(f"an argument that is not plain data ({error})") from None


def _printed(given: Any, wanted: Any) -> tuple[str, str]:
    given, wanted = (
        "\n".join(map(str, text)) if isinstance(text, list) else text for text in (given, wanted)
    )
    if not isinstance(given, str) or not isinstance(wanted, str) or len(wanted) > MAX_PRINTED:
        raise Unreadable("an input or output that is no text, or longer than 200,000 characters")
    return given, wanted


def _mbpp(row: dict) -> Tests:
    """MBPP: `test_list`, and what has to be set up once the program is there."""
    setup = _code(row.get("test_setup_code") or "")
    imports = row.get("test_imports") or []
    if not isinstance(row["test_list"], list) or not isinstance(imports, list):
        raise Unreadable("a test_list that is no list")
    own = [ast.unparse(n) for n in ast.parse(setup).body if isinstance(n, ast.Import)]
    lines = [*imports, *(line for line in own if line in ("import math", "import string"))]
    script = "\n".join(map(str, [*lines, *row["test_list"]]))
    return _together(script, after=[setup] if setup.strip() else [])


def _checked(row: dict) -> Tests:
    """HumanEval: `check(candidate)`, called with the entry point; the prompt brings helpers."""
    script, entry = row["test"], row.get("entry_point")
    if not isinstance(script, str):
        raise Unreadable("a test that is no text")
    before = []
    if entry:
        name = entry.removeprefix("Solution().") if isinstance(entry, str) else ""
        if not name.isidentifier():
            raise Unreadable(f"the entry point {entry!r}")
        script += f"\n\ncheck({entry})"
        prompt = row.get("prompt")
        if isinstance(prompt, str) and prompt.strip():
            before = [_code(prompt)]
    tests = _together(script, before=before)
    return tests._replace(names=frozenset([entry.split("(")[0]])) if entry else tests


def _code(source: Any) -> str:
    """Code of a row's own that the sandbox can run."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise Unreadable("a set-up that is no Python") from None
    for node in ast.walk(tree):
        named = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for module in named:
            if module.split(".")[0] not in sys.stdlib_module_names:
                raise Unreadable(f"a set-up that needs the package {module}")
    return source


def _defined(source: str) -> set[str]:
    """What code of a row's own defines."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def agree(result: Any, expected: Any) -> bool:
    """Equal as JSON has it: tuples are lists, true is not 1, and floats may differ in rounding."""
    if isinstance(result, list | tuple) and isinstance(expected, list | tuple):
        return len(result) == len(expected) and all(map(agree, result, expected))
    if isinstance(result, dict) and isinstance(expected, dict):
        if all(type(key) is int for key in result):  # JSON has no other keys than text
            result = {key if key in expected else str(key): value for key, value in result.items()}
        return result.keys() == expected.keys() and all(
            agree(result[key], expected[key]) for key in expected
        )
    numbers = [isinstance(each, int | float) for each in (result, expected)]
    if isinstance(result, bool) or isinstance(expected, bool) or not all(numbers):
        return type(result) is type(expected) and result == expected
    if isinstance(result, float) or isinstance(expected, float):
        return math.isclose(result, expected, rel_tol=1e-9, abs_tol=1e-12)
    return result == expected


def same_output(printed: str, wanted: str) -> bool:
    """Whether a program printed what it should, apart from blanks and the rounding of decimals.

    >>> same_output("1  2 \\n0.33333333\\n\\n", "1 2\\n0.3333333333"), same_output("3", "3.5")
    (True, False)
    """
    ours, theirs = ([line.split() for line in t.rstrip().split("\n")] for t in (printed, wanted))
    return len(ours) == len(theirs) and all(
        len(a) == len(b) and all(map(_same_word, a, b)) for a, b in zip(ours, theirs, strict=True)
    )


def _same_word(printed: str, wanted: str) -> bool:
    if printed == wanted:
        return True
    if "." not in wanted and "e" not in wanted:
        return False
    try:
        ours, theirs = float(printed), float(wanted)
    except ValueError:
        return False
    return math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-9)
