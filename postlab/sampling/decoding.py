"""Decoding on a CPU near what the machine allows: the engine behind `rollout`.

A Llama or Qwen2 is read into merged, fused matrices, of adapters as well, and run without its
modules: a prompt is filled in once for all its answers, keys and values lie in one block that is
never grown, an answer that ended leaves the batch, and a layer is a dozen operations.

What this leaves out: everything but dense float32 Llamas and Qwen2s with LoRA on a CPU (`read`
returns None: call `generate`), sliding windows, beams, and matrices kept from call to call, which
would be stale after an optimizer step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATIC_ROPE = ("default", "linear", "llama3")  # frequencies that do not depend on the length
PACKED = 2**18  # entries from which oneDNN's own layout of a matrix beats the plain product
LARGEST = 2e9  # parameters; the merged matrices are a second copy of the model
KNOWN = {"transformers", "peft", "trl", "unsloth", "unsloth_zoo"}  # whose wrappers change no answer


class _Unreadable(Exception):
    """This model is not of the shape that the engine runs."""


@dataclass(frozen=True)
class Layer:
    """One block as functions; in `qkv` the pairs that are turned together lie side by side."""

    norms: tuple[Tensor, Tensor]  # before attention and before the rest, (H,) each
    qkv: Callable[[Tensor], Tensor]
    out: Callable[[Tensor], Tensor]
    gate_up: Callable[[Tensor], Tensor]
    down: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Decoder:
    """A policy's weights at this moment, ready to decode with; made by `read`."""

    embedding: Tensor  # (V, H)
    layers: list[Layer]
    head: Callable[[Tensor], Tensor]
    norm: Tensor  # (H,)
    turns: Tensor  # (positions, D/2) complex: the rotary embedding times D^-1/4
    heads: int
    kv_heads: int
    eps: float

    @torch.inference_mode()
    def decode(
        self,
        prompts: list[list[int]],
        *,
        new_tokens: int,
        stops: set[int],
        draw: Callable[[Tensor, list[int]], Tensor],
        temperature: float | None = None,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Answer each prompt; a prompt may occur several times.

        1. Process each distinct prompt once, for all its answers.
        2. Sample one token for every answer in the batch.
        3. Remove the answers that ended from the batch.
        4. Run the model on the new tokens alone, and repeat from 2.

        Args:
            draw: takes (n, V) logits and the index of the prompt of each row; returns (n,) tokens.
            temperature: for the log-probs of each token; with None they are not computed.
        Returns:
            The tokens of each answer, the stop token included, and their log-probs in nats.
        """
        # 1. Prefill. Prompts are padded on the left, so that all answers begin in column `width`.
        owners, distinct = _distinct(prompts)
        logits, block = self._prefill(distinct, owners, new_tokens)
        places = torch.tensor([len(prompt) for prompt in prompts])  # (n,) of the next token
        width = max(map(len, prompts))
        hidden = _padding(prompts, width, new_tokens)  # (n, width + new_tokens)
        answers: list[list[int]] = [[] for _ in prompts]
        logps: list[list[float]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))  # slot of the batch -> number of the answer
        for end in range(width, width + new_tokens):
            # 2. One token for every answer that has not ended.
            tokens = draw(logits, rows)  # (n,)
            ids = tokens.tolist()
            for row, token in zip(rows, ids, strict=True):
                answers[row].append(token)
            if temperature is not None:
                for row, logp in zip(rows, _logps(logits, tokens, temperature), strict=True):
                    logps[row].append(logp)
            ended = [slot for slot, token in enumerate(ids) if token in stops]
            if len(ended) == len(rows) or end + 1 == width + new_tokens:
                break
            # 3. Answers at the end of the batch fill the gaps, so that few rows are copied.
            if ended:
                n = len(rows) - len(ended)
                gaps = [slot for slot in ended if slot < n]
                movers = sorted(set(range(n, len(rows))) - set(ended))
                if gaps:
                    block[:, :, gaps, :, :end] = block[:, :, movers, :, :end]
                    for state in (places, tokens) if hidden is None else (places, tokens, hidden):
                        state[gaps] = state[movers]
                    for gap, mover in zip(gaps, movers, strict=True):
                        rows[gap] = rows[mover]
                del rows[n:]
                places, tokens, block = places[:n], tokens[:n], block[:, :, :n]
                hidden = None if hidden is None else hidden[:n]
            # 4. The logits of the next tokens.
            mask = None if hidden is None else hidden[:, None, : end + 1]
            logits = self._step(tokens, places, block, end, mask)
            places += 1
        return answers, logps

    def _prefill(
        self, prompts: list[list[int]], owners: list[int], new_tokens: int
    ) -> tuple[Tensor, Tensor]:
        """(n, V) logits of each answer's first token, and the block with the prompts filled in.

        The block is (layers, 2, n, kv_heads, T, D): keys, then values.
        """
        # 1. Ids, positions and the causal mask of the U distinct prompts, padded on the left.
        width, size = max(map(len, prompts)), self.turns.shape[1] * 2
        gaps = torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        places = torch.arange(width)
        turns = self.turns[(places - gaps).clamp(min=0)][:, :, None]
        # a gap sees itself, or its softmax would be over nothing
        mask = (places[:, None] >= places) & (places >= gaps[:, None]) | torch.eye(width).bool()
        # 2. Allocate room for every answer's keys and values up to its last token.
        shape = (len(self.layers), 2, len(owners), self.kv_heads, width + new_tokens, size)
        block = torch.empty(shape)
        x = F.embedding(ids, self.embedding)  # (U, W, H)
        for layer, part in zip(self.layers, block, strict=True):
            # 3. Queries (U, heads, W, D); keys and values (2, U, kv_heads, W, D), which go into the
            #    block once per answer.
            q, kv = self._qkv(layer, x, turns)
            q, kv = q.transpose(1, 2), kv.unflatten(2, (2, -1)).permute(2, 0, 3, 1, 4)
            part[..., :width, :] = kv[:, owners]
            # 4. Attention and MLP. The scale D^-1/2 is already in `turns`.
            keys, values = kv
            repeat = self.heads != self.kv_heads
            attended = F.scaled_dot_product_attention(
                q, keys, values, mask[:, None], scale=1.0, enable_gqa=repeat
            )
            x = self._mlp(layer, x + layer.out(attended.transpose(1, 2).flatten(2)))
        # 5. Only the last position predicts a new token. Every answer gets its prompt's logits.
        return self.head(self._normed(x[:, -1], self.norm))[owners], block

    def _step(
        self, tokens: Tensor, places: Tensor, block: Tensor, end: int, mask: Tensor | None
    ) -> Tensor:
        """(n, V) logits after one more token a row; its keys and values go to column `end`."""
        x, turns = F.embedding(tokens, self.embedding), self.turns[places][:, None]  # x: (n, H)
        n, batch = len(tokens), len(tokens) * self.kv_heads
        for layer, part in zip(self.layers, block, strict=True):
            # 1. Append the new token's keys and values to those of the earlier tokens.
            q, kv = self._qkv(layer, x, turns)
            part[..., end, :] = kv.unflatten(1, (2, -1)).transpose(0, 1)
            keys, values = part.flatten(1, 2)[:, :, : end + 1]  # (n * kv_heads, T, D) each
            # 2. Attention: one product per key head, with its query heads as the rows.
            q = q.reshape(batch, -1, q.shape[-1])
            scores = torch.bmm(q, keys.transpose(1, 2))
            if mask is not None:
                scores.view(n, -1, end + 1).add_(mask)
            attended = torch.bmm(torch.softmax(scores, -1), values)
            # 3. Output projection and MLP, each added to the residual stream.
            x = self._mlp(layer, x + layer.out(attended.view(n, -1)))
        return self.head(self._normed(x, self.norm))

    def _qkv(self, layer: Layer, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """(..., heads, D) queries, and keys then values; the first two turned to their places."""
        both = self.heads + self.kv_heads
        fused = layer.qkv(self._normed(x, layer.norms[0])).unflatten(-1, (-1, turns.shape[-1], 2))
        # RoPE: treat a pair of numbers as a complex number; a rotation multiplies by e^(i angle).
        torch.view_as_complex(fused)[..., :both, :].mul_(turns)
        fused = fused.flatten(-2)
        return fused[..., : self.heads, :], fused[..., self.heads :, :]

    def _mlp(self, layer: Layer, x: Tensor) -> Tensor:
        gate, up = layer.gate_up(self._normed(x, layer.norms[1])).chunk(2, dim=-1)
        return x + layer.down(F.silu(gate).mul_(up))

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.eps)


@torch.inference_mode()
def read(policy: Any, longest: int) -> Decoder | None:
    """The policy's weights as they are now, adapters merged; None if `generate` has to be used.

    Args:
        policy: a transformers model or a PEFT model around one, patched by Unsloth or not.
        longest: tokens of the longest prompt and its answer.
    """
    try:
        return _read(policy, longest)
    except _Unreadable:
        return None


def _read(policy: Any, longest: int) -> Decoder:
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    # 1. Refuse every model that the engine would not compute correctly.
    core = policy.get_base_model() if hasattr(policy, "peft_config") else policy
    kinds = {str(getattr(c, "peft_type", "")) for c in getattr(policy, "peft_config", {}).values()}
    _need(type(core) in (LlamaForCausalLM, Qwen2ForCausalLM) and kinds <= {"PeftType.LORA"})
    config, rotary = core.config, core.model.rotary_emb
    _need(config.hidden_act == "silu" and rotary.rope_type in STATIC_ROPE)
    _need(set(getattr(config, "layer_types", None) or ()) <= {"full_attention"})
    sizes = [(p.device.type, p.dtype, p.numel()) for p in core.parameters()]
    _need({size[:2] for size in sizes} == {("cpu", torch.float32)})
    _need(sum(size[2] for size in sizes) < LARGEST)
    _need(not any(_touched(m) for m in (policy, *core.modules())))
    _need(type(core.model.embed_tokens) is nn.Embedding)
    # 2. The rotary embedding of every position, times D^-1/4. A query and a key both carry this
    #    factor, so their product has the attention's scale, D^-1/2.
    size = 2 * len(rotary.inv_freq)  # D
    angles = torch.outer(torch.arange(longest).float(), rotary.inv_freq)
    # 3. The layers' matrices with adapters merged in; those with the same input are fused.
    layers = []
    for block in core.model.layers:
        attention, mlp = block.self_attn, block.mlp
        q, k = (_paired(_matrix(p), size) for p in (attention.q_proj, attention.k_proj))
        rows = [q, k, _matrix(attention.v_proj)]
        layers.append(
            Layer(
                (block.input_layernorm.weight, block.post_attention_layernorm.weight),
                _product(rows),
                _product([_matrix(attention.o_proj)]),
                _product([_matrix(mlp.gate_proj), _matrix(mlp.up_proj)]),
                _product([_matrix(mlp.down_proj)]),
            )
        )
    return Decoder(
        core.model.embed_tokens.weight,
        layers,
        _product([_matrix(core.lm_head)]),
        core.model.norm.weight,
        torch.polar(torch.full_like(angles, size**-0.25), angles),
        config.num_attention_heads,
        config.num_key_value_heads,
        core.model.norm.variance_epsilon,
    )


def _touched(module: nn.Module) -> bool:
    """Hooks, or a `forward` or `generate` of somebody's own: it may answer otherwise."""
    own = [vars(module)[name] for name in ("forward", "generate") if name in vars(module)]
    sources = {(getattr(f, "__module__", None) or "").partition(".")[0] for f in own}
    return bool(module._forward_hooks or module._forward_pre_hooks or sources - KNOWN)


def _need(fact: bool) -> None:
    if not fact:
        raise _Unreadable


def _matrix(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a linear layer, with what its active adapters add."""
    if type(module) is nn.Linear:
        return module.weight, module.bias
    from peft.tuners.lora import Linear

    if type(module) is not Linear or type(module.base_layer) is not nn.Linear or module.merged:
        raise _Unreadable
    weight: Tensor = module.base_layer.weight
    if not module.disable_adapters:
        for name in (n for n in module.active_adapters if n in module.lora_A):
            _need(not module.lora_bias[name] and name not in module.lora_variant)
            weight = weight + module.get_delta_weight(name)
    return weight, module.base_layer.bias


def _paired(matrix: tuple[Tensor, Tensor | None], size: int) -> tuple[Tensor, Tensor | None]:
    """Rows of q or k so that the two which are turned together, i and i + D/2, are neighbours."""

    def neighbours(part: Tensor) -> Tensor:
        return part.view(-1, 2, size // 2, *part.shape[1:]).transpose(1, 2).reshape(part.shape)

    weight, bias = matrix
    return neighbours(weight), None if bias is None else neighbours(bias)


def _product(pairs: list[tuple[Tensor, Tensor | None]]) -> Callable[[Tensor], Tensor]:
    """x -> the products of x with all these matrices, side by side, at once."""
    weight = torch.cat([weight for weight, _ in pairs]) if len(pairs) > 1 else pairs[0][0]
    biases = [torch.zeros(len(weight)) if bias is None else bias for weight, bias in pairs]
    bias = None if all(bias is None for _, bias in pairs) else torch.cat(biases)
    if weight.numel() < PACKED or not torch.backends.mkldnn.is_available():
        return lambda x: F.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def _distinct(prompts: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """For each prompt the number of its first copy among the distinct ones, and those."""
    numbers: dict[tuple[int, ...], int] = {}
    owners = [numbers.setdefault(tuple(prompt), len(numbers)) for prompt in prompts]
    return owners, [list(prompt) for prompt in numbers]


def _padding(prompts: list[list[int]], width: int, new_tokens: int) -> Tensor | None:
    """(n, T) of what attention adds: -inf on the gaps before short prompts; None without gaps."""
    gaps = torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
    if not gaps.any():
        return None
    return torch.zeros(len(prompts), width + new_tokens).masked_fill_(
        torch.arange(width + new_tokens) < gaps, -torch.inf
    )


def _logps(logits: Tensor, tokens: Tensor, temperature: float) -> list[float]:
    return (logits / temperature).log_softmax(dim=1).gather(1, tokens[:, None])[:, 0].tolist()
