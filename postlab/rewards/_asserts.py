"""A dataset's test script, split in two: steps for the sandbox, and a verdict reached outside it.

`assert f(2) == 4` becomes the step f(2), whose result the program under test may say what it likes
about, and the comparison with 4, which it never sees. So nothing that a program prints, overrides
or exits with can pass a test: only the right values can.

The script is interpreted twice. `plan` knows no results yet: every call of the program's gives an
`Unknown`, and so does whatever is computed from one. `Plan.passes` runs it again with the results.
Known values are plain data, worked out here within limits. Objects of the program's own classes
stay in the sandbox, where their methods, attributes and comparisons with one another run; compared
with plain data they are unequal, so an object that equals everything gains nothing.

Read are assertions, assignments, calls, loops over known values, conditions on them, functions such
as HumanEval's `check(candidate)`, comprehensions, lambdas, `try` and `pytest.raises`, with the
builtins and modules listed below. Left out: classes, `while`, other imports, and whatever takes
its course by a result, such as `if f(1): assert g(2)`.
"""

import ast
import builtins
import collections
import copy
import math
import operator
import random
import string
import time
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from postlab.rewards._jail import encode

MAX_SCRIPT_CHARS = 1_000_000
MAX_WORK = 1_000_000  # expressions worked out in one run of a script
MAX_STEPS = 20_000
MAX_LENGTH = 1_000_000  # of what is built here: [0] * n, "a".ljust(n)
MAX_BITS = 400_000  # of an integer that is computed here
MAX_MODULAR_BITS = 10_000  # of the three arguments of pow together: its time is their cube
MAX_DIGITS = 10_000  # before the point, that round is asked for
JUDGE_SECONDS = 4  # of a processor, for the verdict on one program's results

