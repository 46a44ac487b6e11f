r"""Is the final answer right? The verifiable reward for mathematics.

Reading an answer has two steps: find it in the completion (extract_answer), then decide whether it
says the same as the gold answer (answers_match). Structure comes first: rows, brackets and
separators are taken apart before anything is rewritten, and their entries are compared one by one.
Plain numbers are compared exactly, as fractions; formulas go through math-verify's LaTeX parser,
which evaluates no Python. It is reached only by short text made of known symbols, because a policy
under training writes anything, `9**9**9**9` included.

Left out: units are dropped, not converted (5 dollars equals 5), number words ("seven") are not
read, and what is still an integral, a sum over k or a limit is no answer.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from postlab.rewards._batch import check_batch
from postlab.rewards._extract import (
    CHANGING,
    MAX_ANSWER_CHARS,
    Boxes,
    extract_answer,
    last_boxed,
    marked,
    stated,
)
from postlab.rewards._latex import canonical, limited, read_latex, same_latex
from postlab.rewards._reply import reply_text

__all__ = ["answers_match", "extract_answer", "last_boxed", "math_reward"]

MAX_ENTRIES = 100  # of a list, a set or a matrix


def math_reward(
    completions: list,
    answer: list,
    *,
    strict: bool = False,
    boxes: Boxes = "listed",
    hedges: bool = False,
    unworked: bool = False,
    rounded: bool = True,
    **columns: Any,
) -> list[float | None]:
    r"""1.0 where a completion's final answer equals the gold answer, else 0.0.

    Args:
        completions: strings, or lists of messages, as TRL passes them; of messages the last one
            counts.
        answer: the gold answers, one a completion (the column `answer` of math_rows).
        strict, boxes, hedges: policies of extract_answer; unworked, rounded: of answers_match.
            To train with one changed, wrap this function in one of your own.
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
        text = reply_text(completion)
        predicted = extract_answer(text, strict=strict, boxes=boxes, hedges=hedges)
        match = answers_match(predicted, gold, unworked=unworked, rounded=rounded)
        rewards.append(None if match is None else float(match))
    return rewards


def answers_match(
    predicted: str | None,
    gold: str | int | float | None,
    *,
    unworked: bool = False,
    rounded: bool = True,
) -> bool | None:
    r"""Whether two answers say the same: numbers exactly, other mathematics through math-verify.

    Thousands separators, currency signs, trailing units, `50%` for 0.5 or 50, fractions, mixed
    numbers and decimals rounded at the fourth place or later are all read; a sign is never dropped.
    The entries of a matrix, a point or an interval are compared in their order, those of a set or
    a list ("2 and 3", `\pm 1`) in any. Text answers are compared word for word.

    Args:
        predicted: as extract_answer returned it; None and text over 2,000 characters match nothing.
        gold: the reference answer.
        unworked: whether a sum or a division that is still to be worked out may stand for a gold
            answer that is a number.
        rounded: whether a decimal of four places or more may stand for the number it rounds.
    Returns:
        True or False; None where the gold answer cannot be read, whatever was predicted.

    >>> answers_match("$1,234.00", "1234"), answers_match("-5", "5"), answers_match("1/3", "0.3333")
    (True, False, True)
    >>> answers_match(r"(x+1)(x-1)", "x^2-1"), answers_match("5", "see above")
    (True, None)
    >>> answers_match("12+30", "42"), answers_match("12+30=42", "42")
    (False, True)
    >>> answers_match(r"\{2, 1\}", "1 and 2"), answers_match("(2, 1)", "(1, 2)")
    (True, False)
    """
    if gold is None or len(str(gold)) > MAX_ANSWER_CHARS:
        return None
    try:
        reference = _read(str(gold), gold=True)
    except TimeoutError:
        return None
    if reference is None:
        return None
    if predicted is None or len(predicted) > MAX_ANSWER_CHARS:
        return False
    if predicted.strip("$ ") == str(gold).strip("$ "):
        return True
    try:
        candidate = _candidate(predicted, reference, unworked)
        if candidate is None:
            return False
        if isinstance(candidate, Number) and isinstance(reference, Number):
            return _same_number(candidate, reference, rounded)
        return bool(limited(lambda: _same(candidate, reference, rounded), 0.8))
    except TimeoutError:
        return False


