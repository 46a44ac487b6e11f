"""Week 1: which tokens are trained, the training loop, log-probabilities, and the loss."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.check._words import show
from postlab.course.week01 import mistakes_logps, mistakes_mask
from postlab.course.week01.exercise_train import TRAIN
from postlab.scratch.losses import sft_loss, token_logps

__all__ = ["LOSS_MASK", "SFT_LOSS", "TOKEN_LOGPS", "TRAIN"]

# Probabilities of a vocabulary of three, plus a constant that the softmax takes away again.
PROBABILITIES = torch.tensor([[[2, 1, 1], [1, 2, 5]], [[5, 3, 2], [1, 1, 8]]]) / torch.tensor(
    [[[4.0], [8.0]], [[10.0], [10.0]]]
)
SHIFTED = PROBABILITIES.log() + torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]])


def loss_mask(input_ids: Sequence[int], *, header: Sequence[int], end_of_turn: int) -> list[int]:
    """1 on the tokens of each assistant turn and on the end-of-turn token that closes it.

    Args:
        input_ids: one rendered conversation.
        header: the ids that open an assistant turn, such as those of "<|im_start|>assistant\\n".
        end_of_turn: the id that closes every turn.
    Returns:
        0 or 1 for each id; if a reply is cut off, all of it is trained.

    >>> loss_mask([1, 8, 4, 2, 1, 9, 5, 6, 2, 1, 9, 7], header=[1, 9], end_of_turn=2)
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1]
    """
    mask, inside = [], False
    for t, token in enumerate(input_ids):
        mask.append(int(inside))
        if inside:
            inside = token != end_of_turn
        elif t + 1 >= len(header):
            inside = list(input_ids[t + 1 - len(header) : t + 1]) == list(header)
    return mask


def _logits(seed: int) -> tuple[torch.Generator, tuple[int, int, int], Tensor, Tensor]:
    g, (b, t, v) = torch.Generator().manual_seed(seed), ((3, 4, 5), (2, 5, 7), (4, 2, 6))[seed % 3]
    labels = torch.randint(v, (b, t), generator=g)
    return g, (b, t, v), 2 * torch.randn(b, t, v, generator=g), labels


def _random_logps(seed: int) -> dict[str, Any]:
    _, _, logits, labels = _logits(seed)
    return {"logits": logits, "labels": labels}


def _random_loss(seed: int) -> dict[str, Any]:
    g, (b, t, _), logits, labels = _logits(seed)
    mask = torch.arange(t) < torch.randint(1, t + 1, (b, 1), generator=g)
    mask[0], mask[1, 1:] = True, False  # rows of unequal length, always
    mask[0, 0] = False  # the prompt
    return {"logits": logits, "labels": labels, "mask": mask.long()}


TOKEN_LOGPS = Exercise(
    name="token_logps",
    reference=token_logps,
    positional=("logits", "labels"),
    cases=(
        Case(
            "probabilities [1/2 1/4 1/4] [1/8 1/4 5/8], second row [.5 .3 .2] [.1 .1 .8] (logits: "
            "their logs plus a constant for each position) and labels [1 2] [0 2]",
            {"logits": SHIFTED, "labels": torch.tensor([[1, 2], [0, 2]])},
            "log 1/4, log 5/8; log .5, log .8",
        ),
    ),
    random=_random_logps,
    plain=mistakes_logps.token_logps,
    mistakes=mistakes_logps.TOKEN_LOGPS,
    axes={"logits": "bt.", "labels": "bt"},
    edges=(
        Edge(
            "overflow",
            Case(
                "logits 0 and 200, label 0",
                {"logits": torch.tensor([[[0.0, 200.0]]]), "labels": torch.tensor([[0]])},
                "0 - log(e^0 + e^200)",
            ),
            "The result must stay exact even if a probability is too small for a float: "
            "log_softmax computes the logarithm directly.",
            ("torch.log_softmax(logits, -1) -> torch.softmax(logits, -1).log()",),
        ),
    ),
    gradients=("logits",),
)


def _conversation(seed: int) -> dict[str, Any]:
    """Two to four turns, with an empty reply, and header tokens in the user's own words."""
    draw = random.Random(seed % 6)  # the layout; only the ids differ between seeds 0 and 6
    names = random.Random(seed).sample(range(10, 90), 12)
    start, assistant, newline, user, end, *words = names
    header = [[start, assistant, newline], [assistant], [start, assistant, words[6], newline]][
        seed % 3
    ]
    ids: list[int] = []
    for turn in range(2 + seed % 3):
        for opening in ([start, user, newline], header):
            length = 0 if turn and opening is header else draw.randint(2, 4)
            content = [words[draw.randrange(5)] for _ in range(length)]
            if opening is not header:
                content += [newline] if seed % 3 == 1 else [assistant, newline, *words[:2]]
            ids += [*opening, *content, end, newline]
    return {"input_ids": ids, "header": header, "end_of_turn": end}


