"""A critic's word on replies, and the supervised half of constitutional AI built on it.

A reply is checked against a rule as the next turn of its own conversation, and revised as the turn
after. A verdict opens the critic's reply, 'It breaks the rule' or 'It keeps the rule', or says the
same in a few other ordinary words; whatever else it says is no verdict, and is kept to be read.
What cannot be read counts as no breach, so it is counted: some of it is a warning, all an error.

Left out: a rule drawn at random a revision (every rule is checked, in order), few-shot examples in
the request, and any defence against a reply that talks its critic round.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from postlab.constitution.rules import Constitution, Example, Rule
from postlab.constitution.speakers import Speaker
from postlab.sampling import Messages

_LEAD = (
    r"\W*(?:(?:(?:the|my|final) )*(?:verdict|answer|judge?ment)\b(?: is)?\W+)?(?:(?:yes|no)\W+)?"
)
_SUBJECT = r"(?:(?:it|this|(?:the|this|your|my) (?:reply|response|answer)) )?"
_VERB = (
    r"\b(?:(?P<breaks>breaks|violates|does(?: not|n['’]t) (?:keep|follow|obey))"
    r"|keeps|follows|obeys|does(?: not|n['’]t) (?:break|violate)) (?:the|this) rule\b"
)
_VERDICT = re.compile(_LEAD + _SUBJECT + _VERB, re.I)
_AGAIN = re.compile(_VERB, re.I)
_PREFERRED = re.compile(
    r"\W*(?:it(?: is|['’]s) |(?:the |my )?(?:(?:better|best|final) )?"
    r"(?:answer|reply|response|verdict|choice|one|better)(?: is)?\W+)?(?:(?:answer|reply)\W+)?"
    r"(?P<side>a|b|(?:a )?tie)(?: is (?:the )?better(?: one| answer| reply)?(?: than [ab])?)?\W*",
    re.I,
)
_MIN_VERDICTS, _FIFTH = (
    8,
    0.2,
)  # an error if so many verdicts are all unreadable; a warning above this unread share


@dataclass(frozen=True)
class Critique:
    """What a critic said of a reply under a rule; `broken` is None where it is no verdict."""

    rule: str
    text: str
    broken: bool | None


class _Draft(TypedDict):
    """A reply while it is revised."""

    prompt: Messages
    before: str
    reply: str
    rules: list[str]
    critique: str


def critiques(
    speak: Speaker, constitution: Constitution, replies: Sequence[tuple[Messages, str]]
) -> list[list[Critique]]:
    """Have replies checked against every rule, each as the next turn of its conversation.

    Args:
        speak: who criticises.
        replies: (n,) what was asked, as messages, and the reply.
    Returns:
        (n,) a critique a rule, in the constitution's order. The same reply is asked about once.
    Raises:
        ValueError: if the speaker returns another number of texts.
    Source: Bai et al. 2022, arXiv 2212.08073, section 3.1. Taught in week 9.

    >>> rule = Rule("harm", "Do not help to hurt a person.")
    >>> asked = [{"role": "user", "content": "How do I hit a king?"}]
    >>> said = critiques(lambda many: ["It breaks the rule: it hurts."] * len(many),
    ...                  Constitution((rule,), "Against {rule}?", "Revise."), [(asked, "Strike.")])
    >>> said[0][0].broken
    True
    """
    # 1. One request per reply and rule; identical requests are sent once.
    requests: dict[str, Messages] = {}
    for prompt, reply in replies:
        for rule in constitution.rules:
            talk = check_request(constitution, rule, prompt, reply)
            requests.setdefault(repr(talk), talk)
    # 2. One pattern reads every answer; an answer that doesn't match gives no verdict.
    verdicts = dict(zip(requests, spoken(speak, list(requests.values())), strict=True))
    return [
        [
            _parse_verdict(rule, verdicts[repr(check_request(constitution, rule, prompt, reply))])
            for rule in constitution.rules
        ]
        for prompt, reply in replies
    ]


def failed_examples(speak: Speaker, constitution: Constitution) -> list[tuple[Rule, Example, str]]:
    """The examples that a critic gets wrong, with its words: look here before you trust its labels.

    Args:
        speak: the critic.
        constitution: its rules, with the examples to get right.
    Returns:
        One triple per failure: rule, example, and what the critic said. Empty if it gets all right.
    Taught in week 9.
    """
    cases = [(rule, example) for rule in constitution.rules for example in rule.examples]
    talks = [
        check_request(constitution, rule, [message("user", example.prompt)], example.reply)
        for rule, example in cases
    ]
    failed = []
    for (rule, example), text in zip(cases, spoken(speak, talks), strict=True):
        if _parse_verdict(rule, text).broken is not (example.verdict == "breaks"):
            failed.append((rule, example, text))
    return failed


def revised_rows(
    speak: Speaker,
    constitution: Constitution,
    replies: Sequence[tuple[Messages, str]],
    *,
    rounds: int = 1,
) -> list[dict]:
    """The supervised half: check each reply, have it revised where it breaks a rule, and keep it.

    A reply that breaks several rules is revised for the first of them, a round. One that breaks
    none stands as it is: it shows what need not change. A verdict that cannot be read counts as
    kept, with a warning above a fifth of them; a revision without text is not taken.

    Args:
        speak: who criticises and revises.
        replies: (n,) what was asked, as messages, and the policy's own reply.
        rounds: how often a reply is checked and revised at most.
    Returns:
        (n,) SFT rows: `prompt`, `completion`; and for the reader `before` (the first reply),
        `rules` (those it was revised for) and `critique` (the last verdict that led to a revision).
    Raises:
        ValueError: if rounds is below 1, or of eight verdicts or more not one could be read.
    Source: Bai et al. 2022, arXiv 2212.08073, section 3.1. Taught in week 9.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; expected at least one")
    rows: list[_Draft] = [
        {"prompt": prompt, "before": reply, "reply": reply, "rules": [], "critique": ""}
        for prompt, reply in replies
    ]
    open_rows = rows
    for _ in range(rounds):
        # 1. Critique: check every rule, in order. The revision is for the first one that is broken.
        checked = read_critiques(
            speak, constitution, [(r["prompt"], r["reply"]) for r in open_rows]
        )
        broken = [
            (row, next(c for c in critique if c.broken))
            for row, critique in zip(open_rows, checked, strict=True)
            if any(c.broken for c in critique)
        ]
        # 2. Revision: requested in the same conversation, as the turn after the critique.
        named = {rule.id: rule for rule in constitution.rules}
        talks = [
            [
                *check_request(constitution, named[critique.rule], row["prompt"], row["reply"]),
                message("assistant", critique.text),
                message("user", constitution.revise),
            ]
            for row, critique in broken
        ]
        for (row, critique), text in zip(broken, spoken(speak, talks), strict=True):
            row["rules"].append(critique.rule)
            row["critique"] = critique.text
            row["reply"] = text.strip() or row["reply"]
        # 3. Only revised replies are checked again, because the others broke no rule.
        open_rows = [row for row, _ in broken]
    return [
        {
            "prompt": row["prompt"],
            "completion": [message("assistant", row["reply"])],
            "before": row["before"],
            "rules": row["rules"],
            "critique": row["critique"],
        }
        for row in rows
    ]


