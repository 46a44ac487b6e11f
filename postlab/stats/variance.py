"""Where the noise of a comparison comes from: the runs, the prompts, or the two together.

Several training runs answer the same prompts, so every run has a score on every prompt. This is the
two-way analysis of variance with both factors random and one score per cell. The score of run s on
prompt i is mu + a_s + b_i + c_si: `a` belongs to the run, `b` to the prompt, and `c` is what only
this run does on this prompt (sampling noise included: with one score per cell they can't be told
apart). Left out: several scores per cell, prompts that not every run answered, and runs that share
a parent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats


@dataclass(frozen=True)
class VarianceSplit:
    """Variance components of scores in a table of runs and prompts, in squared units of the scores.

    The components are unbiased, so one whose true value is 0 is often estimated below 0: for few
    runs, more often than not. Read a negative estimate as 0.

    Args:
        mean: over all runs and prompts.
        runs: variance of `a`, what a run adds on all prompts.
        prompts: variance of `b`, what a prompt adds in all runs.
        interaction: variance of `c`, the rest.
        runs_low: lower end of the interval for `runs`; below 0 if the data are compatible with 0.
        runs_high: its upper end.
        p: of the hypothesis that the runs don't differ.
        n_runs: number of runs.
        n_prompts: number of prompts.
    """

    mean: float
    runs: float
    prompts: float
    interaction: float
    runs_low: float
    runs_high: float
    p: float
    n_runs: int
    n_prompts: int


def variance_split(scores: ArrayLike, *, confidence: float = 0.95) -> VarianceSplit:
    """Split the variance of scores into runs, prompts and their interaction.

    With R runs and N prompts, the mean of one run varies between runs with variance
    `runs + interaction / N`: the second part is there even if no run is better than another.

    The interval and p take the mean of a run's scores to be normal, which needs some dozens of
    prompts that change. They are those of the F test; the rest has so many degrees of freedom that
    its variance counts as known.

    Args:
        scores: (R, N) one score per run and prompt, for example the change against the parent.
        confidence: coverage aimed at, between 0 and 1.
    Returns:
        VarianceSplit.
    Raises:
        ValueError: if scores are not a table of at least two runs and two prompts, or hold NaN.
    Source: Searle, Casella, McCulloch 1992, Variance Components, chapter 4. Taught in week 6.

    >>> split = variance_split([[0, 1, 1, 0], [1, 1, 2, 0]])  # mean squares 1/2, 5/6 and 1/6
    >>> round(split.runs, 4), round(split.prompts, 4), round(split.interaction, 4)
    (0.0833, 0.3333, 0.1667)
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 2 or min(x.shape) < 2:
        raise ValueError(
            f"scores have the shape {x.shape}; expected a table with a row per run and a column "
            "per prompt, at least two of each"
        )
    if not np.isfinite(x).all():
        raise ValueError("scores hold NaN or infinity; keep the prompts that every run answered")
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence={confidence}; expected a share between 0 and 1")
    runs, prompts = x.shape
    mean, of_run, of_prompt = x.mean(), x.mean(axis=1), x.mean(axis=0)
    # 1. Mean squares: between runs, between prompts, and what neither explains.
    between_runs = prompts * of_run.var(ddof=1)
    between_prompts = runs * of_prompt.var(ddof=1)
    rest = x - of_run[:, None] - of_prompt[None, :] + mean
    freedom = (runs - 1) * (prompts - 1)
    interaction = float((rest**2).sum() / freedom)
    # 2. Their expectations are N a + c, R b + c and c: solve for a and b.
    a = (between_runs - interaction) / prompts
    b = (between_prompts - interaction) / runs
    # 3. (R - 1) between_runs / (N a + c) has a chi-squared distribution.
    total = (runs - 1) * between_runs
    tails = (0.5 + confidence / 2, 0.5 - confidence / 2)
    ends = [total / scipy_stats.chi2.ppf(tail, runs - 1) for tail in tails]
    low, high = ((end - interaction) / prompts for end in ends)
    if interaction > 0:
        p = float(scipy_stats.f.sf(between_runs / interaction, runs - 1, freedom))
    else:
        p = 0.0 if between_runs > 0 else 1.0
    return VarianceSplit(
        float(mean), float(a), float(b), interaction, float(low), float(high), p, runs, prompts
    )