class Number(NamedTuple):
    """A number as it was written: its value, whether a % followed, and its decimal places."""

    value: Fraction
    percent: bool
    places: int  # 0 for an integer or a fraction
    base: int = 0  # 8 for 2516_8, whose value is 2516; 0 where none is written
    half: str = ""  # of the day: "am" or "pm", if one is written


class Words(NamedTuple):
    """An answer in words, such as "east"."""

    text: str


class Formula(NamedTuple):
    """Other mathematics: what was written, and math-verify's expression, if it has one."""

    text: str
    expression: Any


class Group(NamedTuple):
    """Several entries: what was written, how they are held together, and each one's reading.

    The kind is the pair of brackets, "," for a bare list, "U" for a union, or a matrix's shape.
    """

    text: str
    kind: str
    entries: tuple


Reading = Number | Words | Formula | Group

_TRANSLATE = str.maketrans(
    dict.fromkeys("\u2212\u2013\u2014\ufe63\uff0d", "-")
    | dict.fromkeys("\u00a0\u202f\u2009~", " ")
    | {"÷": "/", "⁄": "/", "×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "°": "", "∞": r"\infty "}
    | {"½": " 1/2", "±": r"\pm ", "√": r"\sqrt", "≤": r"\le ", "≥": r"\ge "}
    | {"≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in "}
)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
# A command of TeX. `\\` ends a row, so it is taken first and left alone.
_COMMAND = re.compile(r"\\!\s*|\\([A-Za-z]+)|\\(.)", re.DOTALL)
_ESCAPED = re.compile(r"\\\\(?=[A-Za-z])")  # as in JSON
_STYLE = "left right big Big bigg Bigg bigl bigr Bigl Bigr displaystyle textstyle limits rm bf it"
_COMMANDS = (
    dict.fromkeys(_STYLE.split(), "")
    | dict.fromkeys(["dfrac", "tfrac", "cfrac"], r"\frac")
    | {"leq": r"\le", "leqslant": r"\le", "geq": r"\ge", "geqslant": r"\ge", "degree": ""}
    | {"quad": " ", "qquad": " ", "thinspace": " ", "lbrace": r"\{", "rbrace": r"\}", "ast": "*"}
    | {"lvert": "|", "rvert": "|", "vert": "|", "colon": ":", "dollar": "", "boxed": ""}
)
_CHARACTERS = dict.fromkeys(",;:> \n", " ") | dict.fromkeys("$()[]#", "") | {"%": "%", "_": "_"}
_TEXT = re.compile(
    r"\\(?:text(?!circled)[a-z]*|math(?:rm|bf|it)|mbox|hbox|operatorname)\s*\{([^{}]*)\}"
)
_LETTER_UNITS = {"m": "metres", "g": "grams", "s": "seconds", "l": "litres", "h": "hours"}
# Each is tried where its first column occurs.
_REWRITES: list[tuple[str, re.Pattern, Any]] = [
    ("^", re.compile(r" ?\^ ?"), "^"),
    ("\\circ", re.compile(r"\^\{? ?\\circ ?\}?|\\circ\b"), ""),
    ("{", re.compile(r" ?(?<!\\)\{ ?, ?\} ?"), ","),
    ("!", re.compile(r"(?<=[A-Za-z ])!="), r"\\ne "),
    ("p", re.compile(r" ?(?:percent|per cent|pct)\b"), "%"),
    (
        " ",
        re.compile(r"(?<![0-9.])[0-9]{1,3}(?: [0-9]{3})+(?![0-9/])"),
        lambda thousands: thousands[0].replace(" ", ","),
    ),
]

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?) ?[€£¥]? ?(?P<sign2>[-+]?) ?"
    rf"(?:(?P<whole>[0-9]+) (?P<over>[0-9]+) ?/ ?(?P<under>[0-9]+)"
    rf"|(?P<units>[0-9]*) ?\\frac ?\{{ ?(?P<top>-?[0-9]+) ?\}} ?\{{ ?(?P<bottom>-?[0-9]+) ?\}}"
    rf"|(?P<n>{_DIGITS})(?: ?/ ?(?P<d>{_DIGITS})|[eE](?P<exp>[-+]?[0-9]{{1,3}})"
    rf"| ?(?:\\times|\\cdot|x|\*) ?10 ?\^ ?\{{? ?(?P<power>[-+]?[0-9]{{1,3}}) ?\}}?)?)"
    r" ?[€£¥]?(?P<percent>%?)(?P<unit>[A-Za-z ./()]*+(?:(?<=[A-Za-z])\^ ?\{? ?[23] ?\}?)?)"
)
_BASED = re.compile(r"([0-9]+) ?_ ?\{? ?([0-9]{1,2}) ?\}?")
_THOUSANDS = re.compile(r"(?<![0-9,])[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])")
_DECIMAL_COMMA = re.compile(r"[^0-9]{0,3}(-?[0-9]+),([0-9]{1,2}|[0-9]{4,})(?:\s?[^0-9,]{0,20})")
_SHORT_UNITS = frozenset(re.findall(r"\w+", "cm mm km kg mg ml lb lbs ft in oz mi hr am pm mph"))
# Words which after a number change it, so that it is not the number alone.
_NOT_UNITS = CHANGING | frozenset(["and"])
_POWERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MAGNITUDE = re.compile(rf" ?({'|'.join(_POWERS)})\b", re.IGNORECASE)
# What a model writes after a space, where a number is asked: 12 m^2.
_LETTER_UNIT = re.compile(r"(.*[0-9}])(?: [mgslLh](?:\^\{?[23]\}?)?|m\^\{?[23]\}?)", re.DOTALL)

