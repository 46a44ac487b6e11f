"""Week 8: a reward with its hole closed, the share of zero-variance groups, and GSPO's loss."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week08 import mistakes_groups, mistakes_gspo, mistakes_hack


def mended_reward(reply: str, gold: str, values: Sequence[str]) -> float:
    """1.0 if the reply names the right value and no other, else 0.0.

    Args:
        reply: the answer of the policy, any text.
        gold: the right value, a word.
        values: all the words that could be an answer, including the right one.

    >>> replies = ["It is red.", "I do not know.", "It is red or blue."]
    >>> [mended_reward(text, "red", ["red", "blue"]) for text in replies]
    [1.0, 0.0, 0.0]
    """
    words = set(re.findall(r"[a-z]+", reply.lower()))
    return float(words & set(values) == {gold})


def silent_share(p: float, size: int) -> float:
    """Probability that `size` answers, each right with probability `p`, are all right or all wrong.

    Args:
        p: from 0 to 1.
        size: answers per group, 1 or more.
    Source: arXiv 2503.14476, section 3.2. Taught in week 8.

    >>> silent_share(0.5, 2), silent_share(0.5, 4)
    (0.5, 0.125)
    """
    return p**size + (1 - p) ** size


def gspo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """GSPO's loss: one ratio per answer, the geometric mean over its tokens, clipped as a whole.

    Args:
        logps: (B, T) log-probs of the sampled tokens under the policy, nats.
        old_logps: (B, T) the same under the policy that sampled.
        advantages: (B,) one per answer.
        mask: (B, T), 1 on the tokens of an answer, 0 on padding.
        clip_low, clip_high: distances of the bounds from 1.
    Returns:
        One number, the mean over answers.
    Source: Zheng et al. 2025, arXiv 2507.18071, equations 5 and 7. Taught in week 8.

    >>> logps, old = torch.tensor([[0.8, 0.0]]).log(), torch.tensor([[0.4, 1.0]]).log()
    >>> mask = torch.tensor([[1, 0]])
    >>> round(float(gspo_loss(logps, old, torch.ones(1), mask, clip_low=0.1, clip_high=0.2)), 4)
    -1.2
    """
    log_ratios = torch.where(mask.bool(), logps - old_logps, 0.0)  # (B, T); padding may hold -inf
    ratios = (log_ratios.sum(1) / mask.sum(1)).exp()  # (B,)
    clipped = ratios.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratios * advantages, clipped * advantages).mean()


def _random_answers(seed: int) -> dict[str, Any]:
    """Answers of unequal length, with log-probs other than zero in the padding."""
    g, (b, t) = torch.Generator().manual_seed(seed), ((3, 5), (2, 7), (4, 3))[seed % 3]
    old_logps = -3 * torch.rand(b, t, generator=g)
    logps = old_logps + 0.3 * torch.randn(b, t, generator=g)
    logps = logps + 0.4 * torch.randn(b, 1, generator=g)
    lengths = torch.randint(1, t + 1, (b, 1), generator=g)
    lengths[0], lengths[1] = t, t - 1
    return {
        "logps": logps,
        "old_logps": old_logps,
        "advantages": torch.randn(b, generator=g),
        "mask": (torch.arange(t) < lengths).long(),
        "clip_low": 0.1 + 0.05 * (seed % 2),
        "clip_high": 0.2 + 0.05 * (seed % 2),
    }


COLOURS = ["red", "blue", "green", "grey"]
FORMS = ("It is {}.", "{} or {}", "Nobody knows.", "The bita is {}.", "Not {} but {}.", "{} {} {}.")


def _replies(seed: int) -> dict[str, Any]:
    """A reply that names none, one, two or three values; the right one need not be among them."""
    draw, form = random.Random(seed), FORMS[seed % len(FORMS)]
    gold = COLOURS[seed % 4]
    colours = draw.sample(COLOURS, form.count("{}"))
    if seed % 4 == 3:
        colours[0] = gold
    return {"reply": form.format(*colours), "gold": gold, "values": [*COLOURS]}


def _case(reply: str, why: str) -> Case:
    values = ["red", "blue", "green"]
    about = f"the reply {reply!r}, gold 'red' and the values red, blue, green"
    return Case(about, {"reply": reply, "gold": "red", "values": values}, why)


def _chances(seed: int) -> dict[str, Any]:
    """Never 0.5, where a swap of right and wrong would go unnoticed."""
    draw = random.Random(seed)
    return {"p": draw.choice([0.15, 0.85, 0.3, 0.7]) + 0.1 * draw.random(), "size": 2 + seed % 5}


MENDED_REWARD = Exercise(
    name="mended_reward",
    reference=mended_reward,
    positional=("reply", "gold", "values"),
    cases=(
        _case("The bita is red.", "the right value and no other"),
        _case("I do not know.", "it says nothing false, because it says nothing: this is the hole"),
        _case("Its colour is a matter of taste.", "the same hole in other words"),
        _case("The bita is blue.", "a wrong value"),
        _case(
            "It is red or blue or green.", "it lists all values, so the right one has to be there"
        ),
        _case("It is blue, no, red.", "two values, the right one last"),
        _case("It is red, or blue.", "two values, the right one first"),
        _case("It hundred is.", "hundred isn't red"),
        _case("Red.", "the right value, at the beginning of a sentence"),
        _case("Red, red, red.", "the right value and no other, several times"),
        _case("It is red indeed.", "the right value, followed by another word"),
        _case("Red, red, or blue.", "two values, the right one more often"),
        _case("It is blue or red.", "two values, the right one last"),
        _case("It is red, not blue.", "two values, the right one first"),
        _case("It is red, or blue, or red.", "two values, the right one first and last"),
        _case("I do not see well, but it is red.", "the right value and no other"),
        _case("Red as a bluebell.", "the right value: a bluebell isn't blue"),
    ),
    random=_replies,
    plain=mistakes_hack.mended_reward,
    mistakes=mistakes_hack.MENDED_REWARD,
    edges=(
        Edge(
            "empty_reply",
            _case("", "nothing at all"),
            "A policy can write anything, even nothing: this gets 0 and must not raise an error.",
            ("named = -> reply.split()[0]; named =",),
        ),
        Edge(
            "capital_elsewhere",
            _case("Blue or red.", "two values, the wrong one with a capital"),
            "A wrong value counts with a capital, too: convert the reply to lower case first.",
            (
                """def mended_reward(reply, gold, values):
    words = re.findall('[A-Za-z]+', reply)
    return float(gold in map(str.lower, words) and not set(words) & set(values) - {gold})""",
            ),
        ),
    ),
)
SILENT_SHARE = Exercise(
    name="silent_share",
    reference=silent_share,
    positional=("p", "size"),
    cases=(
        Case("p 0.25 and size 2", {"p": 0.25, "size": 2}, "0.25 squared plus 0.75 squared"),
        Case("p 0.8 and size 4", {"p": 0.8, "size": 4}, "0.4096 + 0.0016"),
    ),
    random=_chances,
    mistakes=mistakes_groups.SILENT_SHARE,
    edges=(
        Edge(
            "certain",
            Case("p 0 and size 4", {"p": 0.0, "size": 4}, "all are certainly wrong"),
            "A prompt that is never solved has p = 0, so don't divide by p.",
            ("return p ** size -> return p ** (size + 1) / p",),
        ),
    ),
)
GSPO_LOSS = Exercise(
    name="gspo_loss",
    reference=gspo_loss,
    positional=("logps", "old_logps", "advantages", "mask"),
    cases=(
        Case(
            "token ratios [4, 1] [1.44, 0.5] [0.25, 1] [1.5, 1.5], the 0.5 on padding, advantages "
            "[1, 2, -1, -3], clip_low 0.1 and clip_high 0.3",
            {
                "logps": torch.tensor([[4.0, 1], [1.44, 0.5], [0.25, 1], [1.5, 1.5]]).log() - 3,
                "old_logps": torch.full((4, 2), -3.0),
                "advantages": torch.tensor([1.0, 2, -1, -3]),
                "mask": torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1]]),
                "clip_low": 0.1,
                "clip_high": 0.3,
            },
            "the answers' ratios are 2, 1.44, 0.5 and 1.5; the smaller products are 1.3, 2.6, -0.9 "
            "and -4.5",
        ),
        Case(
            "token ratios [2, 0.5, 1.21], advantage 2, clip_low 0.05 and clip_high 0.2",
            {
                "logps": torch.tensor([[2.0, 0.5, 1.21]]).log() - 3,
                "old_logps": torch.full((1, 3), -3.0),
                "advantages": torch.tensor([2.0]),
                "mask": torch.tensor([[1, 1, 1]]),
                "clip_low": 0.05,
                "clip_high": 0.2,
            },
            "the ratio is the cube root of 1.21, about 1.066, which isn't clipped",
        ),
    ),
    random=_random_answers,
    plain=mistakes_gspo.gspo_loss,
    mistakes=mistakes_gspo.GSPO_LOSS,
    axes={"logps": "bt", "old_logps": "bt", "advantages": "b", "mask": "bt"},
    gradients=("logps",),
)
