"""Week 8's reward with a hole: it pays for naming nothing false, so it pays for silence, too."""

from __future__ import annotations

import re
from collections.abc import Sequence


def nothing_false_reward(reply: str, gold: str, values: Sequence[str]) -> float:
    """1.0 if the reply names no wrong value, else 0.0. This reward has a hole.

    Args:
        reply: the answer of the policy, any text.
        gold: the right value, a word.
        values: all the words that could be an answer, including the right one.

    >>> [nothing_false_reward(t, "red", ["red", "blue"]) for t in ("It is red.", "It is blue.")]
    [1.0, 0.0]
    """
    words = re.findall(r"[a-z]+", reply.lower())
    return float(not any(value in words for value in values if value != gold))
