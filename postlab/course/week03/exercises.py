"""Week 3: the similarity of two texts, and a batch whose labels keep the end of turn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from postlab.course.check._parts import Case, Edge, Exercise
from postlab.course.week03 import mistakes_rows

IGNORED = -100  # what torch's cross entropy leaves out


def jaccard(first: Sequence[str], second: Sequence[str], *, n: int) -> float:
    """Jaccard similarity of two texts: shared runs of n words as a share of all their runs.

    Args:
        first, second: the words of each text, in order.
        n: words in a run.
    Returns:
        from 0 to 1; 0 where neither text has a run.
    Source: Broder 1997, On the resemblance and containment of documents. Taught in week 3.

    >>> jaccard("how do i paint a lamp".split(), "how do i paint a big lamp".split(), n=2) == 4 / 7
    True
    """
    runs = [{tuple(t[i : i + n]) for i in range(len(t) - n + 1)} for t in (first, second)]
    either = runs[0] | runs[1]
    return len(runs[0] & runs[1]) / len(either) if either else 0.0


def collate(
    sequences: Sequence[Sequence[int]], starts: Sequence[int], *, pad: int
) -> tuple[Tensor, Tensor]:
    """A batch for a causal language model: ids padded on the right, and labels for its loss.

    Args:
        sequences: the ids of each row, prompt and reply together, the end of turn last.
        starts: for each row, the index of its first trained token.
        pad: the id used for padding; it may be the id of the end of turn.
    Returns:
        input_ids and labels, (B, T) each, int64; labels equal the ids on trained
        tokens and IGNORED elsewhere. They are not shifted: the model does that.

    >>> ids, labels = collate([[5, 6, 7, 2], [5, 8, 2]], [2, 1], pad=2)
    >>> ids.tolist(), labels.tolist()
    ([[5, 6, 7, 2], [5, 8, 2, 2]], [[-100, -100, 7, 2], [-100, 8, 2, -100]])
    """
    input_ids = torch.full((len(sequences), max(map(len, sequences))), pad)
    labels = torch.full_like(input_ids, IGNORED)
    for b, (ids, start) in enumerate(zip(sequences, starts, strict=True)):
        input_ids[b, : len(ids)] = torch.tensor(ids)
        labels[b, start : len(ids)] = torch.tensor(ids[start:])
    return input_ids, labels


WORDS = ("how", "do", "i", "paint", "a", "lamp", "the", "red")


def _texts(seed: int) -> dict[str, Any]:
    """Two texts of different lengths that share words, one with a run that occurs twice."""
    draw, n = random.Random(seed), 2 + seed % 3 + seed // 6
    shared = [draw.choice(WORDS) for _ in range(n + 3)]
    first = [draw.choice(WORDS) for _ in range(draw.randint(2, 3))] + shared + shared[: n + 1]
    second = shared + [draw.choice(WORDS) for _ in range(2 if seed % 2 else 9)]
    return {"first": first, "second": second, "n": n}


def _rows(seed: int) -> dict[str, Any]:
    """Rows of unequal lengths with an end of turn inside the prompt; sometimes it is the pad."""
    draw, end = random.Random(seed), 2
    sequences, starts = [], []
    for length in draw.sample(range(5, 10), 3):
        prompt = [*draw.choices(range(10, 90), k=draw.randint(1, 2) + seed // 6), end]
        sequences.append([*prompt, *draw.choices(range(10, 90), k=length - 3), end])
        starts.append(len(prompt))
    return {"sequences": sequences, "starts": starts, "pad": (end, 0, 1)[seed % 3]}


def _words(first: str, second: str, n: int, why: str) -> Case:
    about = f"the words of '{first}' and of '{second}' and n={n}"
    return Case(about, {"first": first.split(), "second": second.split(), "n": n}, why)


JACCARD = Exercise(
    name="jaccard",
    reference=jaccard,
    positional=("first", "second"),
    cases=(
        _words(
            "how do i paint a lamp",
            "how do i paint a big lamp",
            2,
            "5 pairs and 6 pairs; 4 are shared, 7 are in one or the other",
        ),
        _words(
            "the red the red the lamp",
            "red the lamp",
            3,
            "{the red the, red the red, red the lamp}, {red the lamp}",
        ),
        _words(
            "lamp the lamp the red red",
            "lamp lamp lamp the lamp",
            2,
            "4 pairs and 3 pairs; 2 are shared, 5 are in one or the other",
        ),
        _words("a lamp", "a lamp", 1, "the same two words"),
    ),
    random=_texts,
    plain=mistakes_rows.jaccard,
    mistakes=mistakes_rows.JACCARD,
    axes={"first": "f", "second": "s"},
    edges=(
        Edge(
            "no_runs",
            _words("a lamp", "a", 3, "neither has a run of three words"),
            "Texts shorter than n words have no runs, and 0/0 is undefined: return 0.",
            ("/ len(a | b) if a | b else 0.0 -> / len(a | b)", "else 0.0 -> else 1.0"),
        ),
        Edge(
            "short_text_as_a_run",
            _words("a lamp", "a lamp", 3, "alike, but neither has a run of three words"),
            "A text with fewer than n words has no run at all, even if both texts are the same: "
            "return 0.",
            ("range(len(t) - n + 1) -> range(max(1, len(t) - n + 1))",),
        ),
        Edge(
            "words_run_together",
            _words("in form", "inf orm", 2, "one run each, and not the same two words"),
            "If you join words without a space, you can't tell where one ends: store a run as a "
            "tuple.",
            ("tuple(t[i:i + n]) -> ''.join(t[i:i + n])",),
        ),
    ),
)
COLLATE = Exercise(
    name="collate",
    reference=collate,
    positional=("sequences", "starts"),
    cases=(
        Case(
            "the rows [5 6 7 2] and [5 8 2], trained from positions 2 and 1, and pad=2",
            {"sequences": [[5, 6, 7, 2], [5, 8, 2]], "starts": [2, 1], "pad": 2},
            "the 2 that ends the second reply is trained, the 2 that pads it is not",
        ),
        Case(
            "the rows [5 2] and [5 6 9 8 2], trained from positions 1 and 3, and pad=0",
            {"sequences": [[5, 2], [5, 6, 9, 8, 2]], "starts": [1, 3], "pad": 0},
            "three positions are padding; 2 and 8 2 are trained",
        ),
    ),
    random=_rows,
    mistakes=mistakes_rows.COLLATE,
    axes={"sequences": "b", "starts": "b"},
    outputs=("input_ids", "labels"),
)
