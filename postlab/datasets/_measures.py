"""What a row can be measured by without a model: findings that speak against it, counts, a domain.

All are rules of thumb on text, each a few lines; where an oracle or a verifier exists, it decides
instead. Left out: whether a reply is right, kind or safe, which no rule on its surface can tell.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from postlab.datasets import _near

DOMAINS = ("maths", "code", "chat", "instructions")
FAMILIES = {  # tinyworld's
    "arithmetic": "maths",
    "lists": "code",
    "code": "code",
    "facts": "chat",
    "howto": "chat",
    "unsafe": "chat",
    "unknown": "chat",
    "json": "instructions",
    "critique": "instructions",
}
MARKUP = re.compile(r"<\|[a-z_]+\|>|\[/?INST\]|</?s>|^#{2,3} (Instruction|Response|Human):?", re.M)
BROKEN = re.compile("[\N{REPLACEMENT CHARACTER}\x00-\x08\x0b\x0c\x0e-\x1f]")
_ENDED = re.compile(r"[^\w\s,=+/\\-]\s*$")  # a mark, a bracket, an emoji
_HANGING = re.compile(
    r"([,=(\[{]|\b(and|or|the|a|an|of|to|with|that|which|because|is|are|for))\s*$"
)
_SIGNED = re.compile(r"(#\w+|[-–—]\s*[A-Z][\w.]*( [A-Z][\w.]*)*)\s*$")  # a hashtag, '- C.S. Lewis'
_RESULT = re.compile(r"(\b(is|are|answer|total|result)\b|[:=])\s*[$€£]?-?\d[\d.,]*\s?\w*\s*$", re.I)
_LISTED = re.compile(r"^\s*([-*•#|]|\d+[.)])")
_STEP = re.compile(r"^\s*(?:[-*•]|\d+[.)]|step \d+)\s|\d\s*=\s*-?\d|[.!?;](?=\s|$)", re.M | re.I)
_CONSTRAINT = re.compile(
    r"\b(exactly|at (?:most|least)|no (?:more|fewer|less) than|only|without|must|do not|don't|never"
    r"|always|avoid|include|using|in the (?:form|style|format)|format|limit|fewer than|less than"
    r"|json|bullet|sentences?|words?|paragraphs?)\b",
    re.I,
)
_CODE = re.compile(
    r"```|\bdef \w+\(|\bclass \w+[:(]|#include\b|\bimport \w+|\bSELECT\b.+\bFROM\b|</\w+>"
    r"|\b(python|javascript|java|c\+\+|sql|html|css|regex|function that|write (?:a|an) "
    r"(?:program|script|function|query))\b",
    re.I,
)
_MATHS = re.compile(
    r"\d\s*[-+*/×÷^=]\s*\d|\\frac|####|\$[^$]+\$"
    r"|\b(calculate|compute|solve|equation|how (?:many|much)"
    r"|percent(?:age)?|probability|perimeter|area of|square root|average of|sum of|integers?)\b",
    re.I,
)
MEASURES = ("turns", "prompt words", "reply words", "steps in the reply", "constraints asked for")


def domain_of(row: Mapping[str, Any]) -> str:
    """Say what a row practises: 'maths', 'code', 'chat' or 'instructions'.

    A field `domain` decides; then tinyworld's `family`; then words of prompt and reply, which is
    rough: several turns are chat, a single request that is neither maths nor code an instruction.

    >>> domain_of({"prompt": [{"role": "user", "content": "What is 12 + 30?"}]})
    'maths'
    """
    if row.get("domain"):
        return str(row["domain"])
    if row.get("family") in FAMILIES:
        return FAMILIES[row["family"]]
    turns, reply = prompt_of(row), reply_of(row)
    request = " ".join(turn["content"] for turn in turns if turn["role"] == "user")
    if _CODE.search(f"{request}\n{reply}"):
        return "code"
    if _MATHS.search(request) and re.search(r"\d", f"{request} {reply}"):
        return "maths"
    return "chat" if sum(turn["role"] == "user" for turn in turns) > 1 else "instructions"


def prompt_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    prompt = row["prompt"]
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def reply_of(row: Mapping[str, Any]) -> str:
    """The reply to learn: of a completion, a preference (the chosen one) or an answer."""
    for field in ("completion", "chosen", "answer"):
        if (reply := row.get(field)) is not None:
            if not isinstance(reply, list) or not reply:
                return str(reply or "")
            calls = reply[-1].get("tool_calls")
            return reply[-1]["content"] + (json.dumps(calls, sort_keys=True) if calls else "")
    return ""


def asked_text(row: Mapping[str, Any]) -> str:
    """The prompt's text without a system prompt, which many rows share."""
    return "\n".join(m["content"] for m in prompt_of(row) if m["role"] != "system")


def row_text(row: Mapping[str, Any]) -> str:
    """What duplicates are told by: the prompt without a system prompt, and the reply."""
    return f"{asked_text(row)}\n{reply_of(row)}"


