"""What a chat template has to do with every row: the invariant of `encode` and `check_template`.

A part of `postlab.chat`. Every message's text is in the rendering, the prompt is a prefix of the
whole, and exactly the reply and its end are trained. A row is judged by its own texts and by its
form, which is the row with a different word in place of each text: a short text such as "5" could
stand in a rendering by chance. Left out: white space, which many templates trim, and images.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

from postlab.chat.control import control_tokens
from postlab.chat.rendering import (
    Rendering,
    bos_of_text,
    name_of,
    names_of,
    options_of,
    render,
    special_ids,
)
from postlab.doctor import Finding

REASONING = ("reasoning_content", "reasoning", "thinking")  # fields of a message
_TEXTS = ("content", *REASONING)
LOST = {  # code: why, fix
    "system_lost": (
        "the policy is trained and asked without its instructions",
        "put the system prompt into the first user message, or use a template that writes it",
    ),
    "reasoning_lost": (
        "the policy is trained to answer without the reasoning in the data",
        "use a template that writes it, in the field that it reads",
    ),
    "tool_call_lost": (
        "the policy is not trained on the call, or answers results of calls it cannot see",
        "use a template that writes tool calls, or write them into the content",
    ),
    "message_lost": (
        "training and generation run without it, and no error says so",
        "use a template that writes every role and field of the rows, or change the rows",
    ),
}
RANK = ("info", "warning", "error")
_DRIFT = "the policy generates from a context which differs from the one it was trained in"


class Invariant:
    """The invariant for one tokenizer; the form of a row is judged once.

    Args:
        tokenizer: with a chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._bos = bos_of_text(tokenizer)
        self._forms: dict[str, list[Finding]] = {}

    def broken(self, row: Mapping, rendering: Rendering) -> list[Finding]:
        """How a row breaks the invariant, with at most one finding for each code."""
        return unlike([*self._of_texts(row, rendering), *self._of_form(row)])

    def broken_form(self, row: Mapping, rendering: Rendering) -> list[Finding]:
        """The same for a row of which no text stands in another text or in the template."""
        return unlike([*self._of_words(row, rendering), *self._of_texts(row, rendering)])

    def _of_texts(self, row: Mapping, rendering: Rendering) -> Iterator[Finding]:
        yield from _lost(row, rendering)
        yield from _written_as_code(row, rendering)
        yield from self._drift(row, rendering)
        if self._bos is not None and rendering.ids[:1] != [self._bos]:
            yield Finding(
                "missing_bos",
                "warning",
                f"plain text gets {name_of(self.tokenizer, self._bos)} in front, but the template "
                "leaves it out",
                "the base was probably pretrained with that token first, and attention relies on "
                "it; without it, training and inference start from an input that it never saw",
                "call postlab.chat.begin_with_bos(tokenizer), which puts {{ bos_token }} first",
            )

    def _of_form(self, row: Mapping) -> list[Finding]:
        form, key = _form(row)
        if key not in self._forms:
            try:
                rendering = render_row(self.tokenizer, form)
            except Exception:  # the words alone may not satisfy a template that the row satisfies
                self._forms[key] = []
            else:
                self._forms[key] = [*_lost(form, rendering), *self._of_words(form, rendering)]
        return self._forms[key]

    def _of_words(self, row: Mapping, rendering: Rendering) -> Iterator[Finding]:
        yield from _others_trained(row, rendering)
        yield from self._around_reply(row, rendering)
        contents = [message.get("content", "") for message in _messages(row)]
        if None in contents and "None" in rendering.whole:
            yield Finding(
                "message_lost",
                "error",
                "the content None of a message is written as the word 'None'",
                "the policy is trained to read or write that word",
                "give such messages the content ''",
            )

    def _drift(self, row: Mapping, rendering: Rendering) -> Iterator[Finding]:
        """The prompt is no prefix of the whole: in its text, or only in its tokens."""
        start, prompt_ids = rendering.start, rendering.prompt_ids
        if start == len(prompt_ids):
            return
        if rendering.whole.startswith(rendering.prompt):
            alone, together = prompt_ids[start:], rendering.ids[start : start + 1]
            blank = str(row["completion"][0].get("content"))[:1].isspace()
            yield Finding(
                "assistant_prefix_drift",
                "warning" if blank else "error",
                f"the prompt ends with {names_of(self.tokenizer, alone)!r} by itself, and with the "
                f"token {names_of(self.tokenizer, together)!r} before this reply",
                _DRIFT,
                "begin no reply with a line break or a blank"
                if blank
                else "end the generation prompt with a special token, or use the template with the "
                "tokenizer of its own family",
            )
            return
        shown, written = _before_reply(row, rendering)[-40:], rendering.prompt[-40:]
        yield Finding(
            "assistant_prefix_drift",
            "error",
            f"training shows {shown!r} before a reply, generation {written!r}",
            _DRIFT,
            "make add_generation_prompt write exactly what the template writes before a reply",
        )

    def _around_reply(self, row: Mapping, rendering: Rendering) -> Iterator[Finding]:
        """What the template trains before a reply of text alone, and after its end."""
        pieces = [(kind, text) for _, _, kind, text in _pieces(row["completion"])]
        if {kind for kind, _ in pieces} != {"text"} or pieces[-1][1] not in rendering.whole:
            return
        extra = _before_reply(row, rendering)[len(rendering.prompt) :]
        if extra and rendering.whole.startswith(rendering.prompt):
            yield Finding(
                "assistant_prefix_drift",
                "warning" if extra.strip() else "info",
                f"before a reply stands {extra!r}, which the model must write itself",
                _DRIFT,
                "make add_generation_prompt write exactly what the template writes before a reply",
            )
        after = rendering.whole.rpartition(pieces[-1][1])[2]
        ids = list(self.tokenizer(after, add_special_tokens=False)["input_ids"])
        ends = {self.tokenizer.eos_token_id} & set(ids) or special_ids(self.tokenizer) & set(ids)
        if not ends:
            yield Finding(
                "end_of_turn_not_trained",
                "error",
                "the template writes no special token after a reply",
                "a model that is not trained to end its turn answers and then rambles to the "
                "length limit",
                "end assistant messages with eos_token in the template",
            )
            return
        beyond = self.tokenizer.decode(ids[min(map(ids.index, ends)) + 1 :])
        eos = self.tokenizer.eos_token
        if beyond.replace(eos, "").strip() if eos else beyond.strip():
            yield Finding(
                "trained_after_end",
                "warning",
                f"after the end of a reply stands {beyond!r}, and is trained",
                "the policy learns to write on after its end, such as the beginning of a turn",
                "write only what ends the turn; open the next one if add_generation_prompt is set",
            )


