"""How long may a regular expression take? An upper bound, from its form and the text's length.

Python's matcher tries every way to divide a text among the repeats of a pattern, cannot be
interrupted, and holds every thread meanwhile. The bound multiplies the choices of each repeat and
alternative; a repeat of something that itself leaves a choice is without bound.
"""

import math
import re
from re import _constants as ops  # type: ignore[attr-defined]  # typeshed leaves re's parts out
from re import _parser  # type: ignore[attr-defined]
from typing import Any

_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


def steps(pattern: str, length: int) -> float:
    """At most so many ways to try a pattern on `length` characters; re.error if it is none.

    >>> steps("^[a-z]+$", 100), steps("^(a+)+$", 100), steps("x", 100)
    (100.0, inf, 100.0)
    """
    re.compile(pattern)
    tree = _parser.parse(pattern)
    anchored = len(tree) > 0 and tree[0][0] is ops.AT and tree[0][1] is ops.AT_BEGINNING
    return float(_ways(tree, length) * (1 if anchored else length))


def _ways(tree: Any, length: int) -> float:
    return math.prod(_choices(op, argument, length) for op, argument in tree)


def _choices(op: Any, argument: Any, length: int) -> float:
    if op in _REPEATS:
        low, high, body = argument
        inner, most = _ways(body, length), min(int(high), length)
        if inner > 1 and most > 1:
            return math.inf
        return max(1, most - low + 1) * inner
    if op is ops.BRANCH:
        return sum(_ways(branch, length) for branch in argument[1])
    if op is ops.SUBPATTERN:
        return _ways(argument[-1], length)
    if op in (ops.ASSERT, ops.ASSERT_NOT):
        return _ways(argument[1], length)
    if op is ops.ATOMIC_GROUP:
        return _ways(argument, length)
    if op is ops.GROUPREF:
        return max(1, length)
    if op is ops.GROUPREF_EXISTS:
        return sum(_ways(branch, length) for branch in argument[1:] if branch)
    return 1
