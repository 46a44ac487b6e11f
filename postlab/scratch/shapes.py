"""What the losses ask of their arguments, as errors that say what was got and what to do."""

from __future__ import annotations

from torch import Tensor


def check_same(*, dims: int | None = None, **tensors: Tensor) -> None:
    """Raise a ValueError unless all have one shape, of `dims` dimensions: none is broadcast."""
    shapes = {name: tuple(x.shape) for name, x in tensors.items()}
    if len(set(shapes.values())) == 1 and dims in (None, len(next(iter(shapes.values())))):
        return
    got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    expected = {None: "one shape", 1: "one shape (B,)", 2: "one shape (B, T)"}[dims]
    raise ValueError(f"{got}; expected {expected} for all of them")


def check_mask(x: Tensor, mask: Tensor, *, dim: int | None = None, needed: bool = False) -> None:
    """Raise a ValueError unless mask is 0 and 1 in x's shape; `needed`: and selects something."""
    if x.shape != mask.shape:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, the tensor it masks {tuple(x.shape)}; expected"
            " one shape: use mask.expand_as(x) if that is meant"
        )
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask holds other values than 0 and 1; multiply weights into the tensor")
    if needed and not (mask.sum(dim) > 0).all():
        where = "" if dim is None else " in some row"
        raise ValueError(f"mask selects no token{where}, so there is no mean; leave that part out")


def check_range(
    name: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Raise a ValueError unless value is at least low, at most high, above `above`, below `below`.

    >>> check_range("beta", -0.1, above=0)
    Traceback (most recent call last):
    ValueError: beta is -0.1; expected above 0
    """
    inside = (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )
    if not inside:
        bounds = {"at least": low, "above": above, "at most": high, "below": below}
        expected = " and ".join(
            f"{word} {bound}" for word, bound in bounds.items() if bound is not None
        )
        raise ValueError(f"{name} is {value}; expected {expected}")


def choose(name: str, value: str, known: tuple[str, ...]) -> str:
    """Return value, or raise a ValueError if it is not known.

    >>> choose("kind", "k4", ("k1", "k2"))
    Traceback (most recent call last):
    ValueError: kind is 'k4'; expected one of k1, k2
    """
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")
    return value
