"""Week 7's exercises, done wrongly as learners do: each gets a reason that is true of it."""

from __future__ import annotations

import pytest
import torch
from exercise_tools import exercise

from postlab.course.check._exercise import examine
from postlab.scratch.grpo import grpo_loss
from postlab.scratch.sampling import completion_states
from postlab.scratch.tokens import token_logps


def group_advantages(rewards, group_size):
    """The notebook's solution: it takes what the library's refuses, such as groups of one."""
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / (groups.std(dim=1, keepdim=True) + 1e-4)).flatten()


# --- group_advantages ---


def division_first(rewards, group_size):
    groups = rewards.view(-1, group_size)
    mean, std = groups.mean(-1, keepdim=True), groups.std(-1, keepdim=True)
    return (groups - mean / (std + 1e-4)).reshape(-1)


def epsilon_after_the_division(rewards, group_size):
    out = [(g - g.mean()) / g.std() + 1e-4 for g in rewards.split(group_size)]
    return torch.cat(out)


def groups_that_overlap(rewards, group_size):
    out = []
    for i in range(len(rewards) // group_size):
        g = rewards[i : i + group_size]
        out.append((g - g.mean()) / (g.std() + 1e-4))
    return torch.cat(out)


def unit_vectors(rewards, group_size):
    groups = rewards.view(-1, group_size)
    centred = groups - groups.mean(1, keepdim=True)
    return torch.nn.functional.normalize(centred, dim=1).flatten()


def layer_norm(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return torch.nn.functional.layer_norm(groups, (group_size,)).flatten()


# --- reinforce_loss ---


def baseline_after_the_product(logps, rewards, mask):
    answers = (logps * mask).sum(1)
    return -(rewards * answers - rewards.mean()).mean()


def surplus_meets_tokens(logps, rewards, mask):
    return -((rewards - rewards.mean()) * (logps * mask)).sum(1).mean()


def sum_of_the_batch(logps, rewards, mask):
    return -((rewards - rewards.mean()) * logps[mask.bool()].sum()).mean()


# --- grpo_loss ---


def loss_with(policy=None, kl=None, mean=None):
    """`grpo_loss` with one of its parts written otherwise."""

    def learners(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
        ratio = torch.exp(logps - old_logps)
        near, adv = ratio.clamp(1 - clip, 1 + clip), advantages.unsqueeze(-1)
        away = ref_logps - logps
        loss = -torch.min(ratio * adv, near * adv) if policy is None else policy(ratio, near, adv)
        k3 = away.exp() - 1 - away
        loss = loss + (beta * k3 if kl is None else kl(k3, beta, ratio))
        if mean is not None:
            return mean(loss, mask)
        return ((loss * mask).sum(-1) / mask.sum(-1)).mean()

    return learners


def kl_over_all_tokens(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    ratio, away = torch.exp(logps - old_logps), ref_logps - logps
    best = torch.min(
        ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None]
    )
    policy = -((best * mask).sum(1) / mask.sum(1)).mean()
    return policy + beta * ((away.exp() - 1 - away) * mask).sum() / mask.sum()


# --- grpo_step ---


def each(values, group_size):
    return [value for value in values for _ in range(group_size)]


def step(policy, rollouts, rewards, optimizer, group_size, *, detach=True, loss=grpo_loss):
    advantages = group_advantages(rewards, group_size)
    logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
    old = logps.detach() if detach else logps
    optimizer.zero_grad()
    loss(logps, advantages, rollouts.mask, old_logps=old, ref_logps=old).backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return rewards, norm.item()


def old_keeps_its_gradient(policy, prompts, golds, *, draw, score, optimizer, group_size):
    rollouts = draw(policy, each(prompts, group_size))
    rewards = torch.tensor(score(rollouts, each(golds, group_size)))
    advantages = group_advantages(rewards, group_size)
    logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
    optimizer.zero_grad()
    grpo_loss(logps, advantages, rollouts.mask, old_logps=logps, ref_logps=logps).backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return rewards, norm.item()


def gradient_and_a_loss_of_ones_own(policy, prompts, golds, *, draw, score, optimizer, group_size):
    rollouts = draw(policy, each(prompts, group_size))
    rewards = torch.tensor(score(rollouts, each(golds, group_size)))
    own = loss_with()
    return step(policy, rollouts, rewards, optimizer, group_size, detach=False, loss=own)


def one_answer_each(policy, prompts, golds, *, draw, score, optimizer, group_size):
    rollouts = draw(policy, prompts)
    rewards = torch.tensor(score(rollouts, golds))
    return step(policy, rollouts, rewards, optimizer, group_size)


def group_after_group(policy, prompts, golds, *, draw, score, optimizer, group_size):
    """The right gradient, but not from the answers that one call of the notebook's draw gives."""
    optimizer.zero_grad()
    rewards = []
    for prompt, gold in zip(prompts, golds, strict=True):
        rollouts = draw(policy, [prompt] * group_size)
        rewards.append(torch.tensor(score(rollouts, [gold] * group_size)))
        advantages = group_advantages(rewards[-1], group_size)
        logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
        now = logps.detach()
        loss = grpo_loss(logps, advantages, rollouts.mask, old_logps=now, ref_logps=now)
        (loss / len(prompts)).backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return torch.cat(rewards), norm.item()


def groups_as_large_as_there_are_prompts(
    policy, prompts, golds, *, draw, score, optimizer, group_size
):
    rollouts = draw(policy, each(prompts, group_size))
    rewards = torch.tensor(score(rollouts, each(golds, group_size)))
    return step(policy, rollouts, rewards, optimizer, len(prompts))


def norm_first(policy, prompts, golds, *, draw, score, optimizer, group_size):
    rollouts = draw(policy, each(prompts, group_size))
    rewards = torch.tensor(score(rollouts, each(golds, group_size)))
    return step(policy, rollouts, rewards, optimizer, group_size)[::-1]


def prompts_in_a_tensor(policy, prompts, golds, *, draw, score, optimizer, group_size):
    """In the notebook, prompts and golds are texts."""
    rollouts = draw(policy, torch.tensor(prompts).repeat_interleave(group_size).tolist())
    rewards = torch.tensor(score(rollouts, each(golds, group_size)))
    return step(policy, rollouts, rewards, optimizer, group_size)


WRONG = [
    ("group_advantages", "precedence", division_first),
    ("group_advantages", "epsilon_elsewhere", epsilon_after_the_division),
    ("group_advantages", "windows", groups_that_overlap),
    ("group_advantages", "norm", unit_vectors),
    ("group_advantages", "population_std", layer_norm),
    ("reinforce_loss", "baseline_outside", baseline_after_the_product),
    ("reinforce_loss", "wrong_axis", surplus_meets_tokens),
    ("reinforce_loss", "surplus_lost", sum_of_the_batch),
    ("grpo_loss", "no_kl", loss_with(kl=lambda k3, beta, ratio: 0)),
    ("grpo_loss", "kl_times_ratio", loss_with(kl=lambda k3, beta, ratio: ratio * beta * k3)),
    ("grpo_loss", "kl_averaged_apart", kl_over_all_tokens),
    ("grpo_loss", "advantage_forgotten", loss_with(lambda r, near, a: -torch.min(r * a, near))),
    ("grpo_loss", "max_not_min", loss_with(lambda r, near, a: torch.min(-r * a, -near * a))),
    ("grpo_loss", "wrong_axis", loss_with(mean=lambda x, m: ((x * m).sum(0) / m.sum(0)).mean())),
    ("grpo_loss", "divided_twice", loss_with(mean=lambda x, m: (x * m).sum(1).mean() / m.sum())),
    ("grpo_loss", "padding_counts", loss_with(mean=lambda x, m: (x.sum(1) / m.sum(1)).mean())),
    ("grpo_step", "old_with_gradient", old_keeps_its_gradient),
    ("grpo_step", "gradient_gone", gradient_and_a_loss_of_ones_own),
    ("grpo_step", "not_repeated", one_answer_each),
    ("grpo_step", "draw_called_again", group_after_group),
    ("grpo_step", "groups_of_prompts", groups_as_large_as_there_are_prompts),
    ("grpo_step", "outputs_swapped", norm_first),
    ("grpo_step", "raises_ValueError", prompts_in_a_tensor),
]


@pytest.mark.parametrize(
    ("name", "code", "function"), [pytest.param(*w, id=f"{w[0]}-{w[1]}") for w in WRONG]
)
def test_a_mistake_written_another_way_gets_its_reason(name, code, function):
    outcome = examine(exercise(name), function)
    assert (outcome.status, outcome.code) == ("wrong", code), outcome.message


def test_the_learners_module_keeps_its_loss():
    """The check looks at a step with a loss that detaches nothing, and puts the library's back."""
    examine(exercise("grpo_step"), old_keeps_its_gradient)
    assert globals()["grpo_loss"] is grpo_loss
    assert grpo_loss.__module__ == "postlab.scratch.grpo"


def test_a_loss_of_ones_own_may_stand_in_the_step():
    def right(policy, prompts, golds, *, draw, score, optimizer, group_size):
        rollouts = draw(policy, each(prompts, group_size))
        rewards = torch.tensor(score(rollouts, each(golds, group_size)))
        return step(policy, rollouts, rewards, optimizer, group_size, loss=loss_with())

    assert examine(exercise("grpo_step"), right).status == "right"
