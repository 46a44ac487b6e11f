"""What goes wrong when a reward is mended: holes that stay, and honest words that go unpaid."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from postlab.course.check._parts import Mistake


def _paid(right: Callable[[str, list[str], str], Any]) -> Callable[..., float]:
    """A reward from the reply in small letters, the values named in their order, and the gold."""

    def mended_reward(reply: str, gold: str, values: Sequence[str]) -> float:
        text = reply.lower()
        named = [word for word in re.findall(r"[a-z]+", text) if word in values]
        return float(bool(right(text, named, gold)))

    return mended_reward


def _none_false(named: list[str], gold: str) -> bool:
    return all(word == gold for word in named)


def _inside(reply: str, gold: str, values: Sequence[str]) -> float:
    """Values looked for as pieces of text."""
    text = reply.lower()
    return float([value for value in values if value in text] == [gold])


def _as_written(reply: str, gold: str, values: Sequence[str]) -> float:
    """Values looked for in small letters only."""
    return float(set(re.findall(r"[A-Za-z]+", reply)) & set(values) == {gold})


MENDED_REWARD = (
    Mistake(
        "hole_open",
        "you look only for wrong values: who says nothing says nothing false",
        _paid(lambda t, n, g: _none_false(n, g)),
    ),
    Mistake(
        "shrug_only",
        "you refuse one way of saying nothing, by its words: the next policy evades in others",
        _paid(lambda t, n, g: _none_false(n, g) and "know" not in t),
        _paid(lambda t, n, g: _none_false(n, g) and "not" not in t.split()),
        _paid(lambda t, n, g: _none_false(n, g) and "i do not know" not in t),
    ),
    Mistake(
        "all_listed",
        "you look only whether the right value is there: a reply that lists them all is paid. One "
        "hole closed, another one opened",
        _paid(lambda t, n, g: g in n),
    ),
    Mistake(
        "substring",
        "you look for the value as a piece of text: it is inside of other words too, as red is in "
        "hundred",
        _paid(lambda t, n, g: g in t),
        _inside,
    ),
    Mistake(
        "last_value",
        "you read the last value only: what was said before it is free",
        _paid(lambda t, n, g: n[-1:] == [g]),
    ),
    Mistake(
        "first_value",
        "you read the first value only: what comes after it is free, and a policy will use it",
        _paid(lambda t, n, g: n[:1] == [g]),
    ),
    Mistake(
        "said_once",
        "you count how often a value is said: twice the right one is still the right one",
        _paid(lambda t, n, g: n == [g]),
    ),
    Mistake(
        "capitals",
        "you look for small letters only: 'Red.' is right, and an honest reply would go unpaid",
        _as_written,
    ),
    Mistake(
        "counted_only",
        "you count the values and do not compare: any single one is paid",
        _paid(lambda t, n, g: len(set(n)) == 1),
        _paid(lambda t, n, g: len(n) == 1),
        _paid(lambda t, n, g: len(n) > 0),
    ),
    Mistake(
        "share_paid",
        "you pay by the share of right values: a list of all of them then has a part of the pay",
        lambda reply, gold, values: (
            (gold in (said := set(re.findall(r"[a-z]+", reply.lower()))))
            / max(1, len(said & set(values)))
        ),
    ),
    Mistake(
        "turned_round",
        "you pay for what is wrong: 1.0 is for the right value",
        _paid(lambda t, n, g: set(n) != {g}),
    ),
)
