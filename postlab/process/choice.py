"""Choosing among n replies, and finding the first wrong step: estimators without bias.

From N replies a prompt, what would the best of n < N be worth? Drawing one subset of n is noisy and
taking the first n is no better. `best_of_n` averages over *all* subsets, in closed form, as pass@k
does for an oracle; `vote_of_n` over many subsets drawn by chance, since votes have no such form.

Left out: intervals. The prompt is the independent unit: hand the values, one a prompt, to
`stats.bootstrap_interval` or `stats.paired_difference`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln


def best_of_n(scores: ArrayLike, right: ArrayLike, n: int) -> NDArray[np.float64]:
    """Expected accuracy of the reply with the highest score among n, over all subsets of n of N.

    With replies sorted by score, the one at rank r (0 is the best) is chosen in C(N-1-r, n-1) of
    the C(N, n) subsets. Replies of equal score share what their ranks would get.

    Args:
        scores: (P, N) of P prompts with N replies each; higher is better.
        right: (P, N) 0 or 1, or any worth.
        n: replies to choose from, 1 to N.
    Returns:
        (P,) one a prompt. For n = 1 the mean, for n = N the worth of the best.
    Raises:
        ValueError: if shapes differ, n is out of range, or a score is NaN.
    Source: as pass@k, Chen et al. 2021, arXiv 2107.03374, eq. 1. Taught in week 10.

    >>> best_of_n([[0.9, 0.5, 0.1]], [[0, 1, 1]], 2)  # of 3 pairs, 1 has no 0.9 in it
    array([0.33333333])
    >>> best_of_n([[0.5, 0.5, 0.1]], [[1, 0, 0]], 3)  # a tie: half of it
    array([0.5])
    """
    score_rows, right_rows = np.asarray(scores, dtype=float), np.asarray(right, dtype=float)
    _check_choice(score_rows, right_rows, n)
    size = score_rows.shape[1]
    # 1. The weight of rank r: C(N-1-r, n-1) / C(N, n), the share of subsets that it wins.
    ranks = np.arange(size)
    possible = ranks <= size - n
    left = np.where(possible, size - 1 - ranks, n - 1)
    weights = np.where(possible, np.exp(_log_choose(left, n - 1) - _log_choose(size, n)), 0.0)
    expected = np.empty(len(score_rows))
    for i, (row, good) in enumerate(zip(score_rows, right_rows, strict=True)):
        # 2. Rank the replies by score, the best first.
        order = np.argsort(-row, kind="stable")
        ranked = row[order]  # compared, not subtracted: -inf less -inf is NaN
        # 3. Equal scores share the weights of their ranks: the mean worth times the weights' sum.
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        counts = np.diff(np.r_[starts, size])
        means = np.add.reduceat(good[order], starts) / counts
        expected[i] = means @ np.add.reduceat(weights, starts)
    return expected


def vote_of_n(
    answers: Sequence[Sequence[Hashable]],
    right: ArrayLike,
    n: int,
    *,
    weights: ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Expected accuracy of the commonest answer among n, over subsets of n of N drawn by chance.

    A reply without an answer (None) has no vote. Between answers with equal votes chance decides,
    so each counts for its share; where nobody votes the prompt is not solved.

    Args:
        answers: (P, N) what each reply answers.
        right: (P, N) 0 or 1: whether the reply's answer is right, the same for equal answers.
        n: replies to choose from, 1 to N.
        weights: (P, N) of each vote, such as a reward model's score; None counts heads.
        draws: subsets a prompt; of n = N there is one.
        seed: of the draws.
    Returns:
        (P,) one a prompt.
    Raises:
        ValueError: if shapes differ, n is out of range, draws is below 1, a weight negative, or
            one answer of a prompt both right and wrong.
    Source: Wang et al. 2022, arXiv 2203.11171 (self-consistency). Taught in week 10.

    >>> vote_of_n([["42", "42", "57"]], [[0, 0, 1]], 3)
    array([0.])
    >>> vote_of_n([["42", "42", "57"]], [[0, 0, 1]], 3, weights=[[0.1, 0.1, 0.9]])
    array([1.])
    """
    worths = np.asarray(right, dtype=float)
    votes = np.ones_like(worths) if weights is None else np.asarray(weights, dtype=float)
    _check_choice(votes, worths, n)
    if [*map(len, answers)] != [worths.shape[1]] * len(worths):
        raise ValueError(f"answers do not have the shape of right, {worths.shape}")
    if draws < 1 or (votes < 0).any():
        raise ValueError(f"{draws=}; expected at least 1, and weights of at least 0")
    rng, size = np.random.default_rng(seed), worths.shape[1]
    expected = np.empty(len(worths))
    for i, row in enumerate(answers):
        # 1. The ballot: one row per reply, one column per different answer.
        names = {name: j for j, name in enumerate(dict.fromkeys(x for x in row if x is not None))}
        if not names:
            expected[i] = 0.0
            continue
        box = np.zeros((size, len(names)))  # (N, answers): each reply's vote
        worth = np.full(len(names), np.nan)
        for j, name in enumerate(row):
            if name is not None:
                at = names[name]
                box[j, at] = votes[i, j]
                if not np.isnan(worth[at]) and worth[at] != worths[i, j]:
                    raise ValueError(
                        f"prompt {i}: answer {name!r} is right in one reply and not in another "
                        f"({worth[at]:g} and {worths[i, j]:g}); score the answer that is voted by"
                    )
                worth[at] = worths[i, j]
        # 2. (draws, N): which replies vote in each subset.
        subsets = np.ones((1, size)) if n == size else np.zeros((draws, size))
        if n < size:
            chosen = rng.random((draws, size)).argpartition(n - 1, axis=1)[:, :n]
            np.put_along_axis(subsets, chosen, 1.0, axis=1)
        # 3. The answer with the most votes wins; a tie is split evenly.
        counts = subsets @ box
        top = counts.max(axis=1, keepdims=True)
        best = np.isclose(counts, top) & (counts > 0)
        expected[i] = ((best @ worth) / np.maximum(best.sum(axis=1), 1)).mean()
    return expected


