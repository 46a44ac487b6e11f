"""What is wrong with a chat template; a part of `postlab.chat`.

Every check renders the same short conversation and looks at the tokens, so that it judges what a
trainer will see and not how the template is written. A finding is a fault that runs: nothing fails,
the loss falls, and the model rambles, never stops or was taught its users' lines.

Left out: tools, images, what a template does with turns further back.
"""

from typing import Any, Literal

from postlab.chat.rendering import (
    PROBE,
    PROBE_REPLY,
    REPLY,
    USER,
    assistant_mask,
    end_of_turn_id,
    ids_and_start,
    lacks_bos,
    name_of,
    text_of,
    tokens_of,
)
from postlab.chat.template_tokens import digits, right_padding, split_markers, untrained_tokens
from postlab.doctor import Finding

Severity = Literal["info", "warning", "error"]


def check_template(tokenizer: Any, *, model: Any = None, generating: bool = False) -> list[Finding]:
    """What is wrong with a tokenizer's chat template, found by rendering a short conversation.

    Args:
        tokenizer: a transformers tokenizer.
        model: the base that will be trained; with it, the embeddings of the template's own tokens
            are compared with the others, for a base that has never seen them.
        generating: look at the padding side as well, for a tokenizer that batches prompts.
    Returns:
        Findings, none for a sound template. Codes: double_bos, missing_bos,
        end_of_turn_not_trained, pad_equals_end_of_turn, prompt_trained,
        assistant_prefix_drift, template_token_split,
        digits_cut_wrongly; untrained_template_token (with a model); right_padding (if generating);
        no_template stands alone.
    Taught in weeks 1 and 3.

    >>> from types import SimpleNamespace
    >>> [finding.code for finding in check_template(SimpleNamespace(chat_template=None))]
    ['no_template']
    """
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
    checks = (
        _double_bos,
        _missing_bos,
        _end_of_turn,
        _pad,
        _prompt_trained,
        _prefix_drift,
        split_markers,
        digits,
    )
    findings = [finding for check in checks for finding in check(tokenizer)]
    if model is not None:
        findings += untrained_tokens(tokenizer, model)
    if generating:
        findings += right_padding(tokenizer)
    return findings


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


def _missing_bos(tokenizer: Any) -> list[Finding]:
    if not lacks_bos(tokenizer):
        return []
    return [
        Finding(
            "missing_bos",
            "warning",
            f"plain text gets {tokenizer.bos_token!r} in front, but the template leaves it out",
            "the base was probably pretrained with that token first, and attention relies on it; "
            "without it, training and inference start from an input that it never saw",
            "call postlab.chat.begin_with_bos(tokenizer), which puts {{ bos_token }} first",
        )
    ]


def _end_of_turn(tokenizer: Any) -> list[Finding]:
    why = "a model that is not trained to end its turn answers and then rambles to the length limit"
    code, end, eos = "end_of_turn_not_trained", end_of_turn_id(tokenizer), tokenizer.eos_token_id
    if end is None:
        evidence = "the template writes no special token after a reply"
        fix = "end assistant messages with eos_token in the template"
        return [Finding(code, "error", evidence, why, fix)]
    findings = []
    if end != eos:
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


def _prompt_trained(tokenizer: Any) -> list[Finding]:
    ids, start = ids_and_start(tokenizer, PROBE, PROBE_REPLY)
    trained = {"the loss starts before the prompt ends": tokenizer.decode(ids[start:])}
    ids, mask = assistant_mask(tokenizer)
    trained["the template's generation block covers the prompt"] = tokenizer.decode(
        [i for i, m in zip(ids, mask, strict=True) if m]
    )
    question = tokenizer.decode(tokenizer(USER, add_special_tokens=False)["input_ids"])
    return [
        Finding(
            "prompt_trained",
            "error",
            f"{evidence}: {text!r} is trained",
            "the policy learns to write its users' messages, and the loss is mostly theirs",
            "render the prompt alike with and without the reply; mark only replies as generation",
        )
        for evidence, text in trained.items()
        if question and question.strip() in text
    ]


def _prefix_drift(tokenizer: Any) -> list[Finding]:
    prompt = text_of(tokenizer, PROBE, add_generation_prompt=True)
    full = text_of(tokenizer, PROBE + PROBE_REPLY)
    prompt_ids = tokens_of(tokenizer, PROBE, add_generation_prompt=True)
    _, start = ids_and_start(tokenizer, PROBE, PROBE_REPLY)
    before_reply = full[: full.find(REPLY)]
    if start == len(prompt_ids) and prompt == before_reply:
        return []
    severity: Severity
    if start == len(prompt_ids) and before_reply.startswith(prompt):
        severity = "warning"
        extra = before_reply[len(prompt) :]
        evidence = f"before a reply stands {extra!r}, which the model must write itself"
    else:
        severity = "error"
        shown, written = before_reply[-40:], prompt[-40:]
        evidence = f"training shows {shown!r} before a reply, generation {written!r}"
    return [
        Finding(
            "assistant_prefix_drift",
            severity,
            evidence,
            "the policy generates from a context which differs from the one it was trained in",
            "make add_generation_prompt write exactly what the template writes before a reply",
        )
    ]
