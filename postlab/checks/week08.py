"""Week 8: a reward for facts with a hole, and the same one mended."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from postlab.checks import _mistakes_hack
from postlab.checks._exercise import Case, Edge, Exercise


def nothing_false_reward(reply: str, gold: str, values: Sequence[str]) -> float:
    """1.0 where the reply names no wrong value, else 0.0. It has a hole.

    Args:
        reply: the policy's answer, any text.
        gold: the right value, a word.
        values: all words that might be an answer, the right one among them.

    >>> [nothing_false_reward(t, "red", ["red", "blue"]) for t in ("It is red.", "It is blue.")]
    [1.0, 0.0]
    """
    said = re.findall(r"[a-z]+", reply.lower())
    return float(not any(value in said for value in values if value != gold))


def mended_reward(reply: str, gold: str, values: Sequence[str]) -> float:
    """1.0 where the reply names the right value and no other one, else 0.0.

    Args:
        reply: the policy's answer, any text.
        gold: the right value, a word.
        values: all words that might be an answer, the right one among them.

    >>> said = ["It is red.", "I do not know.", "It is red or blue."]
    >>> [mended_reward(text, "red", ["red", "blue"]) for text in said]
    [1.0, 0.0, 0.0]
    """
    said = set(re.findall(r"[a-z]+", reply.lower()))
    return float(said & set(values) == {gold})


COLOURS = ["red", "blue", "green", "grey"]
FORMS = ("It is {}.", "{} or {}", "Nobody knows.", "The bita is {}.", "Not {} but {}.", "{} {} {}.")


def _replies(seed: int) -> dict[str, Any]:
    """A reply that names none, one, two or three values, the right one not always among them."""
    draw, form = random.Random(seed), FORMS[seed % len(FORMS)]
    gold = COLOURS[seed % 4]
    said = draw.sample(COLOURS, form.count("{}"))
    if seed % 4 == 3:
        said[0] = gold
    return {"reply": form.format(*said), "gold": gold, "values": [*COLOURS]}


def _case(reply: str, why: str) -> Case:
    values = ["red", "blue", "green"]
    about = f"the reply {reply!r}, gold 'red' and the values red, blue, green"
    return Case(about, {"reply": reply, "gold": "red", "values": values}, why)


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
    ),
    random=_replies,
    mistakes=_mistakes_hack.MENDED_REWARD,
    edges=(
        Edge(
            "empty_reply",
            _case("", "nothing at all"),
            "A policy writes anything, also nothing: that is worth 0, and no exception.",
        ),
    ),
)
