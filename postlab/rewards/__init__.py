"""Verifiable rewards in TRL's protocol: `(completions, **columns) -> list[float | None]`."""

from postlab.rewards.code import code_reward
from postlab.rewards.format import format_reward
from postlab.rewards.math import answers_match, extract_answer, math_reward
from postlab.rewards.schema import schema_reward

__all__ = [
    "answers_match",
    "code_reward",
    "extract_answer",
    "format_reward",
    "math_reward",
    "schema_reward",
]
