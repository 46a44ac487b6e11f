r"""math-verify behind a fence: short text of known symbols, and bounded work, in any thread.

math-verify's own timeout is a signal: it fails outside the main thread and takes SIGALRM from
whoever uses it. Here a profile hook of the calling thread counts function calls and stops at a
limit, so nothing outlives the call and no thread or process is made. The hook cannot interrupt one
long operation in C, and `exp(exp(exp(14)))` is one: so the hook also looks at the few functions
through which sympy asks for large numbers, and stops before they start. Python's eval is never
reached.
"""

import inspect
import logging
import re
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

# For reading one answer; comparing it gets a little less. Together that is under half a second.
# Ordinary ones take 1,000 to 200,000.
# Calls and not seconds, so that a busy machine gives the same rewards as an idle one.
MAX_CALLS = 800_000
MAX_BITS = 10_000  # of a number that is worked out
MAX_CHARS = 300
MAX_DIGITS = 30
MAX_DEPTH = 6  # math-verify's parser needs a second for ten nested parentheses

_ALPHABET = re.compile(r"[0-9A-Za-z\s+\-*/^_=<>.,:;!%(){}\[\]|&\\']*")
_COMMANDS = frozenset(
    re.findall(
        r"\w+",
        "frac sqrt binom pi cdot times div pm mp infty infinity le ge lt gt ne neq cup cap in "
        "notin setminus mid lfloor rfloor lceil rceil lvert rvert vert emptyset varnothing "
        "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp "
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu "
        "xi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi "
        "Psi Omega ell hbar begin end overline bar vec hat overrightarrow mathbb approx circ prime",
    )
)
_FUNCTIONS = re.compile(r"\\(?:sinh?|cosh?|tanh?|cot|sec|csc|arc[a-z]+|ln|log|exp|Gamma)(?![a-z])")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{([pbvBV]?matrix)\}")
_STOP_WORDS = frozenset(re.findall(r"\w+", "or to no is of if an in at by on as it we so and the"))
_BARE_FUNCTION = re.compile(
    r"(?<![A-Za-z\\])(sqrt|sinh?|cosh?|tanh?|cot|sec|csc|arc(?:sin|cos|tan)|ln|log|exp|pi|infinity)"
    r"(?![A-Za-z])"
)
_PRIMES = re.compile(r"\^\{(?:\\prime ?)+\}")
_PRIMED = re.compile(r"([A-Za-z])(?:_\{([^{}]*)\})?('+)")
_DERIVATIVE = re.compile(r"\\frac\{d([A-Za-z])\}\{d([A-Za-z])\}")
_SPACE = re.compile(r" (?![0-9A-Za-z])|(?<![0-9A-Za-z]) |(?<=[0-9]) (?=[A-Za-z])")
_CLOSERS = {"{": "}", "(": ")", "[": "]"}


_STOPPED = object()


class _TooLong(BaseException):
    """Derived from BaseException, or sympy's own `except Exception` would swallow it."""


def read_latex(text: str) -> Any:
    """math-verify's expression for a formula; None where it is unsafe, unreadable or too long.

    >>> read_latex("2x+1"), read_latex("9^9^9^9"), read_latex("I do not know")
    (2*x + 1, None, None)
    """
    formula = canonical(text)
    if formula is None or not _is_safe(formula):
        return None
    _parser()  # loading it is not the answer's work
    return bounded(lambda: _expression(formula), MAX_CALLS)


@lru_cache(maxsize=8192)
def canonical(text: str) -> str | None:
    r"""A formula as TeX reads it: arguments in braces, spaces only where they separate.

    >>> canonical(r"\frac 12 x ^ 2"), canonical("sqrt(x + 1)")
    ('\\frac{1}{2}x^{2}', '\\sqrt{x+1}')
    """
    if len(text) > MAX_CHARS:
        return None
    formula = braced(_BARE_FUNCTION.sub(r"\\\1 ", text.replace("**", "^")))
    if formula is None:
        return None
    formula = _SPACE.sub("", formula)
    if "'" in formula or "prime" in formula or "{d" in formula:
        # Symbols of their own: math-verify drops a prime, and takes dy/dx for 0.
        formula = _PRIMES.sub(lambda found: "'" * found[0].count("\\"), formula)
        formula = _PRIMED.sub(lambda m: f"{m[1]}_{{{m[2] or ''}{'p' * len(m[3])}}}", formula)
        formula = _DERIVATIVE.sub(r"\1_{d\2}", formula)
    return formula


