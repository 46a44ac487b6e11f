r"""Where is the final answer of a completion? Markers first, then what a sentence says.

Every pattern here reads a text in one pass. A rescan from each `\boxed` or `$` would be quadratic,
and a policy under training writes a hundred thousand of them.
"""

import re
from itertools import accumulate
from typing import Literal

from postlab.rewards._reply import after_thinking

MAX_ANSWER_CHARS = 2000  # a longer "answer" is a rambling policy, and never right
MAX_BOXES = 100  # and so is one that boxes everything

Boxes = Literal["listed", "last", "all"]

_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)([^\n#]*)")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*+\{|\\[{}]|[{}]")
# What may stand between two boxes of one list: "and", a comma, and perhaps "x =" and dollar signs.
_BETWEEN = re.compile(
    r"(?:[\s$.]|\\[()\[\] ,;]|\\q?quad)*(?:[,;]|\\text\{\s*(?:and|or)\s*\}|and\b|or\b)"
    r"(?:[\s$]|\\[()\[\] ,;]|\\q?quad|\\text\{\s*(?:and|or)\s*\}|and\b|or\b)*"
    r"(?:[A-Za-z](?:_\{?\w\}?)?\s*=\s*)?\$?"
)

_STATED = re.compile(
    r"\b(?:answer|option|choice)(?:\s+is|\s*:|\s*=|s?\s+are)\s*|答案(?:是|为|為|：|:)\s*",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:[\s:=*]|\b(?:is|are|about|approximately|therefore|thus|simply|exactly|equal to)\b)*+",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[!?]|\.(?=\s|$)")
# Remarks about the solution: a number there is not its result, unless it is the only one.
_ASIDE = re.compile(
    r"\W*(?:(?:i|we|this|it|that)\s+(?:have\s+|has\s+)?(?:used|took|takes|needed|did|made|required|hope)"
    r"|let me|feel free|please|hope|check|verif|note\b)",
    re.IGNORECASE,
)
# Another number and an "or" in the same sentence before the last number: an answer and a spare one.
_HEDGE = re.compile(
    r"[0-9][^\n!?]{0,40}\bor\b[^\n.!?0-9]{0,20}$|\bbetween\b[^\n.!?0-9]{0,12}[0-9][^\n!?]{0,30}$"
    r"|\bbetween\b[^\n.!?0-9]{0,12}$",
    re.IGNORECASE,
)

# Words before a number which make it no answer, and a calculation in words after one.
_QUALIFIED = re.compile(
    r"\b(?:not|minus|negative|half of|twice|(?:more|less|fewer|greater|smaller|larger|other) than)"
    r"\s+[$\\(]*$",
    re.IGNORECASE,
)
_OPERATION = re.compile(
    r"\s+(?:(?:choose|plus|minus|times|over|point|root|divided by|to the power of)\s+\$?[0-9]"
    r"|and (?:a|one|two|three|four)[ -](?:half|third|quarter|fifth))",
    re.IGNORECASE,
)
_OPERATIONS = frozenset(
    re.findall(r"\w+", "choose plus minus times over point root divided to and")
)
_CALCULATED = re.compile(
    r"[^.!?\n]*?\b(?:times|than|of|over|plus|minus|sin|cos|tan|log|ln)\s+\$?[A-Za-z]\b"
)

_CJK = re.compile(r"[\u3000-\u303f\u3040-\u9fff\uac00-\ud7af]+")
_FULLWIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_STARS = re.compile(r"(?<![\w)}])\*\*|\*\*(?![\w(\\])|`")
# A formula between TeX's marks (a dollar sign before an amount is none), or a run of non-spaces.
_PIECE = re.compile(
    r"(?P<math>\$\$[^$]+\$\$|\$(?=[^\s$])[^$\n]*[^$\s\\]\$(?![0-9])|\$\s[^$\n]+\s\$"
    r"|\\\((?:[^\\]|\\[^()])*+\\\)|\\\[(?:[^\\]|\\[^\[\]])*+\\\])"
    r"|(?:\\[$]|\$(?=[0-9.])|\$(?=[-−][0-9]))?(?:\\text\{[^{}\n]*\}|[^\s$\\]|\\[^()\[\]\s$])+|\S"
)
_MATHS = re.compile(
    r"(?:\\(?:text|begin|end|mathrm|mbox)\{[^{}]*\}|\\[A-Za-z]++|\\."
    r"|(?:sqrt|sin|cos|tan|log|ln|pi|exp)(?![A-Za-z])|[A-Za-z]{1,2}(?![A-Za-z])|[^A-Za-z\\])++"
)
_SIGNS = re.compile(r"[0-9\\+=<>≤≥≠±√π∞^/*×÷−-]|[(\[{].*,")
_ORDINAL = re.compile(r"[0-9]+(?:st|nd|rd|th)\W*$")
_OPERATOR = frozenset("=+-−*/×÷<>≤≥≠^·")
_MAGNITUDE = frozenset(re.findall(r"\w+", "hundred thousand million billion trillion dozen"))
# Words after a number which change it, so that it is not the number alone.
CHANGING = frozenset(
    re.findall(
        r"\w+",
        "half halves third thirds fourths fifths sixths sevenths eighths ninths tenths hundredths "
        "thousandths dozen squared cubed factorial pi sin cos tan log exp sqrt mod",
    )
)
_FOLLOWING = _MAGNITUDE | CHANGING | {"am", "pm", "a.m", "p.m"}


def extract_answer(
    text: str, *, strict: bool = False, boxes: Boxes = "listed", hedges: bool = False
) -> str | None:
    r"""The final answer of a completion, as it was written.

    Looked for in this order, the last one of a kind counting: `<answer>...</answer>`,
    `\boxed{...}`, `#### ...` up to the end of its line, and, unless strict, in the last 2,000
    characters: what follows "answer is", or the last formula or number, whole: never the 2 of
    `3x^2`. What stands in `<think>...</think>` is no answer.

    Args:
        text: the completion.
        strict: accept a marked answer only. Lenient reading tells whether the policy knows, strict
            reading whether it also says so as it was asked to; report both.
        boxes: of several boxes, "listed" reads those joined by a comma, "and" or "or" as one list,
            and else the last; "last" the last alone; "all" every box as one list.
        hedges: whether the last of several guesses ("4, or maybe 5") is read where nothing is
            marked; otherwise there is no answer.
    Returns:
        The answer without its marker, or None where there is none.

    >>> extract_answer(r"So \boxed{\frac{1}{2}}, that is 0.5.")
    '\\frac{1}{2}'
    >>> extract_answer("It was 1,234 and is now -5. I used 3 steps.")
    '-5'
    >>> extract_answer("It is -5.", strict=True) is None
    True
    >>> extract_answer(r"$x=\boxed{2}$ or $x=\boxed{-2}$")
    '2, -2'
    """
    text = after_thinking(text)
    answer = marked(text, boxes)
    if answer is not None or strict:
        return answer
    return _unmarked(text[-MAX_ANSWER_CHARS:], hedges)


def marked(text: str, boxes: Boxes = "listed") -> str | None:
    """The answer between tags, in a box or behind ####; None where nothing is marked."""
    tags = list(_TAG.finditer(text)) if "<" in text else []
    for opened, closed in reversed(list(zip(tags, tags[1:], strict=False))):
        if not opened[1] and closed[1]:
            content = text[opened.end() : closed.start()]
            return marked(content, boxes) or content.strip() or None
    if 0 < text.count("\\boxed") + text.count("\\fbox") <= MAX_BOXES and (found := _boxed(text)):
        return _joined(text, found, boxes)
    if "####" in text and (hashes := _HASHES.findall(text)):
        return hashes[-1].strip() or None
    return None


def last_boxed(text: str) -> tuple[str, int] | None:
    r"""What the last closed `\boxed{...}` holds, and where it ends; None where there is none."""
    found = _boxed(text)
    return (text[found[-1][1] : found[-1][2]], found[-1][2] + 1) if found else None


def _boxed(text: str) -> list[tuple[int, int, int]]:
    """Every closed box, by its start: where it starts, where its content does, and its end."""
    # One pass with a stack: a rescan for every \boxed would be quadratic on hostile text.
    closed, open_braces = [], []
    for brace in _BRACES.finditer(text):
        if brace[0] in ("\\{", "\\}"):
            continue
        if brace[0] != "}":
            open_braces.append(brace)
        elif open_braces:
            opened = open_braces.pop()
            if opened[0] != "{":
                closed.append((opened.start(), opened.end(), brace.start()))
    return sorted(closed)


def _joined(text: str, found: list[tuple[int, int, int]], boxes: Boxes) -> str | None:
    taken = [found[-1]]
    for box in reversed(found[:-1]):
        between = text[box[2] + 1 : taken[0][0]]
        nested = box[2] > taken[0][0]
        listed = not nested and len(between) <= 60 and _BETWEEN.fullmatch(between)
        if boxes == "last" or (boxes == "listed" and not listed):
            break
        if not nested:
            taken.insert(0, box)
    return ", ".join(text[begin:end].strip() for _, begin, end in taken) or None


def _unmarked(text: str, hedges: bool) -> str | None:
    if _CJK.search(text):
        text = text.translate(_FULLWIDTH)  # the ordinary digits of Chinese and Japanese text
    text = _STARS.sub(" ", _TAG.sub(" ", text)).replace("\\boxed{", " ")
    said = None
    for said in _STATED.finditer(text):  # noqa: B007 - the last match is what is wanted
        pass
    if said and (answer := _statement(text[said.end() :], hedges)):
        return answer
    values = _values(_CJK.sub(" ", text))
    if len(values) > 1:
        values = [v for v in values if not re.fullmatch(r"\W*[A-Za-z]\W*", v[0])] or values
    while len(values) > 1 and _ASIDE.match(_sentence_before(text, values[-1][1])):
        values.pop()
    return _last(text, values, hedges)


def stated(text: str, *, alone: bool = False) -> str | None:
    """What a sentence gives as its answer, after "answer is"; with alone, also its only value."""
    text, said = _STARS.sub(" ", text), None
    for said in _STATED.finditer(text):  # noqa: B007 - the last match is what is wanted
        pass
    if said:
        return _statement(text[said.end() :], False)
    values = _values(text) if alone else []
    if values and (
        _QUALIFIED.search(text[: values[0][1]]) or _CALCULATED.match(text[values[0][2] :])
    ):
        return None
    variable = len(values) == 1 and re.fullmatch(r"\W*[A-Za-z]\W*", values[0][0])
    return values[0][0] if len(values) == 1 and not variable else None


def _statement(rest: str, hedges: bool) -> str | None:
    """The answer that a text begins with, or else the last value of its first sentence."""
    rest = _CJK.sub(" ", rest[_FILLER.match(rest).end() :])  # type: ignore[union-attr]
    values = _values(rest)
    if values and re.match(r"[^,]?\s*,", rest[values[0][2] - 1 :][:9]):
        listed = _values(rest, listed=True)
        if _SENTENCE_END.match(f"{rest[listed[0][2] :].lstrip(' *$')}\n"):
            values = listed  # "5, 2 more than before" is none
    if values and not rest[: values[0][1]].strip():
        following = rest[values[0][2] :]
        if re.match(r"[^\n.!?0-9]{0,20}\bor\b[^\n.!?0-9]{0,20}[0-9]", following) and not hedges:
            return None
        return values[0][0]
    end = _SENTENCE_END.search(rest)
    sentence = rest[: end.start()] if end else rest
    if values := _values(sentence):
        return _last(sentence, values, hedges)
    words = sentence.strip(" .,;:'\"")
    return words if words and len(words.split()) <= 4 else None


def _last(text: str, values: list[tuple[str, int, int]], hedges: bool) -> str | None:
    before = text[: values[-1][1]][-60:] if values else ""
    if not values or (not hedges and (_HEDGE.search(before) or _QUALIFIED.search(before))):
        return None
    return values[-1][0]


def _sentence_before(text: str, position: int) -> str:
    start = max((m.end() for m in _SENTENCE_END.finditer(text, 0, position)), default=0)
    return text[start:position]


def _values(text: str, *, listed: bool = False) -> list[tuple[str, int, int]]:
    """The formulas and numbers of a text, whole, each with where it starts and ends.

    With listed, a list may begin the text: "answer is" stood before it.
    """
    pieces = list(_PIECE.finditer(text))
    depths = list(accumulate(((c in "([{") - (c in ")]}") for c in text), initial=0))
    runs: list[list[int]] = []  # of pieces, first and last
    for i in range(len(pieces)):
        if not _is_maths(pieces, i):
            continue
        if runs and _continues(text, depths, pieces, runs[-1], i, listed):
            runs[-1][1] = i
        else:
            runs.append([i, i])
    values = []
    for first, last in runs:
        start, end = pieces[first].start(), pieces[last].end()
        value = _trimmed(text[start:end])
        following = pieces[last + 1][0].strip(".,;:!?").lower() if last + 1 < len(pieces) else ""
        if following in _FOLLOWING and not re.search(r"[.;!?]$", text[start:end]):
            value = f"{value} {following}"
        elif following in _OPERATIONS and (rest := _OPERATION.match(text, end)):
            value += rest[0]
        if value:
            values.append((value, start, end))
    return values


def _is_maths(pieces: list[re.Match], i: int) -> bool:
    piece = pieces[i]
    if piece["math"]:
        return True
    word = piece[0].strip(".,;:!?'\"")
    if len(word) == 1 and word.isalpha():  # a variable only beside an operator
        before = pieces[i - 1][0][-1] if i else ""
        after = pieces[i + 1][0][0] if i + 1 < len(pieces) else ""
        times = word == "x" and before.isdigit() and after.isdigit()
        return times or before in _OPERATOR or after in _OPERATOR
    return bool(
        word and _MATHS.fullmatch(word) and _SIGNS.search(word) and not _ORDINAL.match(word)
    )


def _continues(
    text: str, depths: list[int], pieces: list[re.Match], run: list[int], i: int, listed: bool
) -> bool:
    """Whether a piece belongs to the run before it: directly, or in a list with "and" and "or"."""
    end = pieces[run[1]].end()
    last = text[end - 1]
    between = [pieces[k][0].strip(",") for k in range(run[1] + 1, min(i, run[1] + 3))]
    if between in (["or"], ["and"], ["\\text{or}"], ["\\text{and}"]):
        return last not in ".;:!?"
    if between == [""]:  # $2$, $3$
        between, last = [], ","
    if between or "\n" in text[end : pieces[i].start()]:
        return False
    if depths[end] > depths[pieces[run[0]].start()]:  # a bracket is still open
        return True
    if last == ",":  # a list only where it is introduced
        introduced = pieces[run[0] - 1][0].lower().strip("*") if run[0] else ""
        return (listed and not run[0]) or introduced.endswith(("are", "is", "=", ":"))
    return last not in ".;!?"


def _depth(text: str) -> int:
    return sum(c in "([{" for c in text) - sum(c in ")]}" for c in text)


def _trimmed(run: str) -> str:
    """A run without its punctuation and, of a calculation, what stands before the last "="."""
    value = " ".join(run.split()).strip(",;:!?'\"").rstrip(".*")
    value = re.sub(r"^(?:[-+*•]\s+|=\s*)|\s*[-+*/=:]$", "", value).strip()
    while value[-1:] in (")", "]", "}") and _depth(value) < 0:
        value = value[:-1]
    while value[:1] in ("(", "[") and _depth(value) > 0:
        value = value[1:]
    left, equals, right = value.rpartition("=")
    if equals and right.strip() and not re.search(r"[A-Za-z\\<>$]", left):
        value = right.strip()
    dashed = re.fullmatch(r"[0-9]+[-–]([0-9]+)", value)  # "from 10-7" is no difference
    value = dashed[1] if dashed else value
    return value if re.search(r"\w|\\", value) else ""