_MATRIX = re.compile(
    r"[(\[]? ?\\begin\{([pbvBV]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?((?:(?!\\begin|\\end).)*)"
    r"\\end\{\1\} ?[)\]]?",
    re.DOTALL,
)
_TOKEN = re.compile(r"\\(?:begin|end|cup(?![A-Za-z])|pm(?![A-Za-z])|.)|\b(?:and|or)\b|.", re.DOTALL)
_DEEPER = frozenset(["(", "[", "{", "\\{", "\\begin"])
_HIGHER = frozenset([")", "]", "}", "\\}", "\\end"])
_MEMBER = re.compile(r"[^=<>]*?(?:=|\\in(?![A-Za-z])) ?(?=[(\[]|\\\{|\\begin)")
_BUILDER = re.compile(r"\\\{ ?[A-Za-z] ?(?:\\mid|\||:)(.*)\\\}")
_WORDS = re.compile(r"(?:[^\W\d_]|[ '.]|(?<=[^\W\d_]{3})-(?=[^\W\d_]{2}))+")
_CLOCK = re.compile(r"([0-9]{1,2}:[0-9]{2})(?: ?([ap])\.?m\.?)?", re.IGNORECASE)
# Two equations beside each other, unless the first is continued by the second.
_SIDE_BY_SIDE = re.compile(r"(?<![-+*/=,;&(])(?<![-+*/=,;&(] )\$\s+\$(?![-+*/=,;&)])(?=[^$]*=)")
_HALVES = ("am", "pm")  # of the day
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}")
_NAMES = re.compile(r"\(([A-Za-z](?:_\{?\w\}?)?(?: ?, ?[A-Za-z](?:_\{?\w\}?)?)+) ?\) ?=")
# A formula that can't be parsed still says the same as its copy.
_VERBATIM = re.compile(r"\\[A-Za-z]|[_^=]|[A-Za-z0-9)]!")
_SENTENCE = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,} [A-Za-z]{2,}")
_PHRASES = frozenset(
    ["no solution", "no solutions", "no real solution", "no real solutions", "does not exist"]
    + ["all real numbers", "infinitely many", "infinitely many solutions", "not possible"]
)

