"""REINFORCE and GRPO's loss in an enumerated world: every completion, as often as it is drawn."""

from __future__ import annotations

import pytest
import torch

from postlab.scratch.grpo import grpo_loss, reinforce_loss
from postlab.scratch.losses import group_advantages, reduce_token_loss, token_logps
from postlab.scratch.sampling import TableLM, completion_states, pack


def test_reinforce_on_every_answer_is_the_gradient_of_the_expected_reward():
    """Nine completions of two tokens, each as often as the policy draws it."""
    model, rewards = TableLM(3), torch.randn(9, generator=torch.Generator().manual_seed(1))
    model.table.weight.data = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    batch = pack([[3]] * 9, [[a, b] for a in range(3) for b in range(3)])

    def logps():
        return token_logps(completion_states(model, batch)[0], batch.completions)

    chance = logps().sum(1).exp()
    (exact,) = torch.autograd.grad((chance * rewards).sum(), model.table.weight)
    counts = (chance.detach() * 20_000).round().long()  # the sample that has no luck in it
    drawn = torch.repeat_interleave(torch.arange(9), counts)
    loss = reinforce_loss(logps()[drawn], rewards[drawn], batch.mask[drawn])
    (found,) = torch.autograd.grad(loss, model.table.weight)
    assert torch.allclose(-found, exact, atol=2e-3) and exact.abs().max() > 0.05


def test_the_baseline_makes_reinforce_blind_to_a_constant():
    logps, rewards = -torch.rand(5, 4), torch.randn(5)
    mask = (torch.arange(4) < torch.tensor([[4], [1], [2], [3], [4]])).long()
    one, two = (reinforce_loss(logps, rewards + shift, mask) for shift in (0.0, 7.0))
    assert torch.allclose(one, two, atol=1e-5)


def test_on_policy_the_loss_is_nought_and_its_gradient_is_reinforce_by_group():
    logps = (-torch.rand(6, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 0]])
    advantages, now = group_advantages(torch.tensor([1.0, 0, 0, 1, 1, 0]), 3), logps.detach()
    loss = grpo_loss(logps, advantages, mask, old_logps=now, ref_logps=now, beta=0.3)
    assert abs(loss.item()) < 1e-6
    (gradient,) = torch.autograd.grad(loss, logps)
    wanted = -advantages[:, None] * mask / mask.sum(1, keepdim=True) / 6
    assert torch.allclose(gradient, wanted, atol=1e-6) and wanted.abs().max() > 0.05


def test_without_a_clip_in_reach_it_is_the_reduced_token_loss():
    old = -torch.rand(4, 5)
    logps, advantages = old + 0.05 * torch.randn(4, 5), torch.randn(4)
    mask = (torch.arange(5) < torch.tensor([[5], [2], [3], [1]])).long()
    loss = grpo_loss(logps, advantages, mask, old_logps=old, ref_logps=old)
    plain = -(logps - old).exp() * advantages[:, None]
    assert torch.allclose(loss, reduce_token_loss(plain, mask, how="grpo"), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": torch.zeros(2, 3)}, "mask"),
        ({"beta": -0.1}, "beta"),
        ({"old_logps": torch.zeros(2, 1)}, "old_logps"),
    ],
)
def test_what_does_not_fit_is_refused(change, said):
    x = torch.zeros(2, 3)
    given = {"mask": torch.ones(2, 3), "old_logps": x, "ref_logps": x, "beta": 0.1} | change
    mask = given.pop("mask")
    with pytest.raises(ValueError, match=said):
        grpo_loss(x, torch.ones(2), mask, **given)
