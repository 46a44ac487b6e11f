"""From messages to trained tokens: what the chat template writes, and where the loss falls.

`encode` is what TRL's SFTTrainer does to prompt and completion rows, in the open: one rendering,
tokenised once, the loss on the completion alone. `check_template` looks for the faults that train
without an error and leave a model that rambles, never stops or was taught its users' lines.

Left out: packing, tools, images, and templates which mark assistant turns inside the prompt (only
the completion is trained).
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from postlab.doctor import Finding

if TYPE_CHECKING:
    import torch

# Letters and digits alone, so that no template trims or escapes them.
_USER, _REPLY = "Question1", "Answer2"
_PROBE = [{"role": "user", "content": _USER}]
_PROBE_REPLY = [{"role": "assistant", "content": _REPLY}]


def encode(rows: Sequence[dict], tokenizer: Any, *, max_length: int) -> dict[str, "torch.Tensor"]:
    """Token ids and loss mask of instruction rows, the way TRL's SFTTrainer makes them.

    The loss falls on everything after the prompt: the reply, its end-of-turn token, and what the
    template writes after that. Rows longer than max_length are cut at the end, with one warning
    that counts them: a cut row does not train the end of turn.

    Args:
        rows: dicts with `prompt` and `completion`, each a list of messages.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: tokens kept a row.
    Returns:
        `input_ids`, `attention_mask` and `loss_mask`, each (B, T) int64, right-padded; loss_mask
        is 1 on exactly the trained tokens.
    Raises:
        ValueError: for a row without a field, or whose prompt alone fills max_length; it names row
            and field.
    Taught in week 1.

    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> ids = {word: i for i, word in enumerate("user assistant 2 + 3 5 end".split())}
    >>> words = Tokenizer(models.WordLevel(ids))
    >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="end")
    >>> tokenizer.chat_template = (
    ...     "{% for m in messages %}{{ m.role + ' ' + m.content + ' end ' }}{% endfor %}"
    ...     "{% if add_generation_prompt %}assistant {% endif %}")
    >>> row = {"prompt": [{"role": "user", "content": "2 + 3"}],
    ...        "completion": [{"role": "assistant", "content": "5"}]}
    >>> batch = encode([row], tokenizer, max_length=16)
    >>> tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    ['user', '2', '+', '3', 'end', 'assistant', '5', 'end']
    >>> batch["loss_mask"][0].tolist()
    [0, 0, 0, 0, 0, 0, 1, 1]
    """
    import torch

    if not rows:
        raise ValueError("encode got no rows; it needs at least one with `prompt` and `completion`")
    if max_length < 1:
        raise ValueError(f"max_length must be a positive number of tokens, got {max_length}")
    _require_template(tokenizer)

    sequences, starts, cut = [], [], 0
    for index, row in enumerate(rows):
        prompt, completion = (_messages(row, field, index) for field in ("prompt", "completion"))
        ids, start = _ids_and_start(tokenizer, prompt, completion)
        if start >= min(len(ids), max_length):
            raise ValueError(
                f"rows[{index}]: field 'prompt' has {start} of the row's {len(ids)} tokens and "
                f"max_length is {max_length}, so nothing of the completion is trained; "
                "raise max_length or drop the row"
            )
        cut += len(ids) > max_length
        sequences.append(ids[:max_length])
        starts.append(start)
    if cut:
        warnings.warn(
            f"{cut} of {len(rows)} rows are longer than max_length={max_length} and were cut at "
            "the end; they do not train the end of turn",
            stacklevel=2,
        )

    width = max(map(len, sequences))
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    input_ids = torch.full((len(sequences), width), pad)  # (B, T)
    attention_mask = torch.zeros_like(input_ids)
    loss_mask = torch.zeros_like(input_ids)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        # From lengths, never from `ids == pad`: pad may be the end of turn, which is trained.
        attention_mask[b, : len(ids)] = 1
        loss_mask[b, start : len(ids)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "loss_mask": loss_mask}


def check_template(tokenizer: Any) -> list[Finding]:
    """What is wrong with a tokenizer's chat template, found by rendering a short conversation.

    Args:
        tokenizer: a transformers tokenizer.
    Returns:
        Findings with the codes double_bos, end_of_turn_not_trained, pad_equals_end_of_turn,
        prompt_trained, assistant_prefix_drift, or no_template alone; an empty list for a sound
        template.
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
                week=1,
            )
        ]
    checks = (_double_bos, _end_of_turn, _pad, _prompt_trained, _prefix_drift)
    return [finding for check in checks for finding in check(tokenizer)]


def _double_bos(tokenizer: Any) -> list[Finding]:
    bos = tokenizer.bos_token_id
    if bos is None:
        return []
    twice = [bos, bos]
    if _tokens(tokenizer, _PROBE + _PROBE_REPLY)[:2] == twice:
        severity, seen, fix = "error", "the template writes BOS twice", "write it once there"
    elif tokenizer(_text(tokenizer, _PROBE + _PROBE_REPLY))["input_ids"][:2] == twice:
        severity = "warning"
        seen = "the template writes BOS, and tokenising the rendered text adds another"
        fix = "tokenise rendered text with add_special_tokens=False"
    else:
        return []
    why = "the model never saw two in pretraining, and training and generation may differ by one"
    return [Finding("double_bos", severity, seen, why, fix, week=1)]


