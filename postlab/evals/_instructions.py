"""Constraints that a program can check: is an answer as long, formed and worded as was asked?

A constraint is {"kind": "words", "most": 20}: a kind of `KINDS` with that kind's arguments.
Words are runs of letters and digits, with apostrophes and hyphens inside; the numbers and dashes
in front of list items are not words. A sentence ends at a full stop, a question or an exclamation
mark before a space, at a blank line and at the end of a list item. One code fence around the whole
answer and Markdown's emphasis are taken off first, since no prompt forbids them unless it asks for
an answer without such marks.

Left out: whether the answer is true, kind or about the subject. An empty answer meets nothing.
Every check takes linear time, on a model's endless dots as well.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from textwrap import dedent
from typing import Any

WORD = re.compile(r"[^\W_]+(?:(?:['-]|(?<=[0-9])[.,](?=[0-9]))[^\W_]+)*")
BULLET = re.compile(
    r"^([ \t]*)(?:[-*+\u2013][ \t]+|-(?=[^\W\d])|[\u2022\u25cf\u25e6\u25aa][ \t]*)(?=\S)",
    re.MULTILINE,
)
NUMBERED = re.compile(r"^([ \t]*)[0-9]{1,3}[.):](?:[ \t]+|(?=[^\W\d]))(?=\S)", re.MULTILINE)
ITEM = re.compile(rf"{BULLET.pattern}|{NUMBERED.pattern}", re.MULTILINE)
HEADING = re.compile(r"^#{1,6} .*$", re.MULTILINE)
BREAK = re.compile(r"\n[ \t]*\n")
SHORT = re.compile(  # titles, and the initials of a name
    r"\b(?i:mr|mrs|ms|dr|st|vs|e\.g|i\.e)\.|(?<![\w'])[A-HJ-Z]\.(?= [A-Z])"
)
# Without the lookbehind, a run of dots would be tried from each of its dots.
SENTENCE_END = re.compile(r"(?<![.!?])[.!?]+[\"')\]]*(?=\s|$)")
EMPHASIS = re.compile(
    r"(?<!\w)\*{1,3}(?=\S)|(?<=\S)\*{1,3}(?!\w)|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)|`"
)
PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\xa0": " "})
# The commonest short words, by which a text tells its language.
COMMON = {
    "english": "the and of to in is that it was for on are with as at be this have from or had by "
    "an they you he she we can not but if there their which when your will do so",
    "french": "le la les des et est un une dans que qui pour pas sur avec il elle je vous nous du "
    "l d j c n s qu de en ce au plus se sont on par ou mais ont très aussi tout cette ces son sa "
    "ses comme leur voici fait peut quand sans",
    "german": "der die das und ist nicht ein eine zu den mit sich auf für es dem von auch wir ich "
    "in sie im man wie sind dann oder bei aus wird werden kann haben hat aber nach oft einen einem "
    "einer nur noch um zum zur durch über diese sehr des am",
    "italian": "il lo la gli e è un una di che non per con sono del della si le nel alla mi più "
    "in i l da dei delle anche ma molto dal questo questa come nella degli al suo sua ci ha hanno "
    "quando",
    "portuguese": "o os as e é um uma de que não para com por do da dos das em se mais no na você "
    "são ou como ao também muito mas quando seu sua pelo pela este esta tem têm foi isso à até",
    "spanish": "el los y es un una de que no para con por del se en lo su al más yo está como "
    "la las son o sus también hay muy pero cuando donde este esta tiene tienen desde porque sin ya",
}
LANGUAGES = {name: frozenset(words.split()) for name, words in COMMON.items()}
ENGLISH_ONLY = LANGUAGES["english"] & {"the", "and", "of", "with", "is", "was", "from", "are", "it"}


def met(constraint: Mapping[str, Any], answer: str) -> bool:
    """Whether an answer meets one constraint.

    Args:
        constraint: {"kind", its arguments}, as `check_constraint` accepts it.
        answer: a model's text, special tokens stripped.
    """
    kind = constraint["kind"]
    text = unfenced(answer) if kind in AS_WRITTEN else bare(answer)
    arguments = {name: value for name, value in constraint.items() if name != "kind"}
    return bool(text) and KINDS[kind][0](text, **arguments)


def check_constraint(constraint: Any) -> None:
    """Raise ValueError unless `met` can read this constraint."""
    if not isinstance(constraint, Mapping) or constraint.get("kind") not in list(KINDS):
        raise ValueError(f"constraint {constraint!r:.80}; expected a kind of {', '.join(KINDS)}")
    expected = KINDS[constraint["kind"]][1]
    arguments = {name: value for name, value in constraint.items() if name != "kind"}
    needed = set(expected) - set(RANGE)
    ranged = set(RANGE) & set(expected)
    bounds = [arguments[name] for name in RANGE if name in arguments]
    if (
        not needed <= set(arguments) <= set(expected)
        or (ranged and not bounds)
        or not all(_fits(name, value) for name, value in arguments.items())
        or bounds != sorted(bounds)
    ):
        shapes = ", ".join(f"{name} ({VALUES[name]})" for name in expected)
        raise ValueError(
            f"constraint {constraint['kind']!r} has the arguments {arguments!r:.120}; expected "
            f"{shapes}" + ("; one of least and most is enough" if ranged else "")
        )


def unfenced(answer: str) -> str:
    """The answer without a code fence around the whole of it."""
    text = dedent(answer).strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        first, newline, rest = text[3:-3].partition("\n")
        text = rest if newline and (not first.strip() or first.strip().isalnum()) else text[3:-3]
    return text.strip()


def bare(answer: str) -> str:
    """The answer without a fence around the whole of it, emphasis and curly quotes."""
    return EMPHASIS.sub("", unfenced(answer).translate(PLAIN)).strip()


def words(text: str) -> list[str]:
    """The words of a text, in lower case, without the marks of list items."""
    return [word.lower() for word in WORD.findall(ITEM.sub("", text))]


def sentences(text: str) -> list[str]:
    """The sentences of a text; a last one without a full stop counts.

    A stop before a small letter ends nothing ("5 p.m. and", '"Stop!" she said') unless the whole
    text is in small letters.
    """
    if ITEM.search(text):
        text = ITEM.sub("", text).replace("\n", "\n\n")
    marked = SHORT.sub(lambda match: match[0][:-1], text)
    parts, start, small = [], 0, marked == marked.lower()
    for end in SENTENCE_END.finditer(marked):
        after = marked[end.end() : end.end() + 3].lstrip()[:1]
        if small or not after.islower() or "\n" in marked[end.end() : end.end() + 2]:
            parts.append(marked[start : end.end()])
            start = end.end()
    parts.append(marked[start:])
    blocks = [block for part in parts for block in BREAK.split(part)]
    return [block for block in blocks if WORD.search(block)]


def _between(count: int, *, least: int = 0, most: int | None = None) -> bool:
    return least <= count and (most is None or count <= most)


def _words(text: str, **bounds: int) -> bool:
    return _between(len(words(text)), **bounds)


def _sentences(text: str, **bounds: int) -> bool:
    return _between(len(sentences(text)), **bounds)


def _paragraphs(text: str, **bounds: int) -> bool:
    blocks = BREAK.split(HEADING.sub("", text))
    return _between(sum(bool(WORD.search(block)) for block in blocks), **bounds)


def _lines(text: str, **bounds: int) -> bool:
    return _between(sum(bool(line.strip()) for line in text.splitlines()), **bounds)


def _bullets(text: str, **bounds: int) -> bool:
    return _between(_items(BULLET, text), **bounds)


def _numbered(text: str, **bounds: int) -> bool:
    return _between(_items(NUMBERED, text), **bounds)


def _items(mark: re.Pattern[str], text: str) -> int:
    """How many items a list has, those of lists inside it left out."""
    depths = [len(depth.expandtabs(4)) for depth in mark.findall(text)]
    outer = min(depths, default=0) + 1  # lists are often set one space in
    return sum(depth <= outer for depth in depths)


def _flat(text: str) -> str:
    """Words between spaces; a compound and a possessive count as their parts."""
    plain = [word.removesuffix("'s") for word in words(text.translate(PLAIN))]
    return f" {' '.join(plain).replace('-', ' ')} "


def _include(text: str, *, phrases: Sequence[str]) -> bool:
    flat = _flat(text)
    return all(_flat(phrase) in flat for phrase in phrases)


def _avoid(text: str, *, phrases: Sequence[str]) -> bool:
    flat = _flat(text)
    return not any(_flat(phrase) in flat for phrase in phrases)


def _count(text: str, *, word: str, **bounds: int) -> bool:
    return _between(_flat(text).split().count(word.lower()), **bounds)


def _avoid_letters(text: str, *, letters: str) -> bool:
    return not set(letters.lower()) & set(unicodedata.normalize("NFKD", text).lower())


def _avoid_marks(text: str, *, marks: str) -> bool:
    return not set(marks) & set(text.translate(PLAIN))


def _starts(text: str, *, phrase: str) -> bool:
    return words(text)[: len(words(phrase))] == words(phrase)


def _ends(text: str, *, phrase: str) -> bool:
    return words(text)[-len(words(phrase)) :] == words(phrase)


def _case(text: str, *, case: str) -> bool:
    return text == (text.upper() if case == "upper" else text.lower()) and bool(words(text))


def _json(text: str, *, keys: Sequence[str]) -> bool:
    """One JSON object with exactly these keys and nothing around it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) == set(keys)


