"""Verifiable rewards in TRL's protocol: `(completions, **columns) -> list[float | None]`."""

from postlab.rewards.format import format_reward
from postlab.rewards.math import answers_match, extract_answer, math_reward

__all__ = ["answers_match", "extract_answer", "format_reward", "math_reward"]
