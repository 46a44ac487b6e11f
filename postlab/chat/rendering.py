"""Rendering messages with a tokenizer's chat template, and one short conversation to probe it with.

A part of `postlab.chat`: what `encode` and the template checks share.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Letters and digits alone, so that no template trims or escapes them.
USER, REPLY = "Question1", "Answer2"
PROBE = [{"role": "user", "content": USER}]
PROBE_REPLY = [{"role": "assistant", "content": REPLY}]


@dataclass(frozen=True)
class Rendering:
    """A row as the template writes it: the prompt as generation sees it, the whole as trained.

    Args:
        prompt: the prompt's text, ready for the assistant's turn.
        whole: the text of prompt and completion together.
        prompt_ids: tokens of `prompt`.
        ids: tokens of `whole`, which is tokenised once.
    """

    prompt: str
    whole: str
    prompt_ids: list[int]
    ids: list[int]

    @property
    def start(self) -> int:
        """The first trained position: where the two part, as in TRL."""
        return len(os.path.commonprefix([self.ids, self.prompt_ids]))  # it compares any sequences

    @property
    def trained(self) -> str:
        """The text after the part that prompt and whole share."""
        return self.whole[len(os.path.commonprefix([self.whole, self.prompt])) :]


def render(tokenizer: Any, prompt: list[dict], completion: list[dict], **options: Any) -> Rendering:
    texts = (
        text_of(tokenizer, prompt, add_generation_prompt=True, **options),
        text_of(tokenizer, prompt + completion, **options),
    )
    # No special tokens are added: the template wrote them.
    ids = (list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    return Rendering(*texts, *ids)


def options_of(row: Mapping) -> dict[str, Any]:
    """What TRL gives the template beside a row's messages: its `tools`, and its own options."""
    tools = row.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    own = row.get("chat_template_kwargs") or {}
    return own if tools is None else {"tools": tools, **own}


def text_of(tokenizer: Any, messages: list[dict], **options: Any) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def tokens_of(tokenizer: Any, messages: list[dict], **options: Any) -> list[int]:
    # Tokenised by apply_chat_template, which adds no special tokens: the template wrote them.
    return list(tokenizer.apply_chat_template(messages, return_dict=True, **options)["input_ids"])


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
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise ValueError("the tokenizer has no chat template; set tokenizer.chat_template first")
    if lacks_bos(tokenizer):
        if isinstance(template, Mapping):  # several by name, such as Command-R's
            tokenizer.chat_template = {k: "{{ bos_token }}" + v for k, v in template.items()}
        else:
            tokenizer.chat_template = "{{ bos_token }}" + template
    return tokenizer


def lacks_bos(tokenizer: Any) -> bool:
    """Whether plain text begins with BOS and a rendered conversation does not."""
    bos = bos_of_text(tokenizer)
    return bos is not None and tokens_of(tokenizer, PROBE + PROBE_REPLY)[:1] != [bos]


def bos_of_text(tokenizer: Any) -> int | None:
    """The BOS that plain text begins with, if it does."""
    bos = tokenizer.bos_token_id
    return bos if bos is not None and tokenizer(USER)["input_ids"][:1] == [bos] else None


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that stand for no text: special ones and those added to the vocabulary."""
    return set(tokenizer.all_special_ids) | set(getattr(tokenizer, "added_tokens_decoder", {}))


def after_reply(tokenizer: Any) -> list[int]:
    """The tokens that the template writes after a reply."""
    full = text_of(tokenizer, PROBE + PROBE_REPLY)
    after = full[full.rfind(REPLY) + len(REPLY) :]
    return list(tokenizer(after, add_special_tokens=False)["input_ids"])


def end_of_turn_id(tokenizer: Any) -> int | None:
    """The first special token that the template writes after a reply."""
    special = special_ids(tokenizer)
    return next((i for i in after_reply(tokenizer) if i in special), None)


def assistant_mask(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids and mask of the probe by the template's generation block; empty where it has none."""
    if "endgeneration" not in str(tokenizer.chat_template) or not tokenizer.is_fast:
        return [], []
    encoded = tokenizer.apply_chat_template(
        PROBE + PROBE_REPLY, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), list(encoded["assistant_masks"])


def name_of(tokenizer: Any, token_id: int | None) -> str:
    return "not set" if token_id is None else repr(tokenizer.convert_ids_to_tokens(token_id))


def names_of(tokenizer: Any, ids: Sequence[int]) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(list(ids)))