@lru_cache(maxsize=8192)
def _expression(formula: str) -> Any:
    from sympy import nan, zoo

    expression = _parser()(formula)
    return None if expression.has(nan, zoo) else expression


def limited(work: Callable[[], Any], share: float = 1.0) -> Any:
    """The result of work that reads and compares formulas, or None if it raised.

    Raises:
        TimeoutError: where it made more calls than its share of the limit of one answer.
    """
    _parser()  # loading it is not the answer's work
    outcome = bounded(lambda: (work(),), int(share * MAX_CALLS), stopped=_STOPPED)
    if outcome is _STOPPED:
        raise TimeoutError
    return outcome and outcome[0]


def same_latex(predicted: Any, gold: Any) -> bool:
    """Whether math-verify finds two expressions equal within the limit; False if it can't tell."""
    from math_verify import verify
    from sympy import Eq

    def compare() -> bool:
        a, b = predicted, gold
        if isinstance(a, Eq) and isinstance(b, Eq) and _same_at_points(b.lhs, b.rhs):
            a, b = a.rhs, b.rhs  # ln e = 1 gives a value; verify is content with the same left side
        same = _same_at_points(a, b)
        return verify(b, a, timeout_seconds=None) if same is None else same

    return bool(bounded(compare, MAX_CALLS))


def _same_at_points(a: Any, b: Any) -> bool | None:
    """Whether two expressions agree at arbitrary points; None where that decides nothing."""
    from sympy import Eq, Expr, Float

    equations = isinstance(a, Eq) and isinstance(b, Eq)
    if equations:
        a, b = a.lhs - a.rhs, b.lhs - b.rhs
    if not (isinstance(a, Expr) and isinstance(b, Expr)):
        return None
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    rounded = a.has(Float) or b.has(Float)  # only verify knows what a rounded number may stand for
    ratios = []
    for shift in (0.6180339887, 2.2360679775, -1.4142135624)[: 3 if symbols else 1]:
        # No two symbols keep their distance or ratio from point to point: x=y is not x=y+1.
        point = {s: shift * 1.2360679775**k + 0.3819660113 * k * k for k, s in enumerate(symbols)}
        try:
            at_a, at_b = (complex(each.evalf(15, subs=point)) for each in (a, b))
        except (TypeError, ValueError, OverflowError):
            return None
        if not all(1e-200 < abs(each) < 1e200 for each in (at_a, at_b)):  # also nan
            if not equations and 1e-9 < abs(at_a - at_b) < 1e200:
                return False
            continue
        ratios.append(at_a / at_b)
        expected = ratios[0] if equations else 1  # 2x=4y is x=2y
        if abs(ratios[-1] - expected) > (1e-5 if rounded else 1e-9) * abs(expected):
            # Of negative numbers roots are a matter of taste, and verify can solve equations.
            return None if equations or shift < 0 else False
    enough = len(ratios) > (1 if equations else 0)
    return True if enough and not rounded else None


def braced(text: str) -> str | None:
    r"""A formula with every argument in braces, as TeX reads it; None where brackets don't match.

    >>> braced(r"\frac12 + \frac{270}7 + \sqrt3 + \sqrt(x+1) + 2^10 + x_1")
    '\\frac{1}{2} + \\frac{270}{7} + \\sqrt{3} + \\sqrt{x+1} + 2^{10} + x_{1}'
    """
    parts, i = [], 0
    while i < len(text):
        command = re.compile(r"\\(?:[A-Za-z]+|.)|[\^_]").match(text, i)
        if not command:
            parts.append(text[i])
            i += 1
            continue
        name, i = command[0], command.end()
        parts.append(name)
        if name == "\\sqrt" and (root := re.compile(r"\s*\[([^\[\]]*)\]").match(text, i)):
            parts.append(f"[{root[1]}]")
            i = root.end()
        arguments = {"\\frac": 2, "\\binom": 2, "\\sqrt": 1, "^": 1, "_": 1}.get(name, 0)
        for _ in range(arguments):
            read = _argument(text, i, name)
            if read is None:
                return None
            argument, i = read
            inner = braced(argument)
            if inner is None:
                return None
            parts.append("{" + inner + "}")
    return "".join(parts)


