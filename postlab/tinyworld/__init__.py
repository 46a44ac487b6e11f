"""The embedded world: six task families of known truth, and a base that read about them."""

from typing import TYPE_CHECKING

from postlab import _doors

if TYPE_CHECKING:  # each is imported when it is first used: most of them need torch
    from postlab.tinyworld import corpus, oracle, tasks, verifiable, words

__all__ = ["corpus", "oracle", "tasks", "verifiable", "words"]

_doors.publish(__name__)
