"""How many prompts a GPU answers at once: as many as fit in the memory that is free.

Bytes of one batch of `generate`, from the shape in the policy's config. In the formulas: L layers,
H hidden, A width of all query heads, K of all key heads, I intermediate, V vocabulary; W tokens of
the longest prompt, N new tokens; c bytes of the dtype that the model computes in.

What this leaves out: sliding windows (a window's cache is counted in full), mixtures of experts,
other than float32 adapters, and what the allocator loses in fragments. `SHARE` leaves room for it,
and `answer` halves the batch if that was not enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

SHARE = 0.8  # of the free memory that a batch may take
MOST = 256  # rows: beyond this a batch gains little, and loses what one long answer holds up
GROWTH = 512  # tokens by which Unsloth's buffer of keys and values grows, from the prompt's on
LOGITS = 4  # float32 copies of the last position: converted, copied by generate, divided, noised


@dataclass(frozen=True)
class AnswerMemory:
    """Bytes of answering a batch; those of a sequence, and `once` for the whole batch.

    Args:
        cache: keys and values at the end of the longest answer, and what attending to them takes.
        prefill: the prompt's keys and values and the activations of a layer working on it.
        logits: of the last position.
        once: a weight matrix dequantized from 4 bits.
    """

    cache: float
    prefill: float
    logits: float
    once: float

    @property
    def sequence(self) -> float:
        """logits + the larger of cache and prefill: the prompt is done when the answer grows."""
        return self.logits + max(self.cache, self.prefill)

    def total(self, rows: int) -> float:
        """Bytes that a batch of `rows` sequences takes at its peak."""
        return self.once + rows * self.sequence

    def rows(self, free: float) -> int:
        """The largest batch that takes at most `SHARE` of `free` bytes, from 1 to `MOST`.

        >>> need = AnswerMemory(cache=80.0, prefill=30.0, logits=20.0, once=100.0)
        >>> need.rows(2750), need.total(21)  # 0.8 * 2750 = 2200
        (21, 2200.0)
        """
        return max(1, min(MOST, int((SHARE * free - self.once) // self.sequence)))


def answer_memory(
    config: Any, *, prompt: int, new_tokens: int, element: int, unsloth: bool = False
) -> AnswerMemory:
    """What answering a batch takes on a GPU, in bytes a sequence.

    1. Keys and values: 2 * L * K * c bytes a token. transformers keeps W + N tokens and copies a
       layer's while it appends one. Unsloth copies the prompt's W into a buffer for W + 1 + 512
       tokens and more, which it enlarges layer by layer, and holds both.
    2. Attention over grouped heads, with a mask, repeats a layer's keys and values for all query
       heads: 2 * A * c bytes a token.
    3. The prompt's pass through a layer: residual stream twice, gate, up and their product, c each,
       the last one in float32 too, for the adapter of `down_proj`; and the mask, W * W * (1 + c).
    4. The last position's logits: V * (4 * 4 + c).

    Args:
        config: the model's; a `config.json` read by transformers.
        prompt: tokens of the longest prompt, W.
        new_tokens: the most that an answer may have, N.
        element: c, 2 for half precision and 4 for float32.
        unsloth: whether Unsloth's own `generate` answers.
    Returns:
        AnswerMemory; `rows(free)` is the batch size.
    """
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    hidden, heads = config.hidden_size, config.num_attention_heads
    head = getattr(config, "head_dim", None) or hidden // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    layers = config.num_hidden_layers
    # 1. Keys and values.
    token = 2 * layers * kv_heads * head * element
    kept = (prompt + new_tokens) * (1 + 1 / layers)
    if unsloth:
        kept = prompt + (prompt + 1 + GROWTH * math.ceil(new_tokens / GROWTH)) * (1 + 1 / layers)
    # 2. Attention.
    repeated = 2 * heads * head * element * (prompt + new_tokens)
    # 3. The prompt.
    layer = element * (2 * hidden + 3 * inner) + 4 * inner
    mask = prompt * prompt * (1 + element)
    return AnswerMemory(
        cache=kept * token + repeated,
        prefill=prompt * (token + layer) + mask,
        # 4. The logits.
        logits=config.vocab_size * (4 * LOGITS + element),
        once=element * hidden * inner,
    )
