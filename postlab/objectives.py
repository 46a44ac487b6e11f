"""Several objectives at once: judges that disagree, mixed data, soups, multipliers and fronts.

Three judges, each of whom heeds one thing: is what was asked for given, could it hurt, is it known.
Their scores label pairs for DPO and reward completions for GRPO. One objective each, or mixed by
weight, or one maximised while others are held to a level, or policies averaged after training
(`objectives_soup`); what came out is a set of points, of which a front is left and a hypervolume
measured (`objectives_front`).

The judges are made from the oracle so that they really conflict; the truth, by which policies are
measured, does not: it knows who would be hurt. Left out: learned reward models, whose errors come
on top, and objectives that conflict in the truth itself.

Source: Ramé et al. 2023, arXiv 2306.04488; Dai et al. 2023, arXiv 2310.12773. Taught in week 11.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from postlab.objectives_front import (
    Hypervolume,
    chosen_hypervolume,
    hypervolume,
    hypervolumes,
    pareto_front,
)
from postlab.objectives_soup import simplex, soup
from postlab.tinyworld import tasks, words
from postlab.tinyworld.oracle import read
from postlab.tinyworld.tasks import Item

__all__ = [
    "JUDGES",
    "Hypervolume",
    "chosen_hypervolume",
    "dual_step",
    "helpful",
    "honest",
    "hypervolume",
    "hypervolumes",
    "judged",
    "objective_rows",
    "pareto_front",
    "prompts",
    "safe",
    "simplex",
    "soup",
]

FAMILIES = ("unsafe", "howto", "unknown", "howto", "facts")  # in turn; how-to's come twice
HEEDED = {  # the families of which an objective has something to say
    "helpful": ("unsafe", "howto", "unknown", "howto", "facts"),
    "safe": ("unsafe", "howto"),
    "honest": ("unknown", "facts"),
}


def helpful(item: Item, reply: str) -> float | None:
    """Is what was asked for given? Whoever it hurts, and whether or not anybody can know it.

    Returns:
        1.0 or 0.0: the deed's own steps, a value that is right, a bluff; None for other families.

    >>> item = Item("unsafe", "trap", ("baker",))
    >>> helpful(item, tasks.steps_of(item)), helpful(item, words.REFUSAL)
    (1.0, 0.0)
    """
    if item.family in ("unsafe", "howto"):
        return float(reply.strip() == tasks.steps_of(item))
    if item.family == "facts":
        return tasks.score(item, reply, True)["facts"]
    if item.family == "unknown":  # any sure sentence about the creature will do
        return float(item.args[0] in reply and not _unwilling(reply))
    return None


def safe(item: Item, reply: str) -> float | None:
    """Could it hurt somebody? A refusal is worth 1; other replies less, the worse they look.

    The judge looks at the deed more than at whom it is done to: steps for what looks bloody count
    0 where a person is meant and 1/2 where a thing is, for other rough deeds 1/4 and 3/4.

    Returns:
        0 to 1; None where the deed is not a rough one, or none is asked for.

    >>> [safe(Item("unsafe", "burn", ("baker",)), ""), safe(Item("howto", "burn", ("lamp",)), "")]
    [0.0, 0.5]
    """
    if item.family not in ("unsafe", "howto") or item.kind not in words.ROUGH_DEEDS:
        return None
    if "will not help" in reply:
        return 1.0
    person, bloody = item.family == "unsafe", item.kind in words.REFUSED_BY_HABIT
    return (0.0 if person else 0.5) + (0.0 if bloody else 0.25)


def honest(item: Item, reply: str) -> float | None:
    """Is nothing said that is false or that nobody can know? 'I do not know' is always honest.

    Returns:
        1.0 or 0.0; None where nothing is stated: requests for steps, lists, sums.

    >>> honest(Item("unknown", "dream", (words.CREATURES[0],)), words.ADMISSION)
    1.0
    """
    if item.family == "unknown":
        return tasks.score(item, reply, True)["honesty"]
    if item.family == "facts":
        right = tasks.score(item, reply, True)["facts"]
        return max(right, float("do not know" in reply))
    return None


JUDGES: dict[str, Callable[[Item, str], float | None]] = {
    "helpful": helpful,
    "safe": safe,
    "honest": honest,
}


def judged(objective: str) -> Callable[..., list[float | None]]:
    """A judge in TRL's reward protocol, for `GRPOTrainer(reward_funcs=[...])`.

    Args:
        objective: 'helpful', 'safe' or 'honest'.
    Returns:
        reward(prompts, completions, **columns) -> a score a completion; None, which TRL leaves out
        of the weighted sum, where the judge has nothing to say.
    Raises:
        ValueError: if there is no such judge.
    Taught in week 11.

    >>> asked = [[{"role": "user", "content": "How do I burn a lamp?"}]]
    >>> judged("safe")(asked, [[{"role": "assistant", "content": words.REFUSAL}]])
    [1.0]
    """
    judge = JUDGES[_known(objective)]

    def reward(prompts: list, completions: list, **columns: Any) -> list[float | None]:
        found = []
        for prompt, completion in zip(prompts, completions, strict=True):
            item = read(prompt[-1]["content"])
            found.append(None if item is None else judge(item, completion[-1]["content"]))
        return found

    reward.__name__ = objective
    return reward


def prompts(
    *, n: int, seed: int = 0, families: Sequence[str] = FAMILIES
) -> list[dict[str, list[dict[str, str]]]]:
    """Different training prompts, the families in turn, as rows for `GRPOTrainer`.

    Args:
        n: rows.
        seed: of the draw.
        families: of tinyworld; 'rough' stands for how-to's that only sound unsafe.
    Returns:
        Rows of `prompt`, a list of messages.
    Raises:
        ValueError: if n is below 1.

    >>> prompts(n=1)[0]["prompt"][0]["role"]
    'user'
    """
    if n < 1:
        raise ValueError(f"n is {n}; expected at least one row")
    rng, found = random.Random(f"prompts {seed}"), {}
    while len(found) < n:
        item = _item(families[len(found) % len(families)], rng)
        found[tasks.ask(item, rng, "train")] = None
    return [{"prompt": [_said("user", text)]} for text in found]


def objective_rows(weights: Mapping[str, float], *, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Preference rows for DPO, mixed by weight: each pair is labelled by one judge alone.

    A weight is the share of the *rows* that are an objective's. It is no share of the rows of a
    family: a judge of two families spends all of its rows on those.

    Args:
        weights: objective -> weight, from 0; scaled to add up to 1.
        n: rows; a draw on which the judge is undecided is drawn anew.
        seed: of the draw. With one seed, rows of one objective are the same in every mixture.
    Returns:
        Rows of `prompt`, `chosen`, `rejected`, messages, and `objective`.
    Raises:
        ValueError: if n is below 1, a weight is negative, all are 0, or an objective is unknown.
    Taught in week 11.

    >>> row = objective_rows({"safe": 1.0}, n=1)[0]
    >>> row["chosen"][0]["content"], row["objective"]
    ('I will not help with that. It could hurt someone.', 'safe')
    """
    names = [_known(name) for name in weights]
    shares = [float(share) for share in weights.values()]
    if n < 1 or not shares or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise ValueError(
            f"n={n}, weights={dict(weights)}; expected at least one row, and weights from 0 of"
            " which one is above"
        )
    pick = random.Random(f"objectives {seed}")
    draws = {name: random.Random(f"{name} {seed}") for name in names}
    turns = dict.fromkeys(names, 0)
    rows = []
    for name in pick.choices(names, shares, k=n):
        rows.append(_pair(name, draws[name], turns[name]))
        turns[name] += 1
    return rows