# A sum, product, power or function of numbers; 3x10^5 is how a number is written.
_UNWORKED = re.compile(
    r"[0-9)}] ?(?:[-+*:]|\\(?:times|cdot|div)(?! ?10 ?\^)) ?[0-9({\\.]|[0-9)}] ?\("
    r"|(?<!10)\^|\\sqrt|sqrt|!|\\binom"
)
_DIVISION = re.compile(r"[0-9] ?/ ?[0-9]|\\frac")


def _candidate(predicted: str, reference: Reading, unworked: bool) -> Reading | None:
    """The reading of a predicted answer that the policies let stand beside the gold answer's."""
    candidate = _read(predicted)
    if not isinstance(reference, Number):
        return candidate
    # A number is worked out unless it is a fraction.
    checked = not isinstance(candidate, Number) or "/" in predicted or "frac" in predicted
    if checked and not unworked and _unworked(predicted, reference):
        return None
    if not isinstance(candidate, Number):
        # Beside a number 3,50 is no list, and the m of 12 m^2 no variable.
        if comma := _DECIMAL_COMMA.fullmatch(predicted.strip()):
            return _read(f"{comma[1]}.{comma[2]}")
        if unit := _LETTER_UNIT.fullmatch(_plain(predicted)):
            return _read(unit[1])
    return candidate


def _unworked(predicted: str, reference: Number) -> bool:
    """Whether a task is handed back where a number was asked: 12+30 for 42, 120/4 for 30.

    Working it out would be the verifier's work, not the policy's.
    """
    text = _plain(marked(predicted) or predicted)
    text = text.rpartition("=")[2].strip() or text
    if reference.value.denominator == 1 and _DIVISION.search(text):
        return not re.match(r"[-+]?[0-9]+ ?\\frac|[-+]?[0-9]+ [0-9]+ ?/", text)
    if _NUMBER.fullmatch(text) or _LETTER_UNIT.fullmatch(text):
        return False
    return bool(_UNWORKED.search(text))


@lru_cache(maxsize=8192)
def _read(text: str, gold: bool = False) -> Reading | None:
    """What a text says: a number, words, a formula, or a group of these; None where it is none.

    A gold answer gets more time. In words it has to be short, or a sentence that gives the answer.
    """
    text = marked(text) or text
    plain = _plain(text)
    if number := _number(plain):
        return number
    time = 6 if gold else 1
    reading = limited(lambda: _entry(plain), time)
    if reading is None and _VERBATIM.search(plain) and not _SENTENCE.search(plain):
        return Formula(canonical(plain) or plain, None)
    if gold and isinstance(reading, Words):
        short = " " not in reading.text or reading.text in _PHRASES
        reading = reading if short or _TEXT.search(text) or text.startswith("$") else None
    elif reading is not None and not isinstance(reading, Words):
        return reading
    said = stated(text, alone=gold and len(text) <= 200)
    if said and said != text and (reading is None or not gold):
        return limited(lambda: _entry(_plain(said)), time)
    return reading


def _plain(text: str) -> str:
    """A text without styles, spacing and dollar signs; rows, braces and separators stay."""
    text = text.translate(_TRANSLATE)
    if not text.isascii():
        text = _RAISED.sub(lambda power: f"^{{{power[0].translate(_LOWERED)}}}", text)
    if "\\" in text:
        if "\\begin" not in text:
            text = _ESCAPED.sub(r"\\", text)
        text = text.replace("\\quad", " ")
        text = _TEXT.sub(_unmarked_text, _COMMAND.sub(_plain_command, text))
    if "$" in text:
        text = _SIDE_BY_SIDE.sub(", ", text).replace("$", "")
    text = " ".join(text.split())
    for sign, pattern, replacement in _REWRITES:
        if sign in text:
            text = pattern.sub(replacement, text)
    return text.strip(" *_=").rstrip(".,;: ")


