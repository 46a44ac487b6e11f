"""Week 7's build: one step of GRPO, checked by the weights that it leaves behind.

The learner's step and the reference update the same small policy from the same answers. `draw`
hands out answers that are part of the inputs, so no sampling noise comes between the two: with the
same rewards, advantages and loss, the weights agree to the last digits, and every mistake of a step
moves them elsewhere. What this can't show, the notebook does: that ten steps on the embedded model
equal TRL's, and that the policy learns.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from postlab.course.check._calls import Call, call
from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.check._words import misfit
from postlab.course.week07 import mistakes_step
from postlab.scratch.grpo import grpo_loss
from postlab.scratch.policy_gradient import group_advantages
from postlab.scratch.sampling import Rollouts, completion_states, pack
from postlab.scratch.tokens import token_logps

LIKELY = frozenset(  # of two mistakes at once: a trial trains, and all pairs would be slow
    {"golds_tiled", "gradients_pile_up", "not_clipped", "no_groups", "padding_counts"}
)
END, TOKENS, GAIN = 0, 5, 4.0  # the gain makes some gradients long enough to be clipped
NAMES = ("rewards", "norm")  # what a step returns
PARTS = ("rewards of the first step", "norms", "weights after the last step")  # what is compared


def grpo_step(
    policy: Any,
    prompts: Sequence[Any],
    golds: Sequence[Any],
    *,
    draw: Callable[[Any, list], Rollouts],
    score: Callable[[Rollouts, list], Sequence[float]],
    optimizer: torch.optim.Optimizer,
    group_size: int,
) -> tuple[Tensor, float]:
    """Sample a group of answers to each prompt, score them, and update the policy once.

    Args:
        policy: a causal model; all of its parameters that need a gradient are trained.
        prompts: P prompts.
        golds: the right answer to each of them.
        draw: (policy, prompts) -> one sampled answer for each prompt of the list.
        score: (rollouts, golds) -> one reward for each answer, given a gold for each.
        optimizer: of the policy's parameters.
        group_size: G, answers per prompt.
    Returns:
        The rewards (P * G,), group after group, and the norm of the gradient before clipping.
    Source: Shao et al. 2024, arXiv 2402.03300, algorithm 1 with one update per batch and beta 0.
        Taught in week 7.
    """
    rollouts = draw(policy, [prompt for prompt in prompts for _ in range(group_size)])
    rewards = torch.tensor(score(rollouts, [gold for gold in golds for _ in range(group_size)]))
    advantages = group_advantages(rewards, group_size)
    logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
    old = logps.detach()
    loss = grpo_loss(logps, advantages, rollouts.mask, old_logps=old, ref_logps=old)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return rewards, norm.item()


class SmallPolicy(nn.Module):
    """A causal model whose next token depends on the last one alone: a table of logits, scaled.

    Args:
        seed: of the table; 0 makes every token equally likely.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(0.4 * bool(seed) * torch.randn(TOKENS, TOKENS, generator=g))

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        logits = GAIN * self.table[input_ids]
        return SimpleNamespace(logits=logits, hidden_states=(logits,), past_key_values=None)


class Answers:
    """Hands out given answers: the first time a prompt is asked for, its first answer, and so on.

    Args:
        answers: (P, G, T) tokens; an answer ends with its first END, or at T.
        prompts: P texts, as in a notebook; here each is the number of a token.
        once: refuse a second call; otherwise a step may also ask prompt by prompt.
    """

    def __init__(self, answers: Tensor, prompts: Sequence[str], *, once: bool = False) -> None:
        self.of = dict(zip(prompts, answers.tolist(), strict=True))
        self.asked: Counter[str] = Counter()
        self.once = once

    def __call__(self, policy: Any, prompts: Sequence[str]) -> Rollouts:
        if self.once and self.asked:
            raise ValueError("draw is called a second time in this step")
        drawn = []
        for prompt in prompts:
            answers = self.of[prompt]
            answer = answers[self.asked[prompt] % len(answers)]
            self.asked[prompt] += 1
            drawn.append(answer[: answer.index(END) + 1] if END in answer else answer)
        return pack([[int(prompt)] for prompt in prompts], drawn)


