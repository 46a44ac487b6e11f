"""Credit for steps in reinforcement learning: step scores in, one advantage per token out.

GRPO gives all tokens of a reply the same advantage. With a score per step, each step can have an
advantage of its own. Three forms are here:

- `to_go`: DeepSeekMath's process supervision. All step scores of a group are normalised together,
  and a token gets the sum of the normalised scores from its own step to the last one.
- `min`: PURE's idea. A token gets the lowest score from its own step on, normalised as GRPO
  normalises rewards, by the mean and deviation of the replies' lowest scores.
- `own`: a token gets the normalised score of its own step, and nothing of what follows.

Simplified against the papers: PURE weights steps with a softmax in place of the minimum, and has
another baseline (the mean reward per token of the other replies).

Source: Shao et al. 2024, arXiv 2402.03300, section 4.1.3; Cheng et al. 2025, arXiv 2504.15275.
Taught in week 10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from postlab.process.steps import SUMS

if TYPE_CHECKING:
    from torch import Tensor

FORMS = ("to_go", "min", "own")
SMALL = 1e-4  # keeps a group without differences at advantage 0, as in TRL


def step_advantages(
    scores: Tensor, steps: Tensor, *, group_size: int, form: str = "to_go"
) -> Tensor:
    """One advantage per token from the scores of the steps.

    Args:
        scores: (B, S) a score per step; only those of steps that occur in `steps` are read.
        steps: (B, T) the number of the step that each token belongs to, -1 for padding.
        group_size: replies per prompt; the rows of a group are neighbours.
        form: "to_go", "min" or "own".
    Returns:
        (B, T) advantages, the same for all tokens of a step, 0 on padding.
    Raises:
        ValueError: if shapes, group_size or form don't fit.
    Source: Shao et al. 2024, arXiv 2402.03300, section 4.1.3. Taught in week 10.

    >>> import torch
    >>> scores = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    >>> steps = torch.tensor([[0, 0, 1], [0, 1, -1]])
    >>> step_advantages(scores, steps, group_size=2).round(decimals=2)  # mean 3/4, deviation 1/2
    tensor([[ 1.0000,  1.0000,  0.5000],
            [-1.0000, -1.5000,  0.0000]])
    """
    import torch

    if scores.ndim != 2 or steps.ndim != 2 or len(scores) != len(steps):
        raise ValueError(
            f"scores have shape {tuple(scores.shape)}, steps {tuple(steps.shape)}; expected (B, S) "
            "and (B, T)"
        )
    if group_size < 1 or len(scores) % group_size:
        raise ValueError(f"{len(scores)} replies can't be groups of {group_size}")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; expected one of {', '.join(FORMS)}")
    if int(steps.max()) >= scores.shape[1]:
        raise ValueError(f"step {int(steps.max())} has no score; scores has {scores.shape[1]}")
    # 1. Which scores belong to a step of the reply: (B, S).
    numbers = torch.arange(scores.shape[1], device=scores.device)
    real = (steps[:, :, None] == numbers).any(dim=1)
    grouped = real.view(-1, group_size * scores.shape[1])  # (groups, G * S)
    if form == "min":
        # 2. The lowest score from each step on, and the mean and deviation of the replies' lowest.
        padded = scores.masked_fill(~real, torch.inf)
        lowest = padded.flip(1).cummin(dim=1).values.flip(1)
        replies = lowest[:, 0].view(-1, group_size)  # a reply without a step: infinite
        credit = _normalised(lowest, replies.isfinite(), replies)
    else:
        # 2. Normalised by the mean and deviation of all step scores of the group.
        credit = _normalised(scores, grouped, scores.reshape(grouped.shape))
    credit = credit.masked_fill(~real, 0.0)
    if form == "to_go":
        # 3. The sum from each step to the last one.
        credit = credit.flip(1).cumsum(dim=1).flip(1)
    # 4. Every token of a step gets the step's credit; padding gets none.
    return torch.where(steps >= 0, credit.gather(1, steps.clamp(min=0)), 0.0)


def token_steps(
    completions: Sequence[Sequence[int]], tokenizer: Any, *, at: str = SUMS
) -> list[list[int]]:
    """The number of the step that each token of each completion belongs to.

    What stands between two steps belongs to the first of them, and special tokens at the end to
    the last one. A completion without text is one step.

    Args:
        completions: token ids, without padding.
        tokenizer: their own.
        at: pattern of what stands between two steps, as in `split_steps`.
    Returns:
        A list per completion, one number per token; as many steps as `split_steps` finds.
    """
    numbers = []
    for ids in completions:
        text = tokenizer.decode(ids, skip_special_tokens=True)
        blank = len(text) - len(text.lstrip())  # a boundary needs a step before it
        cuts = [one for one in re.finditer(at, text) if one.start() >= blank]
        ends = [one.end() for one in cuts] if text.strip() else []
        begins = [len(tokenizer.decode(ids[:i], skip_special_tokens=True)) for i in range(len(ids))]
        numbers.append([sum(end <= begin for end in ends) for begin in begins])
    return numbers


def _normalised(values: Tensor, members: Tensor, population: Tensor) -> Tensor:
    """`values` less the mean and over the deviation of a group's `population`.

    Args:
        values: (B, S).
        members: (groups, N) which entries of the population count.
        population: (groups, N).
    """
    import torch

    counts = members.sum(dim=1, keepdim=True).clamp(min=1)
    kept = torch.where(members, population, 0.0)
    means = kept.sum(dim=1, keepdim=True) / counts
    squares = torch.where(members, (population - means) ** 2, 0.0)
    # The deviation of a sample, N - 1, as in TRL.
    deviations = (squares.sum(dim=1, keepdim=True) / (counts - 1).clamp(min=1)).sqrt()
    size = len(values) // len(means)
    means, deviations = (x.repeat_interleave(size, dim=0) for x in (means, deviations))
    return (values - means) / (deviations + SMALL)
