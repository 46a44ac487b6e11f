"""Week 8: a reward for facts with a hole, the same one mended, and groups that teach nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week08 import mistakes_groups, mistakes_hack


def mended_reward(reply: str, gold: str, values: Sequence[str]) -> float:
    """1.0 where the reply names the right value and no other one, else 0.0.

    Args:
        reply: the policy's answer, any text.
        gold: the right value, a word.
        values: all words that might be an answer, the right one among them.

    >>> replies = ["It is red.", "I do not know.", "It is red or blue."]
    >>> [mended_reward(text, "red", ["red", "blue"]) for text in replies]
    [1.0, 0.0, 0.0]
    """
    words = set(re.findall(r"[a-z]+", reply.lower()))
    return float(words & set(values) == {gold})


def silent_share(p: float, size: int) -> float:
    """Chance that `size` answers, each right with chance `p`, are all right or all wrong.

    Args:
        p: from 0 to 1.
        size: answers a group, 1 or more.
    Source: arXiv 2503.14476, section 3.2. Taught in week 8.

    >>> silent_share(0.5, 2), silent_share(0.5, 4)
    (0.5, 0.125)
    """
    return p**size + (1 - p) ** size


COLOURS = ["red", "blue", "green", "grey"]
FORMS = ("It is {}.", "{} or {}", "Nobody knows.", "The bita is {}.", "Not {} but {}.", "{} {} {}.")


def _replies(seed: int) -> dict[str, Any]:
    """A reply that names none, one, two or three values, the right one not always among them."""
    draw, form = random.Random(seed), FORMS[seed % len(FORMS)]
    gold = COLOURS[seed % 4]
    colours = draw.sample(COLOURS, form.count("{}"))
    if seed % 4 == 3:
        colours[0] = gold
    return {"reply": form.format(*colours), "gold": gold, "values": [*COLOURS]}


def _case(reply: str, why: str) -> Case:
    values = ["red", "blue", "green"]
    about = f"the reply {reply!r}, gold 'red' and the values red, blue, green"
    return Case(about, {"reply": reply, "gold": "red", "values": values}, why)


def _chances(seed: int) -> dict[str, Any]:
    """Never 0.5, where right and wrong are alike."""
    draw = random.Random(seed)
    return {"p": draw.choice([0.15, 0.85, 0.3, 0.7]) + 0.1 * draw.random(), "size": 2 + seed % 5}


MENDED_REWARD = Exercise(
    name="mended_reward",
    reference=mended_reward,
    positional=("reply", "gold", "values"),
    cases=(
        _case("The bita is red.", "the right value and no other"),
        _case("I do not know.", "nothing false, and nothing said: this is the hole"),
        _case("Its colour is a matter of taste.", "the same in other words"),
        _case("The bita is blue.", "a wrong value"),
        _case("It is red or blue or green.", "all values: the right one is bound to be there"),
        _case("It is blue, no, red.", "two values, the right one last"),
        _case("It is red, or blue.", "two values, the right one first"),
        _case("It hundred is.", "hundred is no red"),
        _case("Red.", "the right value, at the head of a sentence"),
        _case("Red, red, red.", "the right value and no other, said often"),
        _case("It is red indeed.", "the right value, and a word behind it"),
        _case("Red, red, or blue.", "two values, the right one more often"),
        _case("It is blue or red.", "two values, the right one last"),
        _case("It is red, not blue.", "two values, the right one first"),
    ),
    random=_replies,
    plain=mistakes_hack.mended_reward,
    mistakes=mistakes_hack.MENDED_REWARD,
    edges=(
        Edge(
            "empty_reply",
            _case("", "nothing at all"),
            "A policy writes anything, also nothing: that is worth 0, and no exception.",
            ("named = -> reply.split()[0]; named =",),
        ),
        Edge(
            "capital_elsewhere",
            _case("Blue or red.", "two values, the wrong one with a capital"),
            "A wrong value counts with a capital too: lower the reply before you look for any.",
            (
                """def mended_reward(reply, gold, values):
    words = re.findall('[A-Za-z]+', reply)
    return float(gold in map(str.lower, words) and not set(words) & set(values) - {gold})""",
            ),
        ),
    ),
)
SILENT_SHARE = Exercise(
    name="silent_share",
    reference=silent_share,
    positional=("p", "size"),
    cases=(
        Case("p 0.25 and size 2", {"p": 0.25, "size": 2}, "0.25 squared plus 0.75 squared"),
        Case("p 0.8 and size 4", {"p": 0.8, "size": 4}, "0.4096 + 0.0016"),
    ),
    random=_chances,
    mistakes=mistakes_groups.SILENT_SHARE,
    edges=(
        Edge(
            "certain",
            Case("p 0 and size 4", {"p": 0.0, "size": 4}, "all are wrong, for sure"),
            "A prompt that is never solved is a chance like any other: no division by p.",
            ("return p ** size -> return p ** (size + 1) / p",),
        ),
    ),
)
