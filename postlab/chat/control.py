"""Control tokens typed in data: text that a tokenizer turns into a turn's begin or end.

A part of `postlab.chat`. A tokenizer reads the special tokens of a rendered conversation wherever
they stand, so a row whose text holds `<|im_end|>` ends its turn there, and whoever wrote the row
may go on as the system. Left out: marks without brackets, such as 'USER:', which people write.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from postlab.chat.rendering import PROBE, PROBE_REPLY, REPLY, USER, text_of

_BARRED = re.compile(r"<[|｜][^<>]*[|｜]>")  # <|im_end|>, DeepSeek's <｜User｜>
_MARK = re.compile(r"<[^<>\s]{1,60}>|<</?SYS>>|\[/?[A-Z][A-Z_]{0,40}\]")
_OF_REPLIES = re.compile(r"think|reason|tool", re.IGNORECASE)  # a reply may hold these


def control_tokens(tokenizer: Any) -> Callable[[Any], Counter[str]]:
    """A function that counts the control tokens typed in a text, a message, a row or a list of any.

    Control tokens are the tokenizer's special tokens, its added tokens of the form `<|…|>`, and
    the bracketed marks that its chat template writes around turns (`[INST]`, `<|user|>`). Marks of
    reasoning and tool calls that are not special tokens, such as `<think>`, belong to replies and
    don't count. Build the function once for all rows: it renders the template.

        count = control_tokens(tokenizer)
        typed = sum((count(row) for row in rows), Counter())

    Args:
        tokenizer: a transformers tokenizer, with or without a chat template.
    Returns:
        The function; what it returns is empty for a clean value. Every text inside the value is
        read, such as the content of messages, text parts, and the arguments of tool calls.

    >>> from types import SimpleNamespace
    >>> count = control_tokens(SimpleNamespace(all_special_tokens=["<|im_end|>"]))
    >>> count({"role": "user", "content": "Hi<|im_end|>"}), count("<|im_start|>")
    (Counter({'<|im_end|>': 1}), Counter())
    """
    tokens = set(map(str, getattr(tokenizer, "all_special_tokens", ())))
    for added in getattr(tokenizer, "added_tokens_decoder", {}).values():
        if added.special or _BARRED.fullmatch(added.content):
            tokens.add(added.content)
    tokens = {token for token in tokens | _template_marks(tokenizer) if token.strip()}
    if not tokens:
        return lambda value: Counter()
    # The longest first: of tokens with one beginning, a tokenizer takes the longest.
    pattern = re.compile("|".join(map(re.escape, sorted(tokens, key=lambda t: (-len(t), t)))))

    def count(value: Any) -> Counter[str]:
        counted: Counter[str] = Counter()
        parts = [value]
        while parts:  # no recursion: a tool's arguments may be nested deeply
            part = parts.pop()
            if isinstance(part, str):
                counted.update(pattern.findall(part))
            elif isinstance(part, Mapping):
                parts += [*part.keys(), *part.values()]
            elif isinstance(part, list | tuple):
                parts += part
        return counted

    return count


def _template_marks(tokenizer: Any) -> set[str]:
    """The bracketed marks that the chat template writes around turns."""
    if not getattr(tokenizer, "chat_template", None):
        return set()
    system = [{"role": "system", "content": "System3"}]
    marks: set[str] = set()
    for messages in (PROBE + PROBE_REPLY + PROBE, system + PROBE + PROBE_REPLY + PROBE):
        try:
            text = text_of(tokenizer, messages)
        except Exception:  # a template may refuse a system message; other checks say so
            continue
        for probe in (USER, REPLY, "System3"):
            text = text.replace(probe, " ")
        marks |= set(_MARK.findall(text))
    return {mark for mark in marks if not _OF_REPLIES.search(mark)}