def _terms(text: str) -> list[tuple[str, str]]:
    """The terms of a sum with their signs: the parser's time grows faster than the length."""
    terms, depth, start, sign, before = [], 0, 0, "+", ""
    for token in re.finditer(r"\\[A-Za-z]+|\\.|\S", text):
        if (
            token[0] in "+-"
            and not depth
            and before
            and before not in "*/^_=("
            and (before not in ("\\cdot", "\\times", "\\div", "\\pm", "\\mp"))
        ):
            terms.append((sign, text[start : token.start()].strip()))
            start, sign = token.end(), token[0]
        depth += (token[0] in "({[") - (token[0] in ")}]")
        if "|" in token[0] or token[0] in ("\\begin", "<", ">", ",", ";"):
            return [("+", text)]
        before = "" if token[0] in "+-" else token[0]
    return [*terms, (sign, text[start:].strip())]


def _argument(text: str, i: int, name: str) -> tuple[str, int] | None:
    """The argument that starts at i, without its brackets, and where it ends."""
    while i < len(text) and text[i].isspace():
        i += 1
    opener = text[i : i + 1]
    if opener == "{" or (opener == "(" and name in ("\\sqrt", "^")):
        depth = 0
        for k in range(i, len(text)):
            depth += (text[k] == opener) - (text[k] == _CLOSERS[opener])
            if not depth:
                return text[i + 1 : k], k + 1
        return None
    # A whole number after ^, because models write 2^10; one digit after \frac, as in TeX.
    token = re.compile(
        r"\\[A-Za-z]+|[-+]?[0-9]+|[-+]?\\?[A-Za-z]" if name == "^" else r"\\[A-Za-z]+|[0-9A-Za-z]"
    ).match(text, i)
    if not token:
        return None
    if token[0] in ("\\frac", "\\sqrt"):  # e^\frac{1}{2}: with arguments of its own
        end = token.end()
        for _ in range(2 if token[0] == "\\frac" else 1):
            read = _argument(text, end, token[0])
            if read is None:
                return None
            end = read[1]
        return text[i:end], end
    return token[0], token.end()


def _is_safe(text: str) -> bool:
    if not text or len(text) > 2 * MAX_CHARS or not _ALPHABET.fullmatch(text):
        return False
    bare = _ENVIRONMENT.sub(" ", text).replace("\\\\", " ")  # rows of a matrix
    commands = re.findall(r"\\([A-Za-z]+)", bare)
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", bare))
    return (
        _COMMANDS.issuperset(commands)
        and not any(len(word) > 4 or word in _STOP_WORDS for word in words)
        and not re.search(r"(?<![A-Za-z\\])[A-Za-z]{2,} +[A-Za-z]{2,}", bare)  # a sentence
        and not re.search(rf"[0-9]{{{MAX_DIGITS + 1}}}|[0-9]\s+[0-9]|(?:[-+]\s*){{3}}", text)
        and not re.search(r"!\s*!|[)}\]]\s*!|[0-9]{4}\s*!|\)_", text)
        and len(_FUNCTIONS.findall(text)) <= 8
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
    nested, plain, count = 1, 1, 0
    for power in re.finditer(r"([)}\]]?)\s*\^\{", text):
        read = _argument(text, power.end() - 1, "^")
        if read is None or "^" in read[0] and re.search(r"\^\{[^{}]*\^", read[0]):
            return False
        if text[read[1] :].lstrip()[:1] == "^":
            return False
        size = max([1, *map(int, re.findall(r"(?<![0-9.])[0-9]+", read[0])[:20])])
        count += 1
        if size > MAX_BITS:
            return False
        nested, plain = (nested * size, plain) if power[1] else (nested, max(plain, size))
    symbolic = re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text))
    return count <= 20 and nested <= (100 if symbolic else 1000)


def bounded(work: Callable[[], Any], max_calls: int = 2_000_000, stopped: Any = None) -> Any:
    """The result of work, None if it raised, and stopped if it had to be: too many calls, or a
    huge number. Within another's limit that one holds.
    """
    if sys.getprofile() is not None:  # somebody is profiling: the fence alone must do
        return _quiet(work)
    left = max_calls

    def watch(frame: Any, event: str, argument: Any) -> None:
        nonlocal left
        left -= 1
        if event not in ("call", "c_call"):
            return
        # Python drops a hook that raises, and ignores what is raised while a generator is closed.
        if left < 0 and not frame.f_code.co_flags & inspect.CO_GENERATOR:
            raise _TooLong
        is_huge = _WATCHED.get(frame.f_code.co_name) if event == "call" else None
        if is_huge and is_huge(frame.f_locals):
            raise _TooLong

    sys.setprofile(watch)
    try:
        return _quiet(work)
    except _TooLong:
        return stopped
    finally:
        sys.setprofile(None)


