"""Logits of given texts from the engine's merged, fused matrices: `decoding` without the decoding.

A forward pass of a PEFT model spends about as long in its adapters and its modules as in the
products with the weights. Here the adapters are merged once, and then every text is scored with a
few operations a layer.

What this leaves out: gradients, padding on the left, and the models that `decoding.read` refuses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.sampling.decoding import Decoder


@torch.inference_mode()
def logits(decoder: Decoder, ids: Tensor, first: int) -> Tensor:
    """Logits of texts from position `first` on, as the model's own forward pass computes them.

    1. Embed the tokens.
    2. Run each layer on all positions; the mask is causal, so padding on the right is never seen.
    3. From the last layer's attention on, keep only the positions that are asked for.

    Args:
        decoder: the weights, from `decoding.read` with at least T positions.
        ids: (B, T) tokens, padded on the right with any token.
        first: the first position whose logits are wanted.
    Returns:
        (B, T - first, V) logits.
    """
    # 1. Hidden states (B, T, H), and the rotary embedding of each position.
    x = F.embedding(ids, decoder.embedding)
    turns = decoder.turns[: ids.shape[1], None]
    last = decoder.layers[-1]
    for layer in decoder.layers:
        # 2. Queries, keys and values (B, heads, T, D). The scale D^-1/2 is already in `turns`.
        q, kv = decoder._qkv(layer, x, turns)
        keys, values = kv.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), keys, values, is_causal=True, scale=1.0,
            enable_gqa=decoder.heads != decoder.kv_heads,
        )  # fmt: skip
        attended = attended.transpose(1, 2).flatten(2)
        # 3. Nothing after this reads the other positions of the last layer.
        if layer is last:
            x, attended = x[:, first:], attended[:, first:]
        x = decoder._mlp(layer, x + layer.out(attended))
    return decoder.head(decoder._normed(x, decoder.norm))
