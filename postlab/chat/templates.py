"""What is wrong with a chat template; a part of `postlab.chat`.

Every check renders short conversations and looks at the text and the tokens, so that it judges what
a trainer will see and not how the template is written. A finding is a fault that runs: nothing
fails, the loss falls, and the model rambles, never stops or was taught its users' lines.

Left out: images, and conversations longer than two turns.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from postlab.chat.guard import runs_away
from postlab.chat.invariant import (
    LOST,
    RANK,
    REASONING,
    Invariant,
    by_row,
    checked_row,
    examine,
    refusal,
    render_row,
    typed_by_row,
    unlike,
)
from postlab.chat.rendering import (
    PROBE,
    PROBE_REPLY,
    REPLY,
    USER,
    after_reply,
    assistant_mask,
    end_of_turn_id,
    name_of,
    special_ids,
    text_of,
    tokens_of,
)
from postlab.chat.template_tokens import digits, right_padding, split_markers, untrained_tokens
from postlab.doctor import Finding, finds

Severity = Literal["info", "warning", "error"]

TEMPLATE_CODES = {  # and what each means
    "no_template": "the tokenizer has no chat template, as with most base models",
    "template_error": "the template, or the tokenizer behind it, raises an error",
    "template_runs_away": "rendering a few words takes too much time, memory or text",
    "message_lost": "the text of a message is missing, or is written as code",
    "system_lost": "a system message is dropped, or refused with an error",
    "reasoning_lost": "the reasoning of the last reply is dropped, so it is not trained",
    "tool_call_lost": "a tool call or a tool's result is dropped, or refused with an error",
    "tool_call_quoted": "arguments of a tool call are written as a quoted string, not as JSON",
    "assistant_prefix_drift": "training does not begin with the prompt as generation sees it",
    "prompt_trained": "tokens of the prompt are trained as well",
    "end_of_turn_not_trained": "no trained token ends a reply, so the model never stops",
    "trained_after_end": "text is trained that follows the end of a turn",
    "double_bos": "a text begins with two beginning-of-sequence tokens",
    "missing_bos": "a text begins without the beginning-of-sequence token its tokenizer adds",
    "pad_equals_end_of_turn": "pad is the end of turn: collators that mask pad mask the end",
    "template_token_split": "a marker of the template is several tokens, not one",
    "digits_cut_wrongly": "a number after a line break is cut unlike in pretraining",
    "untrained_template_token": "the base has never seen a token of the template (with a model)",
    "right_padding": "prompts are padded on the right (if generating)",
    "control_token_typed": "a row's text holds a control token that somebody typed (with rows)",
    "row_malformed": "a row has no prompt and completion that can be read (with rows)",
}

# What rows hold beside a question and its answer. No word is part of another one.
_SYSTEM = [{"role": "system", "content": "System3"}]
_AGAIN = [{"role": "user", "content": "Question4"}]
_SECOND_REPLY = [{"role": "assistant", "content": "Answer5"}]
_THOUGHT = "Thought6"
_FATAL = ("template_error", "message_lost", "missing_bos")
_CALL: dict[str, Any] = {
    "id": "call00007",  # nine letters and digits, as Mistral's templates demand
    "type": "function",
    "function": {"name": "function8", "arguments": {"place": "Place9"}},
}
_CALLS = [{"role": "assistant", "content": "", "tool_calls": [_CALL]}]
_RESULT = [
    {"role": "tool", "name": "function8", "tool_call_id": "call00007", "content": "Result10"}
]
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "function8",
            "description": "What it is like there.",
            "parameters": {
                "type": "object",
                "properties": {"place": {"type": "string", "description": "Where."}},
                "required": ["place"],
            },
        },
    }
]


def _row(prompt: list[dict], completion: list[dict], **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, **fields}


_PLAIN = _row(PROBE, PROBE_REPLY)
_WITH_SYSTEM = _row(_SYSTEM + PROBE, PROBE_REPLY)
_SECOND_TURN = _row(PROBE + PROBE_REPLY + _AGAIN, _SECOND_REPLY)
_CALLING = _row(PROBE, _CALLS, tools=_TOOLS)
_AFTER_CALL = _row(PROBE + _CALLS + _RESULT, PROBE_REPLY, tools=_TOOLS)


@finds(TEMPLATE_CODES)
def check_template(
    tokenizer: Any,
    *,
    rows: Sequence[Mapping] = (),
    model: Any = None,
    generating: bool = False,
) -> list[Finding]:
    """What is wrong with a tokenizer's chat template, found by rendering short conversations.

    The template must write every message's text, begin the whole with the prompt as generation
    sees it, and leave exactly the reply and its end to be trained. Probes: a question and its
    answer; with a system message; a second turn; reasoning; a reply that begins with a line break;
    a tool call, if the template writes tools. It never raises: a template that fails, or runs away,
    is a finding.

    Args:
        tokenizer: a transformers tokenizer, or a processor that has one.
        rows: dicts with `prompt` and `completion` to look at as well; a finding names the first row
            that has it, and counts the others.
        model: the base that will be trained; with it, the embeddings of the template's own tokens
            are compared with the others, for a base that has never seen them.
        generating: look at the padding side as well, for a tokenizer that batches prompts.
    Returns:
        Findings, none for a sound template; no_template and template_runs_away stand alone.
        `TEMPLATE_CODES` has the meaning of each code.
    Taught in weeks 1 and 3.

    >>> from types import SimpleNamespace
    >>> [finding.code for finding in check_template(SimpleNamespace(chat_template=None))]
    ['no_template']
    """
    tokenizer = _tokenizer_of(tokenizer)
    if not getattr(tokenizer, "chat_template", None):
        return [
            Finding(
                "no_template",
                "error",
                "the tokenizer has no chat template",
                "messages cannot be turned into tokens, as with most base models",
                "set tokenizer.chat_template, for example from the family's instruct model",
            )
        ]
    if limit := runs_away(lambda: _trial(tokenizer)):
        return [
            Finding(
                "template_runs_away",
                "error",
                f"rendering a few words took more than {limit}",
                "whatever renders with it hangs or is killed",
                "don't use this template; take the family's own from its instruct model",
            )
        ]
    plain = _attempt(_plain, tokenizer)
    checks: list[Callable[[Any], list[Finding]]] = [
        _double_bos,
        _end_of_turn,
        _pad,
        lambda _: plain,
        _block_covers_prompt,
        _system,
        _second_turn,
        _line_break,
        _reasoning,
        _tools,
        split_markers,
        digits,
    ]
    if any(finding.code in _FATAL and finding.severity == "error" for finding in plain):
        checks = [lambda _: plain, digits]  # no other rendering can be trusted
    if model is not None:
        checks.append(lambda tokenizer: untrained_tokens(tokenizer, model))
    if generating:
        checks.append(right_padding)
    findings: list[Finding] = []
    for check in checks:  # what an earlier check said, a later one need not repeat
        said = {finding.code: RANK.index(finding.severity) for finding in findings}
        new = _attempt(check, tokenizer)
        findings += [f for f in new if RANK.index(f.severity) > said.get(f.code, -1)]
    if rows:
        findings += _attempt(lambda tokenizer: _of_rows(rows, tokenizer), tokenizer)
    return findings


def _attempt(check: Callable[[Any], list[Finding]], tokenizer: Any) -> list[Finding]:
    try:
        return list(check(tokenizer))
    except Exception as error:  # a template, and a tokenizer behind it, may raise anything
        return [refusal(error)]


def _tokenizer_of(given: Any) -> Any:
    """The tokenizer itself, or a processor's with the template that the processor holds."""
    inner: Any = getattr(given, "tokenizer", None)
    if not hasattr(inner, "apply_chat_template"):
        return given
    if not getattr(inner, "chat_template", None):
        inner = copy.copy(inner)
        inner.chat_template = getattr(given, "chat_template", None)
    return inner


