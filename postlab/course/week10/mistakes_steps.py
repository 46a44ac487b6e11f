"""What goes wrong with steps: labels beside the step's end, choice with bias, another F1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake


def _placed(
    where: Callable[[Tensor, Tensor, Tensor], Tensor], fill: int = -100
) -> Callable[..., Tensor]:
    """Labels where `where(steps, before, behind)` says, `fill` elsewhere."""

    def step_labels(steps: Tensor, right: Tensor) -> Tensor:
        edge = torch.full_like(steps[:, :1], -1)
        before = torch.cat([edge, steps[:, :-1]], dim=1)
        behind = torch.cat([steps[:, 1:], edge], dim=1)
        labels = right.gather(1, steps.clamp(min=0))
        return torch.where(where(steps, before, behind), labels, torch.full_like(labels, fill))

    return step_labels


def _shifted(by: int) -> Callable[..., Tensor]:
    """The right labels, each moved by some tokens."""

    def step_labels(steps: Tensor, right: Tensor) -> Tensor:
        placed = _placed(lambda s, before, behind: (s >= 0) & (behind != s))(steps, right)
        moved = torch.full_like(placed, -100)
        if by > 0:
            moved[:, by:] = placed[:, :-by]
        else:
            moved[:, :by] = placed[:, -by:]
        return moved

    return step_labels


def _last_step_to_the_end(steps: Tensor, right: Tensor) -> Tensor:
    """Padding taken for a part of the last step: its label stands at the row's end."""
    filled = steps.clone()
    for row in filled:
        row[int((row >= 0).nonzero()[-1]) :] = row.max()
    return _placed(lambda s, before, behind: (s >= 0) & (behind != s))(filled, right)