_PURE: dict[str, Callable] = {
    name: getattr(builtins, name)
    for name in (
        *("abs", "all", "any", "bin", "bool", "bytearray", "bytes", "chr", "complex", "dict"),
        *("divmod", "enumerate", "filter", "float", "frozenset", "hex", "int", "isinstance"),
        *("issubclass", "iter", "len", "list", "map", "max", "min", "next", "oct", "ord", "pow"),
        *("range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple"),
        *("type", "zip"),
    )
}
_MODULES: dict[str, dict[str, Any]] = {
    "math": {
        name: value
        for name, value in vars(math).items()
        if name not in ("factorial", "comb", "perm", "prod") and not name.startswith("_")
    },
    "string": {name: value for name, value in vars(string).items() if isinstance(value, str)},
    "copy": {"copy": copy.copy, "deepcopy": copy.deepcopy},
    "collections": {
        kind.__name__: kind
        for kind in (collections.Counter, collections.OrderedDict, collections.defaultdict)
    },
    "operator": {"itemgetter": operator.itemgetter},
    "random": {"Random": random.Random},  # and the methods of a seeded generator
    "pytest": {},  # for pytest.raises alone
    "typing": {},
}
_CHANGING = {
    *("add", "append", "clear", "discard", "extend", "insert", "pop", "remove", "reverse", "sort"),
    *("setdefault", "update", "popitem", "subtract"),
}
_UNBOUNDED = {"format", "format_map", "expandtabs", "translate", "to_bytes", "maketrans", "fromhex"}
_METHODS: dict[type, set[str]] = {
    kind: {n for n in dir(kind) if not n.startswith("_")} - _UNBOUNDED
    for kind in (
        *(str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, range),
        *(collections.Counter, collections.OrderedDict, collections.defaultdict),
    )
}
_METHODS[random.Random] = {
    *("choice", "choices", "gauss", "randint", "random", "randrange", "sample", "seed"),
    *("shuffle", "uniform"),
}
_PLAIN_METHODS = set().union(*_METHODS.values())
# What a method of plain data is told may be the expected value, as in f(1).startswith("ab"), so it
# runs in the sandbox only on an object that surely is the program's; the others are told none.
_TELLING = _PLAIN_METHODS - _CHANGING - {"get", "copy", "keys", "values", "items"}
_BUILTINS = frozenset(dir(builtins)) - {
    *("copyright", "credits", "display", "exit", "get_ipython", "help", "license", "quit"),
}  # without what `site` and a notebook add
_INSIDE = {"callable", "getattr", "hasattr", "hash"}  # builtins that run in the sandbox alone
# Functions that may run in the sandbox on what is there, and how they are had there.
_SOURCES = {name: name for name in _PURE} | {
    name: f"__import__('copy').{name}" for name in _MODULES["copy"]
}
_FIELDS = {"real", "imag", "numerator", "denominator"}
_OPERATORS: dict[type, str] = {  # functions of the module `operator`
    **{ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv"},
    **{ast.FloorDiv: "floordiv", ast.Mod: "mod", ast.Pow: "pow", ast.MatMult: "matmul"},
    **{ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"},
    **{ast.LShift: "lshift", ast.RShift: "rshift"},
    **{ast.USub: "neg", ast.UAdd: "pos", ast.Not: "not_", ast.Invert: "invert"},
    **{ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"},
    **{ast.Is: "is_", ast.IsNot: "is_not", ast.In: "contains", ast.NotIn: "contains"},
}


class Unreadable(ValueError):
    """Why a test cannot be read."""


class Unknown:
    """In the plan, what only the program can tell.

    Args:
        data: what stands for it in the sandbox, as `encode` writes it; None if it isn't there.
        pure: whether it is made of results alone, so that naming it tells the program nothing.
        own: whether it surely is an object of the program's, for which no plain data could stand.
        items: the items of a list or tuple that holds results.
    """

    def __init__(
        self, data: Any = None, *, pure: bool = False, own: bool = False, items: Any = None
    ) -> None:
        self.data, self.pure, self.own, self.items = data, pure, own, items


class _Object:
    """An object of the program's that stayed in the sandbox, while its test is judged."""


class _Raised(Exception):
    """An exception of the program's, or a failed assertion; `kinds` are its classes' names."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Function:
    """A function or lambda of the script's."""

    def __init__(self, script: "_Script", node: Any) -> None:
        self.script, self.node, self.scope = script, node, script.scope

    def __call__(self, *values: Any, **keywords: Any) -> Any:
        return self.script.call_own(self, values, keywords)

    def names(self) -> set[str]:
        """What it uses that is not its own parameters."""
        used = {node.id for node in ast.walk(self.node) if isinstance(node, ast.Name)}
        return used - {node.arg for node in ast.walk(self.node) if isinstance(node, ast.arg)}


class Plan(NamedTuple):
    """A script's steps for the sandbox, and what decides on their results."""

    steps: list[list]  # operation, operands, keywords
    names: set[str]  # of the program's functions and classes that the steps use
    tree: ast.Module
    program: frozenset[str]
    places: dict[tuple, int]  # of the steps, by where they stand in the course of the script

    def passes(self, results: list[dict]) -> bool:
        """Whether the script passes, given a record for each step: `value`, `error` or `object`."""
        try:
            _Script(self.tree, self.program, self.places, results).run()
        except Exception:  # what a program returned, or a comparison of it raised: not passed
            return False
        return True


def plan(
    source: str, *, defined: Iterable[str] = (), program: frozenset[str] = frozenset()
) -> Plan:
    """The steps and the verdict of a test script.

    Args:
        source: the script.
        defined: variables that a set-up in the sandbox defines.
        program: names of builtins that the program defines anew.
    Raises:
        Unreadable: if the script cannot be read, or calls nothing or asserts nothing.

    >>> one = plan("assert f([1, 2]) == (2, 1)")
    >>> one.steps, one.names
    ([['call', [{'name': 'f'}, [1, 2]], {}]], {'f'})
    >>> one.passes([{"value": (2, 1)}]), one.passes([{"value": (2, 3)}])
    (True, False)
    """
    if len(source) > MAX_SCRIPT_CHARS:
        raise Unreadable(f"a test of {len(source):,} characters")
    try:
        tree = ast.parse(source)
        script = _Script(tree, program)
        script.defined = {*defined, *_used_names(tree)}
        try:
            script.run()
        except Exception:
            # A task may ask for a function named `sum`: perhaps that is the program's.
            called = frozenset(_outermost_calls(tree)) & _BUILTINS
            if not program and called:
                with suppress(Unreadable):
                    return plan(source, defined=defined, program=called)
            raise
    except Unreadable:
        raise
    except SyntaxError as error:
        raise Unreadable(f"a syntax error in a test: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise Unreadable("a test nested too deeply") from None
    except Exception as error:
        raise Unreadable(f"a test that fails by itself: {type(error).__name__}: {error}") from None
    return Plan(script.steps, script.names, tree, program, script.places)


def _used_names(tree: ast.AST) -> Iterator[str]:
    """The names that are called, passed on or asked for an attribute: surely not a slip."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Call):
            parts = [node.func, *node.args, *(word.value for word in node.keywords)]
        if isinstance(node, ast.Attribute):
            parts = [node.value]
        yield from (part.id for part in parts if isinstance(part, ast.Name))


def _outermost_calls(node: ast.AST) -> Iterator[str]:
    """The names of the functions whose calls stand in no other call."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Call):
            yield from _outermost_calls(child)
        elif isinstance(child.func, ast.Name):
            yield child.func.id


class _Script:
    """One run of a script: a plan, or with `results` a judgement."""

    def __init__(
        self,
        tree: ast.Module,
        program: frozenset[str],
        places: dict[tuple, int] | None = None,
        results: list[dict] | None = None,
    ) -> None:
        self.tree, self.program = tree, program
        self.places = {} if places is None else places
        self.results = results or []
        self.planning = results is None
        self.steps: list[list] = []
        self.names: set[str] = set()
        self.defined: set[str] = set()
        self.scope: dict[str, Any] = {"math": types.SimpleNamespace(**_MODULES["math"])}
        self.path: tuple = ()  # the turn of each loop and the call of each function around here
        self.calls: collections.Counter = collections.Counter()
        self.work = MAX_WORK
        self.until = time.thread_time() + JUDGE_SECONDS
        self.fixed = False  # in a loop over a result's items, where no step can be planned
        self.loose = False  # a comprehension has had such a loop, or a condition on a result
        self.asserts = 0
        self.random = random.Random(0)

    def run(self) -> None:
        self.block(self.tree.body)
        if self.planning and not self.steps:
            raise Unreadable("a test that calls nothing of the program's")
        if self.planning and not self.asserts:
            raise Unreadable("a test that asserts nothing")

    # -- steps in the sandbox

    def step(self, node: ast.AST, slot: Any, do: str, operands: list, keywords: Any = None) -> Any:
        """Plan a step, and return what stands for its result."""
        if self.fixed:
            raise Unreadable("a call for each item of a result")
        if len(self.steps) >= MAX_STEPS:
            raise Unreadable(f"more than {MAX_STEPS:,} calls")
        self.places[id(node), slot, self.path] = len(self.steps)
        self.steps.append([do, operands, keywords or {}])
        return Unknown({"ref": len(self.steps) - 1}, pure=True)

    def has(self, node: ast.AST, slot: Any) -> bool:
        return (id(node), slot, self.path) in self.places

    def result(self, node: ast.AST, slot: Any) -> Any:
        """The result of a step, in a judgement."""
        record = self.results[self.places[id(node), slot, self.path]]
        if "error" in record:
            raise _Raised(*record["error"])
        if "object" in record:
            return record.setdefault("stand-in", _Object())
        return record["value"]

    def operand(self, value: Any) -> Any:
        """What stands for a value in the sandbox."""
        if isinstance(value, Unknown):
            if value.data is None:
                raise Unreadable("an argument that is computed from a result")
            return value.data
        if isinstance(value, _Function):
            if not isinstance(value.node, ast.Lambda) or value.names() & value.scope.keys():
                raise Unreadable("a function of the test's own as an argument")
            return {"source": ast.unparse(value.node)}
        if getattr(value, "__name__", "") in _PURE and _PURE[value.__name__] is value:
            return {"source": value.__name__}
        try:
            return encode(value)
        except (TypeError, ValueError) as error:
            raise Unreadable(f"an argument that is not plain data ({error})") from None

    def either(
        self,
        node: ast.AST,
        slot: Any,
        do: str,
        here: Callable,
        *values: Any,
        own: bool = True,
        asked: int | None = None,
    ) -> Any:
        """An operation: here on plain data, in the sandbox on objects of the program's.

        It is planned for the sandbox if the operands tell the program nothing, being results (or,
        where only the first `asked` can tell something, those); or, if `own`, where one of them
        surely is an object of the program's.
        """
        if not self.planning:
            if any(isinstance(value, _Object) for value in values) and self.has(node, slot):
                return self.result(node, slot)
            return here(*values)
        unknown = [value for value in values if isinstance(value, Unknown)]
        if not unknown:
            return here(*values)
        pure = all(isinstance(value, Unknown) and value.pure for value in values[:asked])
        there = all(value.data is not None for value in unknown)
        if there and not self.fixed and (pure or (own and any(value.own for value in unknown))):
            call = [{"source": _SOURCES[do]}] if do in _SOURCES else []
            operands = [self.operand(value) for value in values]
            return self.step(node, slot, "call" if call else do, call + operands)
        return Unknown()

    # -- statements

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assert():
                self.asserts += 1
                value = self.value(node.test)
                if not self.planning and not value:
                    raise _Raised("AssertionError", "Exception", "BaseException")
            case ast.Expr(value=ast.Call(func=ast.Name(id="print")) | ast.Name()):
                pass
            case ast.Expr():
                self.value(node.value)
            case ast.Assign():
                value = self.value(node.value)
                for target in node.targets:
                    self.assign(target, value)
            case ast.AnnAssign(value=ast.expr() as assigned):
                self.assign(node.target, self.value(assigned))
            case ast.AugAssign(target=ast.Name(id=name)):
                left, right, do = (
                    self.lookup(name),
                    self.value(node.value),
                    _OPERATORS[type(node.op)],
                )
                self.scope[name] = self.either(node, do, do, _here(do), left, right)
            case ast.For(orelse=[]):
                path, turns = self.path, self.iterated(node.iter)
                for turn, item in enumerate(turns):
                    self.path = (*path, turn)
                    self.assign(node.target, item)
                    self.block(node.body)
                self.path = path
            case ast.If():
                self.block(node.body if self.known(self.value(node.test)) else node.orelse)
            case ast.FunctionDef(decorator_list=[]):
                self.scope[node.name] = _Function(self, node)
            case ast.Return():
                raise _Return(node.value and self.value(node.value))
            case ast.Import() | ast.ImportFrom():
                self.bring(node)
            case ast.Try():
                self.attempt(node)
            case ast.With(items=[ast.withitem(context_expr=ast.Call() as call)]):
                self.expect(node, call)
            case ast.Raise():
                if not self.planning:
                    raise _Raised("Exception", "BaseException")
            case ast.Pass():
                pass
            case _:
                raise Unreadable(f"{type(node).__name__} in a test: {ast.unparse(node)[:60]}")

    def known(self, value: Any) -> Any:
        if isinstance(value, Unknown):
            raise Unreadable("a condition or a loop that depends on a result")
        return value

    def iterated(self, node: ast.expr) -> Iterable:
        """What a loop goes over: known values, or a list that holds results."""
        value = self.value(node)
        if isinstance(value, Unknown) and value.items is not None:
            return value.items
        return self.known(value)

    def assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name():
                self.scope[target.id] = value
            case ast.Tuple() | ast.List():
                if isinstance(value, Unknown):
                    value = value.items or [Unknown() for _ in target.elts]
                for part, item in zip(target.elts, value, strict=True):
                    self.assign(part, item)
            case ast.Attribute():
                self.change(target, "set", self.value(target.value), target.attr, value)
            case ast.Subscript():
                owner, key = self.value(target.value), self.value(target.slice)
                self.change(target, "setitem", owner, key, value)
            case _:
                raise Unreadable(f"an assignment to {ast.unparse(target)[:60]}")

    def change(self, node: Any, do: str, owner: Any, key: Any, value: Any) -> None:
        """Set an attribute or an item: of plain data here, of an object in the sandbox."""
        if isinstance(owner, Unknown) and owner.data is None and do == "setitem":
            return  # a list or dict of the script's, no longer known
        if isinstance(owner, Unknown):
            self.step(node, do, do, [self.operand(each) for each in (owner, key, value)])
        elif self.has(node, do) and not self.planning:
            self.result(node, do)
        elif do != "setitem" or not isinstance(owner, list | dict):
            raise Unreadable(f"an assignment to {ast.unparse(node)[:60]}")
        elif isinstance(value, Unknown) or isinstance(key, Unknown):
            self.forget(node.value)
        else:
            owner[key] = value

    def forget(self, node: ast.expr) -> None:
        """A variable that a result was put into is no longer known."""
        if not isinstance(node, ast.Name):
            raise Unreadable(f"a result put into {ast.unparse(node)[:60]}")
        self.scope[node.id] = Unknown()

    def bring(self, node: ast.Import | ast.ImportFrom) -> None:
        for each in node.names:
            source = (node.module or "") if isinstance(node, ast.ImportFrom) else each.name
            if source not in _MODULES:
                raise Unreadable(f"import {source} in a test")
            names = dict(_MODULES[source])
            if source == "random":
                names |= {name: getattr(self.random, name) for name in _METHODS[random.Random]}
            if isinstance(node, ast.Import):
                self.scope[each.asname or source] = types.SimpleNamespace(**names)
            elif each.name == "*":
                self.scope |= names
            elif each.name in names:
                self.scope[each.asname or each.name] = names[each.name]
            elif source != "typing":
                raise Unreadable(f"from {source} import {each.name} in a test")

    def attempt(self, node: ast.Try) -> None:
        path, scope = self.path, self.scope
        if self.planning:
            before = dict(scope)
            handlers = [handler.body for handler in node.handlers]
            for part in (node.body, *handlers, node.orelse, node.finalbody):
                self.block(part)
            for name, value in scope.items():  # which part has set it is not known
                if name not in before or before[name] is not value:
                    scope[name] = Unknown()
            return
        try:
            try:
                self.block(node.body)
            except _Raised as raised:
                self.path, self.scope = path, scope
                for handler in node.handlers:
                    if _catches(handler.type, raised):
                        self.block(handler.body)
                        break
                else:
                    raise
            else:
                self.block(node.orelse)
        finally:
            self.block(node.finalbody)

    def expect(self, node: ast.With, call: ast.Call) -> None:
        """`with pytest.raises(ValueError): f(-1)`"""
        if ast.unparse(call.func) not in ("raises", "pytest.raises") or len(call.args) != 1:
            raise Unreadable(f"with {ast.unparse(call)[:60]} in a test")
        self.asserts += 1
        path, scope = self.path, self.scope
        try:
            self.block(node.body)
        except _Raised as raised:
            self.path, self.scope = path, scope
            if not _catches(call.args[0], raised):
                raise
            return
        if not self.planning:
            raise _Raised("Failed", "Exception", "BaseException")

    # -- expressions

    def value(self, node: ast.expr) -> Any:
        self.work -= 1
        if self.work < 0 or (
            not (self.planning or self.work % 16) and time.thread_time() > self.until
        ):
            raise Unreadable("a test that takes too long")
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self.name(node)
            case ast.List():
                return self.collected(list, self.values(node.elts))
            case ast.Tuple():
                return self.collected(tuple, self.values(node.elts))
            case ast.Set():
                return self.collected(set, self.values(node.elts))
            case ast.Dict():
                return self.paired(node)
            case ast.UnaryOp():
                do = _OPERATORS[type(node.op)]
                return self.either(node, do, do, _here(do), self.value(node.operand))
            case ast.BinOp():
                do = _OPERATORS[type(node.op)]
                sides = self.value(node.left), self.value(node.right)
                return self.either(node, do, do, _here(do), *sides)
            case ast.BoolOp():
                return self.decided(node)
            case ast.Compare():
                return self.compared(node)
            case ast.IfExp():
                condition = self.value(node.test)
                if isinstance(condition, Unknown):
                    self.values([node.body, node.orelse])
                    return Unknown()
                return self.value(node.body if condition else node.orelse)
            case ast.Subscript():
                owner, key = self.value(node.value), self.value(node.slice)
                if isinstance(owner, Unknown) and owner.items and isinstance(key, int):
                    return owner.items[key]
                getitem = operator.getitem
                return self.either(node, "getitem", "getitem", getitem, owner, key, asked=1)
            case ast.Slice():
                bounds = [part and self.value(part) for part in (node.lower, node.upper, node.step)]
                unknown = any(isinstance(bound, Unknown) for bound in bounds)
                return Unknown() if unknown else slice(*bounds)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Call():
                return self.call(node)
            case ast.Lambda():
                return _Function(self, node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self.comprehended(node)
        raise Unreadable(f"{type(node).__name__} in a test: {ast.unparse(node)[:60]}")

    def values(self, nodes: list[ast.expr]) -> list:
        values: list = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                values += self.iterated(node.value)
            else:
                values.append(self.value(node))
        return values

    def name(self, node: ast.Name) -> Any:
        if node.id in self.scope or not self.is_programs(node.id):
            return self.lookup(node.id)
        if not self.planning:
            return self.result(node, "name")
        if node.id not in self.defined and not node.id[:1].isupper():
            raise Unreadable(f"the name {node.id}, which the test does not define")
        self.names.add(node.id)
        value = self.step(node, "name", "name", [{"name": node.id}])
        value.own = True
        return value

    def is_programs(self, name: str) -> bool:
        return name in self.program or not (name in _BUILTINS or name.startswith("__"))

    def lookup(self, name: str) -> Any:
        """The value of a variable of the script's, or a builtin."""
        if name in self.scope:
            return self.scope[name]
        if name == "__name__":
            return "__main__"
        if name not in _PURE:
            raise Unreadable(f"{name} in a test")
        return _PURE[name]

    def collected(self, kind: type, values: list) -> Any:
        """A list, tuple or set; where it holds results, what stands for it."""
        if not any(isinstance(value, Unknown) for value in values):
            return kind(values)
        items = None if kind is set else values
        if any(isinstance(value, Unknown) and value.data is None for value in values):
            return Unknown(items=items)
        data = [self.operand(value) for value in values]
        pure = all(isinstance(value, Unknown) and value.pure for value in values)
        return Unknown(data if kind is list else {kind.__name__: data}, pure=pure, items=items)

    def paired(self, node: ast.Dict) -> Any:
        if None in node.keys:
            raise Unreadable("** in a test")
        keys, values = self.values([key for key in node.keys if key]), self.values(node.values)
        unknown = [each for each in (*keys, *values) if isinstance(each, Unknown)]
        if not unknown:
            return dict(zip(keys, values, strict=True))
        if any(each.data is None for each in unknown):
            return Unknown()
        data = [[self.operand(k), self.operand(v)] for k, v in zip(keys, values, strict=True)]
        return Unknown({"dict": data})

    def decided(self, node: ast.BoolOp) -> Any:
        """`and` and `or`; the plan has the calls of all parts that may matter."""
        unknown, value = False, None
        for part in node.values:
            value = self.value(part)
            if isinstance(value, Unknown):
                unknown = True
            elif not unknown and bool(value) is isinstance(node.op, ast.Or):
                return value
        return Unknown() if unknown else value

    def compared(self, node: ast.Compare) -> Any:
        unknown, left = False, self.value(node.left)
        for place, (op, part) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right, do = self.value(part), _OPERATORS[type(op)]
            # `in` asks its right side; what is compared with plain data never asks the program.
            pair = (right, left) if do == "contains" else (left, right)
            own = do == "contains" and isinstance(right, Unknown) and right.own
            holds = self.either(node, (do, place), do, getattr(operator, do), *pair, own=own)
            if isinstance(holds, Unknown):
                unknown = True
            elif bool(holds) is isinstance(op, ast.NotIn) and not unknown:
                return False
            left = right
        return Unknown() if unknown else True

    def attribute(self, node: ast.Attribute) -> Any:
        owner = self.value(node.value)
        if isinstance(owner, types.SimpleNamespace) and node.attr in vars(owner):
            return vars(owner)[node.attr]
        if isinstance(owner, Unknown) and owner.data is not None and not self.fixed:
            if node.attr.startswith("__") and node.attr != "__name__":
                raise Unreadable(f".{node.attr} in a test")
            return self.step(node, "get", "get", [owner.data, node.attr])
        if not self.planning and self.has(node, "get"):
            return self.result(node, "get")
        if node.attr in _FIELDS and isinstance(owner, int | float | complex | Unknown):
            return Unknown() if isinstance(owner, Unknown) else getattr(owner, node.attr)
        raise Unreadable(f"{ast.unparse(node)[:60]} in a test")

    # -- calls

    def call(self, node: ast.Call) -> Any:
        function = node.func
        if isinstance(function, ast.Name) and function.id not in self.scope:
            name, programs = function.id, self.is_programs(function.id)
            if programs or name in _INSIDE:
                values, keywords = self.arguments(node)
                self.names |= {name} if programs else set()
                callee = {"name" if programs else "source": name}
                return self.ask(node, callee, values, keywords, own=name[:1].isupper())
        if isinstance(function, ast.Attribute):
            owner = self.value(function.value)
            if not isinstance(owner, types.SimpleNamespace):
                return self.method(node, owner, function.attr, *self.arguments(node))
        callee = self.value(function)
        values, keywords = self.arguments(node)
        if isinstance(callee, Unknown | _Object):
            data = self.operand(callee) if self.planning else None
            return self.ask(node, data, values, keywords)
        if callee is map and isinstance(values[0], Unknown | _Object):
            return self.mapped(node, values)
        return self.pure(node, callee, values, keywords)

    def arguments(self, node: ast.Call) -> tuple[list, dict[str, Any]]:
        values = self.values(node.args)
        keywords: dict[str, Any] = {}
        for word in node.keywords:
            if word.arg is None:
                keywords |= self.known(self.value(word.value))
            else:
                keywords[word.arg] = self.value(word.value)
        return values, keywords

    def ask(
        self, node: ast.Call, callee: Any, values: list, keywords: dict, *, own: bool = False
    ) -> Any:
        """A call in the sandbox, after which the variables among its arguments are read again."""
        if self.planning:
            named = {name: self.operand(value) for name, value in keywords.items()}
            operands = [callee, *(self.operand(value) for value in values)]
            result = self.step(node, "call", "call", operands, named)
            result.own = own
        else:
            result = self.result(node, "call")
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        places: list[tuple[Any, ast.expr]] = [] if starred else list(enumerate(node.args, 1))
        places += [(word.arg, word.value) for word in node.keywords if word.arg]
        for place, argument in places:
            if isinstance(argument, ast.Name) and argument.id in self.scope:
                slot, value = ("argument", place), self.scope[argument.id]
                if not self.planning and self.has(node, slot):
                    self.scope[argument.id] = self.result(node, slot)
                elif self.planning and _may_change(value) and len(values) == len(node.args):
                    of = result.data["ref"]
                    self.scope[argument.id] = self.step(node, slot, "argument", [of, place])
        return result

    def method(self, node: ast.Call, owner: Any, name: str, values: list, keywords: dict) -> Any:
        """A method: of plain data here, of an object in the sandbox."""
        if name.startswith("__"):
            raise Unreadable(f".{name}() in a test")
        unknown = any(isinstance(each, Unknown) for each in (owner, *values, *keywords.values()))
        plain = name in _PLAIN_METHODS
        if not self.planning:
            if self.has(node, "own") or (self.has(node, "call") and not _has_method(owner, name)):
                return self.ask(node, None, values, keywords)
            return _call_method(owner, name, values, keywords)
        if isinstance(owner, Unknown):
            inside = owner.own or (owner.data is not None and name not in _TELLING)
            if inside and not (self.fixed and plain):
                got = self.step(node, "own" if owner.own else "get", "get", [owner.data, name])
                return self.ask(node, got.data, values, keywords)
            if not plain:
                raise Unreadable(f"{ast.unparse(node)[:60]} in a test")
        elif not unknown:
            return _call_method(owner, name, values, keywords)
        elif name in _CHANGING and isinstance(node.func, ast.Attribute):
            self.forget(node.func.value)
        elif not _has_method(owner, name):
            raise Unreadable(f"{ast.unparse(node)[:60]} in a test")
        return Unknown()

    def pure(self, node: ast.Call, function: Any, values: list, keywords: dict) -> Any:
        """A call of a builtin, of a module's function, or of one of the script's own."""
        everything = (*values, *keywords.values())
        if isinstance(function, _Function):
            return self.call_own(function, values, keywords)
        name = getattr(function, "__name__", "")
        if not self.planning or not any(isinstance(each, Unknown) for each in everything):
            if not keywords:
                return self.either(node, "call", name, partial(_call, function), *values)
            return _call(function, *values, **keywords)
        for each in everything:
            if isinstance(each, _Function) and not each.names() <= _PURE.keys():
                raise Unreadable("a function that calls the program's for each item of a result")
        if not keywords and name in _SOURCES:
            return self.either(node, "call", name, function, *values, own=False)
        return Unknown()

    def mapped(self, node: ast.Call, values: list) -> Any:
        """`map` of a function of the program's over known values: a call each."""
        path, results = self.path, []
        for turn, arguments in enumerate(zip(*map(self.known, values[1:]), strict=False)):
            self.path = (*path, turn)
            if self.planning:
                operands = [self.operand(each) for each in (values[0], *arguments)]
                results.append(self.step(node, "call", "call", operands))
            else:
                results.append(self.result(node, "call"))
        self.path = path
        return self.collected(list, results) if self.planning else iter(results)

    def call_own(self, function: _Function, values: Any, keywords: dict) -> Any:
        node, path, scope = function.node, self.path, self.scope
        names = [argument.arg for argument in node.args.args]
        if node.args.vararg or node.args.kwarg or node.args.kwonlyargs or len(values) > len(names):
            raise Unreadable("the parameters of a test's own function")
        defaults = zip(reversed(names), reversed(node.args.defaults), strict=False)
        bound = {name: self.value(default) for name, default in defaults}
        bound |= dict(zip(names, values, strict=False)) | keywords
        if bound.keys() != set(names):
            raise Unreadable("the arguments of a test's own function")
        turn = self.calls[id(node), path] = self.calls[id(node), path] + 1
        self.path, self.scope = (*path, id(node), turn), {**function.scope, **bound}
        try:
            if isinstance(node, ast.Lambda):
                return self.value(node.body)
            self.block(node.body)
            return None
        except _Return as returned:
            return returned.value
        finally:
            self.path, self.scope = path, scope

    # -- comprehensions

    def comprehended(self, node: Any) -> Any:
        if not self.planning:
            items = self.elements(node, 0)
            if isinstance(node, ast.GeneratorExp):
                return items
            kinds = {ast.ListComp: list, ast.SetComp: set, ast.DictComp: dict}
            return kinds[type(node)](items)
        loose, self.loose = self.loose, False
        values = list(self.elements(node, 0))
        loose, self.loose = self.loose, loose
        if loose:
            return Unknown()
        if isinstance(node, ast.DictComp):
            unknown = any(isinstance(each, Unknown) for pair in values for each in pair)
            return Unknown() if unknown else dict(values)
        whole = self.collected(set if isinstance(node, ast.SetComp) else list, values)
        return (
            iter(whole) if isinstance(node, ast.GeneratorExp) and isinstance(whole, list) else whole
        )

    def elements(self, node: Any, depth: int) -> Iterator:
        """The elements, worked out one by one; in between, the consumer's place is restored."""
        consumer = self.path, self.scope
        if depth == len(node.generators):
            if isinstance(node, ast.DictComp):
                yield self.value(node.key), self.value(node.value)
            else:
                yield self.value(node.elt)
            return
        path, scope = consumer
        part, fixed = node.generators[depth], self.fixed
        items = self.value(part.iter)
        if isinstance(items, Unknown):
            if items.items is None:
                self.fixed = self.loose = True
                items = [Unknown()]
            else:
                items = items.items
        for turn, item in enumerate(items):
            self.path, self.scope = (*path, turn), dict(scope)
            self.assign(part.target, item)
            if self.chosen(part.ifs):
                for element in self.elements(node, depth + 1):
                    self.path, self.scope = consumer
                    yield element
                    consumer = self.path, self.scope
        self.fixed = fixed
        self.path, self.scope = consumer

    def chosen(self, conditions: list[ast.expr]) -> bool:
        for condition in conditions:
            value = self.value(condition)
            if isinstance(value, Unknown):
                self.loose = True
            elif not value:
                return False
        return True


def _may_change(value: Any) -> bool:
    """Whether a call may change what a variable holds."""
    if isinstance(value, Unknown):
        return value.data is not None and not value.own
    return isinstance(value, list | dict | set | bytearray)


def _catches(kind: ast.expr | None, raised: _Raised) -> bool:
    """Whether `except kind` catches an exception."""
    if isinstance(kind, ast.Tuple):
        return any(_catches(each, raised) for each in kind.elts)
    return kind is None or ast.unparse(kind).rpartition(".")[2] in raised.kinds


def _has_method(owner: Any, name: str) -> bool:
    kind = next((kind for kind in type(owner).__mro__ if kind in _METHODS), None)
    return kind is not None and name in _METHODS[kind]


def _call_method(owner: Any, name: str, values: list, keywords: dict) -> Any:
    """A method of plain data, unless it may build something huge."""
    if not _has_method(owner, name):
        raise Unreadable(f"the method {name} of a {type(owner).__name__}")
    sizes = [len(each) for each in (owner, *values) if hasattr(each, "__len__")]
    numbers = [each for each in (*values, *keywords.values()) if isinstance(each, int)]
    if name in ("replace", "join"):
        _limit(math.prod(size + 1 for size in sizes), MAX_LENGTH * 10)
    elif name in ("center", "ljust", "rjust", "zfill", "choices", "sample"):
        _limit(max(numbers, default=0), MAX_LENGTH)
    _limit(sum(sizes), MAX_LENGTH)
    return getattr(owner, name)(*values, **keywords)


def _call(function: Any, *values: Any, **keywords: Any) -> Any:
    """A builtin or a module's function, unless it may build something huge or take long."""
    numbers = [each for each in (*values, *keywords.values()) if isinstance(each, int)]
    if function in (bytes, bytearray):
        _limit(max(map(abs, numbers[-1:]), default=0), MAX_LENGTH)
    elif function is round and len(values) + len(keywords) == 2:
        _limit(max(map(abs, numbers[-1:]), default=0), MAX_DIGITS)
    elif function is pow and len(values) + len(keywords) == 2:
        return _here("pow")(*values, *keywords.values())
    elif function is pow:
        _limit(sum(number.bit_length() for number in numbers), MAX_MODULAR_BITS)
    elif function in (iter, type) and len(values) != 1:
        raise Unreadable(f"{function.__name__} with {len(values)} arguments")
    elif function is sum and len(values) + len(keywords) == 2:
        _limit(len(values[0]), 1000)
    result = function(*values, **keywords)
    if isinstance(result, range):
        _limit(len(result), MAX_LENGTH)
    return result


def _here(do: str) -> Callable:
    """An operation on plain data, unless its result is huge."""

    def work(*values: Any) -> Any:
        if do in ("pow", "mul", "lshift", "add", "mod") and len(values) == 2:
            left, right = values
            lengths = [len(each) for each in values if hasattr(each, "__len__")]
            if all(isinstance(each, int) for each in values):
                bits = left.bit_length()
                size = {"pow": bits * right, "lshift": bits + right}.get(do, 0)
                _limit(size if bits > 1 or do != "pow" else 0, MAX_BITS)
                _limit(bits + right.bit_length(), MAX_BITS)
            elif do == "mod" and isinstance(left, str | bytes | bytearray):
                raise Unreadable("% of a text in a test")
            elif do == "mul" and lengths:
                _limit(lengths[0] * (right if isinstance(right, int) else left), MAX_LENGTH)
            _limit(sum(lengths), MAX_LENGTH)
        return getattr(operator, do)(*values)

    return work


def _limit(size: int, most: int) -> None:
    if size > most:
        raise Unreadable("a test that builds something huge")