def _language(text: str, *, language: str) -> bool:
    """More of this language's common words than of any other's, and no English beside them."""
    parts = [part for word in words(text) for part in word.split("'")]
    counts = {name: sum(part in common for part in parts) for name, common in LANGUAGES.items()}
    mine = counts.pop(language)
    beside = 0 if language == "english" else sum(part in ENGLISH_ONLY for part in parts)
    return mine > max(counts.values()) and 4 * beside < mine


def _one_of(text: str, *, options: Sequence[str]) -> bool:
    """Nothing but one of the options."""
    return words(text) in [words(option) for option in options]


def _question(text: str, *, ends: bool) -> bool:
    signs = {mark for mark in text[-40:] if unicodedata.category(mark)[0] in "SMCZ"}  # emoji
    return text.rstrip("\"')" + "".join(signs)).endswith("?") == ends


def _fits(name: str, value: Any) -> bool:
    if name in RANGE:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if name in ("phrases", "keys", "options"):
        listed = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
        return listed and all(isinstance(part, str) and words(part) for part in value)
    if name == "ends":
        return isinstance(value, bool)
    if name in ("phrase", "word"):
        return isinstance(value, str) and bool(words(value))
    choices = {"case": ("upper", "lower"), "language": tuple(LANGUAGES)}
    return isinstance(value, str) and bool(value) and value in choices.get(name, (value,))