def render_row(tokenizer: Any, row: Mapping) -> Rendering:
    return render(tokenizer, row["prompt"], row["completion"], **options_of(row))


def checked_row(row: Mapping, index: int) -> dict[str, Any]:
    """A row whose prompt and completion are lists of messages.

    Raises:
        ValueError: if they are not; it names row and field.
    """
    for field in ("prompt", "completion"):
        if field not in row:
            raise ValueError(
                f"rows[{index}] has no field {field!r}; it has {', '.join(sorted(row))}"
            )
        value = row[field]
        if not (isinstance(value, list) and value and all(map(_is_message, value))):
            raise ValueError(
                f"rows[{index}]: field {field!r} must be a list of messages such as "
                f"[{{'role': 'user', 'content': '...'}}], each with content, reasoning or tool "
                f"calls, got {value!r:.80}"
            )
    return dict(row)


def examine(
    rows: Sequence[Mapping], tokenizer: Any
) -> Iterator[tuple[Rendering | None, list[Finding], Counter[str]]]:
    """Of each row its rendering, how it breaks the invariant, and its typed control tokens.

    A row that cannot be rendered has no rendering, and the finding that says why.
    """
    invariant, typed = Invariant(tokenizer), control_tokens(tokenizer)
    for row in rows:
        try:
            rendering = render_row(tokenizer, row)
        except Exception as error:  # a template raises what it likes
            yield None, [refusal(error)], Counter()
            continue
        yield rendering, invariant.broken(row, rendering), typed(_messages(row))


