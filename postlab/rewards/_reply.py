"""What of a completion is the reply: its text, without the thinking before it."""

import re
from typing import Any

_THINK = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>", re.IGNORECASE)


def reply_text(completion: str | list[dict[str, Any]]) -> str:
    """The text of a completion in either of TRL's shapes: a string, or a list of messages.

    Args:
        completion: what a policy wrote, as TRL hands it to a reward.
    Returns:
        The content of the last message, or the string itself.
    Raises:
        TypeError: if it is neither.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and completion and isinstance(completion[-1], dict):
        return completion[-1].get("content") or ""
    if completion == []:
        return ""
    raise TypeError(
        f"a completion must be a string or a list of messages, got {type(completion).__name__}"
    )


def after_thinking(text: str) -> str:
    """The text behind the last `</think>`, and up to a `<think>` that is never closed.

    An answer inside the thinking was not given. The opening tag may stand in the prompt.

    >>> after_thinking("<think>5?</think>It is 6."), after_thinking("<think>It is 5.")
    ('It is 6.', '')
    """
    start, end = 0, len(text)
    for tag in _THINK.finditer(text):
        if tag[1]:
            start, end = tag.end(), len(text)
        else:
            end = min(end, tag.start())
    return text[start:end]


def fenced(text: str) -> list[tuple[str, str]]:
    """(language, content) of every closed fenced block, in one pass over the lines.

    >>> fenced("See:\\n```JSON\\n{}\\n```\\nand ```")
    [('json', '{}')]
    """
    blocks, language, content = [], None, []
    for line in text.split("\n"):
        bare = line.strip()
        if not bare.startswith("```"):
            content.append(line)
        elif language is None:
            language, content = bare.strip("`").strip().lower(), []
        elif bare == "```":
            blocks.append((language, "\n".join(content)))
            language = None
    return blocks
