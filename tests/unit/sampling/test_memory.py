"""Batch sizes from numbers alone, and the arithmetic against what `generate` allocates."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, Qwen2Config

from postlab.preflight.architectures import architecture
from postlab.sampling import answer_memory, rollout
from postlab.sampling.memory import MOST, AnswerMemory

GIB = 2**30
MISTRAL = MistralConfig(
    vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8, sliding_window=None,
)  # fmt: skip
QWEN = Qwen2Config(
    vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
    num_attention_heads=12, num_key_value_heads=2,
)  # fmt: skip


def test_every_term_by_hand():
    config = SimpleNamespace(
        num_hidden_layers=2, hidden_size=8, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=10, vocab_size=100, head_dim=3,
    )  # fmt: skip
    need = answer_memory(config, prompt=5, new_tokens=7, element=2)
    # a token: 2 * 2 layers * 2 heads * 3 * 2 bytes = 48; 12 tokens and a layer's again: 18 * 48;
    # repeated for 4 heads: 2 * 4 * 3 * 2 * 12 = 576
    assert need.cache == 18 * 48 + 576
    # 5 * (48 + 2 * (2 * 8 + 3 * 10) + 4 * 10), and the mask of 5 * 5 * 3
    assert need.prefill == 5 * (48 + 92 + 40) + 75
    assert (need.logits, need.once) == (100 * 18, 160)
    unsloths = answer_memory(config, prompt=5, new_tokens=7, element=2, unsloth=True)
    assert unsloths.cache == (5 + 518 * 1.5) * 48 + 576  # the prompt, and 5 + 1 + 512
    longer = answer_memory(config, prompt=5, new_tokens=513, element=2, unsloth=True)
    assert longer.cache == (5 + 1030 * 1.5) * 48 + 48 * 518


def test_the_cache_of_a_token_is_preflights():
    for config, name in ((MISTRAL, "mistralai/Mistral-7B-v0.3"), (QWEN, "Qwen/Qwen2.5-1.5B")):
        at, after = (
            answer_memory(config, prompt=300, new_tokens=n, element=2).cache for n in (1, 33)
        )
        shape = architecture(name)
        token = shape.kv_bytes(2) * (1 + 1 / shape.layers) + 4 * shape.query_dim
        assert after - at == pytest.approx(32 * token)


def test_a_sliding_window_counts_in_full_and_old_configs_have_as_many_key_heads():
    window = MistralConfig(**MISTRAL.to_dict() | {"sliding_window": 128})
    long = {"prompt": 900, "new_tokens": 100, "element": 2}
    assert answer_memory(window, **long) == answer_memory(MISTRAL, **long)
    old = SimpleNamespace(num_hidden_layers=2, hidden_size=8, num_attention_heads=4, vocab_size=100)
    assert answer_memory(old, prompt=1, new_tokens=1, element=2).once == 2 * 8 * 32


@pytest.mark.parametrize(
    ("config", "free_gib", "new_tokens", "unsloth", "rows"),
    [
        # 15 and 80 GB less the context, the 4-bit weights and float32 adapters of rank 16
        (MISTRAL, 10.5, 320, True, 55),
        (MISTRAL, 10.5, 320, False, 94),
        (MISTRAL, 10.5, 512, True, 54),
        (MISTRAL, 75.1, 320, True, MOST),
        (QWEN, 13.4, 320, True, MOST),
        (QWEN, 78.0, 512, True, MOST),
        # beside a trainer that left little
        (MISTRAL, 1.0, 320, True, 4),
        (MISTRAL, 0.2, 320, True, 1),
        (MISTRAL, 0.0, 320, True, 1),
    ],
)
def test_the_batch_of_gsm8k(config, free_gib, new_tokens, unsloth, rows):
    need = answer_memory(config, prompt=300, new_tokens=new_tokens, element=2, unsloth=unsloth)
    assert need.rows(free_gib * GIB) == rows
    if 1 < rows < MOST:
        assert need.total(rows) <= 0.8 * free_gib * GIB < need.total(rows + 1)


def test_a_batch_is_at_least_one_and_at_most_the_cap():
    need = AnswerMemory(cache=10.0, prefill=20.0, logits=5.0, once=100.0)
    assert need.sequence == 25.0 and need.total(3) == 175.0
    assert [need.rows(free) for free in (0, 100, 187.4, 187.5, 10**9)] == [1, 1, 1, 2, MOST]


class Peak(TorchDispatchMode):
    """Bytes of the tensors that are alive at once, at most, of those made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _tensor(t)}
        for tensor in filter(_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known | given:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _tensor(thing) -> bool:
    return isinstance(thing, torch.Tensor)


@pytest.mark.parametrize(("prompt", "new_tokens"), [(100, 4), (10, 60)])
def test_generate_allocates_what_was_predicted(prompt, new_tokens):
    config = LlamaConfig(
        vocab_size=64, hidden_size=128, intermediate_size=384, num_hidden_layers=6,
        num_attention_heads=8, num_key_value_heads=8 if prompt == 100 else 2,
        max_position_embeddings=256, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    short = list(range(2, 2 + min(prompt, 60)))[: prompt // 2]
    batch = [
        rollout.Rollout(str(i), 0, short if i else [5] * prompt, 1.0, new_tokens) for i in range(8)
    ]
    with torch.no_grad(), Peak() as peak:
        rollout._generate(model, batch, {63}, 0, seed=0)
    need = answer_memory(config, prompt=prompt, new_tokens=new_tokens, element=4)
    assert 0.5 * need.total(8) < peak.most < need.total(8)