def _trial(tokenizer: Any) -> int:
    """Characters of the longest probe."""
    longest = 0
    for row in (_PLAIN, _WITH_SYSTEM, _SECOND_TURN, _CALLING, _AFTER_CALL):
        for messages in (row["prompt"], row["prompt"] + row["completion"]):
            try:
                text = text_of(tokenizer, messages, tools=row.get("tools"))
            except MemoryError:
                raise
            except Exception:  # judged where it is rendered again
                continue
            longest = max(longest, len(text))
    return longest


def _plain(tokenizer: Any) -> list[Finding]:
    findings = _judged(_PLAIN, tokenizer)
    fatal = [each for each in findings if each.code in ("message_lost", "template_error")][:1]
    if not fatal:
        return findings
    parts = [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        for message in PROBE + PROBE_REPLY
    ]
    others = {each.code for each in _judged(_row(parts[:1], parts[1:]), tokenizer)}
    if others & {"message_lost", "template_error"}:
        return fatal
    fix = "give content as a list of parts, [{'type': 'text', 'text': ...}], as this template reads"
    return [replace(each, fix=fix) for each in fatal]


def _judged(row: Mapping, tokenizer: Any, what: str = "") -> list[Finding]:
    """How a probe breaks the invariant; `what` says what the probe holds."""
    try:
        findings = Invariant(tokenizer).broken_form(row, render_row(tokenizer, row))
    except Exception as error:
        findings = [refusal(error)]
    return [replace(each, evidence=f"{what}{each.evidence}") for each in findings]


