"""Week 10: labels on the last token of a step, best of n without bias, ProcessBench's F1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week10 import mistakes_steps


def step_labels(steps: Tensor, right: Tensor) -> Tensor:
    """Labels for token classification: a step's label on its last token, -100 on all others.

    Args:
        steps: (B, T) the number of the step that a token belongs to, from 0; -1 for the prompt and
            for padding.
        right: (B, S) 1 where a step is right, 0 where it is wrong.
    Returns:
        (B, T), of `right`'s dtype.
    Source: Lightman et al. 2023, arXiv 2305.20050, section 2.6. Taught in week 10.

    >>> step_labels(torch.tensor([[-1, 0, 0, 1, -1]]), torch.tensor([[1, 0]]))
    tensor([[-100, -100,    1,    0, -100]])
    """
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    last = (steps >= 0) & (behind != steps)
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where(last, labels, torch.full_like(labels, -100))


def best_of(scores: Tensor, right: Tensor, n: int) -> Tensor:
    """Expected worth of the best-scored reply among n, over all subsets of n of N; no ties.

    Args:
        scores: (P, N), all different in a row.
        right: (P, N) 0 or 1.
        n: replies to choose from, 1 to N.
    Returns:
        (P,) between 0 and 1.
    Source: as pass@k, Chen et al. 2021, arXiv 2107.03374, eq. 1. Taught in week 10.

    >>> best_of(torch.tensor([[0.9, 0.5, 0.1]]), torch.tensor([[0.0, 1.0, 1.0]]), 2)
    tensor([0.3333])
    """
    size = scores.shape[1]
    chosen = [math.comb(size - 1 - rank, n - 1) / math.comb(size, n) for rank in range(size)]
    order = scores.argsort(dim=1, descending=True)
    return right.gather(1, order) @ torch.tensor(chosen, dtype=right.dtype)


def process_f1(found: Tensor, truth: Tensor) -> Tensor:
    """ProcessBench's F1: the harmonic mean of the accuracy on wrong and on right solutions.

    Args:
        found: (n,) the first wrong step as predicted, -1 for none.
        truth: (n,) as it is; some are -1, some are not.
    Returns:
        A scalar between 0 and 1; 0 where both accuracies are.
    Source: Zheng et al. 2024, arXiv 2412.06559, section 3. Taught in week 10.

    >>> process_f1(torch.tensor([0, 2, -1, -1]), torch.tensor([0, 1, -1, -1]))  # 1/2 and 1
    tensor(0.6667)
    """
    hit, good = (found == truth).float(), truth == -1
    wrong, right = hit[~good].mean(), hit[good].mean()
    return 2 * wrong * right / (wrong + right).clamp(min=1e-8)


def _solutions(seed: int) -> dict[str, Any]:
    """Prompts, steps of one to three tokens, padding behind; a row without any."""
    g = torch.Generator().manual_seed(seed)
    rows, most = [], 3
    for row in range(3):
        sizes = torch.randint(1, 4, (most - row % 2,), generator=g).tolist()
        numbers = [i for i, size in enumerate(sizes) for _ in range(size)]
        rows.append([-1] * (1 + row) + numbers)
    width = 13
    steps = torch.tensor([row + [-1] * (width - len(row)) for row in rows])
    right = torch.randint(0, 2, (3, most), generator=g)
    right[0] = torch.tensor([1, 0, 1] if seed < 6 else [0, 1, 1])
    return {"steps": steps, "right": right}


def _replies(seed: int) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    shape = ((3, 5), (2, 8), (4, 6))[seed % 3]
    scores = torch.stack([torch.randperm(shape[1], generator=g) for _ in range(shape[0])]).float()
    right = (torch.rand(shape, generator=g) < 0.5).float()
    right[0, 0], right[0, 1] = 1.0, 0.0
    n = int(torch.randint(1, shape[1] + 1, (), generator=g))
    return {"scores": scores / 10, "right": right, "n": n}


def _predictions(seed: int) -> dict[str, Any]:
    g, n = torch.Generator().manual_seed(seed), (12, 20, 15)[seed % 3]
    truth = torch.randint(0, 4, (n,), generator=g)
    truth[: n // 3] = -1
    follow = torch.rand(n, generator=g) < 0.6
    predicted = torch.where(follow, truth, torch.randint(-1, 4, (n,), generator=g))
    predicted[0], predicted[1], predicted[-1] = -1, 2, truth[-1]
    predicted[-2] = (truth[-2] + 1) % 4
    return {"found": predicted, "truth": truth}


STEP_LABELS = Exercise(
    name="step_labels",
    reference=step_labels,
    positional=("steps", "right"),
    cases=(
        Case(
            "steps [-1, 0, 0, 1, -1] and right [1, 0]",
            {"steps": torch.tensor([[-1, 0, 0, 1, -1]]), "right": torch.tensor([[1, 0]])},
            "step 0 ends at the third token, step 1 at the fourth",
        ),
        Case(
            "steps [-1, -1, 0, 0, 0] [-1, 0, 1, 1, -1] and right [1, 1] [0, 1]",
            {
                "steps": torch.tensor([[-1, -1, 0, 0, 0], [-1, 0, 1, 1, -1]]),
                "right": torch.tensor([[1, 1], [0, 1]]),
            },
            "the first row has one step, which ends at the end of the row",
        ),
    ),
    random=_solutions,
    mistakes=mistakes_steps.STEP_LABELS,
    axes={"steps": "bt", "right": "b."},
    edges=(
        Edge(
            "rolled_round",
            Case(
                "steps [0, 0, 0] and right [1]",
                {"steps": torch.tensor([[0, 0, 0]]), "right": torch.tensor([[1]])},
                "a row without prompt or padding: its only step ends at the end of the row",
            ),
            "The last token of a row has no next token, but `roll` wraps around to the row's first "
            "one: append a -1 instead.",
            ("torch.full_like(steps[:, :1], -1) -> steps[:, :1]",),
        ),
    ),
)
BEST_OF = Exercise(
    name="best_of",
    reference=best_of,
    positional=("scores", "right", "n"),
    cases=(
        Case(
            "scores [0.9, 0.5, 0.1], right [0, 1, 1] and n = 2",
            {
                "scores": torch.tensor([[0.9, 0.5, 0.1]]),
                "right": torch.tensor([[0.0, 1.0, 1.0]]),
                "n": 2,
            },
            "three pairs; the wrong 0.9 wins two of them: 1/3",
        ),
        Case(
            "scores [0.2, 0.4, 0.8, 0.6], right [1, 0, 1, 0] and n = 2",
            {
                "scores": torch.tensor([[0.2, 0.4, 0.8, 0.6]]),
                "right": torch.tensor([[1.0, 0.0, 1.0, 0.0]]),
                "n": 2,
            },
            "six pairs; the right 0.8 wins three: 1/2",
        ),
        Case(
            "scores [0.2, 0.4, 0.8, 0.6], right [1, 0, 0, 0] and n = 1",
            {
                "scores": torch.tensor([[0.2, 0.4, 0.8, 0.6]]),
                "right": torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
                "n": 1,
            },
            "with one reply there is nothing to choose: the mean, 1/4",
        ),
        Case(
            "scores [0.2, 0.6, 0.8, 0.9, 0.4], right [0, 0, 1, 0, 1] and n = 4",
            {
                "scores": torch.tensor([[0.2, 0.6, 0.8, 0.9, 0.4]]),
                "right": torch.tensor([[0.0, 0.0, 1.0, 0.0, 1.0]]),
                "n": 4,
            },
            "five subsets; the wrong 0.9 wins four, the right 0.8 one: 1/5",
        ),
    ),
    random=_replies,
    mistakes=mistakes_steps.BEST_OF,
    axes={"scores": "bn", "right": "bn"},
)
PROCESS_F1 = Exercise(
    name="process_f1",
    reference=process_f1,
    positional=("found", "truth"),
    cases=(
        Case(
            "found [0, 2, -1, -1] and truth [0, 1, -1, -1]",
            {"found": torch.tensor([0, 2, -1, -1]), "truth": torch.tensor([0, 1, -1, -1])},
            "1 of 2 wrong solutions, 2 of 2 right ones: 2 * 1/2 * 1 / (1/2 + 1)",
        ),
        Case(
            "found [1, 2, 0, 2, 1, -1, 2] and truth [1, 2, 3, 0, -1, -1, -1]",
            {
                "found": torch.tensor([1, 2, 0, 2, 1, -1, 2]),
                "truth": torch.tensor([1, 2, 3, 0, -1, -1, -1]),
            },
            "2 of 4 wrong solutions, 1 of 3 right ones: 2 * 1/2 * 1/3 / (1/2 + 1/3)",
        ),
    ),
    random=_predictions,
    mistakes=mistakes_steps.PROCESS_F1,
    axes={"found": "b", "truth": "b"},
    edges=(
        Edge(
            "nothing_found",
            Case(
                "found [-1, 3] and truth [1, -1]",
                {"found": torch.tensor([-1, 3]), "truth": torch.tensor([1, -1])},
                "both accuracies are 0, so the F1 is 0",
            ),
            "If both accuracies are 0, the harmonic mean is 0 / 0: return 0.",
            (".clamp(min=1e-08) -> .clone()",),
        ),
    ),
)
