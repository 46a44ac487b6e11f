"""The looks that a check takes at a learner's function, each of which may end in a diagnosis."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._calls import Call, TookTooLong, call
from postlab.course.check._diagnosis import (
    error,
    in_another_order,
    known_mistake,
    raised,
    side_by_side,
    trace,
    wrong,
)
from postlab.course.check._outcome import Outcome
from postlab.course.check._parts import Exercise, Trial, right
from postlab.course.check._smallest import smallest
from postlab.course.check._words import clean, differing, number, same, sentence

LOST = "look for detach(), .data, .item(), torch.no_grad() or torch.tensor(…) on the way"


def signature(trial: Trial) -> Outcome | None:
    """Can it be called as the notebook calls it, with its defaults left out and given?"""
    exercise = trial.exercise
    try:
        parameters = inspect.signature(trial.function)
    except (TypeError, ValueError):  # some callables written in C have none
        return None
    for case in exercise.cases:
        by_name = {name: None for name in case.inputs if name not in exercise.positional}
        try:
            parameters.bind(*exercise.positional, **by_name)
        except TypeError as why:
            usage = exercise.usage(case.inputs)
            headline = f"it cannot be called as {usage}: {clean(str(why), 120)}"
            return wrong("signature", sentence(headline))
    return None


def stub(trial: Trial) -> Outcome | None:
    """Untouched, or written around the line that should have gone?"""
    result = trial.calls[0]
    if type(result.error) is not NotImplementedError or result.error.args:  # torch's own has a text
        return None
    code = getattr(trial.function, "__code__", None)
    names = {*getattr(code, "co_names", ()), *getattr(code, "co_varnames", ())}
    parameters = getattr(code, "co_argcount", 0) + getattr(code, "co_kwonlyargcount", 0)
    if len(names - {"NotImplementedError"}) > parameters:
        headline = "the line `raise NotImplementedError` still stands in your function: delete it"
        return wrong("stub_line_left", sentence(headline))
    return Outcome("not attempted", "not_attempted", "not attempted")


def values(trial: Trial) -> Outcome | None:
    """Right in form and value, on the cases worked by hand and then on random ones?"""
    if not trial.wrong():
        return None
    index, known = trial.wrong()[0], known_mistake(trial) or in_another_order(trial)
    case, result, want = trial.cases[index], trial.calls[index], trial.wants[index]
    if index >= len(trial.exercise.cases) and not isinstance(result.error, TookTooLong):
        case = smallest(trial, case)
        result = trial.exercise.call(trial.function, case.inputs)
        want = trial.exercise.expected(case.inputs)
    if known:
        return wrong(*known, *side_by_side(trial, case, result, want))
    if result.error is not None:
        return raised(result, case)
    form = trial.exercise.misfit(result.value, want)
    code, headline = form or trace(trial, index)
    if code == "not_recognised" and (by_hand := trial.smallest_by_hand()) is not None:
        case, result, want = trial.cases[by_hand], trial.calls[by_hand], trial.wants[by_hand]
    return wrong(code, headline, *side_by_side(trial, case, result, want))


def edges(trial: Trial) -> Outcome | None:
    """Does it hold where something special happens?"""
    failing = []
    for edge in trial.exercise.edges:
        result = trial.exercise.call(trial.function, edge.case.inputs)
        want = trial.exercise.expected(edge.case.inputs)
        if not right(result, want) and not right(_as_expected(result, want), want):
            failing.append((edge, result, want))
    if not failing:
        return None
    edge, result, want = failing[0]
    which = "a special case." if len(failing) == 1 else f"{len(failing)} special cases. First:"
    headline = f"All is right but {which} {edge.says}"
    return wrong(edge.code, headline, *side_by_side(trial, edge.case, result, want))


def _as_expected(result: Call, want: Any) -> Call:
    """The result in the expected dtype: at an edge, floats that happen to be whole may be ints."""
    if isinstance(result.value, Tensor) and isinstance(want, Tensor):
        return Call(value=result.value.to(want.dtype))
    return result


def inputs_kept(trial: Trial) -> Outcome | None:
    """Are the caller's tensors what they were?"""
    edited = next((result.edited for result in trial.calls if result.edited), None)
    if edited is None:
        return None
    names = " and ".join(f"`{name}`" for name in edited)
    headline = (
        f"the values are right, but {names} {'has' if len(edited) == 1 else 'have'} changed after "
        "the call: you edit in place what the caller still needs. Work on a copy, x.clone() or "
        "list(x)"
    )
    return wrong("edits_inputs", sentence(headline))


def gradients(trial: Trial) -> Outcome | None:
    """Does the loss reach what it should train, and by the right amount?"""
    exercise = trial.exercise
    if not exercise.gradients:
        return None
    inputs = exercise.random(0)
    theirs = _gradient(exercise, exercise.reference, inputs).value
    result = _gradient(exercise, trial.function, inputs)
    if result.error is not None:
        headline = f"the values are right, but under training your function raises {error(result)}"
        advice = "Every step has to be one of torch's."
        return wrong("raises_in_training", sentence(headline), advice)
    if result.value is None:
        headline = f"the values are right, but they carry no gradient: {LOST}"
        return wrong("no_gradient", sentence(headline))
    for name, got, want in zip(exercise.gradients, result.value, theirs, strict=True):
        if got is None or (not got.any() and want.any()):
            headline = f"the values are right, but no gradient reaches `{name}`: {LOST}"
            return wrong(f"no_gradient_to_{name}", sentence(headline))
        if not same(got, want):
            at = tuple(differing(got, want)[0].tolist())
            headline = (
                f"the values are right, but the gradient of their sum is not: with respect to "
                f"`{name}` {number(got[at].item())} at {list(at)}, expected "
                f"{number(want[at].item())}; {LOST}"
            )
            return wrong("gradient_differs", sentence(headline))
    return None


def _gradient(exercise: Exercise, function: Callable[..., Any], inputs: Any) -> Call:
    """The gradients of a weighted sum of the first output; None where it carries none."""

    @functools.wraps(function)
    def run(*args: Any, **by_name: Any) -> tuple[Tensor | None, ...] | None:
        out = function(*args, **by_name)
        out = out[0] if isinstance(out, tuple | list) else out
        if not out.requires_grad:
            return None
        arguments = dict(zip(exercise.positional, args, strict=True)) | by_name
        weights = torch.linspace(0.5, 1.5, out.numel(), dtype=out.dtype).view_as(out)
        leaves = [arguments[name] for name in exercise.gradients]
        return torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True)

    needing = exercise.gradients
    return call(run, inputs, positional=exercise.positional, require_grad=needing)
