"""Week 8's build of dynamic sampling: fill a batch with groups that teach something.

`check_fill_batch` runs the learner's function on prompts whose rewards are known in advance, and
counts what it samples. It asks in this order: is the batch whole, are its groups as they were
sampled, are the uninformative ones replaced, does sampling stop in time and at the limit, and is
every prompt that was taken used. A reason is named only if a count shows it. Left out: the trainer,
which `resampling.py` covers.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from postlab.course.check import Outcome, not_attempted, raised, report, wrong

Group = tuple[str, list[str], list[float]]


def fill_batch(
    prompts: Iterator[str],
    sample: Callable[[str], list[str]],
    reward: Callable[[str, list[str]], list[float]],
    *,
    groups: int,
    most: int,
) -> list[Group]:
    """The reference: sample groups until enough of them contain two different rewards.

    Args:
        prompts: yields the next prompt.
        sample: a prompt's group of answers.
        reward: the answers' rewards.
        groups: how many groups a batch has.
        most: how many prompts may be used.
    Returns:
        `groups` triples of prompt, answers and rewards; uninformative ones only at the limit.
    Source: Yu et al. 2025, arXiv 2503.14476, section 3.2.
    """
    batch: list[Group] = []
    spare: list[Group] = []
    while len(batch) < groups and len(batch) + len(spare) < most:
        prompt = next(prompts)
        answers = sample(prompt)
        rewards = reward(prompt, answers)
        (batch if len(set(rewards)) > 1 else spare).append((prompt, answers, rewards))
    return batch + spare[: groups - len(batch)]


@dataclass
class World:
    """Prompts whose groups get known rewards, and a count of what is asked of them."""

    rewards: list[list[float]]
    taken: int = 0
    sampled: Counter = field(default_factory=Counter)

    def prompts(self) -> Iterator[str]:
        for number in itertools.count():
            self.taken += 1
            yield f"prompt {number}"

    def sample(self, prompt: str) -> list[str]:
        self.sampled[prompt] += 1
        number = int(prompt.split()[1]) % len(self.rewards)
        return [f"{prompt}, answer {i}" for i in range(len(self.rewards[number]))]

    def reward(self, prompt: str, answers: list[str]) -> list[float]:
        number = int(prompt.split()[1]) % len(self.rewards)
        return [self.rewards[number][int(answer.rsplit(" ", 1)[1])] for answer in answers]


WRONG, RIGHT, HALF = [0.0] * 4, [1.0] * 4, [0.5] * 4
MIXED, CLOSE, PENALTY = [0.0, 1.0, 1.0, 0.0], [0.5, 0.5, 0.5, 1.0], [-1.0, 1.0, -1.0, 1.0]
MAIN = [WRONG, MIXED, RIGHT, PENALTY, HALF, WRONG, CLOSE, MIXED, MIXED]  # four teach by number 7
NEVER = [WRONG, RIGHT, MIXED, *[WRONG] * 40]


def check_fill_batch(function: Any = None) -> Callable[..., list[Group]]:
    """Print a verdict; return the function, or the reference if it isn't right."""
    outcome = examine(function)
    report(outcome, name="fill_batch", otherwise="the reference")
    return function if outcome.status == "right" else fill_batch


def examine(function: Any) -> Outcome:
    """Judge a learner's function; print nothing, raise nothing."""
    if not callable(function):
        return wrong("not_a_function", "that isn't a function.")
    try:
        world = World(MAIN)
        batch = _run(function, world, groups=4, most=20)
        finding = _form(batch, 4) or _content(batch, world) or _replaced(batch)
        finding = finding or _cost(batch, world, 8)
        if finding is None:
            world = World(NEVER)
            batch = _run(function, world, groups=4, most=10)
            finding = _form(batch, 4, limited=True) or _content(batch, world)
            finding = finding or _at_limit(batch, world, most=10)
        if finding is None:
            world = World([MIXED, CLOSE])
            batch = _run(function, world, groups=3, most=20)
            finding = _form(batch, 3) or _cost(batch, world, 3)
    except NotImplementedError:
        return not_attempted()
    except _Endless:
        return wrong(
            "endless", "it takes more than 1,000 prompts for one batch. What ends your "
            "loop if hardly any group is informative?",
        )  # fmt: skip
    except Exception as error:  # the learner's code may raise anything
        return wrong("raised", raised(error))
    return finding or Outcome(
        "right", "right", "right: the batch is full, uninformative groups are replaced, and "
        "sampling stops when it should.",
    )  # fmt: skip


class _Endless(BaseException):
    """Not an Exception, so that a learner's `except Exception` doesn't swallow it."""


def _run(function: Any, world: World, **limits: int) -> Any:
    def bounded() -> Iterator[str]:
        for prompt in world.prompts():
            if world.taken > 1000:
                raise _Endless
            yield prompt

    return function(bounded(), world.sample, world.reward, **limits)


