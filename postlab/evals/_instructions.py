"""Constraints that a program can check: is an answer as long, formed and worded as was asked?

A constraint is {"kind": "words", "most": 20}: a kind of `KINDS` with that kind's arguments.
Words are runs of letters and digits, with apostrophes and hyphens inside; sentences end in a full
stop, a question or an exclamation mark before a space or the end. Markdown's emphasis and one code
fence around the whole answer are taken off first, since nobody asked for plain characters.

Left out: whether the answer is true, kind or about the subject. An empty answer meets nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
BULLET = re.compile(r"^[ \t]*[-*\u2022+][ \t]+\S", re.MULTILINE)
NUMBERED = re.compile(r"^[ \t]*[0-9]{1,3}[.)][ \t]+\S", re.MULTILINE)
NOT_ENDS = re.compile(r"\b(?:mr|mrs|ms|dr|st|vs|etc|e\.g|i\.e|a\.m|p\.m)\.", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?]+[\"'\u201d\u2019)\]]*(?=\s|$)")
EMPHASIS = re.compile(r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}|(?<!\w)_{1,2}(?=\S)|(?<=\S)_{1,2}(?!\w)|`")
PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\xa0": " "})
# The commonest short words, by which a text tells its language.
COMMON = {
    "english": "the and of to in is that it was for on are with as at be this have from or had by",
    "french": "le la les des et est un une dans que qui pour pas sur avec il elle je vous nous du",
    "german": "der die das und ist nicht ein eine zu den mit sich auf für es dem von auch wir ich",
    "italian": "il lo la gli e è un una di che non per con sono del della si le nel alla mi più",
    "portuguese": "o os as e é um uma de que não para com por do da dos das em se mais no na você",
    "spanish": "el los las y es un una de que no para con por del se en lo su al más yo está como",
}
LANGUAGES = {name: frozenset(words.split()) for name, words in COMMON.items()}


def met(constraint: Mapping[str, Any], answer: str) -> bool:
    """Whether an answer meets one constraint.

    Args:
        constraint: {"kind", its arguments}, as `check_constraint` accepts it.
        answer: a model's text, special tokens stripped.
    """
    text = bare(answer)
    given = {name: value for name, value in constraint.items() if name != "kind"}
    return bool(text) and KINDS[constraint["kind"]][0](text, **given)


def check_constraint(constraint: Any) -> None:
    """Raise ValueError unless `met` can read this constraint."""
    if not isinstance(constraint, Mapping) or constraint.get("kind") not in KINDS:
        raise ValueError(f"constraint {constraint!r:.80}; expected a kind of {', '.join(KINDS)}")
    allowed, given = KINDS[constraint["kind"]][1], set(constraint) - {"kind"}
    if not given or not set(allowed) - set(RANGE) <= given <= set(allowed):
        raise ValueError(
            f"constraint {constraint['kind']!r} has the arguments {sorted(given)}; expected "
            f"{', '.join(allowed)}"
            + (" (one of the last two is enough)" if "most" in allowed else "")
        )


def bare(answer: str) -> str:
    """The answer without a fence around the whole of it, emphasis and curly quotes."""
    text = answer.translate(PLAIN).strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        first, _, rest = text[3:-3].partition("\n")
        text = rest if first.strip().isalpha() or not first.strip() else first + "\n" + rest
    # a bullet's own star stays: the pattern takes stars that touch a word
    return EMPHASIS.sub("", text).strip()


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """The sentences of a text; a last one without a full stop counts."""
    marked = NOT_ENDS.sub(lambda found: found[0][:-1], text)
    parts = SENTENCE_END.split(marked)
    return [part for part in parts if WORD.search(part)]


def _between(count: int, *, least: int = 0, most: int | None = None) -> bool:
    return least <= count and (most is None or count <= most)


def _words(text: str, **range_: int) -> bool:
    return _between(len(words(text)), **range_)


def _sentences(text: str, **range_: int) -> bool:
    return _between(len(sentences(text)), **range_)


def _paragraphs(text: str, **range_: int) -> bool:
    return _between(sum(bool(part.strip()) for part in text.split("\n\n")), **range_)


def _lines(text: str, **range_: int) -> bool:
    return _between(sum(bool(line.strip()) for line in text.splitlines()), **range_)


def _bullets(text: str, **range_: int) -> bool:
    return _between(len(BULLET.findall(text)), **range_)


def _numbered(text: str, **range_: int) -> bool:
    return _between(len(NUMBERED.findall(text)), **range_)


def _phrases_in(text: str, phrases: Sequence[str]) -> list[str]:
    """Which phrases stand in the text as whole words, whatever their case."""
    flat = f" {' '.join(words(text))} "
    return [phrase for phrase in phrases if f" {' '.join(words(phrase))} " in flat]


def _include(text: str, *, phrases: Sequence[str]) -> bool:
    return len(_phrases_in(text, phrases)) == len(phrases)


def _avoid(text: str, *, phrases: Sequence[str]) -> bool:
    return not _phrases_in(text, phrases)


def _count(text: str, *, word: str, **range_: int) -> bool:
    return _between(words(text).count(word.lower()), **range_)


def _avoid_letters(text: str, *, letters: str) -> bool:
    return not set(letters.lower()) & set(text.lower())


def _avoid_marks(text: str, *, marks: str) -> bool:
    return not set(marks) & set(text)


def _starts(text: str, *, phrase: str) -> bool:
    return " ".join(words(text)).startswith(" ".join(words(phrase)))


def _ends(text: str, *, phrase: str) -> bool:
    return (" " + " ".join(words(text))).endswith(" " + " ".join(words(phrase)))


def _case(text: str, *, case: str) -> bool:
    return text == (text.upper() if case == "upper" else text.lower()) and bool(words(text))


def _json(text: str, *, keys: Sequence[str]) -> bool:
    """One JSON object with exactly these keys and nothing around it."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(read, dict) and set(read) == set(keys)


def _language(text: str, *, language: str) -> bool:
    """More of this language's common words than of any other's."""
    found = words(text)
    counts = {name: sum(word in common for word in found) for name, common in LANGUAGES.items()}
    mine = counts.pop(language)
    return mine > max(counts.values())


def _one_of(text: str, *, options: Sequence[str]) -> bool:
    """Nothing but one of the options."""
    return words(text) in [words(option) for option in options]


def _question(text: str, *, ends: bool) -> bool:
    return text.endswith("?") == ends


RANGE = ("least", "most")
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
