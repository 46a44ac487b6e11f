"""One raw row: its fields by name, which of them were used, and which must not be overlooked.

Every look-up is remembered, so that a loader can say which fields of its rows it did not use. What
would change the meaning of a row if it were left out (images, the choices of a question, a label
that calls the reply bad) is used or refused by name.
"""

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from postlab.datasets._messages import (
    Message,
    Odd,
    kind,
    messages_of,
    names,
    transcript_of,
    whole,
)

# The columns that hold a conversation, a prompt, or a reply, in the order they are preferred.
CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
PROMPTS = (
    *("prompt", "instruction", "question", "problem", "query", "input", "inputs", "user", "human"),
)
REPLIES = (
    *("completion", "output", "response", "solution", "generated_solution", "answer"),
    *("targets", "assistant"),
)
LABELS = ("label", "kto_tag", "is_desirable", "desirable", "is_correct", "correct", "is_safe")
_SYSTEM = ("system_prompt", "system", "system_message")
_REASONING = ("reasoning_content", "thinking", "reasoning", "complex_cot")
_BESIDE = ("body", "passage", "input", "context")  # what belongs above or below a question
_CHOICES = ("choices", "options")
_MEDIA = re.compile(r"(image|video|audio)s?(_\d+|_urls?|_paths?|_files?)?|pixel_values")
# What may stand beside a format's fields, and be named by columns=.
_OPTIONAL = {"input", "context", "body", "passage", "history", "tools", "margin", *_SYSTEM}
_OPTIONAL |= {*LABELS, *_REASONING}
_TRUE = {"true", "yes", "good", "desirable", "chosen", "1"}
_FALSE = {"false", "no", "bad", "undesirable", "rejected", "0"}

Format = tuple[str, ...]  # the names of the fields that a format needs


class Fields(Mapping[str, Any]):
    """A raw row's fields that hold something, under lower-case names; looking one up uses it.

    A field inside another is found under both names, as `reward_model.ground_truth`.

    Args:
        raw: the row as it was read.
        columns: our name of a field -> its name in the data, or None where the field of our name
            is something else that is to be left alone.
    """

    def __init__(self, raw: Mapping, columns: Mapping[str, str | None] | None = None) -> None:
        self._values = {str(key): value for key, value in raw.items() if value is not None}
        self._columns = columns or {}
        self.mapped = frozenset(ours for ours, theirs in self._columns.items() if theirs)
        self._place = {key.lower(): key for key in self._values}
        self._place |= {key: key for key in self._values}
        for key, value in self._values.items():
            if isinstance(value, Mapping):
                inner = [str(sub) for sub, content in value.items() if content is not None]
                self._place |= {f"{key}.{sub}".lower(): f"{key}.{sub}" for sub in inner}
        for ours, theirs in self._columns.items():
            self._place.pop(ours, None)
            if theirs is not None and self._inside(theirs) is not None:
                self._place[ours] = theirs
        self._used: set[str] = set()
        self.left: set[str] = set()  # left out of a row that is kept, beside its unused fields

    def __getitem__(self, name: str) -> Any:
        place = self._place[name]
        self._used.add(place)
        return self._inside(place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, name: object) -> bool:  # Mapping's own would count as a use
        return name in self._place

    def _inside(self, path: str) -> Any:
        """The value of a field, or of one inside it: 'reward_model.ground_truth'."""
        value: Any = self._values
        if path in self._values:
            return self._values[path]
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def theirs(self, name: str) -> str:
        """What the data calls a field of ours."""
        return self._columns.get(name) or name

    def described(self) -> str:
        """The fields' names, for an error."""
        return names(self._values)

    def unused(self) -> set[str]:
        """What was not used, of the fields with something in them, and what was left out."""
        used = {place.split(".")[0] for place in self._used} | self._used
        ignored = {ours for ours, theirs in self._columns.items() if theirs is None}
        filled = {key for key, value in self._values.items() if not _blank(value)}
        return (filled - used - ignored) | self.left

    def first(self, candidates: Sequence[str]) -> str | None:
        """The first of these fields that has something in it."""
        for name in candidates:
            if name in self._place and not _blank(self._peek(name)):
                return name
        return None

    def _peek(self, name: str) -> Any:
        return self._inside(self._place[name])

    def text(self, field: str) -> str:
        """A field's text; numbers are allowed, since answers are often stored so.

        >>> Fields({"answer": 3.0, "gold": ["4"]}).text("answer")
        '3'
        """
        return text_of(self[field], field)

    def messages(self, field: str, *, role: str = "user") -> list[Message]:
        """A field as messages: text, a message, a conversation in any of the known forms."""
        value = self[field]
        if field in CONVERSATIONS and isinstance(value, str):
            if not value.lstrip().startswith("["):
                return transcript_of(value, field)
            value = _json(value, field)
        if isinstance(value, int | float) and field not in CONVERSATIONS:
            value = self.text(field)
        return messages_of(value, field, role=role, left=self.left)

    def refuse_media(self) -> None:
        """An error for a row with images, video or audio: without them its text says little."""
        for name in self:
            value = self._peek(name) if _MEDIA.fullmatch(name) else None
            if not isinstance(value, bool) and not _blank(value):
                raise Odd(
                    f"with something in field {name!r}",
                    f"these models read text only; columns={{{name!r}: None}} goes without it",
                )

    def prompt(self, field: str) -> list[Message]:
        """The prompt in `field`, with all that belongs to it: context, earlier turns, system."""
        if choices := self.first(_CHOICES):
            raise Odd(
                f"with choices in field {choices!r}",
                "write them into the question, which cannot be answered without them",
            )
        prompt = self.messages(field)
        if len(prompt) == 1 and prompt[0]["role"] == "user":
            asked = prompt[0]["content"]
            texts = {n: self.text(n) for n in _BESIDE if n != field and self.first([n])}
            if field == "instruction":
                parts = [asked, *texts.values()]
            else:
                texts = {n: text for n, text in texts.items() if text not in asked}
                below = [texts.pop("input")] if "input" in texts else []
                parts = [*texts.values(), asked, *below]
            prompt = [{"role": "user", "content": "\n\n".join(parts)}]
        if field != "history" and self.first(["history"]):
            prompt = [*self.messages("history"), *prompt]
        return self.with_system(prompt)

    def with_system(self, prompt: list[Message]) -> list[Message]:
        """The prompt with the row's own system prompt in front, unless it has one already."""
        field = self.first(_SYSTEM)
        if field is None or not prompt or prompt[0]["role"] == "system":
            return prompt
        system = self.text(field)
        return [{"role": "system", "content": system}, *prompt] if system.strip() else prompt

    def with_reasoning(self, reply: list[Message]) -> list[Message]:
        """The reply with the row's own reasoning, unless it has it already."""
        field = self.first(_REASONING)
        if field is None or len(reply) != 1 or reply[0].keys() & set(_REASONING):
            return reply
        reasoning = self.text(field)
        if reasoning.strip() in reply[0]["content"]:
            return reply
        name = "thinking" if field == "thinking" else "reasoning_content"
        return [{**reply[0], name: reasoning}]

    def tools(self, prompt: Sequence[Message]) -> dict[str, str]:
        """`tools` as the text of a JSON list, as TRL reads it; none where the prompt lists them."""
        field = self.first(["tools", "functions"])
        if field is None or (prompt and "<tools>" in prompt[0]["content"]):
            return {}
        tools = self[field]
        tools = _json(tools, field) if isinstance(tools, str) else tools
        listed = [tools] if isinstance(tools, Mapping) else tools
        if not isinstance(listed, list) or not all(isinstance(tool, Mapping) for tool in listed):
            raise Odd(f"field {field!r} must be a list of tools", f"got {tools!r:.80}")
        wrapped = [t if "function" in t else {"type": "function", "function": t} for t in listed]
        return {"tools": json.dumps(wrapped, ensure_ascii=False)} if wrapped else {}

    def label(self) -> tuple[str, bool] | None:
        """(field, whether it calls the reply good); None where no field says so.

        >>> Fields({"label": False}).label(), Fields({"label": "sport"}).label()
        (('label', False), None)
        """
        for name in LABELS:
            if name in self:
                value = self._peek(name)
                # Of the others a 0 or a 'no' may be a count or an answer.
                word = str(value).strip().lower().removesuffix(".0")
                if (isinstance(value, bool) or name in LABELS[:2]) and word in _TRUE | _FALSE:
                    self._used.add(self._place[name])
                    return name, word in _TRUE
        return None


