"""What a check says of a wrong answer: which mistake it looks like, and how it differs."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._calls import TIME_LIMIT, Call, TookTooLong
from postlab.course.check._parts import RANDOM_CASES, Case, Outcome, Trial, right, shapes
from postlab.course.check._words import clean, differing, misfit, number, same, shape, show

ADVICE = (  # part of the exception's type and text, what to do about it
    (
        "Boolean value of Tensor",
        "An `if` wants one answer, a tensor has many: use torch.where or clamp.",
    ),
    ("to Python scalar", "That function takes one number: use torch's, which takes whole tensors."),
    ("only one element tensors", "That function takes one number: use torch's own of that name."),
    ("not implemented for 'Long'", "Whole numbers do not go through that: make them floats first."),
    ("RuntimeError", "Print the shapes at that line and compare them."),
    ("IndexError", "An index lies outside its axis: print the shapes and the largest index."),
    ("AttributeError", "Print what stands before the dot: it is something else than you expect."),
    ("UnboundLocalError", "The name gets a value on some paths only: set it before the branch."),
    ("NameError", "Define or import that name, or run the cell above that does."),
    ("TypeError", "Print the types at that line, and count the arguments."),
    ("KeyError", "Print the keys that are there."),
    ("RecursionError", "The function calls itself without an end."),
    ("ZeroDivisionError", "A count is zero there."),
)


def wrong(code: str, *lines: str) -> Outcome:
    return Outcome("wrong", code, "\n".join(line for line in lines if line))


def known_mistake(trial: Trial) -> tuple[str, str] | None:
    """Code and sentence of the first mistake that does on every case what the learner's does.

    Of several values only the first wrong one is compared: the others may have faults of their own.
    Where every case raises, so must the mistake, with the same text. If none fits everywhere, the
    only one that fits the cases worked by hand is named too: another mistake may have joined it.
    """
    part = _wrong_part(trial)
    silent = all(result.error is not None for result in trial.calls)
    small, alone = len(trial.exercise.cases), {}

    def fits(function: Callable[..., Any], cases: slice) -> bool:
        """Stops at the first case that tells the two apart."""
        return all(
            alike(result, trial.exercise.call(function, case.inputs), part=part, by_text=silent)
            for case, result in zip(trial.cases[cases], trial.calls[cases], strict=False)
        )

    for mistake in trial.exercise.mistakes:
        for function in mistake.functions:
            if not fits(function, slice(small)):
                continue
            if fits(function, slice(small, None)):
                return mistake.code, f"It looks as if {mistake.looks}."
            alone[mistake.code] = mistake.looks
    if len(alone) == 1 and not silent and not all(map(right, trial.calls[:small], trial.wants)):
        code, looks = alone.popitem()
        return f"{code}_and_more", f"Here it looks as if {looks}. And something else is off."
    return None


def _wrong_part(trial: Trial) -> int | None:
    """Where there are several values, the place of the first wrong one."""
    for result, want in zip(trial.calls, trial.wants, strict=False):
        got = result.value
        if isinstance(want, tuple) and _counts(got, len(want)):
            wrong_ones = [i for i in range(len(want)) if not same(got[i], want[i])]
            if wrong_ones:
                return wrong_ones[0]
    return None


def _counts(value: Any, at_least: int) -> bool:
    return isinstance(value, tuple | list) and len(value) >= at_least


def alike(one: Call, two: Call, *, part: int | None = None, by_text: bool = False) -> bool:
    if one.error is not None or two.error is not None:
        equal = type(one.error) is type(two.error)
        return equal and (not by_text or _text(one) == _text(two))
    if part is not None and all(_counts(x, part + 1) for x in (one.value, two.value)):
        return same(one.value[part], two.value[part])
    return same(one.value, two.value)


def raised(result: Call, case: Case) -> Outcome:
    """An exception, told in a sentence instead of a traceback."""
    about = f"For {case.about}"
    if isinstance(result.error, TookTooLong):
        headline = (
            f"Your function did not return within {TIME_LIMIT:g} seconds: does a loop never end?"
        )
        return wrong("never_ends", headline, about, printed(result))
    name = clean(type(result.error).__name__, 40)
    type_and_text = f"{name}: {_text(result)}"
    advice = next((advice for part, advice in ADVICE if part in type_and_text), "")
    headline = f"Your function raises {error(result)}. {advice}".strip()
    sizes = f"that is       {shapes(case.inputs)}" if case.why else ""
    return wrong(f"raises_{name}", headline, about, sizes, printed(result))


def _text(result: Call) -> str:
    try:
        return clean(str(result.error), 160)
    except Exception:  # an exception of the learner's own, whose text fails too
        return ""


def error(result: Call) -> str:
    """An exception in words: its type, its text and the learner's line."""
    text, name = _text(result), clean(type(result.error).__name__, 40)
    line = f", at `{clean(result.line, 80)}`" if result.line else ""
    return name + f" ({text})" * bool(text) + line


