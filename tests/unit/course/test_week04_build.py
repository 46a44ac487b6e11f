"""Build 4.1 is judged by where it ends, and its diagnoses are true of planted mistakes."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from postlab.course.week04 import nine, ppo_build, ppo_reference
from postlab.profile import data_dir
from postlab.scratch import ppo

SOURCE = Path(__file__).resolve().parents[3] / "notebooks/src/week04_preference_theory.py"
CLIPPED = "loss, _ = clipped_policy_loss(logps, old_logps, advantages)"
MARGIN = "bradley_terry_loss(rewards[won], rewards[lost])"


def edited(function, *edits: tuple[str, str]):
    """The reference step with some of its text replaced."""
    text = inspect.getsource(function)
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    space = vars(ppo_reference) | {"F": F, "whiten": ppo.whiten}
    exec(text, space)
    return space[function.__name__]


def test_the_closed_form_beats_every_other_policy():
    world = nine.nine_replies()
    ref = nine.probabilities(world.start)
    optimum = nine.closed_form(world.rewards, ref, nine.BETA)
    others = torch.randn(2000, 9, generator=torch.Generator().manual_seed(0)).softmax(-1)

    def objective(pi):
        return (pi * world.rewards).sum(-1) - nine.BETA * (pi * (pi / ref).log()).sum(-1)

    assert objective(others).max() < objective(optimum)
    assert nine.total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])) == 0.75


def test_judges_follow_bradley_terry():
    won, lost = nine.comparisons(40_000, torch.Generator().manual_seed(1))
    assert (won != lost).all()
    best, worst = 8, 4  # rewards 1 and 0
    wins, losses = ((a == best) & (b == worst) for a, b in ((won, lost), (lost, won)))
    share = wins.sum() / (wins.sum() + losses.sum())
    assert abs(float(share) - float(torch.sigmoid(torch.tensor(1.0)))) < 0.05


@pytest.mark.parametrize(
    ("edits", "code"),
    [
        ([], "right"),
        ([(MARGIN, "bradley_terry_loss(rewards[lost], rewards[won])")], "swapped"),
        ([("    optimizer.zero_grad()\n", "")], "zero_grad"),
        ([("    optimizer.step()\n", "")], "still"),
        ([(MARGIN, "(-F.logsigmoid(rewards[won]) - F.logsigmoid(-rewards[lost]))")], "each_alone"),
        ([(MARGIN, "bradley_terry_loss(2 * rewards[won], 2 * rewards[lost])")], "scaled"),
        ([(MARGIN, "bradley_terry_loss(rewards[won] / 2, rewards[lost] / 2)")], "scaled"),
        ([(MARGIN, "((1 - rewards[won] + rewards[lost]) ** 2)")], "scaled"),
        ([(MARGIN, "F.cross_entropy(rewards.expand(len(won), 9), won)")], "too_close"),
        ([(MARGIN, "-" + MARGIN)], "swapped"),
        ([(MARGIN, "F.softplus(-(rewards[won] - rewards[lost]).abs())")], "stuck"),
        ([(MARGIN, "-F.logsigmoid(rewards[won])")], "one_sided"),
        ([(MARGIN, "bradley_terry_loss(rewards[won], rewards[lost].detach())")], "one_sided"),
        ([(MARGIN, "bradley_terry_loss(rewards[won], -rewards[lost])")], "same_way"),
        (
            [
                (
                    "    optimizer.zero_grad()\n    loss.backward()\n",
                    "    loss.backward()\n    optimizer.zero_grad()\n",
                )
            ],
            "still",
        ),
        (
            [
                (
                    "    optimizer.zero_grad()\n",
                    "    optimizer = torch.optim.SGD([rewards], lr=0.01)\n"
                    "    optimizer.zero_grad()\n",
                )
            ],
            "own_optimizer",
        ),
        ([(MARGIN, "(-torch.sigmoid(rewards[won] - rewards[lost]))")], "too_far"),
        ([(MARGIN, "bradley_terry_loss(rewards[won], rewards)")], "raised"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_reward_step_is_judged_by_the_rewards_it_learns(edits, code):
    assert ppo_build.judge_rewards(edited(ppo_reference.reward_model_step, *edits)).code == code


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [("    returns =", "    advantages, returns ="),
         ("= advantages + values", "= whiten(advantages, batch.mask), advantages + values")],
        [(CLIPPED, "loss = -logps * advantages"), ("range(2)", "range(1)")],
    ],
    ids=["reference", "whitened", "reinforce, one update"],
)  # fmt: skip
def test_a_ppo_step_that_arrives_is_right_however_it_is_written(edits):
    assert ppo_build.judge_policy(edited(ppo_reference.ppo_step, *edits)).code == "right"


@pytest.mark.parametrize(
    ("edits", "code"),
    [
        ([("beta=beta)", "beta=0.0)")], "no_kl"),
        ([("beta=beta)", "beta=-beta)")], "kl_sign"),
        ([("beta=beta)", "beta=2 * beta)")], "other_beta"),
        ([("beta=beta)", "beta=0.0)"),
          ("loss + errors", "loss + errors + beta * (logps - ref_logps)")], "kl_as_loss"),
        ([("token_rewards(scores", "token_rewards(0 * scores")], "no_scores"),
        ([("(logps, old_logps, adv", "(logps, ref_logps, adv")], "reference_in_ratio"),
        ([("(logps, old_logps, adv", "(old_logps, logps, adv")], "still"),
        ([("masked_mean(loss +", "masked_mean(-loss +")], "reward_sign"),
        ([("loss + errors", "loss - errors")], "critic_sign"),
        ([("        optimizer.zero_grad()\n", "")], "zero_grad"),
        ([("gamma=1.0", "gamma=0.5")], "unknown"),
        ([("ref_logps=ref_logps, beta=beta)", "ref_logps=ref_logps, beta=1.0)")],
         "moves_without_cause"),
        ([("(logps, old_logps, adv", "(logps, old_logps, abs(adv"), ("antages)\n", "antages))\n")],
         "unsigned"),
        ([("(logps, old_logps, advantages)", "(logps, old_logps, advantages.clamp(min=0))")],
         "never_less_likely"),
        ([("loss + errors", "loss + 0 * errors")], "critic_still"),
        ([(CLIPPED, "ratio = logps - old_logps\n        loss = -torch.minimum(ratio * advantages, "
           "ratio.clamp(0.8, 1.2) * advantages)")], "never_less_likely"),
        ([("token_rewards(scores",
           "token_rewards((scores - scores.mean()) / (scores.std() + 1e-6)")],
         "unknown"),
        ([("returns = advantages + values", "returns = rewards")], "critic_target"),
        ([("returns = advantages + values", "returns = advantages")], "critic_target"),
        ([("returns = advantages + values", "returns = scores[:, None].expand_as(values)")],
         "critic_target"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_wrong_ppo_step_is_diagnosed_truly(edits, code):
    assert ppo_build.judge_policy(edited(ppo_reference.ppo_step, *edits)).code == code


def test_advantages_with_a_gradient_are_pointed_out_and_a_fault_alone():
    leaking = edited(
        ppo_reference.ppo_step,
        ("with torch.no_grad():", "if True:"),
        (CLIPPED, "loss = -(logps - old_logps.detach()).exp() * advantages"),
        ("- returns)", "- returns.detach())"),
        ("range(2)", "range(1)"),
    )
    assert ppo_build.Probe(leaking).critic_leak()
    assert not ppo_build.Probe(ppo_reference.ppo_step).critic_leak()


def test_the_check_hands_back_what_works(capsys):
    def stub(*args, **named):
        raise NotImplementedError

    wrong = edited(ppo_reference.reward_model_step, ("    optimizer.step()\n", ""))
    assert ppo_build.check(wrong, stub) == (
        ppo_reference.reward_model_step,
        ppo_reference.ppo_step,
    )
    printed = capsys.readouterr().out
    assert "✗ reward_model_step" in printed and "· ppo_step: not attempted" in printed


def test_the_tolerances_hold_for_every_recorded_seed():
    recorded = json.loads((data_dir() / "results" / "week04" / "build.json").read_text())
    assert len(recorded["runs"]) >= 10
    assert max(run["reward_error"] for run in recorded["runs"]) < ppo_build.REWARD_TOLERANCE
    assert max(run["away"] for run in recorded["runs"]) < ppo_build.POLICY_TOLERANCE