TALK = [1, 8, 3, 40, 9, 41, 2, 3, 1, 9, 3, 50, 51, 2, 3, 1, 8, 3, 42, 2, 3, 1, 9, 3, 52, 2, 3]
EMPTY = [1, 8, 40, 2, 1, 9, 2, 1, 8, 41, 2, 1, 9, 50, 51, 2, 1, 8, 42, 2]
CUT = [1, 8, 3, 40, 2, 3, 1, 9, 3, 50, 51]
LOSS_MASK = Exercise(
    name="loss_mask",
    reference=loss_mask,
    positional=("input_ids",),
    cases=(
        Case(
            f"input_ids {show(TALK)}",
            {"input_ids": TALK, "header": [1, 9, 3], "end_of_turn": 2},
            "header 1 9 3, end of turn 2: two replies, 50 51 2 and 52 2",
        ),
        Case(
            f"input_ids {show(EMPTY)}",
            {"input_ids": EMPTY, "header": [1, 9], "end_of_turn": 2},
            "header 1 9, end of turn 2: two replies, 2 and 50 51 2; the first is empty",
        ),
    ),
    random=_conversation,
    mistakes=mistakes_mask.LOSS_MASK,
    axes={"input_ids": "t"},
    edges=(
        Edge(
            "cut_reply",
            Case(
                f"input_ids {show(CUT)}",
                {
                    "input_ids": CUT,
                    "header": [1, 9, 3],
                    "end_of_turn": 2,
                },
                "header 1 9 3; the reply 50 51 was cut off",
            ),
            "A reply that was cut off has no end of turn: train the tokens that are there.",
            (
                """def loss_mask(input_ids, *, header, end_of_turn):
    mask, n = [0] * len(input_ids), len(header)
    for i in range(len(input_ids)):
        if input_ids[i : i + n] == header:
            stop = input_ids.index(end_of_turn, i + n) + 1
            mask[i + n : stop] = [1] * (stop - i - n)
    return mask""",
                "return mask -> return [0 if inside else m for m in mask]",
            ),
        ),
        Edge(
            "no_reply",
            Case(
                f"input_ids {show(CUT[:6])}",
                {"input_ids": CUT[:6], "header": [1, 9, 3], "end_of_turn": 2},
                "header 1 9 3: there is no reply",
            ),
            "A conversation without a reply has nothing to train: return all zeros, not an error.",
            ("return mask -> mask.index(1); return mask",),
        ),
    ),
)


SFT_LOSS = Exercise(
    name="sft_loss",
    reference=sft_loss,
    positional=("logits", "labels", "mask"),
    cases=(
        Case(
            "two rows of three tokens, the labels' probabilities [1/2 1/4 1/8] [1/8 1/2 1/8] and "
            "mask [1 1 1] [0 1 0]",
            {
                "logits": torch.tensor(
                    [
                        [[1, 1, 2, 4], [2, 1, 4, 1], [2, 1, 4, 1]],
                        [[2, 1, 1, 4], [2, 1, 1, 4], [3, 3, 1, 1]],
                    ]
                ).log(),
                "labels": torch.tensor([[3, 0, 3], [1, 3, 3]]),
                "mask": torch.tensor([[1, 1, 1], [0, 1, 0]]),
            },
            "four tokens are trained; -log p is 1, 2, 3 and 1 times log 2, mean 1.75 log 2",
        ),
    ),
    random=_random_loss,
    plain=mistakes_logps.sft_loss,
    mistakes=mistakes_logps.SFT_LOSS,
    axes={"logits": "bt.", "labels": "bt", "mask": "bt"},
    gradients=("logits",),
)
