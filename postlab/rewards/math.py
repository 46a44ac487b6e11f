r"""Is the final answer right? The verifiable reward for mathematics.

Reading an answer has two steps: find it in the completion (extract_answer), then decide whether it
says the same as the gold answer (answers_match). Plain numbers are compared exactly, as fractions;
anything else goes through math-verify's LaTeX parser, which evaluates no Python. Both are reached
only by short text made of known symbols, because a policy under training writes anything,
`9**9**9**9` included.

Left out: units are dropped, not converted (5 dollars equals 5), and words ("seven") are not read.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from postlab.rewards._batch import check_batch
from postlab.rewards._latex import read_latex, same_latex
from postlab.rewards._reply import after_thinking, reply_text

MAX_ANSWER_CHARS = 2000  # a longer "answer" is a rambling policy, and never right
MAX_BOXES = 100  # and so is one that boxes everything

_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)([^\n#]*)")
_BRACES = re.compile(r"\\boxed\s*\{|\\[{}]|[{}]")
_LAST_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.])[-+\u2212])?(?:\\?\$|[€£¥])?(?:(?<![\w.])[-\u2212])?"
    r"(?:\\[dt]?frac\{-?[0-9]+\}\{-?[0-9]+\}"
    r"|(?<![A-Za-z_0-9])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]*\.[0-9]+|[0-9]+)"
    r"(?:/[0-9]+(?![0-9/]))?)(?:\s?\\?%)?"
)

# Another number and an "or" in the same sentence before the last number: an answer and a spare one.
_HEDGE = re.compile(
    r"[0-9][^\n!?]{0,40}\bor\b[^\n.!?0-9]{0,20}$|\bbetween\b[^\n.!?0-9]{0,12}[0-9][^\n!?]{0,30}$",
    re.IGNORECASE,
)


def math_reward(completions: list, answer: list, **columns: Any) -> list[float | None]:
    r"""1.0 where a completion's final answer equals the gold answer, else 0.0.

    Args:
        completions: strings, or lists of messages, as TRL passes them; of messages the last one
            counts.
        answer: the gold answers, one a completion (the column `answer` of math_rows).
        columns: the other columns and callbacks that TRL passes; none is used.
    Returns:
        One reward a completion; None where the gold answer cannot be read, so that TRL leaves the
        completion out instead of punishing it.
    Raises:
        TypeError: if completions or answer is a single value, such as a string, and no list.
        ValueError: if there are not as many answers as completions.
    Taught in week 7.

    >>> math_reward(["2 + 3 = 5\n#### 5", "It is 6.", "It is 6."], answer=["5", "5", "no gold"])
    [1.0, 0.0, None]
    """
    check_batch("math_reward", completions, answer=answer)
    rewards: list[float | None] = []
    for completion, gold in zip(completions, answer, strict=True):
        match = answers_match(extract_answer(reply_text(completion)), gold)
        rewards.append(None if match is None else float(match))
    return rewards


def extract_answer(text: str, *, strict: bool = False) -> str | None:
    r"""The final answer of a completion, as it was written.

    Looked for in this order, the last one of a kind counting: `<answer>...</answer>`,
    `\boxed{...}`, `#### ...` up to the end of its line, and, unless strict, the last number in the
    last 2,000 characters, if it is not one of two ("4 or 5"). What stands in `<think>...</think>`
    is no answer.

    Args:
        text: the completion.
        strict: accept a marked answer only. Lenient reading tells whether the policy knows, strict
            reading whether it also says so as it was asked to; report both.
    Returns:
        The answer without its marker, or None where there is none.

    >>> extract_answer(r"So \boxed{\frac{1}{2}}, that is 0.5.")
    '\\frac{1}{2}'
    >>> extract_answer("It was 1,234 and is now -5.")
    '-5'
    >>> extract_answer("It is -5.", strict=True) is None
    True
    """
    text = after_thinking(text)
    answer = _marked(text)
    if answer is not None or strict:
        return answer
    last, text = None, text[-MAX_ANSWER_CHARS:]
    for last in _LAST_NUMBER.finditer(text):  # noqa: B007 - the last match is what is wanted
        pass
    if last is None or _HEDGE.search(text[: last.start()][-60:]):
        return None
    return last[0].strip()


def answers_match(predicted: str | None, gold: str | int | float | None) -> bool | None:
    r"""Whether two answers say the same: numbers exactly, other mathematics through math-verify.

    Thousands separators, currency signs, trailing units, `50%` for 0.5 or 50, fractions, and
    decimals rounded at the fourth place or later are all read; a sign is never dropped. Where the
    gold answer is a number, a sum or a division that is still to be worked out is not that number.

    Args:
        predicted: as extract_answer returned it; None and text over 2,000 characters match nothing.
        gold: the reference answer.
    Returns:
        True or False; None where the gold answer cannot be read, whatever was predicted.

    >>> answers_match("$1,234.00", "1234"), answers_match("-5", "5"), answers_match("1/3", "0.3333")
    (True, False, True)
    >>> answers_match(r"(x+1)(x-1)", "x^2-1"), answers_match("5", "see above")
    (True, None)
    >>> answers_match("12+30", "42"), answers_match("12+30=42", "42")
    (False, True)
    """
    reference = None if gold is None or len(str(gold)) > MAX_ANSWER_CHARS else _read(str(gold))
    if reference is None:
        return None
    if predicted is None or len(predicted) > MAX_ANSWER_CHARS:
        return False
    candidate = _read(predicted)
    if candidate is None or (isinstance(reference, Number) and _unworked(predicted, reference)):
        return False
    if isinstance(candidate, Number) and isinstance(reference, Number):
        return _same_number(candidate, reference)
    return same_latex(_expressions(candidate), _expressions(reference))


def last_boxed(text: str) -> tuple[str, int] | None:
    r"""What the last closed `\boxed{...}` holds, and where it ends; None where there is none."""
    # One pass with a stack: a rescan for every \boxed would be quadratic on hostile text.
    last, open_braces = None, []
    for brace in _BRACES.finditer(text):
        if brace[0] in ("\\{", "\\}"):
            continue
        if brace[0] != "}":
            open_braces.append(brace)
        elif open_braces:
            opened = open_braces.pop()
            if opened[0] != "{" and (last is None or opened.start() > last[0].start()):
                last = opened, brace
    return last and (text[last[0].end() : last[1].start()], last[1].end())


def _marked(text: str) -> str | None:
    tags = list(_TAG.finditer(text))
    for opened, closed in reversed(list(zip(tags, tags[1:], strict=False))):
        if not opened[1] and closed[1]:
            content = text[opened.end() : closed.start()]
            return _marked(content) or content.strip() or None
    if 0 < text.count("\\boxed") <= MAX_BOXES and (boxed := last_boxed(text)):
        return boxed[0].strip() or None
    if hashes := _HASHES.findall(text):
        return hashes[-1].strip() or None
    return None


class Number(NamedTuple):
    """A number as it was written: its value, whether a % followed, and its decimal places."""

    value: Fraction
    percent: bool
    places: int  # 0 for an integer or a fraction


_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)\s*[€£¥]?\s*(?P<sign2>[-+]?)\s*"
    rf"(?:(?P<whole>[0-9]+)\s+(?P<over>[0-9]+)\s*/\s*(?P<under>[0-9]+)"
    rf"|\\[dt]?frac\s*\{{\s*(?P<top>-?[0-9]+)\s*\}}\s*\{{\s*(?P<bottom>-?[0-9]+)\s*\}}"
    rf"|(?P<n>{_DIGITS})(?:\s*/\s*(?P<d>{_DIGITS})|[eE](?P<exp>[-+]?[0-9]{{1,3}}))?)"
    r"\s*(?P<percent>%?)(?P<unit>(?:\s*[A-Za-z]+){0,3}\s*(?:\^\s*\{?[23]\}?)?)\.?"
)
_SHORT_UNITS = frozenset(re.findall(r"\w+", "cm mm km kg mg ml lb lbs ft in oz mi hr am pm"))
# Words which after a number change it, so that it is not the number alone.
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+", "and half hundred thousand million billion trillion dozen sin cos tan log exp"
    )
)
_TRANSLATE = str.maketrans(
    dict.fromkeys("\u2212\u2013\u2014\ufe63\uff0d", "-")
    | dict.fromkeys("\u00a0\u202f\u2009~", " ")
    | {"÷": "/", "⁄": "/", "×": r"\times ", "π": r"\pi ", "°": ""}
    | {"²": "^2", "³": "^3", "½": " 1/2"}
)
_REWRITES = [
    (re.compile(r"\\?\$|\\[()\[\]]|\\left(?![a-z])|\\right(?![a-z])|\^\s*\{?\s*\\circ\s*\}?"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=[0-9])(?:\\[,!;:]|\\? )\s*(?=[0-9]{3}(?![0-9/]))"), ","),
    (re.compile(r"\\[,!;: ]"), " "),
    (re.compile(r"\\%|\s*(?:percent|per cent|pct)\b"), "%"),
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\s+"), " "),
]


# A sum, product, power or function of numbers; 3x10^5 is how a number is written.
_UNWORKED = re.compile(
    r"[0-9)}]\s*(?:[-+*:]|\\(?:times|cdot|div)(?!\s*10\s*\^))\s*[0-9({\\.]|[0-9)}]\s*\("
    r"|(?<!10)\^|\\sqrt"
)
_DIVISION = re.compile(r"[0-9]\s*/\s*[0-9]|\\[dt]?frac")


def _unworked(predicted: str, reference: Number) -> bool:
    """Whether a task is handed back where a number was asked: 12+30 for 42, 120/4 for 30.

    Working it out would be the verifier's work, not the policy's.
    """
    text = predicted.replace("^\\circ", "").translate(_TRANSLATE)
    text = (_marked(text) or text).rstrip(" .$").rpartition("=")[2].strip() or text
    if reference.value.denominator == 1 and _DIVISION.search(text):
        return True
    return not isinstance(_read(text), Number) and bool(_UNWORKED.search(text))


@lru_cache(maxsize=8192)
def _read(text: str) -> Number | tuple | None:
    """A number, or math-verify's expressions, or None where the text is neither."""
    text = (_marked(text) or text).translate(_TRANSLATE)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip(" *_=").rstrip(".,;: ")
    number = _NUMBER.fullmatch(text)
    if number and _is_unit(number["unit"]) and not (number["sign"] and number["sign2"]):
        return _number(number)
    return read_latex(text)


