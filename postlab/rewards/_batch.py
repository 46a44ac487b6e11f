"""Does a reward get a batch as TRL passes it: lists, with one entry per completion?

A string is a sequence too, so one answer in place of a list of answers would be scored character by
character, and a dict key by key. Left out: what the entries are, which each reward reads itself.
"""

import reprlib
from collections.abc import Mapping
from numbers import Number
from typing import Any

# a column: what its entries are called, and what one row of the dataset has to hold
_COLUMNS = {
    "answer": ("answers", "one gold answer"),
    "tests": ("rows of tests", "one row's tests"),
    "schema": ("schemas", "one JSON schema"),
}


def check_batch(reward: str, completions: Any, **column: Any) -> None:
    """Raise unless the completions, and the column that a reward reads, are lists of one length.

    Args:
        reward: the function's name, for the message.
        completions: what it got for `completions`.
        column: at most one of "answer", "tests" and "schema", by name.
    Raises:
        TypeError: if one of them is a single value, such as a string, in place of a list.
        ValueError: if the column has another length than the completions.

    >>> check_batch("math_reward", ["It is 5."], answer="5")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: math_reward got answer='5', a str; expected a list with one entry per completion...
    """
    for name, values in {"completions": completions, **column}.items():
        if values is None or isinstance(values, str | bytes | Mapping | Number):
            text = reprlib.repr(values)
            raise TypeError(
                f"{reward} got {name}={text}, a {type(values).__name__}; expected a list with one "
                f"entry per completion, as TRL passes it. For one completion write {name}=[{text}]."
            )
    for name, values in column.items():
        if len(completions) != len(values):
            entries, one = _COLUMNS[name]
            raise ValueError(
                f"{reward} got {len(completions)} completions and {len(values)} {entries}; "
                f"the dataset's column `{name}` must hold {one} a row"
            )
