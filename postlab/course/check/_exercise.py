"""What a check does with a learner's function, and what it prints.

`examine` asks in this order: can it be called; is it more than the stub; does it return the right
form and the right values, on cases worked by hand and on random ones; does it hold at the edges;
are its inputs what they were; does the right gradient flow. What fails first is described on a case
that can be checked by hand, and compared with what known wrong answers return on the same cases,
each with one mistake or with two. A mistake is named only if it gives the learner's values on every
case. Where none does, it looks for plainer traces: an argument without effect, a sign, a factor.
Where there are none either, it says so, and shows the smallest case that fails.

It proves nothing: a function that is right on these cases and wrong elsewhere passes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from postlab.course.check import _looks
from postlab.course.check._outcome import WIDTH, Outcome, wrong
from postlab.course.check._parts import Exercise, Trial
from postlab.course.check._words import article

LOOKS = (
    _looks.signature,
    _looks.stub,
    _looks.values,
    _looks.edges,
    _looks.inputs_kept,
    _looks.gradients,
)


def examine(exercise: Exercise, function: Any) -> Outcome:
    """Judge a learner's function; print nothing, raise nothing, change nothing.

    Args:
        exercise: from a week's module.
        function: what the learner hands over.
    Returns:
        Outcome.

    >>> import torch
    >>> from postlab.course.week04.exercises import BRADLEY_TERRY_LOSS
    >>> examine(BRADLEY_TERRY_LOSS, lambda chosen, rejected: torch.sigmoid(chosen - rejected)).code
    'probability'
    """
    if not callable(function):
        headline = f"The check got {article(function)}; hand over the function itself, not called:"
        return wrong("not_a_function", f"{headline} check.{exercise.name}({exercise.name})")
    trial = Trial(exercise, function)
    for look in LOOKS:
        outcome = look(trial)
        if outcome:
            return outcome
    return Outcome("right", "right", "right")


def door(exercise: Exercise, function: Any) -> Callable[..., Any]:
    """Print what `examine` says, and return a function that is right, to go on with."""
    name = exercise.name
    if function is exercise.reference:  # after a failed check, the check called again by itself
        print(f"· {name}: this is the reference; run the cell with your function, then the check")
        return function
    outcome = examine(exercise, function)
    if outcome.status == "right":
        print(f"✓ {name}: right")
        return function
    if outcome.status == "not attempted":
        print(f"· {name}: not attempted, going on with the reference")
    else:
        headline, *details = outcome.message.split("\n")
        print(_wrapped(f"✗ {name}: Not yet. {headline}", "", 2))
        for line in details:
            print(_wrapped(line, "  ", 16))
        print("  Going on with the reference.")
    return exercise.reference


def _wrapped(line: str, indent: str, further: int) -> str:
    return textwrap.fill(
        line,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * further,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