def _is_unit(text: str) -> bool:
    words = re.sub(r"[^A-Za-z ]", "", text).lower().split()
    return all(w in _SHORT_UNITS or (len(w) > 2 and w not in _NOT_UNITS) for w in words)


def _number(match: re.Match) -> Number | None:
    places = 0
    if match["whole"]:
        parts = Fraction(match["whole"]), (match["over"], match["under"])
    elif match["top"]:
        parts = Fraction(0), (match["top"], match["bottom"])
    else:
        top = match["n"].replace(",", "")
        places = 0 if match["d"] else len(top.partition(".")[2])
        parts = Fraction(0), (top, (match["d"] or "1").replace(",", ""))
    top, bottom = (Fraction(part) for part in parts[1])
    if bottom == 0:
        return None
    value = (parts[0] + top / bottom) * Fraction(10) ** int(match["exp"] or 0)
    negative = "-" in (match["sign"], match["sign2"])
    return Number(-value if negative else value, bool(match["percent"]), places)


def _same_number(a: Number, b: Number) -> bool:
    if _close(a, b):
        return True
    if a.percent == b.percent:
        return False
    # 50% may answer "what share" (0.5), so the one with the sign is read both ways.
    a, b = (n._replace(value=n.value / 100, places=0) if n.percent else n for n in (a, b))
    return _close(a, b)


def _close(a: Number, b: Number) -> bool:
    """Equal, or one is the other correctly rounded to at least four places and four digits."""
    if a.value == b.value:
        return True
    for rounded, exact in ((a, b), (b, a)):
        unit = Fraction(1, 10**rounded.places)
        if rounded.places >= 4 and abs(rounded.value) >= 1000 * unit:
            return abs(rounded.value - exact.value) <= unit / 2
    return False


def _expressions(answer: Number | tuple) -> tuple:
    if not isinstance(answer, Number):
        return answer
    import sympy

    value = sympy.Rational(answer.value.numerator, answer.value.denominator)
    return (sympy.Float(value, 15) if answer.places else value,)
