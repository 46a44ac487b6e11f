r"""math-verify behind a fence: short text of known symbols, and bounded work, in any thread.

math-verify's own timeout is a signal: it fails outside the main thread and takes SIGALRM from
whoever uses it. Here a profile hook of the calling thread counts function calls and stops at a
limit, so nothing outlives the call and no thread or process is made. The hook cannot interrupt one
long operation in C, which is why powers, digits and nesting are limited before anything is parsed;
Python's eval is never reached.
"""

import logging
import re
import sys
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

# For reading or comparing one expression: under a second. Ordinary ones take 1,000 to 1,000,000.
# Calls and not seconds, so that a busy machine gives the same rewards as an idle one.
MAX_CALLS = 2_000_000
MAX_CHARS = 200
MAX_DIGITS = 30
MAX_DEPTH = 5  # math-verify's parser needs a second for ten nested parentheses

_ALPHABET = re.compile(r"[0-9A-Za-z\s+\-*/^_=<>.,:;(){}\[\]|&\\]*")
_COMMANDS = frozenset(
    re.findall(
        r"\w+",
        "frac dfrac tfrac sqrt pi cdot times div pm infty le leq ge geq lt gt ne neq cup cap in "
        "sin cos tan cot sec csc arcsin arccos arctan ln log exp "
        "alpha beta gamma theta lambda mu phi begin end",
    )
)
_FUNCTIONS = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|arc[a-z]+|ln|log|exp)")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{([pb]?matrix)\}")
# One small exponent, with the bracket before it if it is a bracket's, and no power on top of it.
_EXPONENT = re.compile(
    r"([)}\]]?)\s*\^\s*(?:(-?[0-9]{1,3}|[A-Za-z])(?![0-9])|[{(]\s*(-?[0-9]{1,3}|-?[0-9]?[A-Za-z]"
    r"(?:[+-][0-9]{1,2})?|[0-9]{1,2}/[0-9]{1,2}|\\frac\{[0-9]{1,2}\}\{[0-9]{1,2}\})\s*[)}])"
    r"(?!\s*\^)"
)
_STOP_WORDS = frozenset(re.findall(r"\w+", "or to no is of if an in at by on as it we so"))


class _TooLong(BaseException):
    """Derived from BaseException, or sympy's own `except Exception` would swallow it."""


def read_latex(text: str) -> tuple | None:
    """math-verify's expressions for a text; None where it is unsafe, unreadable or too long.

    >>> read_latex("2x+1"), read_latex("9^9^9^9"), read_latex("I do not know")
    ((2*x + 1,), None, None)
    """
    text = text.replace("**", "^")
    if not _is_safe(text):
        return None
    parse, config = _parser()

    def read() -> tuple:
        return tuple(
            parse(
                f"${text}$",
                extraction_config=[config],
                fallback_mode="no_fallback",
                parsing_timeout=None,
            )
        )

    return bounded(read) or None


def same_latex(predicted: tuple, gold: tuple) -> bool:
    """Whether math-verify finds two readings equal within the limit; False when it cannot tell."""
    from math_verify import verify

    def compare() -> bool:
        if len(predicted) == len(gold) == 1 and _differ_at_a_point(predicted[0], gold[0]):
            return False
        return verify(list(gold), list(predicted), timeout_seconds=None)

    return bool(bounded(compare))


def _differ_at_a_point(a: Any, b: Any) -> bool:
    """Whether two expressions differ at one arbitrary point, so that simplifying is needless."""
    from sympy import Expr

    if not (isinstance(a, Expr) and isinstance(b, Expr)):
        return False
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    point = {symbol: 0.6180339887 + 0.2360679775 * k for k, symbol in enumerate(symbols)}
    try:
        at_a, at_b = (complex(each.evalf(15, subs=point)) for each in (a, b))
    except (TypeError, ValueError, OverflowError):
        return False
    return abs(at_a - at_b) > 1e-5 * max(abs(at_a), abs(at_b))


def _is_safe(text: str) -> bool:
    if not text or len(text) > MAX_CHARS or not _ALPHABET.fullmatch(text):
        return False
    bare = _ENVIRONMENT.sub(" ", text).replace("\\\\", " ")  # rows of a matrix
    commands = re.findall(r"\\([A-Za-z]+)", bare)
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", bare))
    return (
        _COMMANDS.issuperset(commands)
        and not any(len(word) > 2 or word.lower() in _STOP_WORDS for word in words)
        and not re.search(rf"[0-9]{{{MAX_DIGITS + 1}}}|[0-9]\s+[0-9]|(?:[-+]\s*){{3}}", text)
        and len(_FUNCTIONS.findall(text)) <= 3
        and _depth(text) <= MAX_DEPTH
        and _powers_are_small(text)
    )


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        deepest = max(deepest, depth)
    return deepest


def _powers_are_small(text: str) -> bool:
    """No tower of powers; nested exponents multiply to 1000 at most, to 100 with symbols."""
    exponents = list(_EXPONENT.finditer(text))
    if len(exponents) != text.count("^") or len(exponents) > 8:
        return False
    sizes = [(m[1], max([1, *map(int, re.findall(r"[0-9]+", m[2] or m[3]))])) for m in exponents]
    nested = prod(size for bracket, size in sizes if bracket)
    plain = max((size for bracket, size in sizes if not bracket), default=1)
    symbolic = re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text))
    return nested * plain <= (100 if symbolic else 1000)


def bounded(work: Callable[[], Any]) -> Any:
    """The result of work, or None if it raised or made more than MAX_CALLS calls and returns."""
    if sys.getprofile() is not None:  # somebody is profiling: the fence alone must do
        return _quiet(work)
    left = MAX_CALLS

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooLong

    sys.setprofile(watch)
    try:
        return _quiet(work)
    except _TooLong:
        return None
    finally:
        sys.setprofile(None)


def _quiet(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception:  # on hostile text a parser raises anything, always meaning: unreadable
        return None


@cache
def _parser() -> tuple[Callable, Any]:
    from math_verify import LatexExtractionConfig, parse

    # It warns once that its timeout is off; ours is on.
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = LatexExtractionConfig()
    # The first parse builds the grammar's tables, which shall not count against an answer's budget.
    parse(r"$y=\frac{(x+1)^2}{\sqrt{3}}-2,5$", extraction_config=[config], parsing_timeout=None)
    return parse, config
