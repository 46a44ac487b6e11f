"""What a field of a raw row says, as a list of messages in the form that chat templates take.

Read are text, transcripts ('Human: ... Assistant: ...'), messages under the key names of ShareGPT,
OpenAI and OASST, pairs of turns, text parts, tool calls and reasoning. What cannot be read raises
`Odd`, and what cannot be learned from (an empty reply, say) raises `Drop`; both are counted.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "chatgpt", "model", "bot", "ai", "chatbot", "function_call"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response", "function_response"),
}
_ROLE = {name: role for role, others in _ROLES.items() for name in others}
_REASONING = ("reasoning_content", "thinking", "reasoning")
# Keys of a message that are read or, as its number, say nothing.
_KEYS = {"role", "from", "content", "value", "text", "tool_calls", "function_call", "name"}
_KEYS |= {"tool_call_id", "weight", "train", "id", *_REASONING}
# Fields in which bare texts are turns: user, assistant, user, ... (LIMA, UltraChat)
ALTERNATING = ("conversations", "conversation", "messages", "dialogue", "dialog", "data")
_PAIRS = (("input", "output"), ("human", "assistant"), ("user", "assistant"))
_HUMAN = re.compile(r"\s*Human:")
_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_HASHES = re.compile(r"### (Human|User|Assistant|System):")
_CHATML = re.compile(r"<\|im_start\|>(\w+)\n")
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: no tokenizer takes it


class Drop(Exception):
    """Raised for a row that is complete but cannot be learned from."""


class Odd(Exception):
    """Raised for a row that cannot be read: it lacks a field, or means more than can be used.

    Args:
        reason: a few words that rows with the same fault share, to count them by.
        detail: what was got, what was expected and what to do.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        if self.detail.startswith("got "):
            return f"{self.reason}, {self.detail}"
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


def messages_of(
    value: Any, field: str, *, role: str = "user", left: set[str] | None = None
) -> list[Message]:
    """Text, a message or a conversation as messages; `left` collects keys that were not used.

    >>> messages_of([{"from": "human", "value": "Hi"}], "conversations")
    [{'role': 'user', 'content': 'Hi'}]
    >>> messages_of("\\n\\nHuman: Hi\\n\\nAssistant: Hello", "chosen")
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
    """
    if isinstance(value, str):
        if is_transcript(value):
            return _turns(_TURN.split(value), field)
        return [{"role": role, "content": whole(value, field)}]
    if isinstance(value, Mapping):
        if isinstance(value.get("messages"), list):  # OpenAI's pairs: {"input": {"messages": ...}}
            return messages_of(value["messages"], field, role=role, left=left)
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise Odd(f"field {field!r} must be text or a list of messages", f"got {kind(value)}")
    if field in ALTERNATING and len(value) > 1 and all(isinstance(each, str) for each in value):
        value = [{"role": _by_place(place), "content": text} for place, text in enumerate(value)]
    return [message for each in value for message in _messages(each, field, left)]


def is_transcript(value: Any) -> bool:
    """Whether a text is a conversation of the form of HH-RLHF."""
    return isinstance(value, str) and bool(_HUMAN.match(value)) and "\n\nAssistant:" in value


def transcript_of(text: str, field: str) -> list[Message]:
    """A whole conversation that was written into one text.

    >>> [turn["role"] for turn in transcript_of("### Human: Hi### Assistant: Hello", "text")]
    ['user', 'assistant']
    """
    for marks in (_CHATML, _HASHES, _TURN):
        pieces = marks.split(text)
        if len(pieces) > 2 and not pieces[0].strip():
            if marks is _CHATML:
                pieces[2::2] = [
                    p.removesuffix("\n").removesuffix("<|im_end|>") for p in pieces[2::2]
                ]
            return _turns(pieces, field)
    raise Odd(
        f"field {field!r} holds text alone, with no turns that are known",
        "expected messages, or a prompt and a completion",
    )


def _turns(pieces: Sequence[str], field: str) -> list[Message]:
    """Messages of a text that was split at its role marks; an opened reply at the end is none."""
    pairs = zip(pieces[1::2], pieces[2::2], strict=True)
    turns = [{"role": role_of(name), "content": whole(text.strip(), field)} for name, text in pairs]
    opened = turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]
    return turns[:-1] if opened else turns


def _by_place(place: int) -> str:
    return "assistant" if place % 2 else "user"


def _messages(value: Any, field: str, left: set[str] | None) -> list[Message]:
    """The messages of one item of a conversation: one, or a pair of turns."""
    if isinstance(value, list | tuple) and len(value) == 2:
        value = dict(zip(_PAIRS[0], value, strict=True))
    if not isinstance(value, Mapping):
        raise Odd(f"field {field!r} must hold messages", f"got {value!r:.80}")
    for asked, answered in _PAIRS:
        if isinstance(value.get(asked), str) and isinstance(value.get(answered), str):
            texts = whole(value[asked], field), whole(value[answered], field)
            return [{"role": _by_place(i), "content": text} for i, text in enumerate(texts)]
    if left is not None:
        left.update(
            f"a message's {key!r}"
            for key, content in value.items()
            if key not in _KEYS and content not in (None, "", [], {})
        )
    return [_message(value, field)]


