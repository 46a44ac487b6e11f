"""Rendering messages with a tokenizer's chat template, and one short conversation to probe it with.

A part of `postlab.chat`: what `encode` and the template checks share.
"""

from typing import Any

# Letters and digits alone, so that no template trims or escapes them.
USER, REPLY = "Question1", "Answer2"
PROBE = [{"role": "user", "content": USER}]
PROBE_REPLY = [{"role": "assistant", "content": REPLY}]


def text_of(tokenizer: Any, messages: list[dict], **options: Any) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def tokens_of(tokenizer: Any, messages: list[dict], **options: Any) -> list[int]:
    # Tokenised by apply_chat_template, which adds no special tokens: the template wrote them.
    return list(tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"])


def ids_and_start(
    tokenizer: Any, prompt: list[dict], completion: list[dict]
) -> tuple[list[int], int]:
    """Ids of prompt and completion together, and the first trained position.

    The whole is tokenised once; the prompt by itself only tells where the two part, as in TRL.
    """
    ids = tokens_of(tokenizer, prompt + completion)
    alone = tokens_of(tokenizer, prompt, add_generation_prompt=True)
    pairs = enumerate(zip(ids, alone, strict=False))
    start = next((t for t, (a, b) in pairs if a != b), min(len(ids), len(alone)))
    return ids, start


def begin_with_bos(tokenizer: Any) -> Any:
    """Add a missing beginning-of-sequence token to a chat template.

    Some ready-made templates leave it out, such as Unsloth's `chatml` on a Mistral. Pretrained
    models put much of many heads' attention on that first token (an attention sink), so leaving it
    out gives the base an input unlike any it was trained on.

    Args:
        tokenizer: with a chat template. One that has no BOS, does not begin plain text with it, or
            whose template writes it already, stays as it is.
    Returns:
        The same tokenizer.
    Raises:
        ValueError: if it has no chat template.
    Taught in week 3.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("the tokenizer has no chat template; set tokenizer.chat_template first")
    if lacks_bos(tokenizer):
        tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    return tokenizer


def lacks_bos(tokenizer: Any) -> bool:
    """Whether plain text begins with BOS and a rendered conversation does not."""
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer(USER)["input_ids"][:1] != [bos]:
        return False
    return tokens_of(tokenizer, PROBE + PROBE_REPLY)[:1] != [bos]


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that stand for no text: special ones and those added to the vocabulary."""
    return set(tokenizer.all_special_ids) | set(getattr(tokenizer, "added_tokens_decoder", {}))


def end_of_turn_id(tokenizer: Any) -> int | None:
    """The first special token that the template writes after a reply."""
    full = text_of(tokenizer, PROBE + PROBE_REPLY)
    after = full[full.rfind(REPLY) + len(REPLY) :]
    special = special_ids(tokenizer)
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    return next((i for i in ids if i in special), None)


def assistant_mask(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids and mask of the probe by the template's generation block; empty where it has none."""
    if "endgeneration" not in tokenizer.chat_template or not tokenizer.is_fast:
        return [], []
    encoded = tokenizer.apply_chat_template(
        PROBE + PROBE_REPLY, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), list(encoded["assistant_masks"])


def name_of(tokenizer: Any, token_id: int | None) -> str:
    return "not set" if token_id is None else repr(tokenizer.convert_ids_to_tokens(token_id))