def printed(result: Call) -> str:
    text = clean(result.printed, 120)
    return f"it printed    {text}" if text else ""


def side_by_side(trial: Trial, case: Case, result: Call, want: Any) -> tuple[str, ...]:
    """Lines on what was returned and expected: whole, or at the first place that differs."""
    why = f"{'':14}({case.why})" if case.why else ""
    if result.error is not None:
        return (
            f"For {case.about}",
            f"yours raises  {error(result)}",
            f"expected      {show(want)}",
            why,
        )
    ours, theirs, which = result.value, want, ""
    if isinstance(want, tuple) and isinstance(ours, tuple | list) and len(ours) == len(want):
        parts = zip(trial.exercise.outputs, ours, want, strict=True)
        name, ours, theirs = next(part for part in parts if not same(*part[1:]))
        which = f" as {name}"
    got, expected = show(ours), show(theirs)
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if ours.shape != theirs.shape:
            got = f"{got} of shape {shape(ours)}" if ours.dim() <= 2 else got
            expected = f"{expected} of shape {shape(theirs)}"
        elif not case.why and ours.dim() and not misfit(ours, theirs):
            at = differing(ours, theirs)[0].tolist()
            got, expected = (number(t[tuple(at)].item()) for t in (ours, theirs))
            which += f" at {at}"
    lines = f"For {case.about}", f"you return    {got}{which}", f"expected      {expected}"
    return *lines, why, printed(result)


def trace(trial: Trial, index: int) -> tuple[str, str]:
    """A code and a sentence for values that no known mistake gives."""
    exercise = trial.exercise
    again = exercise.call(trial.function, trial.cases[index].inputs)
    if not alike(again, trial.calls[index]):
        return "not_deterministic", "Called again it returns something else: is there chance in it?"
    if not _finite(trial.calls[index].value) and _finite(trial.wants[index]):
        return "not_finite", "There is nan or inf in it: a division by 0, or the logarithm of 0?"
    base, other = exercise.random(0), exercise.random(RANDOM_CASES)
    for name in base:
        mixed = {**base, name: other[name]}
        ours = [exercise.call(trial.function, inputs) for inputs in (base, mixed)]
        theirs = [exercise.call(exercise.reference, inputs) for inputs in (base, mixed)]
        if any(result.error is not None for result in (*ours, *theirs)) or alike(*theirs):
            continue
        if alike(*ours):
            return (
                f"ignores_{name}",
                f"What you return does not change with `{name}`: do you use it?",
            )
    ratio = _ratio(trial)
    if ratio == -1:
        return "negated", "All your values have the wrong sign."
    if ratio is not None:
        return "factor", f"All your values are {number(ratio)} times the expected ones."
    if _rescaled(trial):
        return (
            "rescaled",
            "They are the expected values, but shifted and scaled: return them as they are.",
        )
    if index >= len(exercise.cases):
        return "differs", "The small cases are right, random ones are not: what is different there?"
    return "differs", "Work this case out by hand, and print each of your steps beside it."


def _finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    return isinstance(value, Integral) or math.isfinite(value)


def _rescaled(trial: Trial) -> bool:
    """Is each tensor an affine function of the expected one, where that is not 0? Whitened, say."""
    fits = []
    for result, want in zip(trial.calls, trial.wants, strict=False):
        if not isinstance(want, Tensor) or misfit(result.value, want) or not _finite(result.value):
            return False
        x, y = (t[want != 0].double() for t in (want, result.value))
        if len(x) > 3:
            basis = torch.stack([x, torch.ones_like(x)], dim=1)
            line = basis @ torch.linalg.lstsq(basis, y).solution
            fits.append(torch.allclose(line, y, atol=1e-4) and y.std() > 1e-2)
    return bool(fits) and all(fits)


def _ratio(trial: Trial) -> float | None:
    """The factor between the learner's values and the expected ones, if it is always the same."""
    pairs = [(result.value, want) for result, want in zip(trial.calls, trial.wants, strict=False)]
    if any(isinstance(want, tuple | list) or misfit(got, want) for got, want in pairs):
        return None
    got, want = (
        torch.cat([torch.as_tensor(pair[i], dtype=torch.float64).flatten() for pair in pairs])
        for i in (0, 1)
    )
    ratio = ((got * want).sum() / (want * want).sum()).item()
    if not abs(ratio) > 1e-3 or not torch.allclose(got, ratio * want, rtol=1e-4, atol=1e-5):
        return None
    return round(ratio, 4)
