"""Build 10.1: advantages are judged by their numbers, and what they train is known exactly."""

from __future__ import annotations

import pytest
import torch

from postlab import process
from postlab.course.week10 import credit_build, pictures

SCORES = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
STEPS = torch.tensor([[0, 1, 1, 2, -1], [0, 0, 1, 2, 2]])


def mine(scores, steps, group_size):
    """Process supervision, written in another way: reply by reply, the deviation over N."""
    found = torch.zeros(steps.shape)
    for first in range(0, len(scores), group_size):
        rows = range(first, first + group_size)
        each = {b: scores[b, : int(steps[b].max()) + 1] for b in rows}
        pooled = torch.cat(list(each.values()))
        for b, values in each.items():
            normal = (values - pooled.mean()) / (pooled.std(correction=0) + 1e-6)
            for t, step in enumerate(steps[b].tolist()):
                if step >= 0:
                    found[b, t] = normal[step:].sum()
    return found


def test_it_is_right_however_it_is_written():
    for function in (credit_build.reference, mine):
        verdict = credit_build.judge(function)
        assert verdict.code == "right"
        assert "from 1.2% of right replies to" in verdict.message


@pytest.mark.parametrize("code", credit_build.VARIANTS)
def test_every_mistake_is_named_as_itself(code):
    variants, _ = credit_build.VARIANTS[code]
    assert {credit_build.judge(variant).code for variant in variants} == {code}


def within(scores, steps, group_size):
    return mine(scores, steps, 1)


def to_here(scores, steps, group_size):
    """The running sum in the wrong direction, in a learner's own words."""
    total = mine(scores, steps, group_size)[:, :1]
    to_go = mine(scores, steps, group_size)
    own = credit_build.variant(scores, steps, group_size, credit="own", ddof=0)
    return torch.where(steps >= 0, total - to_go + own, 0.0)


def filled(scores, steps, group_size):
    found = mine(scores, steps, group_size)
    return torch.where(steps < 0, 7.0, found)


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (within, "within_reply"),
        (to_here, "so_far"),
        (lambda *batch: -mine(*batch), "sign"),
        (lambda *batch: 3 * mine(*batch), "unknown"),
        (filled, "padding"),
        (lambda scores, steps, group_size: scores, "shape"),
        (lambda scores, steps, group_size: scores.mean() / 0 * steps, "not_finite"),
        (lambda scores, steps: steps, "raised"),
    ],
    ids=["within", "to_here", "sign", "tripled", "filled", "scores", "infinite", "two_arguments"],
)
def test_a_learners_own_mistakes_are_diagnosed_truly_or_not_at_all(function, code):
    assert credit_build.judge(function).code == code


def test_the_smallest_example_shows_both_answers():
    text = credit_build.smallest(lambda *batch: 3 * mine(*batch))
    assert "group_size=2 it gives" in text and "right is" in text


def on_the_last_token(scores, steps, group_size):
    """The deviation over N, which is right, and credit on a step's last token only, which isn't."""
    after = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    return torch.where(after != steps, mine(scores, steps, group_size), 0.0)


def test_the_smallest_example_is_wrong_under_both_conventions_for_the_deviation():
    verdict = credit_build.judge(on_the_last_token)
    assert verdict.code == "unknown"
    # Steps of one token are right here, so the example has a longer one; the answer is over N.
    assert "steps=[[0, 0, 1], [0, 0, 1]]" in verdict.text
    assert "right is [[1.15, 1.15, -0.58], [-1.15, -1.15, -0.58]]" in verdict.text


def test_the_check_hands_back_what_works(capsys):
    def stub(scores, steps, group_size):
        raise NotImplementedError

    assert credit_build.check(stub) is credit_build.reference
    assert credit_build.check(mine) is mine
    printed = capsys.readouterr().out
    assert "· step_advantages: not attempted. Going on with the reference." in printed
    assert "✓ step_advantages: right" in printed


def test_the_world_starts_where_it_says_and_the_outcome_gets_there_later():
    world = credit_build.StepWorld()
    assert world.share_right() == pytest.approx(1 / 81)
    ends = {
        rate: [
            credit_build.StepWorld().train(how, lr=rate)
            for how in (credit_build.reference, credit_build.outcome_advantages)
        ]
        for rate in (1.0, 4.0)
    }
    assert ends[1.0][0] > 0.8 > 0.2 > ends[1.0][1] and min(ends[4.0]) > 0.8


def test_the_picture_shows_what_the_functions_give():
    forms = {"to go": "to_go", "lowest to go": "min", "own step": "own"}
    steps = torch.arange(3).repeat(2, 1)
    for name, form in forms.items():
        found = process.step_advantages(SCORES, steps, group_size=2, form=form)[0]
        assert pictures.CREDIT[name] == pytest.approx(found.tolist(), abs=0.006)
    rewards = torch.tensor([0.0, 1.0])
    outcome = (rewards - rewards.mean()) / rewards.std()
    assert pictures.CREDIT["outcome"] == pytest.approx([float(outcome[0])] * 3, abs=0.006)
