"""The KL by the engine's matrices against the models' own forward passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from modules import module_at

from postlab.sampling import Rollout, answer_kl, decoding, kl, rollout, scoring

policies = module_at(Path(__file__).with_name("test_decoding.py"), "test_decoding")
MODELS, PROMPTS, V = policies.MODELS, policies.PROMPTS, policies.V
adapted, llama, two_adapters = policies.adapted, policies.llama, policies.two_adapters


def rollouts() -> list[Rollout]:
    """Answers of several lengths to prompts of several lengths."""
    torch.manual_seed(7)
    answers = [torch.randint(2, V, (1 + i % 5,)).tolist() for i in range(len(PROMPTS))]
    return [
        Rollout(str(i), 0, p, 0.0, 8, a)
        for i, (p, a) in enumerate(zip(PROMPTS, answers, strict=True))
    ]


@torch.no_grad()
def by_forward(policy, ref, monkeypatch) -> list[float]:
    monkeypatch.setattr(kl, "read_policy", lambda *_: None)
    nats = answer_kl(policy, ref, rollouts())
    monkeypatch.undo()
    return nats


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_models_own_forward_pass(name):
    model = MODELS[name]()
    ids, mask = kl._padded(rollouts())
    with torch.no_grad():
        own = model(ids, attention_mask=mask).logits
    real = mask.bool()
    for first in (0, 3):
        logits = scoring.logits(decoding.read(model, ids.shape[1]), ids, first)
        assert logits.shape == own[:, first:].shape
        there = real[:, first:]
        torch.testing.assert_close(logits[there], own[:, first:][there], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("ref", ["base", "default", "a model"])
def test_the_kl_is_that_of_the_models_own_forward_passes(ref, monkeypatch):
    policy = two_adapters()  # "other" is active
    ref = adapted(llama(seed=1)) if ref == "a model" else ref
    with torch.no_grad():
        nats = answer_kl(policy, ref, rollouts())
    assert policy.active_adapters == ["other"]
    assert nats == pytest.approx(by_forward(policy, ref, monkeypatch), rel=1e-3)
    assert min(nats) > 1e-3


def test_the_logits_that_the_engine_kept_are_taken_for_the_policys(monkeypatch):
    policy, ref = llama(), llama(seed=1)
    batch = [Rollout(str(i), 0, p, float(i % 2), 6) for i, p in enumerate(PROMPTS)]
    for same in (0.0, 1.0):  # a batch holds one temperature
        some = [one for one in batch if one.temperature == same]
        decoder = decoding.read(policy, 20)
        rollout._decode(decoder, some, {1}, 0, keep_logits=True)
        assert [len(one.logits) for one in some] == [len(one.answer) for one in some]
        with torch.no_grad():
            kept = answer_kl(policy, ref, some)
            for one in some:
                one.logits = None
            again = answer_kl(policy, ref, some)
        assert kept == pytest.approx(again, rel=1e-3) and min(kept) > 1e-3


def test_too_many_logits_are_not_kept(monkeypatch):
    policy = llama()
    monkeypatch.setattr(rollout, "KEPT", V * len(PROMPTS) * 2)
    batch = [Rollout(str(i), 0, p, 0.0, 6) for i, p in enumerate(PROMPTS)]
    rollout._decode(decoding.read(policy, 20), batch, set(), 0, keep_logits=True)
    assert all(one.logits is None and len(one.answer) == 6 for one in batch)


def test_another_vocabulary_is_refused():
    with pytest.raises(ValueError, match="same tokenizer"), torch.no_grad():
        answer_kl(llama(), llama(vocab_size=V + 8), rollouts())
