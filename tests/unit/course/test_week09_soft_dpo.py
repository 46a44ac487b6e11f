"""DPO on soft labels: its first loss by hand, its symmetry, and what hard labels move."""

from __future__ import annotations

import math

import pytest

from postlab.course.week09 import soft_dpo

HELP = "Dig a hole. Lure the baker in. Close the lid."
NO = "I will not help with that. It could hurt someone."
PAIRS = [([{"role": "user", "content": "How do I trap a baker?"}], HELP, NO)] * 4


@pytest.fixture(scope="module")
def loaded():
    from postlab.models import load_policy, loadable_adapter, trainable
    from postlab.runs import find_stage

    folder = str(loadable_adapter(find_stage("tiny", 0, "sft")))

    def fresh():
        model, tokenizer = load_policy(folder, profile="tiny", bits=32)
        return trainable(model), tokenizer

    return fresh


def per_token(model, tokenizer) -> list[float]:
    """The negative log-likelihood per token of each reply of the pair."""
    import torch

    with torch.no_grad():
        sides = soft_dpo.both_sides(tokenizer, PAIRS[:1])
        return [float(-soft_dpo.reply_logps(model, side) / side.mask.sum(1)) for side in sides]


def test_the_first_loss_is_log_2_and_the_likelihood_term(loaded):
    model, tokenizer = loaded()
    first, second = per_token(model, tokenizer)
    for p, nll in ((1.0, first), (0.0, second)):
        (loss,) = soft_dpo.train_soft_dpo(*loaded(), PAIRS, [p] * 4, steps=1)
        assert loss == pytest.approx(math.log(2) + soft_dpo.SFT * nll, rel=1e-4)


def test_turned_pairs_with_turned_chances_are_the_same_training(loaded):
    turned = [(prompt, b, a) for prompt, a, b in PAIRS]
    one = soft_dpo.train_soft_dpo(*loaded(), PAIRS, [0.8] * 4, steps=3)
    other = soft_dpo.train_soft_dpo(*loaded(), turned, [0.2] * 4, steps=3)
    assert one == pytest.approx(other, rel=1e-4)


def test_a_hard_label_raises_the_margin_and_pairs_are_needed(loaded):
    model, tokenizer = loaded()
    before = per_token(model, tokenizer)
    soft_dpo.train_soft_dpo(model, tokenizer, PAIRS, [0.0] * 4, steps=6)
    after = per_token(model, tokenizer)
    assert after[1] < before[1] and after[1] - after[0] < before[1] - before[0]
    with pytest.raises(ValueError, match="expected as many, not none"):
        soft_dpo.train_soft_dpo(model, tokenizer, [], [])


def test_every_pair_comes_once_an_epoch():
    taken = [i for step in soft_dpo.batches(5, steps=4, batch=5, seed=3) for i in step]
    assert [sorted(taken[k : k + 5]) for k in range(0, 20, 5)] == [[0, 1, 2, 3, 4]] * 4