def _quiet(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception:  # on hostile text a parser raises anything, always meaning: unreadable
        return None


def _huge_magnitude(arguments: dict) -> bool:
    """Of mpmath's exp and cos: x is (sign, mantissa, exponent, bits of the mantissa)."""
    x = arguments.get("x")
    return isinstance(x, tuple) and len(x) == 4 and x[2] + x[3] > 64


def _huge_power(arguments: dict) -> bool:
    base: Any = arguments.get("self")
    exponent: Any = arguments.get("expt", arguments.get("other"))
    if not hasattr(base, "p") or not hasattr(exponent, "p"):
        return False
    bits = max(abs(base.p), base.q).bit_length()
    return bits * abs(exponent.p) > MAX_BITS * exponent.q


def _huge_argument(arguments: dict) -> bool:
    """Of factorial, gamma and binomial, whose value sympy works out at once."""
    if getattr(arguments.get("cls"), "__name__", "") not in ("factorial", "gamma", "binomial"):
        return False
    return any(abs(getattr(n, "p", 0)) > 1000 for n in arguments.values())


# The functions of sympy and mpmath through which a short formula becomes a huge number.
_WATCHED: dict[str, Callable[[dict], bool]] = {
    "evalf": lambda arguments: arguments.get("prec", 0) > MAX_BITS,
    "mpf_exp": _huge_magnitude,
    "mpf_cos_sin": _huge_magnitude,
    "mpf_cosh_sinh": _huge_magnitude,
    "_eval_power": _huge_power,
    "__pow__": _huge_power,
    "eval": _huge_argument,
}


@cache
def _parser() -> Callable[[str], Any]:
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
    from math_verify import verify
    from math_verify.parser import should_treat_as_complex
    from sympy import Add, Eq, Expr, Mul

    # verify warns once that its timeout is off; ours is on.
    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Units, boxes and loose arguments are read before: math-verify takes the t of 5t for tonnes.
    config = NormalizationConfig(basic_latex=True, units=False, nits=True, boxed="none")

    class Simple(_Latex2Sympy):
        """Predicts without the context: ten times faster, right or an error, as ANTLR advises."""

        def create_parser(self, latex_str: str) -> Any:
            parser = super().create_parser(latex_str)
            parser._interp.predictionMode = PredictionMode.SLL
            return parser

    @lru_cache(maxsize=8192)
    def parse_whole(text: str, real: bool) -> Any:
        try:
            return Simple(is_real=real).parse(text)
        except Exception:
            return _Latex2Sympy(is_real=real).parse(text)

    def parse_sum(text: str, real: bool) -> Any:
        terms = _terms(text)
        if len(terms) > 1:
            parsed = [(sign, parse_whole(term, real)) for sign, term in terms]
            if all(isinstance(term, Expr) for _, term in parsed):
                signed = [t if sign == "+" else Mul(-1, t, evaluate=False) for sign, t in parsed]
                return Add(*signed, evaluate=False)
        return parse_whole(text, real)

    def parse(text: str) -> Any:
        text = normalize_latex(text, config)
        real = not should_treat_as_complex(text)
        left, equals, right = text.partition("=")
        if (
            equals
            and left
            and right
            and not re.search(r"[=<>,]|\\(?:in|[lg][et]|ne)", left + right)
        ):
            sides = [parse_sum(side.strip(), real) for side in (left, right)]
            if all(isinstance(side, Expr) for side in sides):
                return Eq(*sides, evaluate=False)
        return parse_sum(text, real)

    # First parses build the grammar's tables, which shall not count against an answer's budget.
    for text in _FIRST:
        parse(text)
    verify(parse("2-x"), parse("x-1"), timeout_seconds=None)
    verify(parse(r"1\le x\le 2"), parse("[1,2]"), timeout_seconds=None)
    return parse


# Between them most of what answers are made of.
_FIRST = [
    r"x^{1/2}(\frac{e^{2x}}{2}+c_{1}+c_{2}e^{x})",
    r"\frac{5a^{2}+7a-3}{9(a-1)(a+2)^{3}}",
    r"-2y\sqrt[3]{2m^{2}p}\cdot\frac{\sqrt{3}}{2}\pi",
    r"\ln|2x-3|\sin^{2}(3x)\cos 2x",
    r"\frac{n(n+1)}{2}\binom{n}{k}",
    r"\lfloor\log_{2}n\rfloor/2",
    r"1\le x<2a",
    r"y=(c_{1}+c_{2}x^{-2})\cos\sqrt{6}x-3^{x^{2}}/(9\pi)",
    r"(-\infty,2]\cup[3,4)",
]
