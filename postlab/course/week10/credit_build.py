"""Build 10.1: advantages for every token from the scores of the steps, judged by what they do.

`check` does two things with the learner's function:

1. It compares the advantages with DeepSeekMath's process supervision on groups of solutions with
   unequal numbers of steps and tokens. If they differ, it computes what the usual mistakes would
   give (`VARIANTS`) and names one only if its numbers are the learner's; otherwise it shows the
   smallest example on which they differ and names nothing.
2. It trains a policy with them in a world of four steps (`StepWorld`), whose share of right replies
   is known exactly, and reports where the policy ends, beside the outcome reward with as many
   samples.

How the function is written plays no part. Both conventions for the deviation, N and N - 1, are
right. Left out: clipping, several updates per batch, and any model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from postlab import process
from postlab.course.check import Outcome, attempt, report, wrong

CLOSE = 1e-2
STEP_OF_TOKEN = (0, 1, 1, 2, 3, 3)  # the world's replies: four steps of one or two tokens
CHOICES = 3  # tokens to choose from at every place; one of them is right at a step's end


def check(step_advantages: Any = None) -> Any:
    """Print a verdict; return a function that works, the learner's if it does."""
    outcome = judge(step_advantages)
    report(outcome, name="step_advantages", otherwise="the reference")
    return step_advantages if outcome.status == "right" else reference


def reference(scores: Tensor, steps: Tensor, group_size: int) -> Tensor:
    """The right answer: process supervision with GRPO."""
    return process.step_advantages(scores, steps, group_size=group_size)


# --- 1. the same numbers --------------------------------------------------------------------------


def judge(step_advantages: Any) -> Outcome:
    """Judge advantages by their values, and by the policy that they train."""
    for scores, steps, group in batches():
        found, failure = attempt(step_advantages, scores.clone(), steps.clone(), group)
        if failure:
            return failure
        if not isinstance(found, Tensor) or found.shape != steps.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            text = f"expected a tensor of shape {tuple(steps.shape)}, one advantage per token; got"
            return wrong("shape", f"Not yet: {text} {shape}.")
        if not found.isfinite().all():
            text = "Can a deviation be 0, because all steps of a group have the same score?"
            return wrong("not_finite", f"Not yet: some advantages are NaN or infinite. {text}")
    if any(_same(step_advantages, right) for right in RIGHT):
        return Outcome("right", "right", f"right. {trained_text(step_advantages)}")
    if any(_same(lambda *b: torch.where(b[1] >= 0, step_advantages(*b), 0.0), r) for r in RIGHT):
        return wrong("padding", f"Not yet: {VARIANTS['padding'][1]}")
    for code, (variants, text) in VARIANTS.items():
        if any(_same(step_advantages, variant) for variant in variants):
            return wrong(code, f"Not yet: {text}")
    return wrong(
        "unknown", f"Not yet, and the check doesn't recognise why. {smallest(step_advantages)}"
    )


def batches() -> list[tuple[Tensor, Tensor, int]]:
    """Groups of solutions with unequal numbers of steps and tokens; one group has equal scores."""
    luck = torch.Generator().manual_seed(0)
    found = []
    for groups, group in ((1, 2), (2, 3), (3, 4)):
        replies = groups * group
        scores = torch.rand(replies, 4, generator=luck)
        counts = torch.randint(1, 5, (replies,), generator=luck)
        counts[0], counts[1] = 4, 2
        if groups > 1:
            scores[-group:] = 0.5  # nothing to learn from the last group
        steps = torch.full((replies, 10), -1)
        for b, count in enumerate(counts.tolist()):
            sizes = torch.randint(1, 3, (count,), generator=luck)
            numbers = torch.arange(count).repeat_interleave(sizes)
            steps[b, : len(numbers)] = numbers
        found.append((scores, steps, group))
    return found