def _end_of_turn(tokenizer: Any) -> list[Finding]:
    why = "a model that is not trained to end its turn answers and then rambles to the length limit"
    code, end, eos = "end_of_turn_not_trained", _end_of_turn_id(tokenizer), tokenizer.eos_token_id
    if end is None:
        seen = "the template writes no special token after a reply"
        fix = "end assistant messages with eos_token in the template"
        return [Finding(code, "error", seen, why, fix, week=1)]
    findings = []
    if end != eos:
        seen = f"replies end with {_name(tokenizer, end)}, but eos_token is {_name(tokenizer, eos)}"
        fix = "set eos_token (and generation_config.eos_token_id) to the token that ends a turn"
        findings.append(Finding(code, "error", seen, why, fix, week=1))
    ids, mask = _assistant_mask(tokenizer)
    if mask and not any(m and i == end for i, m in zip(ids, mask, strict=True)):
        seen = f"{_name(tokenizer, end)} stands outside the template's generation block"
        fix = "move endgeneration behind the end-of-turn token"
        findings.append(Finding(code, "error", seen, why, fix, week=1))
    return findings


def _pad(tokenizer: Any) -> list[Finding]:
    end, pad = _end_of_turn_id(tokenizer), tokenizer.pad_token_id
    ends = {i for i in (end, tokenizer.eos_token_id) if i is not None}
    if pad is not None and pad not in ends:
        return []
    seen = f"pad and end of turn are both {_name(tokenizer, pad)}"
    if pad is None:
        seen = "there is no pad token, and trainers then pad with eos_token"
    return [
        Finding(
            "pad_equals_end_of_turn",
            "warning",
            seen,
            "a collator that masks pad tokens masks the end of turn, and the model never stops",
            "set pad_token to a token of its own, or mask by length as encode does",
            week=3,
        )
    ]


def _prompt_trained(tokenizer: Any) -> list[Finding]:
    ids, start = _ids_and_start(tokenizer, _PROBE, _PROBE_REPLY)
    trained = {"the loss starts before the prompt ends": tokenizer.decode(ids[start:])}
    ids, mask = _assistant_mask(tokenizer)
    trained["the template's generation block covers the prompt"] = tokenizer.decode(
        [i for i, m in zip(ids, mask, strict=True) if m]
    )
    question = tokenizer.decode(tokenizer(_USER, add_special_tokens=False)["input_ids"])
    return [
        Finding(
            "prompt_trained",
            "error",
            f"{seen}: {text!r} is trained",
            "the policy learns to write its users' messages, and the loss is mostly theirs",
            "render the prompt alike with and without the reply; mark only replies as generation",
            week=1,
        )
        for seen, text in trained.items()
        if question and question.strip() in text
    ]


def _prefix_drift(tokenizer: Any) -> list[Finding]:
    prompt = _text(tokenizer, _PROBE, add_generation_prompt=True)
    full = _text(tokenizer, _PROBE + _PROBE_REPLY)
    prompt_ids = _tokens(tokenizer, _PROBE, add_generation_prompt=True)
    _, start = _ids_and_start(tokenizer, _PROBE, _PROBE_REPLY)
    before_reply = full[: full.find(_REPLY)]
    if start == len(prompt_ids) and prompt == before_reply:
        return []
    if start == len(prompt_ids) and before_reply.startswith(prompt):
        severity = "warning"
        extra = before_reply[len(prompt) :]
        seen = f"before a reply stands {extra!r}, which the model must write itself"
    else:
        severity = "error"
        seen = f"training shows {before_reply[-40:]!r} before a reply, generation {prompt[-40:]!r}"
    return [
        Finding(
            "assistant_prefix_drift",
            severity,
            seen,
            "the policy generates from a context which differs from the one it was trained in",
            "make add_generation_prompt write exactly what the template writes before a reply",
            week=1,
        )
    ]


def _require_template(tokenizer: Any) -> None:
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template; set tokenizer.chat_template before encoding"
        )


def _messages(row: dict, field: str, index: int) -> list[dict]:
    if field not in row:
        raise ValueError(f"rows[{index}] has no field {field!r}; it has {', '.join(sorted(row))}")
    value = row[field]
    if isinstance(value, list) and value and all(_is_message(m) for m in value):
        return value
    raise ValueError(
        f"rows[{index}]: field {field!r} must be a list of messages such as "
        f"[{{'role': 'user', 'content': '...'}}], got {value!r:.80}"
    )


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and {"role", "content"} <= value.keys()


def _text(tokenizer: Any, messages: list[dict], **options: Any) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def _tokens(tokenizer: Any, messages: list[dict], **options: Any) -> list[int]:
    # Tokenised by apply_chat_template, which adds no special tokens: the template wrote them.
    return list(tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"])


def _ids_and_start(
    tokenizer: Any, prompt: list[dict], completion: list[dict]
) -> tuple[list[int], int]:
    """Ids of prompt and completion together, and the first trained position.

    The whole is tokenised once; the prompt by itself only tells where the two part, as in TRL.
    """
    ids = _tokens(tokenizer, prompt + completion)
    alone = _tokens(tokenizer, prompt, add_generation_prompt=True)
    pairs = enumerate(zip(ids, alone, strict=False))
    start = next((t for t, (a, b) in pairs if a != b), min(len(ids), len(alone)))
    return ids, start


def _end_of_turn_id(tokenizer: Any) -> int | None:
    """The first special token that the template writes after a reply."""
    full = _text(tokenizer, _PROBE + _PROBE_REPLY)
    after = full[full.rfind(_REPLY) + len(_REPLY) :]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    return next((i for i in ids if i in special), None)


def _assistant_mask(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids and mask of the probe by the template's generation block; empty where it has none."""
    if "endgeneration" not in tokenizer.chat_template or not tokenizer.is_fast:
        return [], []
    found = tokenizer.apply_chat_template(
        _PROBE + _PROBE_REPLY, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(found["input_ids"]), list(found["assistant_masks"])


def _name(tokenizer: Any, token_id: int | None) -> str:
    return "not set" if token_id is None else repr(tokenizer.convert_ids_to_tokens(token_id))
