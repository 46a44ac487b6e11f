"""Batches on a GPU, with the GPU played: their size, and what happens when one does not fit."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from postlab.sampling import rollout
from postlab.sampling.memory import MOST

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        initializer_range=0.4, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


class Plain:
    """As much of a tokenizer as `answer` asks for."""

    chat_template = "x"
    pad_token_id, eos_token_id, unk_token_id, all_special_ids = 0, 1, None, [0, 1]


@pytest.fixture(autouse=True)
def end(monkeypatch):
    monkeypatch.setattr(rollout, "end_of_turn", lambda tokenizer: 1)


def requests(n: int = 23, heat: float = 1.0, new_tokens: int = 9) -> list[rollout.Rollout]:
    return [
        rollout.Rollout(f"r{i}", 0, [3 + i % 5] * (2 + i % 4), heat, new_tokens) for i in range(n)
    ]


def answers(model, asked, monkeypatch, *, rows: int, fits: int) -> tuple[list, list, list]:
    """Answers by `generate` on a card where `fits` rows fit: (answers, batches, sizes tried)."""
    tried, real = [], rollout._generate

    def generate(policy, batch, *args):
        tried.append(len(batch))
        if len(batch) > fits:
            raise torch.cuda.OutOfMemoryError(FULL)
        real(policy, batch, *args)

    monkeypatch.setattr(rollout, "_decoder", lambda *args: None)
    monkeypatch.setattr(rollout, "_batch_rows", lambda policy, group: rows)
    monkeypatch.setattr(rollout, "_generate", generate)
    with torch.no_grad(), rollout.unchanged(model):
        batches = [len(batch) for batch in rollout.answer(model, Plain(), asked, seed=4)]
    monkeypatch.setattr(rollout, "_generate", real)
    return [one.answer for one in asked], batches, tried


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_a_batch_that_does_not_fit_is_halved_and_no_answer_changes(model, monkeypatch, heat):
    whole, batches, _ = answers(model, requests(heat=heat), monkeypatch, rows=64, fits=64)
    assert batches == [23] and len({tuple(answer) for answer in whole}) > 3
    halved, batches, tried = answers(model, requests(heat=heat), monkeypatch, rows=64, fits=5)
    assert halved == whole
    assert tried == [23, 11, 5, 5, 5, 5, 3] and batches == [5, 5, 5, 5, 3]


def test_answers_made_before_are_kept_and_yielded_once(model, monkeypatch):
    asked = requests(8)
    fits = iter([8, 1, 8, 8, 8])  # the second batch meets a fuller card
    real = rollout._generate

    def generate(policy, batch, *args):
        if len(batch) > next(fits):
            raise torch.cuda.OutOfMemoryError(FULL)
        real(policy, batch, *args)

    monkeypatch.setattr(rollout, "_decoder", lambda *args: None)
    monkeypatch.setattr(rollout, "_batch_rows", lambda policy, group: 4)
    monkeypatch.setattr(rollout, "_generate", generate)
    with torch.no_grad():
        batches = list(rollout.answer(model, Plain(), asked, seed=4))
    assert [len(batch) for batch in batches] == [4, 2, 2]
    assert sorted(one.name for batch in batches for one in batch) == [f"r{i}" for i in range(8)]
    assert all(one.answer for one in asked)


def test_below_one_row_the_error_says_what_to_do(model, monkeypatch):
    with pytest.raises(RuntimeError, match="row 'r0' alone: 2 prompt tokens and 9 new") as raised:
        answers(model, requests(4), monkeypatch, rows=4, fits=0)
    text = str(raised.value)
    assert "max_new_tokens" in text and "GiB" in text and text.endswith(FULL)
    assert raised.value.__context__ is None  # whose traceback would hold the card's tensors


def test_another_error_is_not_mistaken_for_a_full_card(model, monkeypatch):
    monkeypatch.setattr(rollout, "_decoder", lambda *args: None)

    def generate(*args):
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(rollout, "_generate", generate)
    with pytest.raises(RuntimeError, match="device-side"):
        next(rollout.answer(model, Plain(), requests(4), seed=0))


def on_a_gpu(model, monkeypatch, free: float):
    """The model as if it lay on a GPU with so many bytes free once the cache is emptied."""
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    info = lambda device: (free if emptied else 0, 2 * free)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "mem_get_info", info)
    parameter = SimpleNamespace(device=torch.device("cuda", 0), numel=lambda: 10**10)
    core = SimpleNamespace(generate=model.generate)
    return SimpleNamespace(
        parameters=lambda: iter([parameter]), config=model.config, dtype=torch.float16,
        device=parameter.device, generate=core.generate,
    )  # fmt: skip


def test_a_gpus_batch_follows_its_free_memory_and_the_longest_prompt(model, monkeypatch):
    asked = requests(23, new_tokens=9)
    model.config.dtype = torch.float16
    one = rollout.answer_memory(model.config, prompt=5, new_tokens=9, element=2)
    gpu = on_a_gpu(model, monkeypatch, free=one.total(7) / 0.8 + 1)
    assert rollout._batch_rows(gpu, asked) == 7
    model.config.dtype = torch.float32  # twice as large, but for the logits
    assert rollout._batch_rows(gpu, asked) in (3, 4)
    assert rollout._batch_rows(on_a_gpu(model, monkeypatch, free=1e12), asked) == MOST


def test_a_cpus_batch_does_not_look_at_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", None)
    for size, rows in ((10**6, 256), (2 * 10**7, 32), (10**9, 16)):
        parameter = SimpleNamespace(device=torch.device("cpu"), numel=lambda size=size: size)
        policy = SimpleNamespace(parameters=lambda p=parameter: iter([p]))
        assert rollout._batch_rows(policy, requests()) == rows


# ---- what Unsloth's `generate` leaves behind on a GPU


class Tokenizer:
    padding_side = "right"


def for_inference(model) -> None:
    """What Unsloth 2026.10.9's `for_inference` and decoding leave on a model on a GPU."""
    module = model
    while hasattr(module, "model"):
        module.gradient_checkpointing, module.training = False, False
        module._flag_for_generation = True
        module = module.model
    model.model._saved_temp_tokenizer.padding_side = "left"
    for config, value in model._unsloth_use_cache_originals:
        config.use_cache = value
    model.model.layers[0].self_attn.paged_attention = torch.zeros(3)


def test_what_unsloths_generate_turns_is_put_back(model, monkeypatch):
    # 1. As Unsloth leaves a model for training: caches off, and noted.
    kept, own = Tokenizer(), Tokenizer()
    inner = SimpleNamespace(use_cache=False)
    model.train()
    model.config.use_cache = False
    model.gradient_checkpointing = "unsloth"
    model._unsloth_use_cache_originals = [(model.config, True), (inner, True)]
    model.model._saved_temp_tokenizer = kept
    # 2. Its own clean-up, which it calls only when it returns to training.
    released = []

    def release_for_training(policy):
        released.append(policy)
        vars(policy.model.layers[0].self_attn).pop("paged_attention", None)

    graphs = SimpleNamespace(release_for_training=release_for_training)
    monkeypatch.setitem(sys.modules, "unsloth.models._decode_graphs", graphs)
    with rollout.unchanged(model, own):
        own.padding_side = "left"
        for_inference(model)
    assert (kept.padding_side, own.padding_side) == ("right", "right")
    assert (model.config.use_cache, inner.use_cache) == (False, False)
    assert model.training and model.gradient_checkpointing == "unsloth"
    assert not hasattr(model, "_flag_for_generation")
    assert released == [model]
    assert not hasattr(model.model.layers[0].self_attn, "paged_attention")
