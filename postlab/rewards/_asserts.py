"""A dataset's tests, split in two: calls for the sandbox, and a verdict that is reached outside it.

`assert f(2) == 4` becomes the call f(2), whose result the program under test may say what it likes
about, and the comparison with 4, which it never sees. So nothing that a program prints, overrides
or exits with can pass a test: only the right values can.

Read are literals, arithmetic, comparisons, `and`, `or`, `not`, indices and the builtins of `_PURE`;
every other name that is called is a function of the program. Left out: variables, loops, methods,
exceptions that are expected, programs that read stdin; such a test cannot be read.
"""

import ast
import json
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

MAX_TEST_CHARS = 100_000
MAX_LENGTH = 100_000  # of what a test builds: [0] * n, range(n), digits of a power

_PURE: dict[str, Callable] = {
    each.__name__: each
    for each in (
        *(abs, all, any, bool, complex, dict, float, frozenset, int, len, list, max, min, range),
        *(round, set, sorted, str, sum, tuple),
    )
}
_MATH = {"isclose", "sqrt", "pi", "e", "inf", "nan", "isnan", "floor", "ceil"}
_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


class Check(NamedTuple):
    """The calls that a test makes, (function, arguments) each, and whether their results pass."""

    calls: list[tuple[str, list]]
    passes: Callable[[list], bool]


class _Unreadable(ValueError):
    pass


def read_tests(tests: Any) -> list[Check] | None:
    """The checks that a row's `tests` ask for; None where there is none or one cannot be read.

    >>> (check,) = read_tests("assert set(f([1, 2])) == {2, 1}")
    >>> check.calls, check.passes([(2, 1)]), check.passes([(2, 3)])
    ([('f', [[1, 2]])], True, False)
    >>> (check,) = read_tests([{"function": "f", "args": [2], "expected": 4}])
    >>> check.calls, check.passes([4]), check.passes([5])
    ([('f', [2])], True, False)
    >>> read_tests("for x in range(3): assert f(x)") is None
    True
    """
    try:
        if isinstance(tests, str):
            tests = json.loads(tests) if tests.lstrip().startswith(("[", "{")) else [tests]
        tests = [tests] if isinstance(tests, dict) else list(tests)
        checks = [check for test in tests for check in _read(test)]
    except (ArithmeticError, LookupError, RecursionError, MemoryError, TypeError, ValueError):
        return None
    except SyntaxError:
        return None
    return checks if any(check.calls for check in checks) else None


def _read(test: Any) -> list[Check]:
    if isinstance(test, dict):
        name, arguments, expected = test["function"], test["args"], test["expected"]
        if not isinstance(name, str) or not isinstance(arguments, list | tuple):
            raise _Unreadable("expected a function's name and a list of arguments")
        return [Check([(name, list(arguments))], lambda results: _agree(results[0], expected))]
    if not isinstance(test, str) or len(test) > MAX_TEST_CHARS:
        raise _Unreadable("expected assert statements, or {'function', 'args', 'expected'}")
    return [
        _read_assert(_assertion(node))
        for node in ast.parse(test).body
        if not (isinstance(node, ast.Import) and [name.name for name in node.names] == ["math"])
    ]


def _assertion(node: ast.stmt) -> ast.expr:
    if not isinstance(node, ast.Assert):
        raise _Unreadable(f"expected assert statements, got {type(node).__name__}")
    return node.test


def _read_assert(test: ast.expr) -> Check:
    nodes, calls = [], []
    for node, function in _program_calls(test):
        if node.keywords:
            raise _Unreadable("a call with keywords")
        nodes.append(node)
        calls.append((function, [_evaluate(argument, {}) for argument in node.args]))
    _check_nodes(test)

    def passes(results: list) -> bool:
        return bool(_evaluate(test, dict(zip(map(id, nodes), results, strict=True))))

    return Check(calls, passes)


def _program_calls(test: ast.expr) -> Iterator[tuple[ast.Call, str]]:
    """The calls of the program's own functions, and the functions' names."""
    for node in ast.walk(test):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id not in _PURE:
            yield node, node.func.id


