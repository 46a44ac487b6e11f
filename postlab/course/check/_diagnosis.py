"""What a check says of a wrong answer: which mistake it looks like, and how it differs."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._answers import WrongAnswer
from postlab.course.check._calls import TIME_LIMIT, Call, TookTooLong, other_chance
from postlab.course.check._outcome import Outcome, wrong
from postlab.course.check._parts import RANDOM_CASES, Case, Trial, shapes
from postlab.course.check._words import (
    apart,
    clean,
    differing,
    misfit,
    number,
    same,
    sentence,
    shape,
    show,
)

ADVICE = (  # part of the exception's type and text, what to do about it
    (
        "Boolean value of Tensor",
        "An `if` wants one answer, a tensor has many: use torch.where or clamp.",
    ),
    ("to Python scalar", "That function takes one number: use torch's, which takes whole tensors."),
    ("only one element tensors", "That function takes one number: use torch's own of that name."),
    ("not implemented for 'Long'", "Whole numbers do not go through that: make them floats first."),
    ("could not infer output dtype", "Only floats have a mean: x.float() makes them of the rest."),
    (
        "does not require grad",
        "backward() finds no way back: look for no_grad(), detach(), item().",
    ),
    ("in-place", "A step in place is not possible there: compute a new tensor instead."),
    ("inplace", "A step in place loses what the gradient needs: compute a new tensor instead."),
    ("bool tensor is not supported", "A bool tensor takes no minus: 'not' is ~x there."),
    ("dtype", "Two dtypes meet there, or one that it cannot take: print them, convert with .to()."),
    ("scalar type", "Two dtypes meet there: print them and convert one with .to()."),
    ("RuntimeError", "Print the shapes and dtypes at that line and compare them."),
    (
        "torch.return_types",
        "cummax, max, min and sort return two tensors, values and indices: take .values of it.",
    ),
    (
        "can be converted to an index",
        "One whole number is wanted there, and a tensor came. Does a list or tuple meet a tensor? "
        "cummax, max and sort return two tensors: take .values.",
    ),
    ("can't multiply sequence", "A list or tuple takes no arithmetic: take its parts first."),
    ("'list' and", "A list takes no arithmetic: go through it number by number."),
    ("and 'list'", "A list takes no arithmetic: go through it number by number."),
    ("'NoneType'", "One of the values there is None: print them to see which."),
    ("list index out of range", "The list is shorter than that, or empty: print its length."),
    ("IndexError", "An index lies outside its axis: print the shapes and the largest index."),
    ("AttributeError", "Print what stands before the dot: it is something else than you expect."),
    ("UnboundLocalError", "The name gets a value on some paths only: set it before the branch."),
    ("NameError", "Define or import that name, or run the cell above that does."),
    ("empty sequence", "There is nothing in it there: what should come back then?"),
    ("unhashable", "What goes into a set or is a key must not change: tuple(x) makes it fit."),
    ("for ^:", "A power is ** in Python; ^ is a bitwise exclusive or."),
    ("TypeError", "Print the types at that line, and count the arguments."),
    ("KeyError", "Print the keys that are there."),
    ("RecursionError", "The function calls itself without an end."),
    ("ZeroDivisionError", "A count is zero there."),
)


def known_mistake(trial: Trial) -> tuple[str, str] | None:
    """Code and sentence of the mistake, or two mistakes, that give the learner's values everywhere.

    Of several values, if none has them all, only the first wrong one is compared: the others may
    have faults of their own. Where every case raises, so must the mistake, with the same text.
    """
    exercise, part = trial.exercise, _wrong_part(trial)
    silent = all(result.error is not None for result in trial.calls)

    def fits(answer: WrongAnswer, part: int | None = None) -> bool:
        """Stops at the first case that tells the two apart."""
        function = exercise.function(answer)
        return all(
            alike(result, exercise.call(function, case.inputs), part=part, by_text=silent)
            for case, result in zip(trial.cases, trial.calls, strict=False)
        )

    found = next(filter(fits, exercise.wrong_answers), None)
    if found is None and part is not None:
        found = next((x for x in exercise.wrong_answers if fits(x, part)), None)
    if not (found or _constant(trial.calls) or any(result.error for result in trial.calls)):
        found = next(filter(fits, exercise.pairs()), None)
    if found is None:
        return None
    code = "_and_".join(mistake.code for mistake in found.mistakes)
    if len(found.mistakes) == 1:
        return code, f"It looks as if {found.mistakes[0].looks}."
    one, two = (sentence(mistake.looks) for mistake in found.mistakes)
    return code, f"Your values are what two mistakes give together. First: {one} Second: {two}"


def _constant(calls: Sequence[Call]) -> bool:
    """One number everywhere: two mistakes may well give it together, and so may anything else."""
    numbers: list[Any] = []
    for result in calls:
        values = result.value if isinstance(result.value, tuple | list) else [result.value]
        for value in values:
            numbers += value.flatten().tolist() if isinstance(value, Tensor) else [value]
    return bool(numbers) and all(isinstance(x, Real) and x == numbers[0] for x in numbers)


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
            f"Your function did not return within {TIME_LIMIT:g} seconds: does a loop never end, "
            "or go through far too many cases?"
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
    got, expected = (show(ours), show(theirs)) if misfit(ours, theirs) else apart(ours, theirs)
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if ours.shape != theirs.shape:
            got = f"{got} of shape {shape(ours)}" if ours.dim() <= 2 else got
            expected = f"{expected} of shape {shape(theirs)}"
        elif not case.why and ours.dim() and not misfit(ours, theirs):
            at = differing(ours, theirs)[0].tolist()
            got, expected = apart(*(t[tuple(at)].item() for t in (ours, theirs)))
            which += f" at {at}"
    lines = f"For {case.about}", f"you return    {got}{which}", f"expected      {expected}"
    return *lines, why, printed(result)


def trace(trial: Trial, index: int) -> tuple[str, str]:
    """A code and a sentence for values that no known mistake gives."""
    exercise = trial.exercise
    for seed in range(4):
        with other_chance(seed):
            again = exercise.call(trial.function, trial.cases[index].inputs)
        if alike(again, trial.calls[index]):
            continue
        return (
            "not_deterministic",
            "Called again it returns something else: is there chance in it, as in sampling or "
            "dropout?",
        )
    if not _finite(trial.calls[index].value) and _finite(trial.wants[index]):
        return "not_finite", "There is nan or inf in it: a division by 0, or the logarithm of 0?"
    default = _other_default(trial)
    if default:
        return "other_default", default
    if _constant(trial.calls):
        return (
            "constant",
            "What you return is the same whatever goes in: is it rounded off, by // or int(), or "
            "never computed?",
        )
    decimals = _rounded(trial)
    if decimals is not None:
        return (
            "rounded",
            "Your values are the expected ones rounded, "
            + (f"to {decimals} decimals: " if decimals else "as //, int() and round() do: ")
            + "return them as they are.",
        )
    unused = _unused(trial)
    if unused:
        return (
            f"ignores_{unused}",
            f"What you return doesn't change with `{unused}`: it is not used, or what it does gets "
            "lost on the way.",
        )
    ratio = _ratio(trial)
    if ratio == -1:
        return "negated", "All your values have the wrong sign."
    if ratio is not None:
        return "factor", f"All your values are {number(ratio)} times the expected ones."
    if _all_cases(trial, _masked_only):
        return (
            "padding_differs",
            "Where the mask is 1 all your values are right; where it is 0 they differ.",
        )
    if _all_cases(trial, _reordered):
        return "reordered", "All the right values are there, but in other places."
    if _all_cases(trial, _rescaled):
        return (
            "rescaled",
            "In each case they are the expected values, multiplied or shifted by a number: where "
            "does it come from?",
        )
    edited = next((result.edited for result in trial.calls if result.edited), ())
    if edited:
        return (
            "wrong_and_edits_inputs",
            f"{' and '.join(f'`{name}`' for name in edited)} changed during the call: you edit in "
            "place, and what you read of it later is no longer what came in. Work on a copy, "
            "x.clone() or list(x).",
        )
    small = index < len(exercise.cases)
    return (
        "not_recognised",
        "This is none of the mistakes that the check knows. "
        + ("" if small else "The cases worked by hand are right, random ones are not. ")
        + "Here is the smallest case that fails: work it out by hand, and print each of your steps "
        "beside it.",
    )


def _other_default(trial: Trial) -> str | None:
    """A sentence if only calls that leave an argument out are wrong, and its default is another."""
    ours, theirs = (
        inspect.signature(x).parameters for x in (trial.function, trial.exercise.reference)
    )
    for name in ours.keys() & theirs.keys():
        defaults = [parameters[name].default for parameters in (ours, theirs)]
        given = [i for i, case in enumerate(trial.cases) if name in case.inputs]
        if inspect.Parameter.empty in defaults or defaults[0] == defaults[1]:
            continue
        if given and not set(given) & set(trial.wrong()):
            return (
                f"All is right where `{name}` is given; its default in your function is "
                f"{clean(repr(defaults[0]), 40)}, expected {defaults[1]!r}."
            )
    return None


def in_another_order(trial: Trial) -> tuple[str, str] | None:
    """A code and a sentence if the right values come back, two of them in the other order."""
    pairs = list(zip(trial.calls, trial.wants, strict=False))
    for result, want in pairs:
        if not isinstance(want, tuple) or not _counts(result.value, len(want)):
            return None
        if not same(tuple(result.value)[::-1], want):
            return None
    names = " and ".join(trial.exercise.outputs)
    return "outputs_swapped", f"The values have changed places: return {names} in that order."


def _unused(trial: Trial) -> str | None:
    """An argument that changes the right values, and in no pair of cases the learner's.

    None where the random cases all give the learner's function the same value: they tell nothing.
    """
    exercise, ours = trial.exercise, trial.function
    if _constant(trial.calls[len(exercise.cases) :]):
        return None
    random = [(exercise.random(i), exercise.random(i + RANDOM_CASES)) for i in range(RANDOM_CASES)]
    by_hand = [(a.inputs, b.inputs) for a, b in itertools.permutations(exercise.cases, 2)]
    for name in exercise.random(0):
        telling = [pair for pair in random if _effect(exercise.reference, trial, name, pair)]
        lost = any(_effect(ours, trial, name, pair) is False for pair in telling)
        pairs = [*random, *(pair for pair in by_hand if all(name in inputs for inputs in pair))]
        if lost and not any(_effect(ours, trial, name, pair) for pair in pairs):
            return name
    return None


def _effect(
    function: Callable[..., Any], trial: Trial, name: str, pair: Sequence[Mapping[str, Any]]
) -> bool | None:
    """Whether a value changes when one argument comes from the other case; None at an error."""
    calls = (pair[0], {**pair[0], name: pair[1][name]})
    one, two = (trial.exercise.call(function, inputs) for inputs in calls)
    return None if one.error or two.error else not alike(one, two)


def _finite(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    return isinstance(value, Integral) or math.isfinite(value)


def _all_cases(trial: Trial, holds: Callable[[Tensor, Tensor, Tensor], bool | None]) -> bool:
    """Whether something holds of the learner's tensor, the expected one and the mask in each case.

    None stands for a case that says nothing; some case has to say something.
    """
    answers = []
    for case, result, want in zip(trial.cases, trial.calls, trial.wants, strict=False):
        if not isinstance(want, Tensor) or misfit(result.value, want):
            return False
        mask = case.inputs.get("mask")
        if not isinstance(mask, Tensor) or mask.shape != want.shape:
            mask = torch.ones_like(want)
        answers.append(holds(result.value, want, mask.bool()))
    told = [answer for answer in answers if answer is not None]
    return bool(told) and all(told)


def _masked_only(got: Tensor, want: Tensor, mask: Tensor) -> bool | None:
    if mask.all():
        return None if same(got, want) else False
    return same(got[mask], want[mask])


def _reordered(got: Tensor, want: Tensor, mask: Tensor) -> bool | None:
    if want.dtype == torch.bool or want.numel() < 2 or not _finite(got):
        return False
    return same(got.flatten().sort().values, want.flatten().sort().values)


def _rescaled(got: Tensor, want: Tensor, mask: Tensor) -> bool | None:
    """Is the one an affine function of the other where the mask is 1, and equal elsewhere?"""
    if same(got, want):
        return None
    if not _finite(got) or not same(got[~mask], want[~mask]):
        return False
    x, y = want[mask].double(), got[mask].double()
    if len(x) < 4:
        return None
    basis = torch.stack([x, torch.ones_like(x)], dim=1)
    slope, shift = torch.linalg.lstsq(basis, y).solution.tolist()
    return torch.allclose(slope * x + shift, y, atol=1e-4) and abs(slope) > 1e-2


def _flat(trial: Trial) -> tuple[Tensor, Tensor] | None:
    """The learner's numbers of all cases and the expected ones; None where the forms differ."""
    pairs = [(result.value, want) for result, want in zip(trial.calls, trial.wants, strict=False)]
    if any(isinstance(want, tuple | list) or misfit(got, want) for got, want in pairs):
        return None
    got, want = (
        torch.cat([torch.as_tensor(pair[i], dtype=torch.float64).flatten() for pair in pairs])
        for i in (0, 1)
    )
    return got, want


def _rounded(trial: Trial) -> int | None:
    """The decimals to which the learner's values are rounded, up, down or to the nearest."""
    numbers = _flat(trial)
    if numbers is None:
        return None
    got, want = numbers
    for decimals in range(5):
        scale = 10.0**decimals
        for rounding in (torch.round, torch.floor, torch.ceil):
            if torch.allclose(got * scale, rounding(want * scale), rtol=0, atol=1e-3):
                return decimals
    return None


def _ratio(trial: Trial) -> float | None:
    """The factor between the learner's values and the expected ones, if it is always the same."""
    numbers = _flat(trial)
    if numbers is None:
        return None
    got, want = numbers
    ratio = ((got * want).sum() / (want * want).sum()).item()
    if not abs(ratio) > 1e-3 or not torch.allclose(got, ratio * want, rtol=1e-4, atol=1e-5):
        return None
    return round(ratio, 4)