def _plain_command(match: re.Match) -> str:
    if match[1]:
        return _COMMANDS.get(match[1], match[0])
    return _CHARACTERS.get(match[2], match[0]) if match[2] else ""


def _unmarked_text(match: re.Match) -> str:
    content = match[1].strip()
    if re.search(r"[0-9}] ?$", match.string[max(0, match.start() - 2) : match.start()]):
        content = _LETTER_UNITS.get(content, content)
    return f" {content} "


def _entry(text: str, depth: int = 0) -> Reading | None:
    """The reading of plain text, with structure taken apart before formulas are parsed."""
    if not text or depth > 4:
        return None
    if number := _number(text):
        return number
    if based := _BASED.fullmatch(text):
        return Number(Fraction(int(based[1])), False, 0, int(based[2]))
    if (group := _group(text, depth)) is not NotImplemented:
        return group
    if _DATE.fullmatch(text):
        return Words(text)
    if clock := _CLOCK.fullmatch(text):  # and perhaps a ratio
        half = f" {clock[2].lower()}m" if clock[2] else ""
        return Formula(clock[1] + half, read_latex(clock[1]))
    words = text.strip("() '")
    if _WORDS.fullmatch(words) and re.search(r"[^\W\d_]{3}|^(?:no|up)$", words, re.IGNORECASE):
        folded = words.casefold().replace("-", " ").split()
        longest = 3 if depth else 8  # a sentence is no answer
        return (
            Words(" ".join(folded))
            if folded not in (["nan"], ["null"]) and len(folded) <= longest
            else None
        )
    if "\\frac" in text and (number := _number(canonical(text) or "")):
        return number
    formula = _without_unit(text)
    expression = read_latex(formula)
    return None if expression is None else Formula(canonical(formula) or formula, expression)


def _group(text: str, depth: int) -> Any:
    """The Group that a text is, None if it is a broken one, NotImplemented if it is none."""
    if match := _MATRIX.fullmatch(text):
        rows = [_split(row, "&")[0] for row in re.split(r"\\\\(?: ?\[[^\]]*\])?", match[2])]
        rows = [row for row in rows if row != [""]]
        if not rows or len({len(row) for row in rows}) > 1:
            return None
        entries = [entry for row in rows for entry in row]
        bars = "|" if match[1] in ("vmatrix", "Vmatrix") else ""  # a determinant
        return _entries(text, f"{bars}{len(rows)}x{len(rows[0])}", entries, depth)
    if (member := _MEMBER.match(text)) and not re.search(r"[0-9+]", member[0]):
        group = _group(text[member.end() :].strip(), depth)
        named = isinstance(group, Group) and _NAMES.match(text)
        return group._replace(text=text) if named else group
    if builder := _BUILDER.fullmatch(text):
        return _entry(builder[1].strip(), depth + 1)
    for marks in (("or", ";"), (",", "and"), ("\\cup",)):
        parts, found = _split(text, marks)
        if found:
            return _entries(text, "U" if found == "\\cup" else ",", parts, depth)
    parts, found = _split(text, ("\\pm",))
    if found and len(parts) == 2:
        both = [f"{parts[0]} + {parts[1]}" if parts[0] else parts[1], f"{parts[0]} - {parts[1]}"]
        return _entries(text, ",", both, depth)
    parts, found = _split(text, (":",))
    if len(parts) > 2:  # of two parts the formula is a quotient
        return _entries(text, ":", parts, depth)
    brackets = _brackets(text)
    if brackets is None:
        return NotImplemented
    opener, inside, closer = brackets
    parts, found = _split(inside, ",;")
    if len(parts) == 1 and opener + closer in ("()", "{}"):  # round a single answer, or TeX's own
        return _entry(parts[0], depth + 1)
    kind = "," if opener == "{" else (opener + closer).replace("\\", "set")
    return _entries(text, kind, parts, depth)


