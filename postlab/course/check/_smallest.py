"""The smallest case on which a learner's function fails, cut from a random one.

Rows, tokens and words are left out one after the other, and numbers rounded, as long as the
function goes on failing in the same way: what is left can be worked out by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Trial, right
from postlab.course.check._words import misfit, number

SHOWN = 40  # numbers of an input that are written out


def smallest(trial: Trial, case: Case) -> Case:
    """The case after every cut and rounding that leaves the function wrong in the same way."""
    inputs, axes = dict(case.inputs), trial.exercise.axes
    failure = _failure(trial, inputs)
    for letter in dict.fromkeys("".join(axes.values()).replace(".", "")):
        owners = {
            name: letters.index(letter) for name, letters in axes.items() if letter in letters
        }
        for index in range(_size(inputs, owners) - 1, -1, -1):
            kept = [i for i in range(_size(inputs, owners)) if i != index]
            if not kept:
                break
            smaller = {name: _kept(inputs[name], axis, kept) for name, axis in owners.items()}
            if _failure(trial, {**inputs, **smaller}) == failure:
                inputs |= smaller
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            rounded = {**inputs, name: (value * 10).round() / 10}
            if _failure(trial, rounded) == failure:
                inputs = rounded
    return Case(f"{_written(inputs)} (cut from a random case)", inputs)


def _failure(trial: Trial, inputs: Mapping[str, Any]) -> str | None:
    """How the learner's function fails: an error's name, another form, other values; None if not.

    None too where the reference has no finite value: nothing is expected there.
    """
    exercise = trial.exercise
    want = exercise.call(exercise.reference, inputs)
    if want.error is not None or not _finite(want.value):
        return None
    result = exercise.call(trial.function, inputs)
    if right(result, want.value):
        return None
    if result.error is not None:
        return type(result.error).__name__
    form = misfit(result.value, want.value)
    return form[0] if form else "values"


def _finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    return bool(torch.as_tensor(value).isfinite().all())


def _size(inputs: Mapping[str, Any], owners: Mapping[str, int]) -> int:
    """Of an axis, which all of its owners share."""
    name, axis = next(iter(owners.items()))
    value = inputs[name]
    return value.shape[axis] if isinstance(value, Tensor) else len(value)


def _kept(value: Any, axis: int, kept: list[int]) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(axis, torch.tensor(kept))
    return [value[i] for i in kept]


def _written(inputs: Mapping[str, Any]) -> str:
    """The inputs in words: all their numbers where they are few, their shapes elsewhere."""
    return ", ".join(f"{name} {_value(value)}" for name, value in inputs.items())


def _value(value: Any) -> str:
    if isinstance(value, Tensor):
        few = value.numel() <= SHOWN
        return _value(value.tolist()) if few else f"of shape {tuple(value.shape)}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value) if isinstance(value, str) else number(value)