def malformed(row: Mapping[str, Any]) -> bool:
    """Nothing to learn from, or something that must not be learned: markup, broken characters."""
    request, reply = asked_text(row), reply_of(row)
    if not request.strip() or not reply.strip():
        return True
    return bool(
        MARKUP.search(reply) or BROKEN.search(request + reply) or reply.strip() == request.strip()
    )


def truncated(reply: str) -> bool:
    """A reply that stops in the middle: an open code block, a hanging word, or prose without end.

    >>> truncated("First wash the rice, then boil it and"), truncated("#### 57")
    (True, False)
    >>> truncated("Each of the 6 tickets costs 14 euros. 6 * 14 is 84. The answer is: 84")
    False
    """
    text = reply.rstrip()
    if text.count("```") % 2:
        return True
    last = text.rsplit("\n", 1)[-1]
    if "```" in text or "|" in last or _LISTED.match(last) or len(text.split()) < 8:
        return False
    if _HANGING.search(text):
        return True
    # Prose: it ended sentences before, and its last line is more than a name or a heading.
    prose = len(last.split()) >= 12 and re.search(r"[.!?] ", text)
    return bool(prose) and not any(e.search(last) for e in (_ENDED, _SIGNED, _RESULT))


def counts(row: Mapping[str, Any]) -> tuple[int, ...]:
    """MEASURES of one row; all but the turns are counted on text."""
    request, reply = asked_text(row), reply_of(row)
    turns = sum(turn["role"] == "user" for turn in prompt_of(row))
    return (
        turns,
        len(request.split()),
        len(reply.split()),
        max(1, len(_STEP.findall(reply))),
        len(_CONSTRAINT.findall(request)),
    )


def opening(row: Mapping[str, Any]) -> str:
    """The kind of request as its opening shows it: the first two words of the last message."""
    return " ".join(_near.words_of(prompt_of(row)[-1]["content"][:80])[:2])


@dataclass(frozen=True)
class Profile:
    """What was read off each row: numbers only, so that a million rows stay small."""

    counts: np.ndarray  # (rows, MEASURES) int32
    kinds: np.ndarray  # (rows,) uint32, a hash of the opening
    domains: np.ndarray  # (rows,) a number a domain
    names: list[str]  # of the domains

    def take(self, rows: np.ndarray) -> Profile:
        return Profile(self.counts[rows], self.kinds[rows], self.domains[rows], self.names)


def profile(rows: Sequence[Mapping[str, Any]]) -> Profile:
    """Measure every row once."""
    names = {name: number for number, name in enumerate(DOMAINS)}
    counted = np.zeros((len(rows), len(MEASURES)), dtype=np.int32)
    kinds, domains = np.zeros(len(rows), dtype=np.uint32), np.zeros(len(rows), dtype=np.uint16)
    for index, row in enumerate(rows):
        counted[index] = counts(row)
        kinds[index] = zlib.crc32(opening(row).encode("utf-8", "surrogatepass"))
        domains[index] = names.setdefault(domain_of(row), len(names))
    return Profile(counted, kinds, domains, list(names))


def diversity(profile: Profile, grams: _near.Grams, texts: Iterable[str]) -> dict[str, float]:
    """Coverage without embeddings: kinds of request, words and their growth, distinct n-grams.

    The two shares of words and n-grams rise wherever rows go, since common ones repeat: compare
    them between sets of one size.
    """
    share = np.unique(profile.kinds, return_counts=True)[1] / max(1, len(profile.kinds))
    ordered = np.sort(grams.hashes)  # np.unique would hold it twice
    distinct = len(ordered[:1]) + np.count_nonzero(ordered[1:] != ordered[:-1])
    words, total = np.zeros(0, dtype=np.uint64), 0
    for some, _ in _near.hashed_words(texts):
        words, total = np.union1d(words, some), total + len(some)
    return {
        "kinds of request": len(share),
        "kinds of request, effective number": float(np.exp(-(share * np.log(share)).sum())),
        "distinct words": len(words),
        "distinct words per 1,000 words": 1000 * len(words) / max(1, total),
        "distinct 3-grams, share": distinct / max(1, int(grams.counted.sum())),
    }


def complexity(profile: Profile) -> dict[str, float]:
    """Means a row, and the share of rows that ask for something to be kept to."""
    means = profile.counts.mean(axis=0) if len(profile.counts) else np.zeros(len(MEASURES))
    measured = {f"{name}, mean": float(mean) for name, mean in zip(MEASURES, means, strict=True)}
    lengths = profile.counts[:, MEASURES.index("reply words")]
    measured["reply words, 95th percentile"] = (
        float(np.quantile(lengths, 0.95)) if len(lengths) else 0.0
    )
    return measured


def shares(profile: Profile) -> dict[str, float]:
    """domain -> share of the rows."""
    counted = np.bincount(profile.domains, minlength=len(profile.names))
    share = counted / max(1, len(profile.domains))
    return dict(zip(profile.names, share.tolist(), strict=True))
