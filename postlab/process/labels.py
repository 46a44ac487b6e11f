"""Where step labels come from: the oracle, or rollouts that need the final answer and nothing else.

`oracle_labels` reads a sum's steps and says of each whether the solution is still on track after
it. `rollout_labels` asks the policy itself: from the prefix that ends with a step it draws K
completions, and the share that reaches the right answer is the step's soft label; the hard label is
1 where any of them does. That is Math-Shepherd's automatic annotation.

What it simplifies: the completer is the policy that wrote the solution, at a temperature of its
own. A weak completer calls right steps wrong (it fails from there), and a lucky one wrong steps
right (it slips back onto the track): `agreement` counts both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from postlab.process.steps import draw, step_ids
from postlab.sampling import Messages, Rollout, check_fits
from postlab.stats import Interval, cohen_kappa, wilson
from postlab.tinyworld.oracle import read

_STEP = re.compile(r"(-?\d{1,6})\+(\d{1,6})=(-?\d{1,6})[,.]?")
_FINAL = re.compile(r"#### (-?\d{1,6})")


def oracle_labels(question: str, steps: Sequence[str], *, alone: bool = False) -> list[int]:
    """Whether each step of a sum is right and all before it were: 1 or 0, from the text alone.

    A step is right if it adds a term that is still to be added to the running total, and adds it
    rightly; the order of the terms is free. The answer is right if it is the sum: also where it is
    all there is. After a wrong step nothing is right, whatever the answer.

    Args:
        question: a tinyworld sum, in any of its wordings.
        steps: of `split_steps`.
        alone: judge each step by itself, given the steps before it. A right addition to a wrong
            total is then right, and so is an answer that repeats the last total, if no term is
            left.
    Returns:
        A label a step.
    Raises:
        ValueError: if the question is no sum.
    Taught in week 10.

    >>> oracle_labels("What is 12+30+15?", ["12+30=42,", "42+15=57.", "#### 57"])
    [1, 1, 1]
    >>> oracle_labels("What is 12+30+15?", ["12+30=52,", "52+15=67.", "#### 57"])
    [0, 0, 0]
    >>> oracle_labels("What is 12+30+15?", ["#### 57"])
    [1]
    >>> oracle_labels("What is 12+30+15?", ["12+30=52,", "52+15=67.", "#### 67"], alone=True)
    [0, 1, 1]
    """
    item = read(question)
    if item is None or item.family != "arithmetic":
        raise ValueError(f"not a sum of tinyworld's: {question!r:.80}")
    left = Counter(item.args)  # the terms that are still to be added
    total: int | None = None
    labels = []
    on_track = True
    for step in steps:
        added, final = _STEP.fullmatch(step.strip()), _FINAL.fullmatch(step.strip())
        # 1. A sum must continue from the running total, use remaining terms, and be correct.
        if added:
            a, b, c = map(int, added.groups())
            used = Counter([a, b] if total is None else [b])
            good = (total is None or a == total) and used <= left and c == a + b
            left, total = left - used, c
        # 2. Anything else is right only if it is the final answer; alone: if it repeats the total.
        else:
            goal = total if alone and total is not None and not left else sum(item.args)
            good = final is not None and int(final.group(1)) == goal
        # 3. Once a solution is off track, nothing brings it back.
        on_track &= good
        labels.append(int(good if alone else on_track))
    return labels


def rollout_labels(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    right: Callable[[Messages, str], float],
    k: int = 8,
    temperature: float = 1.0,
    new_tokens: int = 72,
    separator: str = " ",
    seed: int = 0,
) -> list[list[float]]:
    """Soft step labels without anybody's step labels: the share of completions that come out right.

    From every prefix that ends with a step, K completions are drawn; equal prefixes of one prompt
    share theirs. The last step has no completion: its label is the outcome.

    Args:
        rows: `prompt` and `completions`; labels are not looked at.
        right: (prompt, whole reply) -> 1 or 0: reads the final answer, as a verifier does.
        k: completions a prefix.
        temperature: of the completer, above 0.
        new_tokens: where a completion is cut.
        separator: what stands between two steps in the reply, as in `encode_steps`.
    Returns:
        A list a row: a share between 0 and 1 a step. `hard_labels` makes 0 or 1 of them.
    Raises:
        ValueError: if k or temperature is out of range, or a row has no step.
    Source: Wang et al. 2023, arXiv 2312.08935, section 3.3. Taught in week 10.
    """
    if k < 1 or temperature <= 0:
        raise ValueError(f"{k=}, {temperature=}; expected at least 1, and above 0")
    # 1. For each distinct prefix that ends with a step, except the last step: K rollouts.
    rollouts: dict[tuple[int, ...], list[Rollout]] = {}
    places, labels = [], []
    for row in rows:
        ids, ends = step_ids(row["prompt"], row["completions"], tokenizer, separator=separator)
        start = _start(tokenizer, ids, separator.join(row["completions"]))
        prefixes = [tuple(ids[: end + 1]) for end in ends[:-1]]
        places.append((start, prefixes))
        for prefix in prefixes:
            if prefix not in rollouts:
                name = ".".join(map(str, prefix))
                rollouts[prefix] = [
                    Rollout(name, i, list(prefix), temperature, new_tokens) for i in range(k)
                ]
                check_fits(model, rollouts[prefix][0])
    # 2. The model completes all of them.
    draw(model, tokenizer, [one for group in rollouts.values() for one in group], seed=seed)
    # 3. Soft estimation: the share of a prefix's K completions whose final answer is right. The
    # last step ends the solution, so its label is the outcome itself.
    known: dict[tuple[int, ...], float] = {}
    for row, (start, prefixes) in zip(rows, places, strict=True):
        for prefix in prefixes:
            if prefix not in known:
                texts = [_text(tokenizer, [*prefix[start:], *r.answer]) for r in rollouts[prefix]]
                known[prefix] = sum(right(row["prompt"], text) for text in texts) / k
        outcome = float(right(row["prompt"], separator.join(row["completions"])))
        labels.append([known[prefix] for prefix in prefixes] + [outcome])
    return labels


def hard_labels(soft: Sequence[Sequence[float]], *, least: float = 0.0) -> list[list[int]]:
    """1 where a share of completions above `least` came out right: by default, where any did.

    Args:
        soft: shares between 0 and 1, a list per solution, as `rollout_labels` gives them.
        least: a step counts as right above this share.
    Returns:
        1 or 0 per step, a list per solution.

    >>> hard_labels([[0.875, 0.125, 0.0]]), hard_labels([[0.875, 0.125, 0.0]], least=0.25)
    ([[1, 1, 0]], [[1, 0, 0]])
    """
    if not 0 <= least < 1:
        raise ValueError(f"least is {least}; expected from 0 to below 1")
    # A hard label is a threshold on the soft label: with least at 0, one success is enough.
    return [[int(share > least) for share in row] for row in soft]


def agreement(
    labels: Sequence[Sequence[int]], truth: Sequence[Sequence[int]]
) -> dict[str, Interval]:
    """How far two sets of step labels agree, and in which direction they do not.

    Steps of one solution hang together, so the intervals, which take each step for itself, are a
    little too narrow.

    Args:
        labels: 0 or 1 a step.
        truth: the oracle's, of the same steps.
    Returns:
        `agreed`, the share of steps; `missed`, of wrong steps those called right; `alarms`, of
        right steps those called wrong, as Intervals (nan where there is none); `kappa`.
    Raises:
        ValueError: if the steps are not the same.

    >>> found = agreement([[1, 1, 0], [1, 0]], [[1, 0, 0], [1, 1]])
    >>> found["agreed"].value, found["missed"].value, found["alarms"].value
    (0.6, 0.5, 0.3333333333333333)
    """
    if [*map(len, labels)] != [*map(len, truth)]:
        raise ValueError("labels and truth are not of the same steps")
    pairs = [p for one, two in zip(labels, truth, strict=True) for p in zip(one, two, strict=True)]
    # A label of 1 on a wrong step is a miss; a label of 0 on a right step is a false alarm.
    wrong, good = [a for a, b in pairs if not b], [a for a, b in pairs if b]
    return {
        "agreed": _share([a == b for a, b in pairs]),
        "missed": _share(wrong),
        "alarms": _share([not a for a in good]),
        "kappa": cohen_kappa([a for a, _ in pairs], [b for _, b in pairs]),
    }


def _share(values: Sequence[Any]) -> Interval:
    nan = float("nan")
    return wilson(sum(map(bool, values)), len(values)) if values else Interval(nan, nan, nan, 0)


def _start(tokenizer: Any, ids: Sequence[int], reply: str) -> int:
    """Where the reply begins."""
    return len(ids) - len(tokenizer(reply, add_special_tokens=False)["input_ids"])


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True).strip()