def _message(value: Mapping, field: str) -> Message:
    if (speaker := value.get("role", value.get("from"))) is None:
        raise Odd(f"a message of field {field!r} has no role", f"it has {names(value)}")
    role = role_of(speaker)
    key = next((k for k in ("content", "value", "text") if value.get(k) is not None), None)
    calls = _calls(value, key, field) if role == "assistant" else []
    if key is None and not calls:
        key = "value" if "from" in value else "content"
        raise Odd(f"a message of field {field!r} has no text {key!r}", f"it has {names(value)}")
    written = "" if key is None or str(speaker).lower() == "function_call" else value[key]
    message: Message = {"role": role, "content": whole(_text(written, field), field)}
    if calls:
        message["tool_calls"] = calls
    if role == "tool":
        message |= {k: value[k] for k in ("name", "tool_call_id") if value.get(k)}
    for key in _REASONING:
        if isinstance(value.get(key), str) and value[key].strip():
            message[key] = whole(value[key], field)
        elif value.get(key):
            raise Odd(f"a message's {key!r} must be text", f"got {value[key]!r:.80}")
    for key in value:
        if key.rstrip("s") in ("image", "video", "audio") and value[key]:
            raise Odd(f"with {key} in a message", "these models read text only")
    return message


def role_of(name: Any) -> str:
    """One of system, user, assistant and tool for what a data set calls it."""
    role = _ROLE.get(str(name).strip().lower())
    if role is None:
        raise Odd(f"with the unknown role {str(name)[:40]!r}", f"known are {names(_ROLE)}")
    return role


def _text(content: Any, field: str) -> str:
    """The text of a content that is text, or a list of text parts."""
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, Mapping) else content
    if not isinstance(parts, list):
        raise Odd(f"a message of field {field!r} must hold text", f"got {kind(content)}")
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else part
        named = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if named not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise Odd(f"with a part of the type {str(named)[:40]!r}", "these models read text only")
        texts.append(text)
    return "".join(texts)


def _calls(value: Mapping, key: str | None, field: str) -> list[dict]:
    """An assistant's tool calls, each with its arguments as a mapping, which templates expect."""
    calls = value.get("tool_calls") or value.get("function_call")
    if not calls and key and str(value.get("from")).lower() == "function_call":
        calls = value[key]
    return tool_calls(calls, field) if calls else []


def tool_calls(calls: Any, field: str) -> list[dict]:
    """Calls as OpenAI writes them, `{"type": "function", "function": {"name", "arguments"}}`."""
    try:
        calls = json.loads(calls) if isinstance(calls, str) else calls
        listed = [calls] if isinstance(calls, Mapping) else calls
        written = []
        for call in listed:
            called = call.get("function") or call
            arguments = called.get("arguments", called.get("parameters")) or {}
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            function = {"name": str(called["name"]), "arguments": arguments}
            number = {"id": call["id"]} if call.get("id") else {}
            written.append({"type": "function", **number, "function": function})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Odd(
            f"with tool calls that cannot be read in field {field!r}", f"{calls!r:.80}"
        ) from None
    return written


def untrained(value: Any, place: int) -> bool:
    """Whether the data says that a message is not to be trained: a weight of zero, train=False."""
    message = value[place] if isinstance(value, list) and 0 <= place < len(value) else None
    if not isinstance(message, Mapping):
        return False
    return message.get("weight", 1) in (0, False) or message.get("train", True) in (0, False)


def checked_prompt(prompt: list[Message]) -> list[Message]:
    """A prompt that chat templates accept: perhaps a system message, then turns that alternate."""
    turns = prompt[1:] if prompt and prompt[0]["role"] == "system" else prompt
    spoken = [turn for turn in turns if turn["role"] != "tool" and "tool_calls" not in turn]
    if not turns or any(not turn["content"].strip() for turn in spoken):
        raise Drop("with an empty prompt")
    before = "assistant"
    for turn in turns:
        allowed: tuple[str, ...] = ("user", "tool") if before == "assistant" else ("assistant",)
        allowed += ("tool",) if before == "tool" else ()
        if turn["role"] not in allowed or (turn is turns[0] and turn["role"] != "user"):
            raise Drop("whose turns do not alternate from user to user")
        before = turn["role"]
    if before == "assistant":
        raise Drop("whose turns do not alternate from user to user")
    return prompt


def checked_reply(reply: list[Message]) -> list[Message]:
    """One assistant message with something in it."""
    if len(reply) != 1 or reply[0]["role"] != "assistant":
        raise Drop("without an assistant's reply")
    if not reply[0]["content"].strip() and "tool_calls" not in reply[0]:
        raise Drop("with an empty reply")
    return reply


def whole(text: str, field: str) -> str:
    """The text, if it is Unicode; bytes that were not UTF-8 arrive as surrogates (`_files`)."""
    if half := _SURROGATE.search(text):
        raise Odd(
            f"field {field!r} is no Unicode text",
            f"at character {half.start()}: the file is not UTF-8 (save it as UTF-8), or an escape "
            "such as \\ud83d stands alone",
        )
    return text


def kind(value: Any) -> str:
    return str(value) if isinstance(value, float) and value != value else type(value).__name__


def names(fields: Any) -> str:
    return ", ".join(sorted(map(str, fields))) or "none"