def _unended(steps: Tensor, right: Tensor) -> Tensor:
    """A step that ends with the row is not seen to end."""
    ends = (steps[:, :-1] >= 0) & (steps[:, 1:] != steps[:, :-1])
    last = torch.cat([ends, torch.zeros_like(ends[:, :1])], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where(last, labels, torch.full_like(labels, -100))


def _first_wrong_only(steps: Tensor, right: Tensor) -> Tensor:
    """What follows a wrong step is left out."""
    kept = torch.cat([torch.ones_like(right[:, :1]), right[:, :-1]], dim=1).cumprod(dim=1)
    return _placed(lambda s, before, behind: (s >= 0) & (behind != s))(
        steps, torch.where(kept > 0, right, torch.full_like(right, -100))
    )


def _chosen(
    weight: Callable[[int, int, int], float], descending: bool = True
) -> Callable[..., Tensor]:
    """The worth of replies in order of score, weighted by `weight(rank, size, n)`."""

    def best_of(scores: Tensor, right: Tensor, n: int) -> Tensor:
        size = scores.shape[1]
        weights = torch.tensor([weight(r, size, n) for r in range(size)], dtype=right.dtype)
        return right.gather(1, scores.argsort(dim=1, descending=descending)) @ weights

    return best_of


def _exact(rank: int, size: int, n: int) -> float:
    return math.comb(size - 1 - rank, n - 1) / math.comb(size, n)


def _clamped(low: int, high: int) -> Callable[..., Tensor]:
    """Right for n from low to high; another n is taken for the nearer of them."""

    def best_of(scores: Tensor, right: Tensor, n: int) -> Tensor:
        taken = min(max(n, low), high, scores.shape[1])
        return _chosen(_exact)(scores, right, taken)

    return best_of


def _first_n(scores: Tensor, right: Tensor, n: int) -> Tensor:
    best = scores[:, :n].argmax(dim=1, keepdim=True)
    return right.gather(1, best)[:, 0]


def _pass_at(scores: Tensor, right: Tensor, n: int) -> Tensor:
    size = scores.shape[1]
    return torch.stack(
        [
            torch.tensor(1 - math.comb(size - int(c), n) / math.comb(size, n), dtype=right.dtype)
            for c in right.sum(dim=1).tolist()
        ]
    )


def _f1(of: Callable[[Tensor, Tensor], Any]) -> Callable[..., Tensor]:
    def process_f1(found: Tensor, truth: Tensor) -> Tensor:
        return torch.as_tensor(of(found, truth), dtype=torch.float32)

    return process_f1


def _two(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    hit, good = (found == truth).float(), truth == -1
    return hit[~good].mean(), hit[good].mean()


def _harmonic(a: Tensor, b: Tensor) -> Tensor:
    return 2 * a * b / (a + b).clamp(min=1e-8)


def _detection(found: Tensor, truth: Tensor) -> Tensor:
    """The F1 of 'there is a mistake', wherever it is."""
    both = ((found >= 0) & (truth >= 0)).float().sum()
    return 2 * both / ((found >= 0).float().sum() + (truth >= 0).float().sum())


def _anywhere(found: Tensor, truth: Tensor) -> Tensor:
    good = truth == -1
    return _harmonic((found[~good] >= 0).float().mean(), (found[good] == -1).float().mean())


def _near(found: Tensor, truth: Tensor) -> Tensor:
    good = truth == -1
    near = ((found - truth).abs() <= 1) & (found >= 0)
    return _harmonic(near[~good].float().mean(), (found[good] == -1).float().mean())


def _by_prediction(found: Tensor, truth: Tensor) -> Tensor:
    hit, said = (found == truth).float(), found == -1
    return _harmonic(hit[~said].mean(), hit[said].mean())


STEP_LABELS = (
    Mistake(
        "first_token",
        "your labels stand on the first token of a step, which the model has not read yet",
        _placed(lambda s, before, behind: (s >= 0) & (before != s)),
    ),
    Mistake(
        "every_token",
        "your labels stand on every token of a step: that teaches the model to judge a step before "
        "it is written, and counts long steps more often",
        _placed(lambda s, before, behind: s >= 0),
    ),
    Mistake(
        "one_too_late",
        "your labels stand one token behind the step's end, in the next step",
        _shifted(1),
    ),
    Mistake(
        "one_too_early",
        "your labels stand one token before the step's end",
        _shifted(-1),
    ),
    Mistake(
        "into_the_padding",
        "you take padding for a part of the last step: its label stands behind its end",
        _last_step_to_the_end,
    ),
    Mistake(
        "prompt_labelled",
        "the prompt or the padding has labels: -1 is no step, and as an index it is the last one",
        _placed(lambda s, before, behind: behind != s),
        _placed(lambda s, before, behind: (s >= 0) & (behind != s) | (s < 0)),
        _placed(lambda s, before, behind: (s >= 0) & (behind != s) | (s < 0) & (behind >= 0)),
    ),
    Mistake(
        "zeros_elsewhere",
        "you fill with 0, which is the class 'wrong': tokens without a label have -100",
        _placed(lambda s, before, behind: (s >= 0) & (behind != s), fill=0),
    ),
    Mistake(
        "minus_one_elsewhere",
        "you fill with -1, which cross-entropy takes for a class: tokens without a label have -100",
        _placed(lambda s, before, behind: (s >= 0) & (behind != s), fill=-1),
    ),
    Mistake(
        "last_step_only",
        "only the last step has a label: that is the outcome reward model's row",
        _placed(lambda s, before, behind: (s >= 0) & (behind == -1)),
    ),
    Mistake(
        "end_of_row",
        "a step that ends with the row gets no label: nothing stands behind its last token",
        _unended,
    ),
    Mistake(
        "stops_at_wrong",
        "you leave out what follows a wrong step: here every step has its label",
        _first_wrong_only,
    ),
)
BEST_OF = (
    Mistake(
        "first_n",
        "you choose among the first n replies: right on average, but one subset of many, and noisy",
        _first_n,
    ),
    Mistake(
        "all_replies",
        "you choose among all N replies, whatever n is",
        _chosen(lambda r, size, n: float(r == 0)),
    ),
    Mistake(
        "with_replacement",
        "you draw with replacement: a reply may then meet itself, and n = N is not the best of all",
        _chosen(lambda r, size, n: ((size - r) ** n - (size - r - 1) ** n) / size**n),
    ),
    Mistake(
        "worst_of_n",
        "you sort the wrong way round: that is the worst of n",
        _chosen(_exact, descending=False),
    ),
    Mistake(
        "oracle",
        "you look for any right reply, which is pass@n: the scores have no say",
        _pass_at,
    ),
    Mistake(
        "mean_of_all",
        "you take the mean over replies, which is n = 1",
        _chosen(lambda r, size, n: 1 / size),
    ),
    Mistake(
        "mean_of_top",
        "you take the mean of the n best: all but the best one are thrown away",
        _chosen(lambda r, size, n: float(r < n) / n),
    ),
    Mistake(
        "rank_off_by_one",
        "the rank is off by one: the best reply wins in C(N - 1, n - 1) subsets, the next in "
        "C(N - 2, n - 1)",
        _chosen(lambda r, size, n: math.comb(size - r, n - 1) / math.comb(size, n)),
        _chosen(lambda r, size, n: math.comb(max(size - 2 - r, 0), n - 1) / math.comb(size, n)),
    ),
    Mistake(
        "n_not_less_one",
        "you fill n places beside the winner: the winner is one of the n, so n - 1 are left",
        _chosen(lambda r, size, n: math.comb(size - 1 - r, n) / math.comb(size, n)),
    ),
    Mistake(
        "not_divided",
        "you do not divide by the number of subsets, C(N, n)",
        _chosen(lambda r, size, n: float(math.comb(size - 1 - r, n - 1))),
    ),
    Mistake(
        "n_clamped",
        "n does not go in as it comes: it may be 1, which is the mean, and any number up to N",
        _clamped(2, 64),
        _clamped(2, 3),
        _clamped(1, 3),
    ),
    Mistake(
        "unsorted",
        "the replies are not sorted by score: the weights go by rank",
        lambda scores, right, n: (
            right
            @ torch.tensor(
                [_exact(r, right.shape[1], n) for r in range(right.shape[1])], dtype=right.dtype
            )
        ),
    ),
)
PROCESS_F1 = (
    Mistake(
        "accuracy",
        "you take the accuracy over all solutions: whoever calls everything right then looks good "
        "where most are",
        _f1(lambda found, truth: (found == truth).float().mean()),
    ),
    Mistake(
        "arithmetic_mean",
        "you take the arithmetic mean of the two accuracies: 0 and 1 would make a half. The "
        "harmonic mean makes nought of it",
        _f1(lambda found, truth: sum(_two(found, truth)) / 2),
    ),
    Mistake(
        "geometric_mean",
        "you take the geometric mean: the harmonic one is 2ab / (a + b)",
        _f1(lambda found, truth: (_two(found, truth)[0] * _two(found, truth)[1]).sqrt()),
    ),
    Mistake(
        "no_two",
        "the factor 2 of 2ab / (a + b) is missing",
        _f1(lambda found, truth: _harmonic(*_two(found, truth)) / 2),
    ),
    Mistake(
        "detection",
        "you count whether *a* mistake was seen, not which step was named",
        _f1(_detection),
    ),
    Mistake(
        "place_ignored",
        "any step named in a wrong solution is a hit for you: it has to be the first wrong one",
        _f1(_anywhere),
    ),
    Mistake(
        "near_miss",
        "you let the neighbouring step pass: only the very step counts",
        _f1(_near),
    ),
    Mistake(
        "by_prediction",
        "you divide by what was predicted wrong or right: the two groups go by the truth",
        _f1(_by_prediction),
    ),
    Mistake(
        "wrong_only",
        "you leave the right solutions out: whoever calls a step wrong in every solution is not "
        "punished",
        _f1(lambda found, truth: _two(found, truth)[0]),
    ),
    Mistake(
        "right_only",
        "you look at the right solutions alone",
        _f1(lambda found, truth: _two(found, truth)[1]),
    ),
)
