"""Verifiable rewards in TRL's protocol: mathematics, format, code and JSON schemas.

A reward takes `(completions, **columns)` and returns a list of floats, with None for each item that
it can't score.
"""

from postlab import _doors
from postlab.rewards._reply import after_thinking, fenced, reply_text
from postlab.rewards._tests import read_tests
from postlab.rewards.code import code_reward
from postlab.rewards.format import format_reward
from postlab.rewards.math import answers_match, extract_answer, math_reward
from postlab.rewards.schema import is_schema, schema_reward

__all__ = [
    "after_thinking",
    "answers_match",
    "code_reward",
    "extract_answer",
    "fenced",
    "format_reward",
    "is_schema",
    "math_reward",
    "read_tests",
    "reply_text",
    "schema_reward",
]

_doors.publish(__name__)