def variant(
    scores: Tensor,
    steps: Tensor,
    group_size: int,
    *,
    population: str = "steps",
    credit: str = "to_go",
    first: str = "normalise",
    centre: bool = True,
    scale: bool = True,
    ddof: int = 1,
    sign: float = 1.0,
    padding: bool = False,
) -> Tensor:
    """Advantages with one thing done otherwise; by default, as they should be."""
    numbers = torch.arange(scores.shape[1])
    real = (steps[:, :, None] == numbers).any(1)
    sizes = (steps[:, :, None] == numbers).sum(1)  # tokens of each step
    values = scores
    if first == "sum":
        values = _summed(scores * real, real, credit)
    # 1. Which numbers the mean and the deviation are taken over.
    weights = {
        "steps": real.float(), "padded": torch.ones_like(scores), "tokens": sizes.float(),
        "reply": real.float(), "batch": real.float(), "place": real.float(),
    }[population]  # fmt: skip
    rows = {"reply": 1, "batch": len(scores)}.get(population, group_size)
    blocks = (len(scores) // rows, rows, scores.shape[1])
    kept, used = weights.view(blocks), values.view(blocks)
    dims = (1,) if population == "place" else (1, 2)
    counts = kept.sum(dims, keepdim=True).clamp(min=1)
    mean = (kept * used).sum(dims, keepdim=True) / counts
    spread = (kept * (used - mean) ** 2).sum(dims, keepdim=True) / (counts - ddof).clamp(min=1)
    values = used - mean if centre else used
    values = (values / (spread.sqrt() + 1e-4) if scale else values).reshape(scores.shape)
    # 2. What a step gets of its own score and of the others'.
    if first == "normalise":
        values = _summed(
            values if population == "padded" and padding else values * real, real, credit
        )
    # 3. To the tokens.
    found = sign * values.gather(1, steps.clamp(min=0))
    return found if padding else torch.where(steps >= 0, found, 0.0)


def _summed(values: Tensor, real: Tensor, credit: str) -> Tensor:
    """A step's credit from the values of all steps."""
    total = values.sum(1, keepdim=True).expand_as(values)
    before = values.cumsum(1)
    counts = real.sum(1, keepdim=True)
    return {
        "to_go": total - before + values,
        "later": total - before,
        "so_far": before,
        "own": values,
        "all": total,
        "mean": total / counts,
    }[credit]


def _with(**how: Any) -> Callable[..., Tensor]:
    return lambda scores, steps, group_size: variant(scores, steps, group_size, **how)


def _last_only(scores: Tensor, steps: Tensor, group_size: int) -> Tensor:
    """GRPO on the score of the last step: one advantage per reply."""
    last = scores.gather(1, steps.amax(1, keepdim=True)).view(-1, group_size)
    found = (last - last.mean(1, keepdim=True)) / (last.std(1, keepdim=True) + 1e-4)
    return found.view(-1, 1) * (steps >= 0)


def _padding_summed(ddof: int) -> Callable[..., Tensor]:
    """Scores of steps that don't exist count in the mean and in the sums, but padding gets 0."""
    padded = _with(population="padded", padding=True, ddof=ddof)
    return lambda *batch: torch.where(batch[1] >= 0, padded(*batch), 0.0)


def _both(**how: Any) -> list[Callable[..., Tensor]]:
    return [_with(ddof=ddof, **how) for ddof in (1, 0)]


RIGHT = _both()
VARIANTS: dict[str, tuple[list[Callable[..., Tensor]], str]] = {
    "own_only": (_both(credit="own"), "each token gets the score of its own step only. What a step "
        "leads to should count too: add the normalised scores of all steps after it."),
    "later_only": (_both(credit="later"), "each token gets the scores of the steps after its own, "
        "without its own. The sum begins with the token's own step."),
    "so_far": (_both(credit="so_far"), "you add up the scores from the first step to this one. A "
        "step can't change what came before it: sum from this step to the last one."),
    "per_reply": ([*_both(credit="all"), *_both(credit="mean")], "all tokens of a reply get the "
        "same advantage, the sum or mean over all steps. Start the sum at the token's own step."),
    "last_only": ([_last_only], "every token gets the normalised score of the last step. That is "
        "GRPO with one reward per reply: here every step counts."),
    "sum_first": ([*_both(first="sum"), *_both(first="sum", population="padded")], "you sum the "
        "scores first and normalise the sums. Normalise the scores of the steps, then sum."),
    "not_centred": (_both(centre=False), "you divide by the deviation but don't subtract the mean, "
        "so with scores between 0 and 1 every step is reinforced, wrong ones too."),
    "not_scaled": (_both(scale=False), "you subtract the mean but don't divide by the deviation."),
    "neither": (_both(centre=False, scale=False), "the scores aren't normalised: subtract the "
        "group's mean and divide by its deviation first."),
    "within_reply": (_both(population="reply"), "you normalise within each reply. A solution whose "
        "steps are all right then gets 0, like one whose steps are all wrong. Compare with the "
        "other replies of the group."),
    "across_groups": (_both(population="batch"), "you normalise over the whole batch. Groups "
        "belong to different prompts: use the mean and the deviation of each group."),
    "per_place": (_both(population="place"), "you normalise each step number by itself, first "
        "steps with first steps. Process supervision takes all steps of the group together."),
    "padded_scores": ([*_both(population="padded"), *_both(population="padded", padding=True),
        _padding_summed(1), _padding_summed(0)],
        "scores of steps that don't exist count. `scores` is padded: only the numbers that occur "
        "in a reply's row of `steps` are steps of that reply."),
    "token_weights": (_both(population="tokens"), "the mean and deviation are taken over tokens, "
        "so long steps weigh more. Take them over steps."),
    "padding": (_both(padding=True), "padding tokens have an advantage. Where `steps` is -1 it has "
        "to be 0."),
    "sign": (_both(sign=-1.0), "the sign is wrong: a better step needs a higher advantage."),
}  # fmt: skip


def _same(one: Callable[..., Tensor], other: Callable[..., Tensor]) -> bool:
    """Whether two functions give the same advantages on all batches."""
    return all(
        torch.allclose(one(*_copy(b)).float(), other(*b), atol=CLOSE, rtol=CLOSE) for b in batches()
    )


def _copy(batch: tuple[Tensor, Tensor, int]) -> tuple[Tensor, Tensor, int]:
    return batch[0].clone(), batch[1].clone(), batch[2]


def smallest(step_advantages: Callable[..., Tensor]) -> str:
    """The smallest pair of solutions on which the advantages are wrong, in words."""
    layouts = ([[0], [0]], [[0, 1], [0, 1]], [[0, 0, 1], [0, 0, 1]], [[0, 1, -1], [0, 1, 1]],
               [[0, -1], [0, 1]])  # fmt: skip
    for layout, values in itertools.product(
        layouts, ([[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]])
    ):
        batch = (torch.tensor(values), torch.tensor(layout), 2)
        found = step_advantages(*_copy(batch)).float()
        # Both conventions for the deviation are right: compare with the nearer one.
        wanted = min(
            (right(*batch) for right in RIGHT), key=lambda x: float((x - found).abs().sum())
        )
        if not torch.allclose(found, wanted, atol=CLOSE, rtol=CLOSE):
            got = [[round(x, 2) for x in row] for row in found.tolist()]
            right = [[round(x, 2) for x in row] for row in wanted.tolist()]
            given = f"scores={values}, steps={layout}, group_size=2"
            return f"With {given} it gives {got}; right is {right}."
    return "It agrees on pairs of short solutions and differs on larger groups."


# --- 2. what they do ------------------------------------------------------------------------------


class StepWorld:
    """A policy over replies of four steps, each right with a chance of 1 in 3 at the start.

    A reply has six tokens, each one of three; a step is right if its last token is the first of
    the three, whatever the other steps are. All four must be right: 1 reply in 81 at the start.
    """

    def __init__(self) -> None:
        self.logits = torch.zeros(len(STEP_OF_TOKEN), CHOICES, requires_grad=True)
        self.steps = torch.tensor(STEP_OF_TOKEN)
        self.ends = [STEP_OF_TOKEN.index(s) + STEP_OF_TOKEN.count(s) - 1 for s in range(4)]

    def share_right(self) -> float:
        """The exact probability that all four steps are right."""
        return float(self.logits.detach().softmax(-1)[self.ends, 0].prod())

    def train(
        self, advantages: Callable[[Tensor, Tensor, int], Tensor], *, updates: int = 60,
        groups: int = 4, group_size: int = 8, lr: float = 1.0, seed: int = 0,
    ) -> float:  # fmt: skip
        """Policy gradient with the given advantages; returns the share of right replies."""
        luck = torch.Generator().manual_seed(seed)
        rows = groups * group_size
        for _ in range(updates):
            logps = self.logits.log_softmax(-1)
            tokens = torch.multinomial(
                logps.detach().exp(), rows, replacement=True, generator=luck
            ).T
            scores = (tokens[:, self.ends] == 0).float()  # (rows, 4)
            credit = advantages(scores, self.steps.expand(rows, -1), group_size)
            chosen = logps.expand(rows, -1, -1).gather(2, tokens[:, :, None])[..., 0]
            loss = -(credit.detach() * chosen).mean()
            (gradient,) = torch.autograd.grad(loss, self.logits)
            with torch.no_grad():
                self.logits -= lr * gradient
        return self.share_right()


def outcome_advantages(scores: Tensor, steps: Tensor, group_size: int) -> Tensor:
    """GRPO's: 1 if all steps are right, normalised in the group, the same for all tokens."""
    rewards = scores.prod(1).view(-1, group_size)
    found = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    return found.view(-1, 1).expand(steps.shape)


def trained_text(step_advantages: Callable[..., Tensor]) -> str:
    """Where both kinds of advantages take the world's policy, in words."""
    world = StepWorld()
    start, ends = world.share_right(), []
    for advantages in (step_advantages, outcome_advantages):
        ends.append(sum(StepWorld().train(advantages, seed=seed) for seed in range(5)) / 5)
    return (
        f"In the world of four steps, they take the policy from {start:.1%} of right replies to "
        f"{ends[0]:.0%} (mean of five seeds). With as many samples, the outcome reward takes it to "
        f"{ends[1]:.0%}."
    )
