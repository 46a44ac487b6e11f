"""DAPO's dynamic sampling for TRL, which doesn't have it: zero-variance groups are replaced.

If all answers in a group got the same reward, their advantages are 0, and the group only takes up
space in the batch. `dynamic_sampling` replaces it by a group for another prompt, and tries this a
few times. It uses TRL's public hook: the rewards are computed while sampling and passed to the
trainer together with the answers.

It costs the answers that are thrown away; `sampled` counts them. New prompts are chosen by torch's
global generator, whose state is saved in the trainer's checkpoints, so a run that was killed
continues with the same prompts. Left out: DAPO's other parts; TRL's reward weights (there is only
one reward, which has to do its own weighting); and the trainer's log of completions, which would
show the prompts that were replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from postlab.sampling import rollout_func

Reward = Callable[..., Sequence[float | None]]


class Sampler(Protocol):
    """A `rollout_func` that counts the completions it sampled for each batch."""

    sampled: list[int]

    def __call__(self, prompts: list, trainer: Any) -> dict[str, Any]: ...


def dynamic_sampling(
    rows: list[dict[str, Any]], reward: Reward, *, tries: int = 4
) -> tuple[Sampler, Reward]:
    """A `rollout_func` that replaces zero-variance groups, and the reward to train it with.

    Args:
        rows: the training rows: `prompt`, and the columns that `reward` needs.
        reward: in TRL's protocol: `reward(completions, **columns)` gives a number or None for each.
        tries: how often to replace the groups that still have zero variance. What is left after
            the last try stays, so a batch always has the same size.
    Returns:
        `rollout_func` and `reward_funcs` for GRPOTrainer. The first has a list `sampled`: for each
        batch, the number of completions that were sampled for it.
    Raises:
        ValueError: if `tries` is below 1, or two rows have the same prompt and differ elsewhere.
    Source: Yu et al. 2025, arXiv 2503.14476, section 3.2. Taught in week 8.
    """
    if tries < 1:
        raise ValueError(f"tries is {tries}; expected 1 or more: without, use rollout_func")
    known: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = json.dumps(row["prompt"], sort_keys=True)
        if known.setdefault(key, row) != row:
            raise ValueError(f"two rows ask {key[:80]} and differ elsewhere; keep one of them")

    def scored(prompts: list, trainer: Any) -> list[dict[str, Any]]:
        """One dictionary per completion: its tokens and its reward."""
        fields: dict[str, Any] = rollout_func(prompts, trainer)
        texts = trainer.processing_class.batch_decode(
            fields["completion_ids"], skip_special_tokens=True
        )
        sources = [known[json.dumps(prompt, sort_keys=True)] for prompt in prompts]
        names = [name for name in sources[0] if name != "completion"]
        columns = {name: [row[name] for row in sources] for name in names}
        fields["known_reward"] = list(reward(completions=texts, **columns))
        if fields["logprobs"] is None:  # TRL sampled: it has none to hand on
            fields["logprobs"] = [None] * len(prompts)
        return [
            dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)
        ]

    sampled: list[int] = []

    def sample(prompts: list, trainer: Any) -> dict[str, Any]:
        import torch

        size = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
        batch = scored(prompts, trainer)
        groups = [batch[at : at + size] for at in range(0, len(batch), size)]
        total = len(batch)
        for _ in range(tries if trainer.model.training else 0):
            silent = [i for i, group in enumerate(groups) if not teaches(group)]
            if not silent:
                break
            picked = torch.randint(len(rows), (len(silent),)).tolist()
            again = scored([rows[i]["prompt"] for i in picked for _ in range(size)], trainer)
            total += len(again)
            for place, at in zip(silent, range(0, len(again), size), strict=True):
                if teaches(again[at : at + size]):
                    groups[place] = again[at : at + size]
        sampled.append(total)
        batch = [one for group in groups for one in group]
        out = {name: [one[name] for one in batch] for name in batch[0]}
        return out | ({"logprobs": None} if None in out["logprobs"] else {})

    sampler = cast(Sampler, sample)  # a function, with the list as an attribute
    sampler.sampled = sampled
    return sampler, given_reward


def given_reward(completions: list, known_reward: list[float | None], **columns: Any) -> list:
    """The rewards that were computed while sampling."""
    return known_reward


def teaches(group: list[dict[str, Any]]) -> bool:
    """Whether the group contains two different rewards."""
    return len({one["known_reward"] for one in group if one["known_reward"] is not None}) > 1
