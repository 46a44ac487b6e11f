"""Values in a learner's message: compared, and shown in a few characters that never differ.

Numbers are shown to four digits, or as many as it takes to tell two apart, long tensors by their
beginning, and text that came from the learner's code (an exception's, a printed line) without
control characters or addresses.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

ROWS, COLUMNS, IDS = 4, 6, 40
MOST = sys.float_info.max  # a whole number may be larger
RTOL, ATOL = 1e-4, 2e-5  # of float32, and another order of sums


def same(one: Any, two: Any) -> bool:
    """Equal in form and, within RTOL and ATOL, in value.

    >>> same(torch.tensor([1.0]), torch.tensor([1.00001])), same(torch.ones(1), torch.ones(1, 1))
    (True, False)
    """
    if misfit(one, two):
        return False
    if isinstance(two, tuple):
        return all(map(same, one, two))
    if isinstance(two, Tensor):
        return not len(differing(one, two))
    return one == two if isinstance(two, list) else math.isclose(one, two, rel_tol=1e-6)


def misfit(got: Any, want: Any, *, names: Sequence[str] = ()) -> tuple[str, str] | None:
    """A code and a sentence if a value has another form than the wanted one: type, shape, dtype.

    Args:
        names: of the values of a tuple, or none.

    >>> misfit(torch.ones(2, 1), torch.ones(2))[0], misfit(torch.ones(2), torch.zeros(2))
    ('wrong_shape', None)
    """
    if got is None:
        return "returns_none", "Your function returns nothing (None): is a `return` missing?"
    if isinstance(want, tuple):
        return _tuple_misfit(got, want, names)
    return _one_misfit(got, want, "what you return")


def _tuple_misfit(got: Any, want: tuple, names: Sequence[str]) -> tuple[str, str] | None:
    expectation = f"expected {len(want)} values: return {', '.join(names)}"
    if not isinstance(got, tuple | list):
        return "wrong_count", sentence(f"what you return is {article(got)}; {expectation}")
    if len(got) != len(want):
        return "wrong_count", sentence(f"you return {len(got)} values; {expectation}")
    labels = [f"`{name}`" for name in names] or [f"value {i}" for i in range(len(want))]
    misfits = (_one_misfit(*three) for three in zip(got, want, labels, strict=True))
    return next(filter(None, misfits), None)


def _one_misfit(got: Any, want: Any, it: str) -> tuple[str, str] | None:
    if isinstance(want, Tensor) and isinstance(got, Tensor):
        return _tensor_misfit(got, want, it)
    if isinstance(want, list) and isinstance(got, list):
        return _list_misfit(got, want, it)
    if isinstance(want, Real) and isinstance(got, Real) and not isinstance(got, bool):
        if _too_large(got):
            return "too_large", sentence(f"{it} is too large to be a float")
        return None
    message = f"{it} is {article(got)}; expected {article(want)}{_hint(got, want)}"
    return "wrong_type", sentence(message)


def _too_large(value: Any) -> bool:
    """Whether a finite number lies beyond the range of floats, as a whole number may."""
    return not -MOST < value < MOST and value == value and abs(value) != math.inf


def _list_misfit(got: list, want: list, it: str) -> tuple[str, str] | None:
    odd = [x for x in got if not isinstance(x, Integral) or isinstance(x, bool)]
    if odd:
        return "wrong_type", sentence(f"{it} holds {article(odd[0])}; expected 0s and 1s (int)")
    if len(got) != len(want):
        message = f"{it} has {len(got)} entries, expected {len(want)}: one for each of input_ids"
        return "wrong_shape", sentence(message)
    return None


def _tensor_misfit(got: Tensor, want: Tensor, it: str) -> tuple[str, str] | None:
    if got.shape != want.shape:
        message = f"{it} has shape {shape(got)}, expected {shape(want)}"
        if not got.dim():
            message += ": one number is too few, leave out the mean, the sum or squeeze()"
        elif got.shape[:-1] == want.shape and got.shape[-1] == 1:
            message += ": an axis of size 1 is left over, squeeze(-1) removes it"
        elif got.dim() == 2 and got.shape == want.shape[::-1]:
            message += ": the axes have changed places"
        elif got.numel() == want.numel():
            message += ": if these are the right values, view or reshape arranges them"
        elif not want.dim():
            message += ": one number is wanted"
        return "wrong_shape", sentence(message)
    if family(got) != family(want):
        message = f"{it} is {dtype(got)}, expected {dtype(want)}"
        if got.dtype == torch.bool:
            message += ": the values themselves are wanted, not a comparison"
        elif want.dtype == torch.bool and not set(got.flatten().tolist()) <= {0, 1}:
            message += ": only a comparison gives True and False, and ~ inverts only bool tensors"
        elif _whole(got) and want.is_floating_point() and bool((want != want.round()).any()):
            message += ": whole numbers lose what stands after the point, so work with floats"
        elif family(got) != "float" or want.dtype == torch.bool:  # a float would lose digits
            message += f": convert it with .to({want.dtype})"
        return "wrong_dtype", sentence(message)
    return None


def _whole(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()


def _hint(got: Any, want: Any) -> str:
    if isinstance(want, list):
        return ": x.tolist() makes a list of it" if hasattr(got, "tolist") else ""
    if isinstance(want, Real) and isinstance(got, bool):
        return f": {type(want).__name__}(x) makes a number of it"
    if isinstance(got, Tensor):
        return ": x.item() makes a number of it"
    if isinstance(got, tuple):
        return ": take .values of it" if hasattr(got, "values") else ": return one value only"
    if isinstance(got, list) and got and isinstance(got[0], Tensor):
        return ": torch.stack makes a tensor of a list of tensors"
    outside = type(got).__module__ == "numpy" or isinstance(got, list | Real)
    if outside and isinstance(want, Tensor) and not want.is_floating_point():
        return ": torch.tensor(x) makes a tensor of it"
    if outside and isinstance(want, Tensor):
        return ": stay with torch to the end, numbers outside of it carry no gradient"
    return ": it is a function that was not called" if callable(got) else ""


def differing(one: Tensor, two: Tensor) -> Tensor:
    """(n, dims) positions at which two tensors of one shape differ."""
    one, two = one.double(), two.double()
    return (~torch.isclose(one, two, rtol=RTOL, atol=ATOL, equal_nan=True)).nonzero()


def family(tensor: Tensor) -> str:
    """Floats of any width are one family; other types are their own."""
    return "float" if tensor.is_floating_point() else dtype(tensor)


def dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def article(value: Any) -> str:
    """What a value is, with its article.

    >>> article(1.5), article(torch.ones(2)), article([0])
    ('a float', 'a tensor', 'a list')
    """
    name = "tensor" if isinstance(value, Tensor) else clean(type(value).__name__, 40)
    return f"{'an' if name.lower().startswith((*'aeio', 'ndarray')) else 'a'} {name}"


def show(value: Any, digits: int = 4) -> str:
    """A value in a few characters, each number to some digits.

    >>> show(torch.tensor([[1.0, 0.25], [-0.0, 2 / 3]])), show((torch.tensor(3), 2.0))
    ('[1, 0.25] [0, 0.6667]', '3 and 2')
    """
    if isinstance(value, tuple):
        return " and ".join(show(item, digits) for item in value)
    if isinstance(value, Tensor):
        if value.dim() > 2:
            return f"a tensor of shape {shape(value)}"
        if value.dim() == 2:
            rows = " ".join(show(row, digits) for row in value[:ROWS])
            return rows + " …" * (len(value) > ROWS)
        if not value.dim():
            return number(value.item(), digits)
        row = ", ".join(number(x, digits) for x in value[:COLUMNS].tolist())
        return f"[{row}{', …' * (len(value) > COLUMNS)}]"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return " ".join(f"[{show(row)}]" for row in value[:ROWS]) + " …" * (len(value) > ROWS)
    if isinstance(value, list):
        return " ".join(f"{number(x):>2}" for x in value[:IDS]) + " …" * (len(value) > IDS)
    return number(value, digits)


def apart(one: Any, two: Any) -> tuple[str, str]:
    """Two values that differ, to as many digits, from four on, as it takes to see it.

    >>> apart(0.86602, 0.86604), apart(1.0, 1)
    (('0.86602', '0.86604'), ('1', '1'))
    """
    pairs = [(show(one, digits), show(two, digits)) for digits in range(4, 9)]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])


def number(value: Any, digits: int = 4) -> str:
    """A number to some digits; what else it is, by its type."""
    if not isinstance(value, Real):
        return "None" if value is None else article(value)
    if isinstance(value, Integral):
        return str(value) if abs(int(value)) < 10**9 else "huge"
    return f"{float(value) + 0.0:.{digits}g}"


def clean(text: str, limit: int) -> str:
    """One line of printable characters, at most `limit` of them, the same on every machine.

    >>> clean("a \\x1b[31m\\nb at 0x7f3a5c2d", 40)
    'a ?[31m b at 0x…'
    """
    line = re.sub(r"\b0x[0-9a-fA-F]{6,16}\b", "0x…", " ".join(text.split()))
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def sentence(text: str) -> str:
    """With a capital, and a full stop at the end unless a mark is there."""
    text = text if text.startswith("`") else text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."
