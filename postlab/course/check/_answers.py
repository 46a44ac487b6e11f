"""Wrong answers to an exercise, each a small edit of a right one.

A mistake is written once, as text that a person can read: `(logps * mask).sum() -> logps.sum()`
says what a learner wrote instead. The check runs the edited answer beside the learner's, and two
mistakes can be made at once. The right answer is normalised first (no docstring, annotations or
comments; spacing as `ast.unparse` has it), so an edit doesn't depend on how that is formatted.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ARROW = " -> "


@dataclass(frozen=True)
class Mistake:
    """A mistake that people make, with one or more wrong answers that make it.

    Args:
        code: of the diagnosis.
        looks: to go on from "It looks as if …".
        ways: the wrong answers: each one or more edits of the right answer, in order. An edit is
            "old -> new", which replaces every occurrence, or a whole function from its "def" on.
    """

    code: str
    looks: str
    ways: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class WrongAnswer:
    """The text of a wrong answer, and the mistakes in it; at an edge they have no names."""

    mistakes: tuple[Mistake, ...]
    text: str

    def function(self, names: dict[str, Any]) -> Callable[..., Any]:
        """The answer as a function whose globals are `names`."""
        space: dict[str, Any] = {}
        exec(compile(self.text, "<wrong answer>", "exec"), names, space)
        return next(reversed(space.values()))


def mistakes(text: str) -> tuple[Mistake, ...]:
    """Mistakes from their text, one in each paragraph.

    A paragraph opens with the code and what it looks as if; "- " begins a way and "+ " a further
    edit of it. A function goes on over the lines below its "def".

    >>> mistakes("sign: it is negated\\n- return x -> return -x\\n+ x = a -> x = a + 1")[0].ways
    (('return x -> return -x', 'x = a -> x = a + 1'),)
    """
    parsed = []
    for paragraph in text.strip().split("\n\n"):
        head, *ways = re.split(r"^- ", paragraph, flags=re.MULTILINE)
        code, looks = " ".join(head.split()).split(": ", 1)
        edits = (way.split("\n+ ") for way in ways)
        parsed.append(Mistake(code, looks, tuple(tuple(map(str.rstrip, way)) for way in edits)))
    return tuple(parsed)


def source(function: Callable[..., Any]) -> str:
    """A function's text without docstring, annotations and comments.

    >>> print(source(source).splitlines()[0])
    def source(function):
    """
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef), f"{function} is not a plain function"
    if ast.get_docstring(node) is not None:
        del node.body[0]
    node.returns = None
    for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        argument.annotation = None
    return ast.unparse(node)


def edited(text: str, edits: Sequence[str]) -> str | None:
    """A text after some edits, None where one of them finds nothing to replace.

    >>> edited("return a + b", ["a + b -> a - b"]), edited("return a", ["c -> d"])
    ('return a - b', None)
    """
    for edit in edits:
        if edit.startswith("def "):
            text = edit
            continue
        old, new = edit.split(ARROW)
        if old not in text:
            return None
        text = text.replace(old, new)
    return text


def is_python(text: str) -> bool:
    """Whether a text can be compiled: two edits that are fine alone may not be together.

    >>> is_python("a = 1"), is_python("a = 1.flatten()")
    (True, False)
    """
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