def text_of(value: Any, field: str) -> str:
    """A value as text, see `Fields.text`."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)  # a table's column of integers, of which one is missing
    number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if not isinstance(value, str) and (not number or isinstance(value, bool)):
        raise Odd(f"field {field!r} must be text", f"got {kind(value)}")
    return whole(str(value), field)


def choose_format(row: Fields, formats: tuple[Format, ...], hint: str = "") -> Format:
    """The first format all of whose fields a row has; an error that names one it lacks.

    >>> choose_format(Fields({"question": "?"}), (("question", "answer"),))
    Traceback (most recent call last):
    postlab.datasets._messages.Odd: no field 'answer' (it has question; needed are question, answer)
    """
    best, missing = _best(frozenset(row), formats, row.mapped)
    if best is None:
        known = " or ".join(" + ".join(fields) for fields in formats[:4])
        raise Odd(
            "no field of a known format",
            f"it has {row.described()}; known are {known} and others, and columns= names "
            f"yours{hint}",
        )
    if missing:
        name = row.theirs(missing)
        raise Odd(
            f"no field {name!r}", f"it has {row.described()}; needed are {', '.join(best)}{hint}"
        )
    return best


@functools.lru_cache(maxsize=10_000)
def _best(
    present: frozenset[str], formats: tuple[Format, ...], mapped: frozenset[str]
) -> tuple[Format | None, str | None]:
    """(the format, a field it lacks); fields that the caller mapped decide before the others."""
    known = {field for fields in formats for field in fields}
    if unknown := mapped - known - _OPTIONAL:
        raise ValueError(
            f"columns= names {names(unknown)}, which this loader does not read; it reads "
            f"{names(known | _OPTIONAL)}"
        )
    known &= mapped
    formats = tuple(fields for fields in formats if known <= set(fields)) or formats
    complete = next((fields for fields in formats if present >= set(fields)), None)
    if complete:
        return complete, None
    best = max(formats, key=lambda fields: len(present & set(fields)))  # the first of the best
    if not present & set(best):
        return None, None
    return best, next(field for field in best if field not in present)


def _blank(value: Any) -> bool:
    """Nothing in it: null, NaN, an empty text or list, or a record of nothing."""
    if isinstance(value, Mapping):
        return all(_blank(each) for each in value.values())
    if isinstance(value, float):
        return value != value
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Odd(f"field {field!r} must be JSON", str(error)) from None