def _system(tokenizer: Any) -> list[Finding]:
    findings = _judged(_WITH_SYSTEM, tokenizer, "with a system message: ")
    fix = LOST["system_lost"][1]
    return [
        replace(each, code="system_lost", severity="warning", fix=fix)
        if each.code in ("system_lost", "template_error")
        else each
        for each in findings
    ]


def _second_turn(tokenizer: Any) -> list[Finding]:
    findings = _judged(_SECOND_TURN, tokenizer, "in a second turn: ")
    special = special_ids(tokenizer) - ({tokenizer.bos_token_id} - {tokenizer.eos_token_id})

    def first_special(text: str) -> int | None:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return next((i for i in ids if i in special), None)

    text = text_of(tokenizer, _SECOND_TURN["prompt"] + _SECOND_TURN["completion"])
    between = text.rpartition(REPLY)[2].partition(_AGAIN[0]["content"])[0]
    asked = text_of(tokenizer, PROBE)
    opening = text_of(tokenizer, PROBE, add_generation_prompt=True).removeprefix(asked)
    begins = {None, first_special(text.partition(USER)[0]), first_special(opening)}
    end = end_of_turn_id(tokenizer)
    if end is not None and first_special(between) in begins - {end}:
        findings.append(
            Finding(
                "end_of_turn_not_trained",
                "warning",
                f"the first of two replies ends with no special token, but with {between!r}",
                "where every reply of a conversation is trained, most of them train no end",
                "end every assistant message with the token that ends the last one",
            )
        )
    return findings


def _line_break(tokenizer: Any) -> list[Finding]:
    """A break at the beginning of a reply may merge with the template's own into one token."""
    row = _row(PROBE, [{"role": "assistant", "content": "\n" + REPLY}])
    return [
        replace(each, severity="info") if each.code == "assistant_prefix_drift" else each
        for each in _judged(row, tokenizer, "with a reply that begins with a line break: ")
    ]


def _reasoning(tokenizer: Any) -> list[Finding]:
    inline = {"role": "assistant", "content": f"<think>\n{_THOUGHT}\n</think>\n\n{REPLY}"}
    findings = _judged(_row(PROBE, [inline]), tokenizer, "with reasoning in <think>: ")
    for field in REASONING:
        row = _row(PROBE, [{**PROBE_REPLY[0], field: _THOUGHT}])
        others = _judged(row, tokenizer, f"with reasoning in {field!r}: ")
        if not {"reasoning_lost", "template_error"} & {each.code for each in others}:
            findings = [
                replace(each, fix=f"put reasoning into the field {field!r} of a message, untagged")
                if each.code == "reasoning_lost"
                else each
                for each in [*findings, *others]
            ]
            break
    return [
        replace(each, severity="warning") if each.code == "reasoning_lost" else each
        for each in unlike(findings)
    ]


def _tools(tokenizer: Any) -> list[Finding]:
    try:
        offered = text_of(tokenizer, PROBE, tools=_TOOLS)
    except Exception:
        return []
    if _CALL["function"]["name"] not in offered:
        return []  # this template writes no tools, and promises nothing
    findings = [
        *_judged(_CALLING, tokenizer, "with a tool call: "),
        *_judged(_AFTER_CALL, tokenizer, "after a tool's result: "),
    ]
    lost = ("tool_call_lost", "message_lost", "template_error")
    return [
        replace(each, code="tool_call_lost", severity="warning") if each.code in lost else each
        for each in unlike(findings)
    ]