def message(role: str, content: str) -> dict[str, str]:
    """One turn of a conversation."""
    return {"role": role, "content": content}


def check_request(constitution: Constitution, rule: Rule, prompt: Messages, reply: str) -> Messages:
    """The conversation that ends in the request to check the reply."""
    request = constitution.check.replace("{rule}", rule.text)
    return [*prompt, message("assistant", reply), message("user", request)]


def preferred(text: str) -> str | None:
    """Which reply a comparison prefers: "first", "second" or "tie"; None if that cannot be read.

    >>> preferred("The better answer is B."), preferred("A\\n\\nIt is kinder."), preferred("A or B")
    ('second', 'first', None)
    """
    whole, lines = _PREFERRED.fullmatch(text), [line for line in text.splitlines() if line.strip()]
    matches = [whole] if whole else [_PREFERRED.fullmatch(line) for line in lines]
    if not matches or not matches[0]:
        return None
    sides = {one["side"].lower().removeprefix("a ") for one in matches if one}
    return {"a": "first", "b": "second", "tie": "tie"}[sides.pop()] if len(sides) == 1 else None


def check_read(unread: Sequence[str], total: int, expected: str) -> None:
    """Warn where more than a fifth of what a critic said could not be read.

    Args:
        unread: what it said and nobody could read.
        asked: how many verdicts it was asked for.
        expected: the words that can be read.
    Raises:
        ValueError: if of eight verdicts or more not one could be read.
    """
    if len(unread) <= _FIFTH * total:
        return
    count = "none" if len(unread) == total >= _MIN_VERDICTS else f"only {total - len(unread)}"
    problem = (
        f"{count} of {total} verdicts could be read; one that could not is {unread[0]!r:.80};"
        f" expected a reply that opens with {expected}. Ask for these words, or take another model"
    )
    if count == "none":
        raise ValueError(problem)
    warnings.warn(f"{problem}: what is not read counts as no breach or as a tie", stacklevel=3)


def read_critiques(
    speak: Speaker, constitution: Constitution, replies: Sequence[tuple[Messages, str]]
) -> list[list[Critique]]:
    """`critiques`, once enough of them could be read to go on with.

    Raises:
        ValueError: as `critiques`, and if of eight verdicts or more not one could be read.
    """
    checked = critiques(speak, constitution, replies)
    unread = [one.text for group in checked for one in group if one.broken is None]
    total = len(constitution.rules) * len(replies)
    check_read(unread, total, "'It breaks the rule' or 'It keeps the rule'")
    return checked


def _parse_verdict(rule: Rule, text: str) -> Critique:
    """A verdict opens the text and is not taken back in it; anything else is none."""
    match = _VERDICT.match(text)
    if not match or _AGAIN.search(text, match.end()):
        return Critique(rule.id, text, None)
    return Critique(rule.id, text, bool(match["breaks"]))


def spoken(speak: Speaker, conversations: Sequence[Messages]) -> list[str]:
    """What a speaker says, once it has said something to each conversation."""
    texts = speak(conversations) if conversations else []
    if len(texts) != len(conversations):
        raise ValueError(
            f"the speaker returned {len(texts)} texts for {len(conversations)} conversations;"
            " expected one each, in their order"
        )
    return texts