def first_token_right(
    rollouts: Rollouts, golds: Sequence[str], *, worth: float = 1.0
) -> list[float]:
    """`worth` for an answer whose first token is its gold, a text as in a notebook, else 0.

    Raises:
        ValueError: if there isn't one gold per answer.
    """
    if len(golds) != len(rollouts.ids):
        raise ValueError(f"got {len(golds)} golds for {len(rollouts.ids)} answers; one each")
    firsts = rollouts.completions[:, 0].tolist()
    return [worth * (str(first) == gold) for first, gold in zip(firsts, golds, strict=True)]


def attached_loss(
    logps: Tensor, advantages: Tensor, mask: Tensor, *, old_logps: Tensor, **_: Any
) -> Tensor:
    """`grpo_loss` as the formula has it, with the gradient of `old_logps` if that carries one."""
    ratio = (logps - old_logps).exp()
    loss = -torch.minimum(ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None])
    return ((loss * mask).sum(dim=1) / mask.sum(dim=1)).mean()


@contextmanager
def using(function: Callable[..., Any], loss: Callable[..., Tensor]) -> Iterator[None]:
    """Let a learner's function find another loss where it names the library's `grpo_loss`."""
    names = getattr(inspect.unwrap(function), "__globals__", {})
    library = names.get("grpo_loss")
    if library is not grpo_loss:
        yield
        return
    names["grpo_loss"] = loss
    try:
        yield
    finally:
        names["grpo_loss"] = library


class Steps(tuple):
    """What some steps did: first rewards, gradient norms, and the table of weights after them."""


