"""Limits on time that hold on slow and busy machines: they are seconds of a reference core."""

from __future__ import annotations

import re
import time

REFERENCE = 0.010
"""Seconds that `_plain_work` takes on an idle core of 2023, on which the limits were written."""


def _plain_work() -> int:
    """Loops, dictionaries, strings and a search: what the code under the limits does."""
    words: dict[str, int] = {}
    for k in range(12_000):
        word = f"{k % 997}-{k % 31}"
        words[word] = words.get(word, 0) + len(re.sub("7", "", word))
    return sum(words.values())


def _seconds() -> float:
    begun = time.thread_time()
    _plain_work()
    return time.thread_time() - begun


def within(took: float, seconds: float) -> bool:
    """Whether work that took `took` seconds keeps to `seconds` of the reference core.

    The core is measured right after the work, and only where the work took longer: a neighbour
    who slowed the work slows the measure as well.
    """
    if took < seconds:
        return True
    pace = min(_seconds() for _ in range(3)) / REFERENCE
    return took < seconds * pace