def _entries(text: str, kind: str, parts: list[str], depth: int) -> Group | None:
    if len(parts) > MAX_ENTRIES:
        return None
    entries: list[Reading] = []
    for part in parts:
        reading = _entry(part.strip(), depth + 1)
        if reading is None:
            return None
        if isinstance(reading, Group) and kind == reading.kind == "," and "=" not in reading.text:
            entries.extend(reading.entries)  # "1, 2 or 3"; but "x=1, y=2 or x=3, y=4" has two
        else:
            entries.append(reading)
    return Group(text, kind, tuple(entries))


def _split(text: str, marks: Any) -> tuple[list[str], str]:
    """The parts of a text between the marks that stand in no bracket, and the last mark found."""
    parts, depth, start, last = [], 0, 0, ""
    if not any(mark in text for mark in marks):
        return [text.strip()], ""
    # "10,080, 20,160" has thousands in its entries where "1,2,3" has none.
    spaced = "," in marks and not re.search(r",(?! )", _THOUSANDS.sub("0", text))
    for token in _TOKEN.finditer(text):
        depth += (token[0] in _DEEPER) - (token[0] in _HIGHER)
        if depth < 0:
            return [text.strip()], ""
        if depth or token[0] not in marks:
            continue
        if spaced and token[0] == "," and text[token.end() : token.end() + 1] != " ":
            continue
        part = text[start : token.start()].strip()
        if part or token[0] not in ("and", "or"):  # "1, 2, and 3"
            parts.append(part)
        start, last = token.end(), token[0]
    if not last:
        return [text.strip()], ""
    return [*parts, text[start:].strip()], last


def _brackets(text: str) -> tuple[str, str, str] | None:
    """A text's outer brackets and what they hold, if the first one closes at the end."""
    depth = 0
    opener = None
    for token in _TOKEN.finditer(text):
        if opener is None:
            opener = token[0]
            if opener not in _DEEPER or opener == "\\begin":
                return None
        depth += (token[0] in _DEEPER) - (token[0] in _HIGHER)
        if depth == 0:
            if token.end() < len(text):
                return None
            return opener, text[len(opener) : token.start()], token[0]
    return None


def _is_unit(text: str) -> bool:
    words = re.findall(r"[A-Za-z]+", text.replace(".", ""))
    if words and words[0].lower() in _POWERS:
        words = words[1:]
    per = "/" in text
    return len(words) <= 4 and all(_is_unit_word(word, per) for word in words)


def _is_unit_word(word: str, per: bool = False) -> bool:
    word = word.lower()
    return (
        word in _SHORT_UNITS
        or (per and word in _LETTER_UNITS or len(word) > 2)
        and (word not in _NOT_UNITS and word not in _POWERS)
    )


def _without_unit(text: str) -> str:
    """A formula without the words after it: `12\\pi cm^2` is 12 pi."""
    words = text.split(" ")
    while len(words) > 1 and re.fullmatch(r"[A-Za-z]{2,}(?:\^\{?[23]\}?)?", words[-1]):
        unit = _is_unit_word(re.sub(r"[^A-Za-z]", "", words[-1]))
        if not unit or not re.search(r"[0-9A-Za-z)}\]]$", words[-2]):
            break
        words.pop()
    return " ".join(words)


def _number(text: str) -> Number | None:
    match = _NUMBER.fullmatch(text)
    if match is None or (match["sign"] and match["sign2"]) or not _is_unit(match["unit"]):
        return None
    places, exponent = 0, int(match["exp"] or match["power"] or 0)
    if top := match["over"] or match["top"]:
        bottom = match["under"] or match["bottom"]
    else:
        top, bottom = re.sub("^0,", "0.", match["n"]).replace(",", ""), match["d"]
        places = 0 if bottom else max(0, len(top.partition(".")[2]) - exponent)
    value = Fraction(top)
    if bottom:
        divisor = Fraction(bottom.replace(",", ""))
        if not divisor:
            return None
        value /= divisor
    if whole := match["whole"] or match["units"]:
        value += int(whole)
    if magnitude := _MAGNITUDE.match(match["unit"]):
        exponent += _POWERS[magnitude[1].lower()]
    if exponent:
        value *= Fraction(10) ** exponent
    if (match["sign"] or match["sign2"]) == "-":
        value = -value
    half = match["unit"] and match["unit"].replace(".", "").strip().lower()
    return Number(value, bool(match["percent"]), places, 0, half if half in _HALVES else "")