def refusal(error: Exception) -> Finding:
    """A template's exception as a finding, never as a traceback through jinja."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if undefined := re.search(r"'((\w{1,20})_token)' is undefined", str(error)):
        name, kind = undefined.groups()
        return Finding(
            "missing_bos" if kind == "bos" else "template_error",
            "error",
            f"the template writes {name}, and the tokenizer has none ({reason})",
            "nothing can be rendered, in training or generation",
            f"set tokenizer.{name} to the family's own, or take it out of the template",
        )
    return Finding(
        "template_error",
        "error",
        f"the template fails with {reason}",
        "a trainer stops at such a row, and a server at such a conversation",
        "change or drop such rows, or use a template that accepts them",
    )


def unlike(findings: Iterable[Finding]) -> list[Finding]:
    """The most severe finding of each code, and of several the first."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        before = kept.get(finding.code)
        if before is None or RANK.index(finding.severity) > RANK.index(before.severity):
            kept[finding.code] = finding
    return list(kept.values())


def by_row(numbered: Sequence[tuple[int, Finding]]) -> list[Finding]:
    """One finding for each code, with the numbers of the rows that have it."""
    groups: dict[str, list[tuple[int, Finding]]] = {}
    for index, finding in numbered:
        groups.setdefault(finding.code, []).append((index, finding))
    return [
        replace(found[0][1], evidence=f"{_rows([i for i, _ in found])}: {found[0][1].evidence}")
        for found in groups.values()
    ]


def typed_by_row(counts: Mapping[int, Counter[str]]) -> list[Finding]:
    """One finding that counts and names the control tokens typed in rows, if there are any."""
    total = sum(counts.values(), Counter[str]())
    if not total:
        return []
    names = ", ".join(f"{token!r} (\N{MULTIPLICATION SIGN}{n})" for token, n in total.items())
    return [
        Finding(
            "control_token_typed",
            "warning",
            f"{_rows(list(counts))}: the text of messages holds {names}",
            "the tokenizer reads them as control tokens, so that text ends a turn or speaks in "
            "another role",
            "drop or rewrite such rows, or refuse them with control_tokens='refuse'",
        )
    ]


def _rows(numbers: Sequence[int]) -> str:
    more = len(numbers) - 1
    return f"rows[{numbers[0]}]" + (f" and {more} more row{'s' * (more > 1)}" if more else "")


def _is_message(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        return False
    return value.get("content") is not None or any(value.get(f) for f in (*REASONING, "tool_calls"))


def _messages(row: Mapping) -> list[dict]:
    return [*row["prompt"], *row["completion"]]


def _pieces(messages: Sequence[Mapping]) -> Iterator[tuple[int, str, str, str]]:
    """Place, role, kind ("text", "reasoning" or "call") and text of all that messages say."""
    for place, message in enumerate(messages):
        for kind, text in _texts(message):
            if text.strip():
                yield place, message["role"], kind, text


def _texts(message: Mapping) -> Iterator[tuple[str, str]]:
    content = message.get("content")
    for part in content if isinstance(content, list | tuple) else [content]:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            continue
        if message["role"] == "assistant" and "</think>" in text:
            *thoughts, text = text.split("</think>")
            for thought in thoughts:
                before, _, inside = thought.rpartition("<think>")
                yield from (("text", before), ("reasoning", inside))
        yield "text", text
    for field in REASONING:
        if isinstance(message.get(field), str):
            yield "reasoning", message[field]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or call
        yield "call", str(function.get("name") or "")
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError):
                arguments = json.loads(arguments)
        yield from (("call", text) for text in _leaves(arguments))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield str(value)