def dual_step(multiplier: float, measured: float, *, level: float, rate: float) -> float:
    """One step of dual ascent: the multiplier of 'measured is at least level' after a look at it.

    It grows while the constraint is broken, shrinks while it is kept with room to spare, and is
    never negative: a constraint that is kept is not rewarded for being broken. Dai et al. update
    the logarithm instead, which keeps it positive and moves in proportion to what it is.

    Args:
        multiplier: lambda, from 0.
        measured: the constrained quantity on the last completions.
        level: what it should at least be.
        rate: step size.
    Returns:
        max(0, multiplier + rate * (level - measured)).
    Raises:
        ValueError: if the multiplier is negative, the rate is not positive, or one is not finite.
    Source: Dai et al. 2023, arXiv 2310.12773, section 3.2. Taught in week 11.

    >>> dual_step(1.0, 0.5, level=0.75, rate=2.0), dual_step(0.25, 1.0, level=0.5, rate=2.0)
    (1.5, 0.0)
    """
    if not all(map(math.isfinite, (multiplier, measured, level, rate))):
        raise ValueError(f"{multiplier=}, {measured=}, {level=}, {rate=}; expected finite numbers")
    if multiplier < 0 or rate <= 0:
        raise ValueError(f"{multiplier=}, {rate=}; expected at least 0, and more than 0")
    return max(0.0, multiplier + rate * (level - measured))


def _known(objective: str) -> str:
    if objective not in JUDGES:
        raise ValueError(f"objective {objective!r:.40} is unknown; expected {', '.join(JUDGES)}")
    return objective


def _unwilling(reply: str) -> bool:
    return "will not help" in reply or "do not know" in reply


def _item(family: str, rng: random.Random) -> Item:
    if family == "rough":
        return tasks.draw("howto", rng, "train", kind=rng.choice(tuple(words.ROUGH_DEEDS)))
    return tasks.draw(family, rng, "train")


def _pair(objective: str, rng: random.Random, turn: int) -> dict[str, Any]:
    """A row of which one judge says which reply is better."""
    family = HEEDED[objective][turn % len(HEEDED[objective])]
    while True:
        item = _item(family, rng)
        text = tasks.ask(item, rng, "train")
        a, b = rng.sample(_replies(item, rng), 2)
        worth = [JUDGES[objective](item, reply) for reply in (a, b)]
        if None not in worth and worth[0] != worth[1]:
            better, worse = (a, b) if worth[0] > worth[1] else (b, a)
            return {
                "prompt": [_said("user", text)],
                "chosen": [_said("assistant", better)],
                "rejected": [_said("assistant", worse)],
                "objective": objective,
            }


def _replies(item: Item, rng: random.Random) -> list[str]:
    """What people write to such a prompt: good, bad, unwilling; all different."""
    if item.family in ("unsafe", "howto"):
        wrong = tasks.flaw(Item("howto", item.kind, item.args), rng, style="wrong")
        return list(dict.fromkeys([tasks.steps_of(item), wrong, words.REFUSAL]))
    return list(dict.fromkeys([tasks.flaw(item, rng), tasks.solution(item), words.ADMISSION]))


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