@dataclass(frozen=True)
class GroupStep(Exercise):
    """An exercise whose function updates a model: each call gets a new one, and some steps.

    Its inputs stand for what the function gets: `policy` is a seed, `draw` (S, P, G, T) holds the
    answers of S steps, `score` is what a right answer earns, and `optimizer` SGD's learning rate.
    At the edges, `once` refuses a second draw, and `attached` replaces the library's loss, which
    detaches `old_logps`, by one that doesn't.
    """

    def call(self, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Call:
        @functools.wraps(function)
        def run() -> Any:
            policy = SmallPolicy(inputs["policy"])
            optimizer = torch.optim.SGD(policy.parameters(), lr=inputs["optimizer"])
            score = functools.partial(first_token_right, worth=inputs["score"])
            prompts, golds = (
                list(map(str, inputs[name].tolist())) for name in ("prompts", "golds")
            )
            results = []
            for answers in inputs["draw"]:
                result = function(
                    policy, [*prompts], [*golds],
                    draw=Answers(answers, prompts, once="once" in inputs), score=score,
                    optimizer=optimizer, group_size=inputs["group_size"],
                )  # fmt: skip
                if not _is_pair(result):
                    return result
                results.append(result)
            norms = torch.tensor([float(norm) for _, norm in results])
            return Steps((results[0][0].detach(), norms, policy.table.detach()))

        with using(function, attached_loss if "attached" in inputs else grpo_loss):
            return call(run, {}, positional=())

    def misfit(self, got: Any, want: Any) -> tuple[str, str] | None:
        """What is wrong with the form of a step's result, which `call` collects if it can."""
        if isinstance(got, Steps):
            return misfit(tuple(got), tuple(want), names=PARTS)
        if isinstance(got, tuple | list) and _is_pair(got[::-1]):
            names = " and ".join(NAMES)
            says = f"The values have changed places: return {names} in that order."
            return "outputs_swapped", says
        return misfit(got, (want[0], float(want[1][0])), names=NAMES)


def _is_pair(result: Any) -> bool:
    if not (isinstance(result, tuple | list) and len(result) == 2):
        return False
    rewards, norm = result
    single = isinstance(norm, Tensor) and norm.dim() == 0
    return isinstance(rewards, Tensor) and (single or isinstance(norm, Real))


def _random(seed: int) -> dict[str, Any]:
    """Answers of several lengths; every group has right and wrong ones, but for one in a case."""
    g = torch.Generator().manual_seed(seed)
    p, size = ((2, 4), (3, 3), (2, 3))[seed % 3]
    prompts = torch.tensor([2, 3, 4])[:p]
    golds = torch.randint(1, TOKENS, (p,), generator=g)
    golds[1] = 1 + golds[0] % (TOKENS - 1)  # another one than the first prompt's
    draw = torch.randint(0, TOKENS, (2, p, size, 3), generator=g)
    wrong = 1 + (golds[:, None] + torch.randint(0, 3, (p, size), generator=g)) % (TOKENS - 1)
    right = torch.arange(size) < torch.randint(1, size, (2, p, 1), generator=g)
    if seed % 3 == 1:
        right[0, 2] = True  # a group without a signal
    draw[..., 0] = torch.where(right, golds[:, None], wrong)
    draw[:, 0, 0, 1] = END
    return {
        "policy": seed + 1, "prompts": prompts, "golds": golds, "draw": draw,
        "score": (1.0, 0.5, 2.0)[seed % 3], "optimizer": 0.7, "group_size": size,
    }  # fmt: skip


ONE_STEP = {
    "policy": 0,
    "prompts": torch.tensor([2]),
    "golds": torch.tensor([1]),
    "draw": torch.tensor([[[[1], [3]]]]),
    "score": 1.0,
    "optimizer": 1.0,
    "group_size": 2,
}
TWO_STEPS = {
    "policy": 3,
    "prompts": torch.tensor([2, 4]),
    "golds": torch.tensor([1, 3]),
    "draw": torch.tensor(
        [
            [[[1, 0, 0], [2, 4, 0]], [[3, 1, 2], [1, 0, 0]]],
            [[[4, 1, 0], [1, 3, 2]], [[1, 1, 0], [3, 0, 0]]],
        ]
    ),
    "score": 1.0,
    "optimizer": 0.5,
    "group_size": 2,
}

GRPO_STEP = GroupStep(
    name="grpo_step",
    reference=grpo_step,
    positional=("policy", "prompts", "golds"),
    cases=(
        Case(
            "one step on one prompt, with two answers of one token, the first of them right, a "
            "policy that finds all 5 tokens equally likely, and SGD with rate 1",
            ONE_STEP,
            "the advantages are +-0.707; the gradient is +-1.41 for the two tokens, so its norm "
            "is 2, and it is clipped to length 1",
        ),
        Case(
            "two steps on two prompts, with two answers each of one to three tokens",
            TWO_STEPS,
            "worked out in numpy, with gradients by finite differences",
        ),
    ),
    random=_random,
    mistakes=mistakes_step.GRPO_STEP,
    edges=(
        Edge(
            "draw_called_again",
            Case(
                "the two steps on two prompts, with a draw that may be called once a step",
                TWO_STEPS | {"once": True},
            ),
            "Call draw once in a step, with every prompt `group_size` times. It starts from the "
            "same random numbers at each call, so further calls give copies of the same answers, "
            "or other answers than TRL's trainer gets.",
            (mistakes_step.PROMPT_BY_PROMPT,),
        ),
        Edge(
            "old_with_gradient",
            Case(
                "the one step, with a loss that doesn't detach old_logps for you",
                ONE_STEP | {"attached": True},
                "with a gradient on both sides, exp(logps - old_logps) is 1 whatever the weights",
            ),
            "Pass the old log-probs without a gradient: logps.detach(). The grpo_loss above "
            "detaches them itself; the formula, which you may write yourself later, doesn't, and "
            "then the gradient is 0.",
            ("old = logps.detach() -> old = logps",),
        ),
    ),
    outputs=PARTS,
    likely=LIKELY,
)
