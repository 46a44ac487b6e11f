"""Does a completion end with exactly one answer, marked as the prompt asked?

The reward looks at the form alone: a wrong answer in the right place scores 1, so use it beside
math_reward, never instead of it. It accepts the three markers extract_answer knows and leaves out
any demand on the reasoning before them.
"""

import re
from typing import Any

from postlab.rewards._batch import check_batch
from postlab.rewards._reply import after_thinking, reply_text
from postlab.rewards.math import last_boxed

# Every way to open an answer, counted over the whole text: one more anywhere and the reward is 0.
_MARKER = re.compile(r"</?answer>|\\boxed\b|####+", re.IGNORECASE)
_TAGGED_END = re.compile(r"<answer>([^<>\n]+)</answer>\s*+\Z", re.IGNORECASE)
_HASH_END = re.compile(r"####[ \t]*+[^\s#][^\n#]*+\s*+\Z")
# What may close a sentence or a formula after \boxed{...}.
_AFTER_BOX = re.compile(r"\s*+(?:\$\$?|\\\)|\\\])?\s*+\.?\s*+(?:\*\*)?\s*+\Z")


def format_reward(completions: list, **columns: Any) -> list[float | None]:
    r"""1.0 where a completion ends with exactly one marked answer, else 0.0.

    The markers are `<answer>5</answer>`, `\boxed{5}` and `#### 5`. A second marker anywhere, of any
    kind, an empty or many-lined answer, or text after it scores 0.0: repetition buys nothing.

    Args:
        completions: strings, or lists of messages, as TRL passes them.
        columns: the other columns of the batch; none is used.
    Returns:
        One reward a completion, 0.0 or 1.0.
    Raises:
        TypeError: if completions is a single value, such as a string, and no list.
    Source: the format reward of DeepSeek-R1, arXiv 2501.12948, section 2.2.2. Taught in week 7.

    >>> format_reward(["2 + 3 = 5\n#### 5", "#### 5\n#### 5", "The answer is 5."])
    [1.0, 0.0, 0.0]
    """
    check_batch("format_reward", completions)
    return [float(_ends_with_one_answer(reply_text(completion))) for completion in completions]


def _ends_with_one_answer(text: str) -> bool:
    kinds = [mark.lower() for mark in _MARKER.findall(text)]  # those in the thinking count too
    text = after_thinking(text)
    if kinds == ["<answer>", "</answer>"]:
        tagged = _TAGGED_END.search(text)
        return bool(tagged and tagged[1].strip())
    if kinds == ["####"]:
        return bool(_HASH_END.search(text))
    if kinds == ["\\boxed"]:
        boxed = last_boxed(text)
        if boxed is None:
            return False
        content, end = boxed
        return bool(content.strip()) and "\n" not in content and bool(_AFTER_BOX.match(text, end))
    return False