def _wrong(code: str, message: str) -> Outcome:
    return wrong(code, f"not yet: {message}")


def _form(batch: Any, groups: int, *, limited: bool = False) -> Outcome | None:
    if batch is None:
        return _wrong("returns_none", "it returns None. Is a `return` missing?")
    if not isinstance(batch, list | tuple):
        return _wrong("wrong_type", f"it returns a {type(batch).__name__}; expected a list.")
    if any(not isinstance(one, list | tuple) or len(one) != 3 for one in batch):
        return _wrong("not_triples", "each entry should be a triple: prompt, answers, rewards.")
    if len(batch) != groups and limited:
        return _wrong(
            "not_filled", f"at the limit the batch has {len(batch)} groups instead of {groups}. A "
            "trainer needs batches of the same size: fill up with groups that you had set aside.",
        )  # fmt: skip
    if len(batch) != groups:
        return _wrong("wrong_size", f"the batch has {len(batch)} groups instead of {groups}.")
    return None


def _content(batch: Any, world: World) -> Outcome | None:
    for prompt, answers, rewards in batch:
        if world.sampled.get(prompt, 0) == 0:
            return _wrong("not_sampled", f"{prompt!r} is in the batch, but it was never sampled.")
        if list(answers) != world.sample(prompt) or list(rewards) != world.reward(prompt, answers):
            return _wrong(
                "mixed_up", f"the answers and rewards beside {prompt!r} aren't the ones that were "
                "sampled for it, all of them and in order.",
            )  # fmt: skip
        world.sampled[prompt] -= 1  # the look above counted
    if len({prompt for prompt, *_ in batch}) < len(batch):
        return _wrong("twice", "a prompt is in the batch twice.")
    return None


def _replaced(batch: Any) -> Outcome | None:
    silent = {rewards[0] for _, _, rewards in batch if len(set(rewards)) == 1}
    if not silent:
        return None
    if silent == {1.0}:
        return _wrong("keeps_right", "a group that is all right is still in the batch. What are "
                      "its advantages?")  # fmt: skip
    if silent == {0.0}:
        return _wrong("keeps_wrong", "a group that is all wrong is still in the batch. What are "
                      "its advantages?")  # fmt: skip
    if silent == {0.5}:
        return _wrong(
            "keeps_partial", "a group in which all rewards are 0.5 is still in the batch. A reward "
            "needn't be 0 or 1; what makes a group uninformative?",
        )  # fmt: skip
    return _wrong("keeps_silent", "groups in which all rewards are the same are still in the "
                  "batch although there were more prompts to try.")  # fmt: skip


def _cost(batch: Any, world: World, needed: int) -> Outcome | None:
    if max(world.sampled.values()) > 1:
        return _wrong("again", "a prompt was sampled more than once. If a group is uninformative, "
                      "take the next prompt; another try at a hopeless one costs as much and "
                      "promises less.")  # fmt: skip
    sampled = [prompt for prompt, count in world.sampled.items() if count]
    numbers = [int(prompt.split()[1]) % len(world.rewards) for prompt in sampled]
    paid = dict(zip(sampled, (world.rewards[number] for number in numbers), strict=True))
    informative = [prompt for prompt, rewards in paid.items() if len(set(rewards)) > 1]
    left_out = [prompt for prompt in informative[: len(batch)] if prompt not in _by_prompt(batch)]
    if left_out:
        return _wrong("drops_informative", f"the rewards {paid[left_out[0]]} were sampled and "
                      "aren't in the batch. Which of their advantages are 0?")  # fmt: skip
    if len(sampled) > needed:
        return _wrong("too_many", f"it samples {len(sampled)} groups where {needed} are enough. "
                      "Stop as soon as the batch is full.")  # fmt: skip
    return _taken(world, len(sampled))


def _taken(world: World, used: int) -> Outcome | None:
    if world.taken <= used:
        return None
    return _wrong("takes_more", f"it takes {world.taken} prompts and samples only {used} of them. "
                  "A prompt that was taken is lost to the next batch, so look whether you need one "
                  "before you take it.")  # fmt: skip


def _by_prompt(batch: Any) -> dict[str, list[float]]:
    """The rewards of a batch by prompt."""
    return {prompt: rewards for prompt, _, rewards in batch}


def _at_limit(batch: Any, world: World, *, most: int) -> Outcome | None:
    used = sum(world.sampled.values())
    if used > most:
        return _wrong("over_limit", f"it samples {used} groups; the limit was {most}.")
    if not any(len(set(rewards)) > 1 for _, _, rewards in batch):
        return _wrong("lost_informative", "one informative group was found before the limit, but "
                      "it isn't in the batch.")  # fmt: skip
    if used < most:
        return _wrong("stops_early", f"it gives up after {used} groups; {most} were allowed.")
    return _taken(world, used)
