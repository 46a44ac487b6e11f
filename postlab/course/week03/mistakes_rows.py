"""What goes wrong with rows and batches: each mistake as a function that makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Mistake


def _runs(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _of_sets(
    share: Callable[[set, set], float], runs: Callable[[list[str], int], list] = _runs
) -> Callable[..., float]:
    """A similarity of two sets of runs, 0 where it is undefined."""

    def similarity(first: list[str], second: list[str], *, n: int) -> float:
        a, b = set(runs(first, n)), set(runs(second, n))
        try:
            return share(a, b)
        except ZeroDivisionError:
            return 0.0

    return similarity


def _ratio(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def _counted(first: list[str], second: list[str], *, n: int) -> float:
    a, b = Counter(_runs(first, n)), Counter(_runs(second, n))
    return (a & b).total() / (a | b).total() if a or b else 0.0


def _list_lengths(first: list[str], second: list[str], *, n: int) -> float:
    a, b = _runs(first, n), _runs(second, n)
    shared = len(set(a) & set(b))
    return shared / (len(a) + len(b) - shared) if a or b else 0.0


def _letters(words: list[str], n: int) -> list[str]:
    text = " ".join(words)
    return [text[i : i + n] for i in range(len(text) - n + 1)]


JACCARD = (
    Mistake(
        "smaller_set",
        "you divide by the smaller set: a short text inside a long one would count as its copy",
        _of_sets(lambda a, b: len(a & b) / min(len(a), len(b))),
    ),
    Mistake(
        "first_set",
        "you divide by the runs of one text only; take those that are in one or the other",
        _of_sets(lambda a, b: len(a & b) / len(a)),
        _of_sets(lambda a, b: len(a & b) / len(b)),
    ),
    Mistake(
        "larger_set",
        "you divide by the larger set; take the runs that are in one or the other",
        _of_sets(lambda a, b: len(a & b) / max(len(a), len(b))),
    ),
    Mistake(
        "sum_of_sets",
        "you divide by the sum of both counts, in which shared runs are twice",
        _of_sets(lambda a, b: len(a & b) / (len(a) + len(b))),
    ),
    Mistake(
        "dice",
        "it is Dice's coefficient, twice the shared over the sum: it is larger than Jaccard's",
        _of_sets(lambda a, b: 2 * len(a & b) / (len(a) + len(b))),
    ),
    Mistake(
        "distance",
        "it is a distance, 1 - similarity: equal texts give 1 here",
        _of_sets(lambda a, b: 1 - _ratio(a, b)),
    ),
    Mistake(
        "shared_count",
        "you return how many runs are shared, not their share",
        lambda first, second, *, n: len(set(_runs(first, n)) & set(_runs(second, n))),
    ),
    Mistake(
        "last_run_missing",
        "the last run is left out: there are len(words) - n + 1 of them",
        _of_sets(_ratio, lambda words, n: _runs(words[:-1], n)),
    ),
    Mistake(
        "short_runs_too",
        "the runs at the end are shorter than n: stop at len(words) - n + 1",
        _of_sets(_ratio, lambda words, n: [tuple(words[i : i + n]) for i in range(len(words))]),
    ),
    Mistake(
        "single_words",
        "you compare single words: texts in another order would be equal",
        _of_sets(_ratio, lambda words, n: words),
    ),
    Mistake(
        "side_by_side",
        "your runs lie side by side; they overlap, one starts at every word",
        _of_sets(_ratio, lambda words, n: _runs(words, n)[::n]),
    ),
    Mistake(
        "order_lost",
        "the order inside a run is lost: keep a tuple of the words as they stand",
        _of_sets(_ratio, lambda words, n: [tuple(sorted(run)) for run in _runs(words, n)]),
        _of_sets(_ratio, lambda words, n: [frozenset(run) for run in _runs(words, n)]),
    ),
    Mistake("letters", "your runs are of letters, not of words", _of_sets(_ratio, _letters)),
    Mistake(
        "counted_twice",
        "a run that comes twice is counted twice: make sets of the runs first",
        _counted,
        _list_lengths,
    ),
)


def _batch(
    label: Callable[[list[int], int, int], list[int]],
    *,
    fill: int | None = -100,
    left: bool = False,
    short: bool = False,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """A collator whose labels of a row a rule makes; `fill` stands under the padding, None: pad."""

    def collate(sequences: list[list[int]], starts: list[int], *, pad: int) -> Any:
        width = (min if short else max)(map(len, sequences))
        rows, labels = [], []
        for ids, start in zip(sequences, starts, strict=True):
            rest = max(0, width - len(ids))
            under = [pad if fill is None else fill] * rest
            own = label(list(ids), start, pad)
            rows.append(([pad] * rest + ids if left else ids + [pad] * rest)[:width])
            labels.append((under + own if left else own + under)[:width])
        return torch.tensor(rows), torch.tensor(labels)

    return collate


def _right(ids: list[int], start: int, pad: int) -> list[int]:
    return [-100] * start + ids[start:]


def _moved(by: int) -> Callable[[list[int], int, int], list[int]]:
    def label(ids: list[int], start: int, pad: int) -> list[int]:
        start = max(0, start + by)
        return [-100] * start + ids[start:]

    return label


def _never_pad(ids: list[int], start: int, pad: int) -> list[int]:
    return [-100 if token == pad else token for token in _right(ids, start, pad)]


def _shifted(ids: list[int], start: int, pad: int) -> list[int]:
    return [*_right(ids, start, pad)[1:], -100]


COLLATE = (
    Mistake(
        "pad_masked",
        "every label equal to `pad` is ignored, the end of turn too where it is the same token: "
        "such a model never learns to stop. Mask by length, not by id",
        _batch(_never_pad),
        _batch(lambda ids, start, pad: [-100 if i == pad else i for i in ids]),
    ),
    Mistake(
        "end_of_turn_not_trained",
        "the last token of a reply, its end of turn, is ignored: such a model never learns to stop",
        _batch(lambda ids, start, pad: _right(ids, start, pad)[:-1] + [-100]),
    ),
    Mistake(
        "prompt_trained",
        "the prompt is trained too: its labels should be -100 up to `start`",
        _batch(lambda ids, start, pad: ids),
    ),
    Mistake(
        "all_trained",
        "nothing is ignored: labels are a copy of input_ids",
        _batch(lambda ids, start, pad: ids, fill=None),
    ),
    Mistake(
        "padding_trained",
        "the padding is trained: its labels should be -100",
        _batch(_right, fill=None),
    ),
    Mistake(
        "zeros",
        "0 stands where nothing is trained; 0 is a token like any other, -100 is ignored",
        _batch(lambda ids, start, pad: [0] * start + ids[start:], fill=0),
        _batch(_right, fill=0),
    ),
    Mistake(
        "pad_for_ignored",
        "`pad` stands where nothing is trained; only -100 is ignored",
        _batch(lambda ids, start, pad: [pad] * start + ids[start:], fill=None),
    ),
    Mistake(
        "shifted",
        "the labels are shifted by one: leave that to the model, which shifts them itself",
        _batch(_shifted),
    ),
    Mistake("starts_late", "the first trained token is ignored", _batch(_moved(1))),
    Mistake("starts_early", "the token before the first one is trained too", _batch(_moved(-1))),
    Mistake(
        "mask_not_labels",
        "you return a mask of 0 and 1; labels hold the ids themselves, and -100",
        _batch(lambda ids, start, pad: [0] * start + [1] * len(ids[start:]), fill=0),
    ),
    Mistake(
        "left_padding",
        "the padding is on the left; that is for generation, here it is on the right",
        _batch(_right, left=True),
    ),
    Mistake(
        "cut_to_shortest",
        "rows are cut to the shortest one: fill up to the longest",
        _batch(_right, short=True),
    ),
    Mistake(
        "padded_with_ignored",
        "the ids are filled up with -100, which is no token: that is for labels",
        lambda sequences, starts, *, pad: _batch(_right)(sequences, starts, pad=-100),
    ),
)