RANGE = ("least", "most")
VALUES = {  # argument: what it is, for messages
    "least": "a count", "most": "a count, not under least", "phrases": "a list of texts",
    "word": "a word", "letters": "a text of letters", "marks": "a text of marks",
    "phrase": "a text", "case": "upper or lower", "keys": "a list of names",
    "language": ", ".join(LANGUAGES), "options": "a list of texts", "ends": "true or false",
}  # fmt: skip
KINDS: dict[str, tuple[Callable[..., bool], tuple[str, ...]]] = {  # kind: check, its arguments
    "words": (_words, RANGE),
    "sentences": (_sentences, RANGE),
    "paragraphs": (_paragraphs, RANGE),
    "lines": (_lines, RANGE),
    "bullets": (_bullets, RANGE),
    "numbered": (_numbered, RANGE),
    "include": (_include, ("phrases",)),
    "avoid": (_avoid, ("phrases",)),
    "count": (_count, ("word", *RANGE)),
    "avoid_letters": (_avoid_letters, ("letters",)),
    "avoid_marks": (_avoid_marks, ("marks",)),
    "starts": (_starts, ("phrase",)),
    "ends": (_ends, ("phrase",)),
    "case": (_case, ("case",)),
    "json": (_json, ("keys",)),
    "language": (_language, ("language",)),
    "one_of": (_one_of, ("options",)),
    "question": (_question, ("ends",)),
}
AS_WRITTEN = ("json", "avoid_marks")  # emphasis is part of what these look at
