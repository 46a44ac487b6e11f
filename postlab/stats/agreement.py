"""Many tests at once, and two raters on the same items.

`holm` and `benjamini_hochberg` adjust a family of p-values; `cohen_kappa` says how far two judges
agree beyond chance. Left out: weighted kappa, more than two raters, and a family whose tests were
chosen after looking (no adjustment repairs that).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from postlab.stats.basics import Interval, numbers, wilson_ends


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values: below 0.05 keeps the chance of *any* false finding at most 5%.

    Args:
        p: (m,) one a metric, all that were looked at, the dull ones too.
    Returns:
        (m,) in the order given, at most 1; never below p.
    Raises:
        ValueError: if p is empty or a value is not between 0 and 1.
    Source: Holm 1979. Taught in week 6.

    >>> holm([0.01, 0.04, 0.03]).tolist()  # 3 x 0.01, 2 x 0.03, and 0.04 must not be below that
    [0.03, 0.06, 0.06]
    """
    values = _p_values(p)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values: of the findings below 0.05, about 5% are expected to be false.

    Milder than `holm`: for looking round, where one false lead among many is bearable. It holds
    for independent tests and for positively dependent ones.

    Args:
        p: (m,) one a metric, all that were looked at.
    Returns:
        (m,) in the order given, between p and `holm`'s.
    Raises:
        ValueError: if p is empty or a value is not between 0 and 1.
    Source: Benjamini and Hochberg 1995; scipy's `false_discovery_control`. Taught in week 6.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).tolist()  # 0.01 x 3/1; 0.03 x 3/2 > 0.04 x 3/3
    [0.03, 0.04, 0.04]
    """
    return scipy_stats.false_discovery_control(_p_values(p), method="bh")


def cohen_kappa(a: Sequence[Any], b: Sequence[Any]) -> Interval:
    """Agreement of two raters beyond chance, for a judge against an oracle.

    1 is full agreement, 0 what two raters with these habits reach without looking. The interval is
    Wilson's for the share agreed on, with the number of items that gives the standard error of
    Fleiss, Cohen and Everitt: it stays in range, and full agreement keeps a width. It counts each
    label as independent: of a pair judged in both orders give one order only.

    Args:
        a: (n,) labels of one rater, such as "a", "b", "tie".
        b: (n,) labels of the other, same items in the same order.
    Returns:
        Interval, at most 1; all NaN where both raters used one label only (no chance to disagree).
    Raises:
        ValueError: if lengths differ or there is no item.
    Source: Cohen 1960; Fleiss, Cohen and Everitt 1969, eq. 8. Taught in week 6.

    >>> cohen_kappa("aabb", "aaba").value  # agreed 3/4, by chance (2*3 + 2*1)/16 = 1/2
    0.5
    """
    left, right = list(a), list(b)
    if len(left) != len(right):
        raise ValueError(
            f"a has {len(left)} labels and b has {len(right)}; kappa needs the same items"
        )
    if not left:
        raise ValueError("a and b are empty; kappa needs at least one item rated by both")
    labels = {label: index for index, label in enumerate(dict.fromkeys(left + right))}
    n, table = len(left), np.zeros((len(labels), len(labels)))
    for one, other in zip(left, right, strict=True):
        table[labels[one], labels[other]] += 1
    table /= n
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    agreed = sum(one == other for one, other in zip(left, right, strict=True)) / n
    chance = float(rows @ columns)
    if math.isclose(chance, 1.0):
        return Interval(math.nan, math.nan, math.nan, n)
    kappa = (agreed - chance) / (1 - chance)
    effective = max(1.0, _effective(table, kappa, agreed, chance) * n)
    ends = wilson_ends(min(agreed * effective, effective), effective)
    low, high = (float((end - chance) / (1 - chance)) for end in ends)
    return Interval(kappa, low, high, n)


def _effective(table: NDArray[np.float64], kappa: float, agreed: float, chance: float) -> float:
    """Items' worth of information an item has: the plain variance of `agreed` over kappa's own."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    both = columns[:, None] + rows[None, :]  # how often i is b's label plus how often j is a's
    on = np.diag(table) @ (1 - np.diag(both) * (1 - kappa)) ** 2
    off = (1 - kappa) ** 2 * ((table * both**2).sum() - np.diag(table) @ np.diag(both) ** 2)
    variance = on + off - (kappa - chance * (1 - kappa)) ** 2
    plain = agreed * (1 - agreed)
    return plain / variance if plain > 1e-12 and variance > 1e-12 else 1.0


def _p_values(p: ArrayLike) -> NDArray[np.float64]:
    values = numbers("p", p)
    if values.min() < 0 or values.max() > 1:
        odd = values[(values < 0) | (values > 1)][0]
        raise ValueError(f"p holds {odd:g}; a p-value is between 0 and 1")
    return values