def _check_nodes(test: ast.expr) -> None:
    """Refuse at once what could not be evaluated once the results are there."""
    nodes = list(ast.walk(test))
    named = [node.func for node in nodes if isinstance(node, ast.Call)]
    named += [node.value for node in nodes if isinstance(node, ast.Attribute)]
    for node in nodes:
        readable = isinstance(node, _READABLE)
        if isinstance(node, ast.Name):
            readable = any(node is known for known in named)
        if isinstance(node, ast.Attribute):
            readable = ast.unparse(node).removeprefix("math.") in _MATH
        if not readable:
            raise _Unreadable(f"{ast.unparse(node)[:80]} in a test")


_READABLE = (
    *(ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.BoolOp),
    *(ast.Compare, ast.Call, ast.Subscript, ast.Slice, ast.expr_context, ast.boolop, ast.keyword),
    *_OPERATORS,
)


def _evaluate(node: ast.expr | None, results: dict[int, Any]) -> Any:
    """The value of an expression of a test, the calls of the program having given `results`."""
    if node is None:
        return None
    if id(node) in results:
        return results[id(node)]

    def value(part: ast.expr | None) -> Any:
        return _evaluate(part, results)

    match node:
        case ast.Constant():
            return node.value
        case ast.List():
            return [value(item) for item in node.elts]
        case ast.Tuple():
            return tuple(value(item) for item in node.elts)
        case ast.Set():
            return {value(item) for item in node.elts}
        case ast.Dict() if None not in node.keys:
            return {
                value(key): value(item) for key, item in zip(node.keys, node.values, strict=True)
            }
        case ast.UnaryOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.operand))
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _arithmetic(node.op, value(node.left), value(node.right))
        case ast.BoolOp():
            decided = all if isinstance(node.op, ast.And) else any
            return decided(value(item) for item in node.values)
        case ast.Compare():
            sides = [value(side) for side in (node.left, *node.comparators)]
            pairs = zip(node.ops, sides, sides[1:], strict=False)
            return all(_OPERATORS[type(op)](a, b) for op, a, b in pairs)
        case ast.Subscript():
            return value(node.value)[value(node.slice)]
        case ast.Slice():
            return slice(value(node.lower), value(node.upper), value(node.step))
        case ast.Attribute(value=ast.Name(id="math")) if node.attr in _MATH:
            return getattr(math, node.attr)
        case ast.Call(func=ast.Name(id=name)) if name in _PURE:
            return _pure(_PURE[name], node, value)
        case ast.Call(func=ast.Attribute()):
            return _pure(value(node.func), node, value)
    raise _Unreadable(f"{ast.unparse(node)[:80]} in a test")


def _pure(function: Callable, node: ast.Call, value: Callable) -> Any:
    arguments = [value(argument) for argument in node.args]
    keywords: dict[str, Any] = {}
    for word in node.keywords:
        if word.arg is None:
            raise _Unreadable("a call with **")
        keywords[word.arg] = value(word.value)
    result = function(*arguments, **keywords)
    if isinstance(result, range) and len(result) > MAX_LENGTH:
        raise _Unreadable(f"a range of {len(result)}")
    return result


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Pow):
        digits = len(str(abs(left))) * abs(right)
        if digits > MAX_LENGTH:
            raise _Unreadable("too large a power")
    if isinstance(op, ast.Mult):
        for sequence, times in ((left, right), (right, left)):
            if hasattr(sequence, "__len__") and len(sequence) * times > MAX_LENGTH:
                raise _Unreadable("too long a sequence")
    if isinstance(op, ast.Mod) and isinstance(left, str | bytes):
        raise _Unreadable("a format")
    return _OPERATORS[type(op)](left, right)


def _agree(result: Any, expected: Any) -> bool:
    """Equal as JSON has it: tuples are lists, true is not 1, and floats may differ in rounding."""
    if isinstance(result, list | tuple) and isinstance(expected, list | tuple):
        return len(result) == len(expected) and all(map(_agree, result, expected))
    if isinstance(result, dict) and isinstance(expected, dict):
        return result.keys() == expected.keys() and all(
            _agree(result[key], expected[key]) for key in expected
        )
    numbers = [isinstance(each, int | float) for each in (result, expected)]
    if isinstance(result, bool) or isinstance(expected, bool) or not all(numbers):
        return type(result) is type(expected) and result == expected
    if isinstance(result, float) or isinstance(expected, float):
        return math.isclose(result, expected, rel_tol=1e-9, abs_tol=1e-12)
    return result == expected
