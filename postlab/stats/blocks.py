"""Arms of an experiment against one another when every seed trained each of them once.

A seed is a block: it decides prompts, their order and the draws, so some of its luck is shared by
all arms and cancels in their differences. What is left scatters, and a few seeds an arm are too few
to say how much; all arms together are not. This is the randomised block design's analysis of
variance. Left out: arms that scatter differently (an arm that fell apart widens all intervals, so
draw every seed as well), several runs a seed, and the prompts' own spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from postlab.stats.basics import Difference, check_settings, numbers


def blocked_differences(
    scores: Mapping[str, ArrayLike],
    pairs: Sequence[tuple[str, str]],
    *,
    confidence: float = 0.95,
) -> list[Difference]:
    """How far the first arm of each pair lies above the second, over the seeds.

    Args:
        scores: of each arm a number a seed, the seeds in the same order in every arm.
        pairs: (arm, the arm it is compared with).
        confidence: coverage aimed at, between 0 and 1.
    Returns:
        a Difference a pair, in the scores' unit; n is the number of seeds. Nothing is corrected:
        give the p values to `holm`.
    Raises:
        ValueError: if there are fewer than two arms or seeds, or an arm has another number of them.
        KeyError: if a pair names an arm that has no scores.
    Source: Fisher 1935, The Design of Experiments. Taught in week 8.

    >>> rows = blocked_differences({"a": [1.0, 2.0, 6.0], "b": [0.0, 2.0, 4.0]}, [("a", "b")])
    >>> rows[0].difference, round(rows[0].p, 4)  # two arms: the paired t test's p
    (1.0, 0.2254)
    """
    check_settings(confidence, 1)
    table = [numbers(f"scores[{arm!r}]", values) for arm, values in scores.items()]
    seeds = {len(row) for row in table}
    if len(table) < 2 or len(seeds) != 1 or min(seeds) < 2:
        counts = {arm: len(row) for arm, row in zip(scores, table, strict=True)}
        raise ValueError(f"expected two arms or more with the same two seeds or more, got {counts}")
    y = np.stack(table)
    arms, n = y.shape
    means = dict(zip(scores, y.mean(axis=1), strict=True))
    rest = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0, keepdims=True) + y.mean()
    freedom = (arms - 1) * (n - 1)
    error = math.sqrt(float((rest**2).sum()) / freedom * 2 / n)
    half = float(scipy_stats.t.ppf(0.5 + confidence / 2, freedom)) * error
    differences = []
    for arm, base in pairs:
        change = float(means[arm] - means[base])
        ratio = abs(change) / error if error else math.inf * bool(change)
        p = 1.0 if change == 0 else float(2 * scipy_stats.t.sf(ratio, freedom))
        differences.append(Difference(change, change - half, change + half, p, n))
    return differences
