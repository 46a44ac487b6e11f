r"""Does a completion end with exactly one answer, marked as the prompt asked?

The reward looks at the form alone: a wrong answer in the right place scores 1, so use it beside
math_reward, never instead of it. It accepts the three markers extract_answer knows, and tags of
your own. The reasoning before the answer is free, unless you name a tag that has to hold it.
"""

import re
from functools import lru_cache
from typing import Any

from postlab.rewards._batch import check_batch
from postlab.rewards._reply import after_thinking, reply_text
from postlab.rewards.math import last_boxed

# What may close a sentence or a formula after \boxed{...}. The possessive `*+` never backtracks.
_AFTER_BOX = re.compile(r"\s*+(?:\$\$?|\\\)|\\\])?\s*+\.?\s*+(?:\*\*)?\s*+\Z")
_TAG = re.compile(r"[A-Za-z][\w.-]*")


def format_reward(
    completions: list,
    *,
    answer_tag: str = "answer",
    reasoning_tag: str | None = None,
    **columns: Any,
) -> list[float | None]:
    r"""1.0 where a completion ends with exactly one marked answer, else 0.0.

    The markers are `<answer>5</answer>`, `\boxed{5}` and `#### 5`. A box may stand within one of
    the others, which then marks the same answer. A second answer anywhere, of any kind, an empty or
    many-lined answer, or text after it scores 0.0: repetition buys nothing. (Line breaks around the
    answer don't count, nor those of a LaTeX environment.)

    Args:
        completions: strings, or lists of messages, as TRL passes them.
        answer_tag: the name of the tag around the answer; upper and lower case are the same.
        reasoning_tag: the name of a tag that has to hold the reasoning, once, at the beginning of
            the completion, before the answer. A chat template may have opened it already. None
            asks for no tag.
        columns: the other columns of the batch; none is used.
    Returns:
        One reward a completion, 0.0 or 1.0.
    Raises:
        TypeError: if completions is a single value, such as a string, and no list.
        ValueError: if a tag is not a bare name, such as "answer".
    Source: the format reward of DeepSeek-R1, arXiv 2501.12948, section 2.2.2. Taught in week 7.

    >>> format_reward(["2 + 3 = 5\n#### 5", "#### 5\n#### 5", "The answer is 5."])
    [1.0, 0.0, 0.0]
    >>> tags = {"answer_tag": "solution", "reasoning_tag": "think"}
    >>> format_reward(["<think>2 + 3</think>\n<solution>5</solution>", "#### 5"], **tags)
    [1.0, 0.0]
    """
    check_batch("format_reward", completions)
    for tag in (answer_tag, reasoning_tag):
        if tag is not None and not (isinstance(tag, str) and _TAG.fullmatch(tag)):
            raise ValueError(
                f"format_reward got the tag {tag!r}; expected a name, such as 'answer'"
            )
    texts = [reply_text(completion) for completion in completions]
    return [float(_is_right(text, answer_tag, reasoning_tag)) for text in texts]


def _is_right(text: str, answer_tag: str, reasoning_tag: str | None) -> bool:
    reply: str | None = text
    if reasoning_tag is not None:
        reply = _after_reasoning(text, reasoning_tag)
    if reply is None:
        return False
    reply = after_thinking(reply)
    marker = _marker(answer_tag)
    marks = list(marker.finditer(reply))
    # Every way to open an answer is counted over the whole text, the reasoning included.
    if len(marks) != len(marker.findall(text)):
        return False
    opening, closing = f"<{answer_tag}>".lower(), f"</{answer_tag}>".lower()
    match [mark[0].lower() for mark in marks]:
        case ["\\boxed"]:
            return _ends_with_box(reply)
        case [first, *box, last] if (first, last) == (opening, closing):
            answer = reply[marks[0].end() : marks[-1].start()].strip()
            if reply[marks[-1].end() :].strip():
                return False
        case ["####", *box]:
            answer = reply[marks[0].end() :].strip()
            if answer.startswith("#") or "\n" in reply[marks[0].end() :].rstrip():
                return False
        case _:
            return False
    if box == ["\\boxed"]:  # within the other marker, and so the same answer
        before, _, _ = answer.partition("\\boxed")
        return "\n" not in before and _ends_with_box(answer)
    return not box and _is_one_answer(answer) and "#" not in answer


@lru_cache
def _marker(tag: str) -> re.Pattern:
    """Every way to open an answer, or to close its tag."""
    return re.compile(rf"</?{re.escape(tag)}>|\\boxed\b|####+", re.IGNORECASE)


def _after_reasoning(text: str, tag: str) -> str | None:
    """What follows the tag that holds the reasoning; None if it is missing, empty or repeated."""
    marks = list(re.finditer(rf"<(/?){re.escape(tag)}>", text, re.IGNORECASE))
    match [mark[1] for mark in marks]:
        case ["", "/"]:
            before, reasoning = text[: marks[0].start()], text[marks[0].end() : marks[1].start()]
        case ["/"]:  # the chat template has opened it
            before, reasoning = "", text[: marks[0].start()]
        case _:
            return None
    return None if before.strip() or not reasoning.strip() else text[marks[-1].end() :]


def _ends_with_box(text: str) -> bool:
    boxed = last_boxed(text)
    if boxed is None:
        return False
    content, end = boxed
    return _is_one_answer(content) and bool(_AFTER_BOX.match(text, end))


def _is_one_answer(content: str) -> bool:
    """Whether there is something on one line, or a LaTeX environment, whose rows are lines."""
    content = content.strip()
    return bool(content) and ("\n" not in content or "\\begin{" in content)
