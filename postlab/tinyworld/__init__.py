"""The embedded world: six task families with known answers, and the texts to train on."""

from typing import TYPE_CHECKING

from postlab import _doors

if TYPE_CHECKING:  # each is imported when it is first used: most of them need torch
    from postlab.tinyworld import corpus, oracle, tasks, verifiable, words

__all__ = ["corpus", "oracle", "tasks", "verifiable", "words"]

_doors.publish(__name__)