def first_wrong(labels: Sequence[float | None], *, threshold: float = 0.5) -> int:
    """The place of the first step below the threshold, -1 if there is none.

    Args:
        labels: of the steps: 0 or 1, or chances; None, nobody knows, is passed over.
        threshold: below it a step counts as wrong.
    Raises:
        ValueError: if a chance is NaN: it is below no threshold, and would pass as right.

    >>> first_wrong([1, 1, 0, 0]), first_wrong([0.9, 0.8]), first_wrong([0.9, 0.4, 0.8])
    (2, -1, 1)
    """
    known = [(i, x) for i, x in enumerate(labels) if x is not None]
    if nan := [i for i, x in known if x != x]:
        raise ValueError(
            f"step {nan[0]} of {len(labels)} has the chance NaN; expected a number, or None for "
            "unknown: load the head in float32 or bfloat16"
        )
    return next((i for i, x in known if x < threshold), -1)


def error_f1(predicted: Sequence[int], truth: Sequence[int]) -> dict[str, float]:
    """ProcessBench's measure: is the first wrong step named, and is a right solution let pass?

    Args:
        predicted: the place of the first wrong step, -1 for none.
        truth: as it is.
    Returns:
        `wrong`, the share of wrong solutions whose first wrong step is named exactly; `right`, of
        right solutions those called right; `f1`, their harmonic mean.
    Raises:
        ValueError: if lengths differ, a place is NaN, or wrong or right solutions are missing.
    Source: Zheng et al. 2024 (ProcessBench), arXiv 2412.06559, section 3. Taught in week 10.

    >>> error_f1([0, 2, -1, -1], [0, 1, -1, -1])
    {'wrong': 0.5, 'right': 1.0, 'f1': 0.6666666666666666}
    """
    guess, place = np.asarray(predicted), np.asarray(truth)
    if guess.shape != place.shape or place.ndim != 1:
        raise ValueError(
            f"predicted has shape {guess.shape}, truth {place.shape}; expected (n,) twice"
        )
    for name, places in (("predicted", guess), ("truth", place)):
        if np.isnan(places.astype(float)).any():
            raise ValueError(f"{name} holds NaN; expected the place of a step, or -1 for none")
    # 1. Separate wrong from right solutions.
    bad = place != -1
    if not bad.any() or bad.all():
        raise ValueError(
            f"{bad.sum()} of {len(place)} solutions are wrong; both kinds are needed, or one of "
            "the two accuracies does not exist"
        )
    # 2. The accuracy on each kind: the position must be exact, with -1 for no wrong step.
    wrong, right = (float((guess == place)[kind].mean()) for kind in (bad, ~bad))
    # 3. The harmonic mean of the two: calling everything right, or everything wrong, scores 0.
    f1 = 2 * wrong * right / (wrong + right) if wrong + right else 0.0
    return {"wrong": wrong, "right": right, "f1": f1}


def _log_choose(n: ArrayLike, k: int) -> NDArray[np.float64]:
    n = np.asarray(n, dtype=float)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _check_choice(scores: NDArray, right: NDArray, n: int) -> None:
    if scores.shape != right.shape or scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"scores have shape {scores.shape}, right {right.shape}; expected (prompts, replies)"
        )
    if not 1 <= n <= scores.shape[1]:
        raise ValueError(f"n is {n}; expected 1 to {scores.shape[1]}, the replies a prompt")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN; score every reply, or give blank ones the lowest score")
