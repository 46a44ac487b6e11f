"""Advantages per token from the scores of steps."""

from __future__ import annotations

import pytest
import torch

from postlab import process
from postlab.process import step_advantages, token_steps

SCORES = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 9.0], [0.0, 9.0, 9.0], [0.0, 9.0, 9.0]])
STEPS = torch.tensor([[0, 1, 1, 2], [0, 0, 1, -1], [0, -1, -1, -1], [0, 0, 0, -1]])


def test_process_supervision_by_hand():
    found = step_advantages(SCORES, STEPS, group_size=2)
    # The first group's scores are 1, 0, 1, 1, 1: mean 0.8, deviation sqrt(0.2).
    right, wrong = 0.2 / 0.2**0.5, -0.8 / 0.2**0.5
    assert found[0].tolist() == pytest.approx(
        [2 * right + wrong, right + wrong, right + wrong, right], abs=1e-2
    )
    assert found[1].tolist() == pytest.approx([2 * right, 2 * right, right, 0], abs=1e-2)
    assert found[2:].abs().max() == 0  # all scores of the second group are equal


def test_the_lowest_score_to_the_end_by_hand():
    found = step_advantages(SCORES, STEPS, group_size=2, form="min")
    high, low = (0.5 / 0.5**0.5, -0.5 / 0.5**0.5)  # the replies' lowest scores are 0 and 1
    assert found[0].tolist() == pytest.approx([low, low, low, high], abs=1e-3)
    assert found[1].tolist() == pytest.approx([high, high, high, 0], abs=1e-3)


def test_the_lowest_of_labels_that_stay_wrong_is_the_outcome():
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]])
    steps = torch.arange(3).repeat(4, 1)
    found = step_advantages(labels, steps, group_size=4, form="min")
    outcome = labels[:, -1]
    wanted = (outcome - outcome.mean()) / (outcome.std() + 1e-4)
    assert torch.allclose(found, wanted[:, None].expand(-1, 3))


@pytest.mark.parametrize("form", ("to_go", "min", "own"))
def test_padding_neighbours_and_scale_change_nothing(form):
    luck = torch.Generator().manual_seed(0)
    scores, steps = torch.rand(6, 4, generator=luck), torch.tensor([[0, 1, 1, 2, 3]] * 6)
    steps[1, 3:], steps[4, 2:] = -1, -1
    found = step_advantages(scores, steps, group_size=3, form=form)
    junk = torch.where((steps[:, :, None] == torch.arange(4)).any(1), scores, 100.0)
    wider = torch.nn.functional.pad(steps, (0, 2), value=-1)
    assert torch.allclose(step_advantages(junk, steps, group_size=3, form=form), found)
    assert torch.allclose(step_advantages(scores, wider, group_size=3, form=form)[:, :5], found)
    assert torch.allclose(
        step_advantages(scores[3:], steps[3:], group_size=3, form=form), found[3:]
    )
    other = step_advantages(1000 * scores - 7, steps, group_size=3, form=form)
    assert torch.allclose(other, found, atol=5e-3)
    order = torch.tensor([2, 0, 1, 3, 4, 5])
    assert torch.allclose(
        step_advantages(scores[order], steps[order], group_size=3, form=form), found[order]
    )
    assert (found[steps < 0] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_size": 3}, "4 replies can't be groups of 3"),
        ({"form": "sum"}, "expected one of to_go, min, own"),
        ({"scores": SCORES[0]}, r"expected \(B, S\)"),
        ({"scores": SCORES[:, :2]}, "step 2 has no score"),
    ],
)
def test_bad_input_is_refused(change, message):
    options = {"scores": SCORES, "steps": STEPS, "group_size": 2} | change
    with pytest.raises(ValueError, match=message):
        step_advantages(options.pop("scores"), options.pop("steps"), **options)


@pytest.fixture(scope="module")
def tokenizer():
    from postlab.lab import Lab
    from postlab.models import load_policy
    from postlab.profile import get_profile

    return load_policy(Lab(get_profile("tiny"), 0).checkpoint("sft"), profile="tiny", bits=32)[1]


@pytest.mark.parametrize(
    "reply", ["12+30=42, 42+15=57. #### 57", "#### 57", "40, 41. nothing", "  12+3=15, #### 15 "]
)
def test_tokens_belong_to_the_steps_that_split_steps_finds(tokenizer, reply):
    ids = tokenizer(reply, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    (numbers,) = token_steps([ids], tokenizer)
    steps = process.split_steps(reply)
    assert len(numbers) == len(ids) and numbers == sorted(numbers)
    assert set(numbers) == set(range(len(steps)))
    for number, step in enumerate(steps):
        own = [i for i, n in zip(ids, numbers, strict=True) if n == number]
        assert tokenizer.decode(own, skip_special_tokens=True).strip() == step


def test_a_blank_completion_is_one_step(tokenizer):
    assert token_steps([[tokenizer.eos_token_id], []], tokenizer) == [[0], []]
