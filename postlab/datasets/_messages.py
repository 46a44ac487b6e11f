"""Fields of a raw row, checked and turned into message lists.

A field that is missing or of the wrong kind is an error that names source, row and field; a row
that has its fields but cannot be learned from (an empty reply, say) raises `Drop`, and is counted.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant"}
_ROLES |= {role: role for role in ("system", "user", "assistant")}
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: no tokenizer takes it

Message = dict[str, str]


class Drop(Exception):
    """Raised by a converter for a row that is complete but cannot be learned from."""


def choose_format(raw: Mapping, formats: Mapping[str, Sequence[str]], where: str) -> str:
    """The format most of whose fields a row has; an error where one of them is missing.

    >>> choose_format({"question": "?"}, {"qa": ("question", "answer")}, "a.json, row 3")
    Traceback (most recent call last):
    ValueError: a.json, row 3: no field 'answer' (it has question; needed are question, answer)
    """
    present = {key for key, value in raw.items() if value is not None}
    share = {name: len(present & set(fields)) / len(fields) for name, fields in formats.items()}
    best = max(share, key=lambda name: share[name])
    if share[best] == 0:
        known = " or ".join(" + ".join(fields) for fields in formats.values())
        raise ValueError(f"{where}: no field of a known format (it has {_names(present)}; {known})")
    for field in formats[best]:
        if field not in present:
            raise ValueError(
                f"{where}: no field {field!r} (it has {_names(present)}; "
                f"needed are {', '.join(formats[best])})"
            )
    return best


def messages_of(value: Any, where: str, field: str, *, role: str = "user") -> list[Message]:
    """Text, a message or a list of them, as `from`/`value` or `role`/`content`, as messages.

    >>> messages_of([{"from": "human", "value": "Hi"}], "a.json, row 1", "conversations")
    [{'role': 'user', 'content': 'Hi'}]
    """
    if isinstance(value, str):
        return [{"role": role, "content": _whole(value, where, field)}]
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, Sequence) or isinstance(listed, bytes):
        raise ValueError(
            f"{where}: field {field!r} must be text or a list of messages, got {_kind(value)}"
        )
    return [_message(each, where, field) for each in listed]


def _message(value: Any, where: str, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: field {field!r} must hold messages, got {value!r:.80}")
    texts = []
    for key in ("from", "value") if "from" in value else ("role", "content"):
        if not isinstance(value.get(key), str):
            raise ValueError(
                f"{where}: a message of field {field!r} has no text {key!r} "
                f"(it has {_names(value)})"
            )
        texts.append(_whole(value[key], where, field))
    if texts[0] not in _ROLES:
        raise Drop(f"with the unknown role {texts[0][:40]!r}")
    return {"role": _ROLES[texts[0]], "content": texts[1]}


def alpaca_prompt(raw: Mapping, where: str) -> list[Message]:
    """Alpaca's instruction, with its input below it where there is one."""
    parts = [text_of(raw, "instruction", where)]
    if raw.get("input"):
        parts.append(text_of(raw, "input", where))
    return messages_of("\n\n".join(parts), where, "instruction")


def text_of(raw: Mapping, field: str, where: str) -> str:
    """A field's text; numbers are allowed, since answers are often stored so.

    >>> text_of({"answer": float("nan")}, "answer", "a.parquet, row 2")
    Traceback (most recent call last):
    ValueError: a.parquet, row 2: field 'answer' must be text, got nan
    """
    value = raw[field]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, str) and not (number and math.isfinite(value)):
        raise ValueError(f"{where}: field {field!r} must be text, got {_kind(value)}")
    return _whole(str(value), where, field)


def with_system(prompt: list[Message], raw: Mapping, where: str) -> list[Message]:
    """The prompt with the row's own system prompt in front, unless it has one already."""
    field = "system_prompt" if raw.get("system_prompt") else "system"
    if raw.get(field) is None or not prompt or prompt[0]["role"] == "system":
        return prompt
    system = text_of(raw, field, where)
    return [{"role": "system", "content": system}, *prompt] if system.strip() else prompt


def checked_prompt(prompt: list[Message]) -> list[Message]:
    """A prompt chat templates accept: perhaps a system message, then turns that alternate."""
    turns = prompt[1:] if prompt and prompt[0]["role"] == "system" else prompt
    if not turns or any(not turn["content"].strip() for turn in turns):
        raise Drop("with an empty prompt")
    expected = ["user", "assistant"] * len(turns)
    if len(turns) % 2 == 0 or [t["role"] for t in turns] != expected[: len(turns)]:
        raise Drop("whose turns do not alternate from user to user")
    return prompt


def checked_reply(reply: list[Message]) -> list[Message]:
    """One assistant message with something in it."""
    if len(reply) != 1 or reply[0]["role"] != "assistant":
        raise Drop("without an assistant's reply")
    if not reply[0]["content"].strip():
        raise Drop("with an empty reply")
    return reply


def _whole(text: str, where: str, field: str) -> str:
    """The text, if it is Unicode; bytes that were not UTF-8 arrive as surrogates (`_files`)."""
    if half := _SURROGATE.search(text):
        raise ValueError(
            f"{where}: field {field!r} is no Unicode text at character {half.start()}: the file is "
            "not UTF-8 (save it as UTF-8), or an escape such as \\ud83d stands alone"
        )
    return text


def _kind(value: Any) -> str:
    return str(value) if isinstance(value, float) and value != value else type(value).__name__


def _names(fields: Any) -> str:
    return ", ".join(sorted(map(str, fields))) or "none"
