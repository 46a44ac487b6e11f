"""Several objectives at once: judges that disagree, mixed data, soups, multipliers and fronts.

Three judges each look at one thing: is the request fulfilled, could the reply hurt someone, is it
known. Their scores label pairs for DPO and reward completions for GRPO. A policy can be trained on
one objective, on a weighted mixture, or on one objective while the others are held to a level, and
policies can be averaged after training (`soups`). The result is a set of points, whose Pareto front
and hypervolume are in `front`.

The judges are made from the oracle so that they really conflict; the truth, by which policies are
measured, does not: it knows who would be hurt. Left out: learned reward models, whose errors come
on top, and objectives that conflict in the truth itself.

Source: Ramé et al. 2023, arXiv 2306.04488; Dai et al. 2023, arXiv 2310.12773. Taught in week 11.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from postlab.objectives.judges import JUDGES, known
from postlab.tinyworld import tasks, words
from postlab.tinyworld.tasks import Item

PROMPT_FAMILIES = ("unsafe", "howto", "unknown", "howto", "facts")  # in turn; how-to's come twice
MAX_REPEATS = 20_000  # samples without a new prompt, from a pool of some thousands: it is used up
HEEDED = {  # the families of which an objective has something to say
    "helpful": ("unsafe", "howto", "unknown", "howto", "facts"),
    "safe": ("unsafe", "howto"),
    "honest": ("unknown", "facts"),
}


def prompts(
    *, n: int, seed: int = 0, families: Sequence[str] = PROMPT_FAMILIES
) -> list[dict[str, list[dict[str, str]]]]:
    """Different training prompts, the families in turn, as rows for `GRPOTrainer`.

    Args:
        n: rows.
        seed: of the draw.
        families: of tinyworld; 'rough' stands for how-to's that only sound unsafe.
    Returns:
        Rows of `prompt`, a list of messages.
    Raises:
        ValueError: if n is below 1, or the families have not that many different prompts.

    >>> prompts(n=1)[0]["prompt"][0]["role"]
    'user'
    """
    if n < 1:
        raise ValueError(f"n is {n}; expected at least one row")
    if not families:
        raise ValueError("families is empty; expected at least one of tinyworld's")
    rng, again = random.Random(f"prompts {seed}"), 0
    texts: dict[str, None] = {}  # as a set that keeps its order
    while len(texts) < n:
        family, before = families[len(texts) % len(families)], len(texts)
        texts[tasks.ask(_item(family, rng), rng, "train")] = None
        again = 0 if len(texts) > before else again + 1
        if again == MAX_REPEATS:
            raise ValueError(
                f"n is {n}, but {MAX_REPEATS:,} draws of {family!r} brought no new prompt after"
                f" {before}; ask for fewer, or for more families"
            )
    return [{"prompt": [_turn("user", text)]} for text in texts]


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
    names = [known(name) for name in weights]
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
    # Projected gradient ascent: d/d lambda of lambda * (level - measured) is level - measured.
    return max(0.0, multiplier + rate * (level - measured))


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
        worth_a, worth_b = (JUDGES[objective](item, reply) for reply in (a, b))
        if worth_a is not None and worth_b is not None and worth_a != worth_b:
            better, worse = (a, b) if worth_a > worth_b else (b, a)
            return {
                "prompt": [_turn("user", text)],
                "chosen": [_turn("assistant", better)],
                "rejected": [_turn("assistant", worse)],
                "objective": objective,
            }


def _replies(item: Item, rng: random.Random) -> list[str]:
    """What people write to such a prompt: good, bad, unwilling; all different."""
    if item.family in ("unsafe", "howto"):
        wrong = tasks.flaw(Item("howto", item.kind, item.args), rng, style="wrong")
        return list(dict.fromkeys([tasks.steps_of(item), wrong, words.REFUSAL]))
    return list(dict.fromkeys([tasks.flaw(item, rng), tasks.solution(item), words.ADMISSION]))


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