def _of_rows(rows: Sequence[Mapping], tokenizer: Any) -> list[Finding]:
    numbered, whole = [], {}
    for index, row in enumerate(rows):
        try:
            whole[index] = checked_row(row, index)
        except (TypeError, ValueError, AttributeError) as error:
            finding = Finding(
                "row_malformed",
                "error",
                str(error),
                "neither encode nor a trainer can read it",
                "read rows with postlab.datasets, or give prompt and completion as messages",
            )
            numbered.append((index, finding))
    typed = {}
    for index, (_, findings, counts) in zip(
        whole, examine(list(whole.values()), tokenizer), strict=True
    ):
        numbered += [(index, finding) for finding in findings]
        if counts:
            typed[index] = counts
    return by_row(numbered) + typed_by_row(typed)


def _double_bos(tokenizer: Any) -> list[Finding]:
    bos = tokenizer.bos_token_id
    if bos is None:
        return []
    severity: Severity
    twice = [bos, bos]
    if tokens_of(tokenizer, PROBE + PROBE_REPLY)[:2] == twice:
        severity = "error"
        evidence, fix = "the template writes BOS twice", "write it once there"
    elif tokenizer(text_of(tokenizer, PROBE + PROBE_REPLY))["input_ids"][:2] == twice:
        severity = "warning"
        evidence = "the template writes BOS, and tokenising the rendered text adds another"
        fix = "tokenise rendered text with add_special_tokens=False"
    else:
        return []
    why = "the model never saw two in pretraining, and training and generation may differ by one"
    return [Finding("double_bos", severity, evidence, why, fix)]


def _end_of_turn(tokenizer: Any) -> list[Finding]:
    why = "a model that is not trained to end its turn answers and then rambles to the length limit"
    code, end, eos = "end_of_turn_not_trained", end_of_turn_id(tokenizer), tokenizer.eos_token_id
    if end is None:
        return []  # `_plain` says so
    findings = []
    # Phi-3's <|end|> is followed by the eos_token, and Cohere's <|END_RESPONSE|>: trained as well.
    if eos not in after_reply(tokenizer):
        names = name_of(tokenizer, end), name_of(tokenizer, eos)
        evidence = "replies end with {}, but eos_token is {}".format(*names)
        fix = "set eos_token (and generation_config.eos_token_id) to the token that ends a turn"
        findings.append(Finding(code, "error", evidence, why, fix))
    ids, mask = assistant_mask(tokenizer)
    if mask and not any(m and i == end for i, m in zip(ids, mask, strict=True)):
        evidence = f"{name_of(tokenizer, end)} stands outside the template's generation block"
        fix = "move endgeneration behind the end-of-turn token"
        findings.append(Finding(code, "error", evidence, why, fix))
    return findings


def _pad(tokenizer: Any) -> list[Finding]:
    end, pad = end_of_turn_id(tokenizer), tokenizer.pad_token_id
    ends = {i for i in (end, tokenizer.eos_token_id) if i is not None}
    if pad is not None and pad not in ends:
        return []
    evidence = f"pad and end of turn are both {name_of(tokenizer, pad)}"
    if pad is None:
        evidence = "there is no pad token, and trainers then pad with eos_token"
    return [
        Finding(
            "pad_equals_end_of_turn",
            "warning",
            evidence,
            "a collator that masks pad tokens masks the end of turn, and the model never stops",
            "set pad_token to a token of its own, or mask by length as encode does",
        )
    ]


def _block_covers_prompt(tokenizer: Any) -> list[Finding]:
    ids, mask = assistant_mask(tokenizer)
    text = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])
    question = tokenizer.decode(tokenizer(USER, add_special_tokens=False)["input_ids"]).strip()
    if not question or question not in text:
        return []
    return [
        Finding(
            "prompt_trained",
            "error",
            f"the template's generation block covers the prompt: {text!r} is trained",
            "the policy learns to write its users' messages, and the loss is mostly theirs",
            "mark only replies as generation",
        )
    ]
