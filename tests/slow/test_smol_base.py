"""The conversion of SmolLM2's weights, once, in a cache of its own: half a minute and 540 MB."""

import os

import pytest
import torch

from postlab.models import bases, load_policy


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    old = os.environ.get("POSTLAB_CACHE")
    os.environ["POSTLAB_CACHE"] = str(folder)
    yield folder
    if old is None:
        del os.environ["POSTLAB_CACHE"]
    else:
        os.environ["POSTLAB_CACHE"] = old


def test_it_is_converted_once_and_answers(cache):
    folder = bases.smol_base()
    assert folder == cache / "smollm2-135m-instruct"
    assert [path.name for path in cache.iterdir()] == [folder.name]
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert bases.smol_base() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp

    policy, tokenizer = load_policy("smol", profile="smol", bits=32)
    assert sum(p.numel() for p in policy.parameters()) == 134_515_008
    assert policy.dtype == torch.float32 and not getattr(policy, "is_quantized", False)
    assert policy.lm_head.weight is policy.model.embed_tokens.weight
    assert policy.generation_config.eos_token_id == 2 != policy.generation_config.pad_token_id
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = policy.generate(**ids, max_new_tokens=24, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, ids["input_ids"].shape[1] :])

    policy.requires_grad_(True).train()
    policy(**ids, labels=ids["input_ids"]).loss.backward()  # not 'quantized', so it can be trained
    assert policy.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_a_damaged_conversion_is_made_again(cache, monkeypatch):
    folder = bases.smol_base()
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    monkeypatch.setattr(
        bases, "_smol_weights", lambda _, made: (made / weights.name).write_bytes(whole)
    )
    assert bases.smol_base() == folder
    assert weights.stat().st_size == len(whole)
