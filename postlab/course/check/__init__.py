"""Checks for the exercises: `dpo_loss = check.dpo_loss(dpo_loss)` in the cell that defines it.

A check prints one short paragraph and returns a function to continue with: the learner's if it is
right, otherwise the reference, so that a notebook runs to the end whatever its exercises contain.
A failing check says what was returned, what was expected, and which mistake it looks like.

A check is imported, with its week's module, when it is first used.

For modules that judge a build by what it does, there are `Outcome`, `wrong`, `not_attempted`,
`raised`, `attempt`, `in_points` and `report`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any

from postlab.course.check._outcome import (
    Outcome,
    attempt,
    in_points,
    not_attempted,
    raised,
    report,
    wrong,
)

__all__ = ["Outcome", "attempt", "in_points", "not_attempted", "raised", "report", "wrong"]

WEEKS = {  # in the order of the notebooks
    "loss_mask": "week01",
    "train": "week01",
    "token_logps": "week01",
    "sft_loss": "week01",
    "lora_forward": "week02",
    "nf4_codes": "week02",
    "weights_gib": "week02",
    "jaccard": "week03",
    "collate": "week03",
    "dpo_loss": "week04",
    "bradley_terry_loss": "week04",
    "gae": "week04",
    "clipped_policy_loss": "week04",
    "implicit_margins": "week05",
    "length_bias": "week05",
    "mcnemar_p": "week06",
    "holm": "week06",
    "swapped_win_rate": "week06",
    "group_advantages": "week07",
    "grpo_step": "week07",
    "reinforce_loss": "week07",
    "grpo_loss": "week07",
    "silent_share": "week08",
    "mended_reward": "week08",
    "gspo_loss": "week08",
    "kappa": "week09",
    "robust_dpo_loss": "week09",
    "pareto_front": "week11",
    "dual_step": "week11",
    "hypervolume": "week11",
    "lora_soup": "week11",
    "step_labels": "week10",
    "best_of": "week10",
    "process_f1": "week10",
}


def __getattr__(name: str) -> Callable[..., Any]:
    """The check of an exercise: pass it your function, and continue with the one it returns."""
    if name not in WEEKS:
        near = difflib.get_close_matches(name, WEEKS, n=1)
        hint = f"did you mean {near[0]!r}? T" if near else "t"
        raise AttributeError(
            f"there is no check called {name!r}; {hint}here are: {', '.join(WEEKS)}", name=name
        )
    exercise = getattr(
        importlib.import_module(f"postlab.course.{WEEKS[name]}.exercises"), name.upper()
    )
    from postlab.course.check._exercise import door

    def check(function: Any = None) -> Callable[..., Any]:
        return door(exercise, function)

    check.__name__ = check.__qualname__ = name
    check.__doc__ = f"Check {name}: say what is found, and return a function that is right."
    return check


def __dir__() -> list[str]:
    return sorted(WEEKS)
