"""Week 6's build as we wrote it: a paired comparison of two runs.

The notebook continues with it where a learner's own isn't right yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def compare_runs(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
) -> tuple[float, float, float]:
    """The mean change of a prompt's score, with a 95% interval.

    Args:
        before: rows with `id` (of the prompt), `sample` and `score`; None where there is no score.
        after: the rows of the other run, in any order.
    Returns:
        difference, low, high, in the unit of the scores; positive if the scores rose.
    """
    # 1. One number per prompt and run: the mean of its samples, of those that have a score.
    means = []
    for rows in (before, after):
        samples = defaultdict(list)
        for row in rows:
            if row["score"] is not None:
                samples[row["id"]].append(row["score"])
        means.append({prompt: np.mean(scores) for prompt, scores in samples.items()})
    # 2. The change of each prompt that both runs have.
    shared = sorted(means[0].keys() & means[1].keys())
    changes = np.array([means[1][prompt] - means[0][prompt] for prompt in shared])
    # 3. What other prompts might have shown: resample the prompts.
    rng = np.random.default_rng(0)
    resampled = changes[rng.integers(len(changes), size=(2000, len(changes)))].mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(changes.mean()), float(low), float(high)
