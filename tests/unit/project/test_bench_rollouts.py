"""bench/rollouts.py: the roofline by hand; the timing is no test."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from modules import module_at

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bench():
    return module_at(ROOT / "bench" / "rollouts.py", "bench_rollouts")


def toy(tied: bool) -> SimpleNamespace:
    config = {"hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2}
    config |= {"num_hidden_layers": 3, "vocab_size": 5, "tie_word_embeddings": tied}
    sizes = {"layers": 100, "embed": 20, "x.lora_A": 1000} | ({} if tied else {"head": 20})
    named = [(name, torch.empty(size)) for name, size in sizes.items()]
    return SimpleNamespace(config=SimpleNamespace(**config), named_parameters=lambda: named)


@pytest.mark.parametrize("tied", [True, False])
def test_the_least_time_by_hand(bench, tied):
    prompts, answers = [[1, 2, 3], [1, 2, 3], [4]], [[7, 7, 9], [9], [7, 9]]
    # 120 weights are multiplied; a token holds 2 * 3 layers * 1 head * 2 numbers = 48 bytes
    slow_product = {"gflops": 1.0, "gbytes": 1e9}
    # fill-in: 3 + 1 distinct tokens; then two answers go on, then one
    assert bench.least_seconds(toy(tied), prompts, answers, slow_product) == pytest.approx(
        2 * 120 * (4 + 2 + 1) / 1e9
    )
    slow_memory = {"gflops": 1e9, "gbytes": 1.0}
    held = 0 + (3 + 1) + (1 + 1) + (3 + 2)
    assert bench.least_seconds(toy(tied), prompts, answers, slow_memory) == pytest.approx(
        (3 * 4 * 120 + 48 * held) / 1e9
    )
