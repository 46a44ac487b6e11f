"""What a check found: one class for exercises and builds, and how a build's is printed.

An exercise is compared with its reference (`_exercise.py`). A build is judged by what it does, by a
module of its week; it makes an `Outcome` and prints it with `report`. No torch here: a week's door
imports this.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

WIDTH = 100
MARKS = {"right": "✓", "wrong": "✗", "not attempted": "·"}


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Args:
        status: "right", "wrong" or "not attempted".
        code: stable short name of the diagnosis; "right" and "not_attempted" for the other two.
        message: a few sentences for the learner.
    """

    status: Literal["right", "wrong", "not attempted"]
    code: str
    message: str


def wrong(code: str, *lines: str) -> Outcome:
    """A wrong answer: the lines of its message that aren't empty."""
    return Outcome("wrong", code, "\n".join(line for line in lines if line))


def not_attempted() -> Outcome:
    """The learner's code is still the stub, which raises NotImplementedError."""
    return Outcome("not attempted", "not_attempted", "not attempted.")


def raised(error: Exception, *, subject: str = "it") -> str:
    """A sentence about an exception of the learner's code.

    >>> raised(KeyError("score"))
    "it raised KeyError: 'score'."
    """
    about = " ".join(str(error).split())[:200]
    return f"{subject} raised {type(error).__name__}: {about}."


def attempt(function: Callable[..., Any], *inputs: Any) -> tuple[Any, Outcome | None]:
    """What the learner's code returns, or the outcome if it is a stub or raises."""
    try:
        return function(*inputs), None
    except NotImplementedError:
        return None, not_attempted()
    except Exception as error:  # the learner's code may raise anything
        return None, wrong("raised", f"Not yet: {raised(error)}")


def in_points(difference: Any) -> str:
    """A difference of shares from `postlab.stats`, in percentage points with its interval.

    >>> from types import SimpleNamespace
    >>> in_points(SimpleNamespace(difference=0.123, low=-0.01, high=0.25))
    '+12 points (−1 to +25)'
    """
    numbers = (100 * difference.difference, 100 * difference.low, 100 * difference.high)
    change, low, high = (f"{round(number):+d}".replace("-", "\N{MINUS SIGN}") for number in numbers)
    return f"{change} points ({low} to {high})"


def report(outcome: Outcome, *, name: str = "", otherwise: str = "") -> None:
    """Print what a build's check found, in one paragraph.

    Args:
        outcome: of the check.
        name: of the function or the thing that was built.
        otherwise: what the notebook goes on with if the outcome isn't right, such as
            "the reference"; nothing is said about it if empty.

    >>> report(wrong("sign", "Not yet: the sign is wrong."), name="f", otherwise="the reference")
    ✗ f: Not yet: the sign is wrong. Going on with the reference.
    """
    text = f"{MARKS[outcome.status]} {name}{': ' * bool(name)}{outcome.message}"
    if otherwise and outcome.status != "right":
        text += f" Going on with {otherwise}."
    print(textwrap.fill(text, WIDTH, subsequent_indent="  "))
