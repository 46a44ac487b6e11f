"""Faults of the tokens a chat template writes: unknown, cut wrongly, never trained, badly padded.

A part of `postlab.chat`. The embedding check looks at the input embeddings alone; an output head
that is not tied to them may have the same hole.
"""

import re
from typing import Any

from postlab.chat.rendering import PROBE, PROBE_REPLY, name_of, special_ids, text_of, tokens_of
from postlab.doctor import Finding

_MARKER = re.compile(r"<\|[^<>|\s]+\|>|<(?:start|end)_of_turn>|</?s>")
# In parts of a usual row's distance from the mean row: nearer than this to zero, to the mean or to
# another row, an embedding has learnt nothing of its own. Tokens that the embedded base never met
# lie at 0.01 and less, freshly added ones at up to 0.09; SmolLM2's turn markers, which only its
# instruction tuning met, at 0.17.
_UNTRAINED = 0.1


def split_markers(tokenizer: Any) -> list[Finding]:
    text = text_of(tokenizer, PROBE + PROBE_REPLY) + text_of(
        tokenizer, PROBE, add_generation_prompt=True
    )
    pieces = {
        marker: tokenizer(marker, add_special_tokens=False)["input_ids"]
        for marker in dict.fromkeys(_MARKER.findall(text))
    }
    split = [f"{marker} ({len(ids)} tokens)" for marker, ids in pieces.items() if len(ids) != 1]
    if not split:
        return []
    return [
        Finding(
            "template_token_split",
            "warning",
            f"the template's markers are not in the vocabulary: {', '.join(split)}",
            "the pieces are cut differently beside different text, and no single token ends a turn",
            "use the template that belongs to this tokenizer, or add the markers as special tokens "
            "and train their embeddings",
        )
    ]


def digits(tokenizer: Any) -> list[Finding]:
    vocabulary = tokenizer.get_vocab()
    if "\u010a" not in vocabulary:  # how byte-level tokenizers spell the line break
        return []
    if any(sum(map(str.isdigit, token)) > 1 for token in vocabulary):
        return []  # numbers are not cut into digits, and so need not be cut off either
    whole = tokenizer("\n\n1.", add_special_tokens=False)["input_ids"]
    parts = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in ("\n\n", "1.")]
    if whole == parts[0] + parts[1]:
        return []
    got, expected = (tokenizer.convert_ids_to_tokens(ids) for ids in (whole, parts[0] + parts[1]))
    return [
        Finding(
            "digits_cut_wrongly",
            "warning",
            f"'\\n\\n1.' becomes {got}; every number in the vocabulary is a single digit, so it "
            f"should become {expected}",
            "the pre-tokenizer is not the one of pretraining (tokenizers read from a GGUF lose "
            "it), and lists and indented numbers come as token sequences the model never saw",
            "put pre_tokenizers.Digits(individual_digits=True) before the ByteLevel one, and pin "
            "the ids of a few texts in a test",
        )
    ]


def untrained_tokens(tokenizer: Any, model: Any) -> list[Finding]:
    import torch

    ids = tokens_of(tokenizer, PROBE + PROBE_REPLY)
    ids += tokens_of(tokenizer, PROBE, add_generation_prompt=True)
    own = sorted(set(ids) & special_ids(tokenizer))
    rows = model.get_input_embeddings().weight.detach()  # (V, d)
    unseen = [i for i in own if i >= len(rows)]
    own = [i for i in own if i < len(rows)]
    mean = rows.mean(0, keepdim=True, dtype=torch.float32)
    nearest = torch.full((len(own),), torch.inf, device=rows.device)
    spread = []
    for first in range(0, len(rows), 4096):  # in parts: a 7B's embeddings take 2 GB in float32
        part = rows[first : first + 4096].float()
        spread.append((part - mean).norm(dim=1))
        near = torch.cdist(rows[own].float(), part)  # (own, part)
        for place, i in enumerate(own):
            if first <= i < first + len(part):
                near[place, i - first] = torch.inf  # itself
        nearest = torch.minimum(nearest, near.min(dim=1).values)
    anchors = torch.cat([mean, torch.zeros_like(mean)])
    nearest = torch.minimum(nearest, torch.cdist(rows[own].float(), anchors).min(dim=1).values)
    limit = _UNTRAINED * torch.cat(spread).median()
    unseen += [i for i, near in zip(own, nearest, strict=True) if near < limit]
    if not unseen:
        return []
    return [
        Finding(
            "untrained_template_token",
            "warning",
            f"the base never saw {', '.join(name_of(tokenizer, i) for i in unseen)}: the embedding "
            "is missing, or as good as equal to zero, to the mean or to another token's",
            "LoRA on the linear layers leaves embeddings alone, so the model cannot learn where a "
            "turn begins or ends, at a falling loss",
            "train embeddings and head as well (modules_to_save; a tied head once), or write the "
            "template with tokens that the base has seen",
        )
    ]


def right_padding(tokenizer: Any) -> list[Finding]:
    if tokenizer.padding_side == "left":
        return []
    return [
        Finding(
            "right_padding",
            "error",
            f"padding_side is {tokenizer.padding_side!r}",
            "in a batch of prompts all but the longest end in padding, and the model answers that",
            "set tokenizer.padding_side = 'left' before generating; training may pad right",
        )
    ]