def _same(a: Reading, b: Reading, rounded: bool) -> bool:
    if isinstance(a, Number) and isinstance(b, Number):
        return _same_number(a, b, rounded)
    if isinstance(a, Words) and isinstance(b, Words):
        return a.text == b.text
    if isinstance(a, Group) and isinstance(b, Group):
        return _same_group(a, b, rounded)
    for group, other in ((a, b), (b, a)):  # {5} is 5
        if isinstance(group, Group) and group.kind in (",", "set{set}") and len(group.entries) == 1:
            return _same(group.entries[0], other, rounded)
        if isinstance(group, Group) and isinstance(other, Number | Words):
            return False
    if isinstance(a, Formula) and isinstance(b, Formula):
        if a.text == b.text:
            return True
        x, y = _CLOCK.fullmatch(a.text), _CLOCK.fullmatch(b.text)
        if x and y:
            return x[1] == y[1] and not (x[2] and y[2])
    predicted, gold = _expression(a), _expression(b)
    return predicted is not None and gold is not None and same_latex(predicted, gold)


def _same_group(a: Group, b: Group, rounded: bool) -> bool:
    if len(a.entries) != len(b.entries):
        return _same_union(a, b)
    x, y = _NAMES.match(a.text), _NAMES.match(b.text)
    if x and y and x[1].replace(" ", "") != y[1].replace(" ", ""):
        return False
    unordered = {",", "set{set}", "U"}
    if a.kind in unordered and b.kind in unordered:
        left = list(b.entries)
        for entry in a.entries:
            match = next((k for k, other in enumerate(left) if _same(entry, other, rounded)), None)
            if match is None:
                return _same_union(a, b)
            left.pop(match)
        return True
    # "1, 2" may stand for (1, 2), but a set for neither a point nor an interval.
    if a.kind != b.kind and {a.kind, b.kind} != {",", "()"}:
        return False
    return all(_same(x, y, rounded) for x, y in zip(a.entries, b.entries, strict=True))


def _same_union(a: Group, b: Group) -> bool:
    if "U" not in (a.kind, b.kind):
        return False
    predicted, gold = _expression(a), _expression(b)
    return predicted is not None and gold is not None and same_latex(predicted, gold)


def _same_number(a: Number, b: Number, rounded: bool) -> bool:
    if (a.base and b.base and a.base != b.base) or (a.half and b.half and a.half != b.half):
        return False
    if _close(a, b, rounded):
        return True
    if a.percent == b.percent:
        return False
    # 50% may answer "what share" (0.5), so the one with the sign is read both ways.
    a, b = (n._replace(value=n.value / 100, places=0) if n.percent else n for n in (a, b))
    return _close(a, b, rounded)


def _close(a: Number, b: Number, rounding: bool) -> bool:
    """Equal, or one is the other correctly rounded to at least four places and four digits."""
    if a.value == b.value:
        return True
    for rounded, exact in ((a, b), (b, a)):
        unit = Fraction(1, 10**rounded.places)
        if rounding and rounded.places >= 4 and abs(rounded.value) >= 1000 * unit:
            return abs(rounded.value - exact.value) <= unit / 2
    return False


@lru_cache(maxsize=1024)
def _expression(reading: Reading) -> Any:
    if isinstance(reading, Formula):
        return reading.expression
    if not isinstance(reading, Number):
        return read_latex(reading.text)
    import sympy

    value = sympy.Rational(reading.value.numerator, reading.value.denominator)
    return sympy.Float(value, 15) if reading.places else value