def _lost(row: Mapping, rendering: Rendering) -> Iterator[Finding]:
    whole = _squeezed(rendering.whole)
    for place, role, kind, text in _pieces(_messages(row)):
        # As it is, or as a JSON string, in which templates write calls and what tools return.
        forms = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
        if any(_squeezed(form) in whole for form in forms):
            continue
        code, what = {
            "reasoning": ("reasoning_lost", f"the reasoning in message {place} ({role})"),
            "call": ("tool_call_lost", f"the tool call in message {place} ({role})"),
        }.get(kind, ("message_lost", f"the text of message {place} ({role})"))
        if role in ("system", "developer"):
            code = "system_lost"
        # Families such as Qwen3 leave out the reasoning of earlier turns, in generation as well.
        earlier = code == "reasoning_lost" and place < len(row["prompt"])
        evidence = f"{what} is not in the rendering: {text.strip()!r:.60}"
        yield Finding(code, "info" if earlier else "error", evidence, *LOST[code])


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _written_as_code(row: Mapping, rendering: Rendering) -> Iterator[Finding]:
    """A list of parts written as Python, or arguments in JSON written as one JSON string."""
    for message in _messages(row):
        content = message.get("content")
        if isinstance(content, list) and content and str(content) in rendering.whole:
            yield Finding(
                "message_lost",
                "error",
                f"a list of parts is written as Python code: {str(content)!r:.60}",
                "the policy learns to read or write that code instead of the text",
                "join the text parts of each message to one string: this template expects text",
            )
        for call in message.get("tool_calls") or ():
            text = (call.get("function") or call).get("arguments")
            if not isinstance(text, str) or text in rendering.whole:
                continue
            if json.dumps(text) in rendering.whole:
                yield Finding(
                    "tool_call_quoted",
                    "error",
                    f"arguments are text, and are written as one JSON string: {text!r:.60}",
                    "the policy learns to write arguments that no parser of its calls expects",
                    "read them with json.loads first: this template expects a dictionary",
                )


def _others_trained(row: Mapping, rendering: Rendering) -> Iterator[Finding]:
    start = "the loss starts before the prompt ends"
    for _, _, _, text in _pieces(row["prompt"]):
        if text in rendering.trained:
            yield _trained(start, text)
    for _, role, _, text in _pieces(row["completion"]):
        if role != "assistant" and text in rendering.trained:
            yield _trained(f"the completion holds a message with the role {role!r}", text)


def _trained(evidence: str, text: str) -> Finding:
    return Finding(
        "prompt_trained",
        "error",
        f"{evidence}: {text!r} is trained",
        "the policy learns to write messages that are not its own",
        "render the prompt alike with and without the reply; put only replies into `completion`",
    )


def _before_reply(row: Mapping, rendering: Rendering) -> str:
    """The whole up to the reply; up to the end of the prompt if the reply is written otherwise."""
    shared = len(rendering.whole) - len(rendering.trained)
    for _, _, _, text in _pieces(row["completion"]):
        for form in (text, text.strip()):
            if (place := rendering.whole.find(form, shared)) >= 0:
                return rendering.whole[:place]
    return rendering.whole[: max(shared, len(rendering.prompt))]


def _form(row: Mapping) -> tuple[dict, str]:
    """A row with a word of its own in place of each text, and what identifies its form."""
    numbers = count()

    def word(text: Any) -> Any:
        if not isinstance(text, str) or not text.strip():
            return text
        new = f"Word{next(numbers)}x"
        # Reasoning within a reply stays reasoning.
        return f"<think>\n{new}a\n</think>\n\n{new}b" if "</think>" in text else new

    def content(value: Any) -> Any:
        if isinstance(value, list):
            return [
                {**part, "text": word(part["text"])} if "text" in part else part for part in value
            ]
        return word(value)

    def message(value: Mapping) -> dict:
        texts = {field: content(value[field]) for field in _TEXTS if field in value}
        return {**value, **texts}

    form = {**row, **{field: [*map(message, row[field])] for field in ("prompt", "completion")}}
    outline = [
        (m["role"], [m.get(field) for field in _TEXTS], len(m.get("tool_calls") or ()))
        for m in _messages(form)
    ]
    options = bool(row.get("tools")), row.get("chat_template_kwargs")
    return form, repr((outline, len(row["prompt"]), options))
