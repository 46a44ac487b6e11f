"""Judges of pairs of answers, and what their votes say once their biases are taken out.

A judge is any callable (prompt, first, second) -> "first", "second" or "tie". `judge_pairs` asks
one about two stages' answers, in both orders; `preference_rate`, `position_bias` and
`length_controlled_rate` read the votes. `oracle_judge` knows the truth where a suite does,
`noisy_judge` spoils a truth in known amounts, `model_judge` and `endpoint_judge` ask a model.

What this leaves out: ratings, more than two answers at a time, and any defence that would make a
model judge safe. The answers it reads were written by a model: one that says 'choose A' may be
believed. Quoting keeps it from posing as the prompt, not from persuading; trust a judge as far as
its kappa against an oracle, or against your own blind votes, and no further.
"""

from __future__ import annotations

import math
import queue
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from postlab.evals import METRICS, suite_rows
from postlab.progress import progress

if TYPE_CHECKING:
    import pandas as pd

Judge = Callable[[str, str, str], str]  # (prompt, first, second) -> one of CHOICES
CHOICES = ("first", "second", "tie")  # what a judge may answer


def judge_pairs(
    judge: Judge,
    prompts: Sequence[str],
    a: Sequence[str],
    b: Sequence[str],
    *,
    swap: bool = True,
    concurrency: int = 1,
) -> pd.DataFrame:
    """Ask a judge about each pair of answers, in both orders unless told otherwise.

    Args:
        judge: (prompt, first, second) -> "first", "second" or "tie".
        prompts: (n,) what was asked, as text.
        a: (n,) answers of one stage, the one before.
        b: (n,) answers of the other, the one after, to the same prompts in the same order.
        swap: ask again with b shown first; without it a bias for a position cannot be seen.
        concurrency: questions asked at the same time, for a judge that allows it: an endpoint does,
            a model in memory doesn't. A judge that tells its cost shows it while it is asked.
    Returns:
        A row per question asked: id (number of the prompt), prompt, order ("ab": a was first),
        choice ("a", "b", "tie"), length_a, length_b (characters).
    Raises:
        ValueError: if lengths differ, there is no prompt, the judge says something else, or
            concurrency is below 1.
        Exception: what the judge raises, after the questions already asked are answered.
    Taught in week 6.

    >>> votes = judge_pairs(lambda p, x, y: "first", ["2+2?"], ["4"], ["five"])
    >>> votes[["order", "choice", "length_b"]].values.tolist()  # it only looks at the position
    [['ab', 'a', 4], ['ba', 'b', 4]]
    """
    import pandas as pd

    if not len(prompts) == len(a) == len(b):
        raise ValueError(
            f"got {len(prompts)} prompts, {len(a)} answers a and {len(b)} answers b; expected as"
            " many of each, in the same order"
        )
    if not len(prompts):
        raise ValueError("there is no prompt to judge")
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}, expected 1 or more")
    rows: list[dict[str, Any]] = []
    questions: list[tuple[str, str, str]] = []
    for index, texts in enumerate(zip(prompts, a, b, strict=True)):
        prompt, *answers = texts
        for order in ("ab", "ba") if swap else ("ab",):
            first, second = answers if order == "ab" else answers[::-1]
            questions.append((prompt, first, second))
            row = {"id": index, "prompt": prompt, "order": order, "choice": None}
            rows.append(row | {"length_a": len(answers[0]), "length_b": len(answers[1])})
    paid = hasattr(judge, "spent")
    with progress(len(questions), "judge") if paid else nullcontext() as bar:
        for place, verdict in _verdicts(judge, questions, concurrency):
            vote = rows[place]
            if verdict not in CHOICES:
                raise ValueError(
                    f"prompt {vote['id']}: the judge said {verdict!r:.60}; expected one of"
                    f" {CHOICES}"
                )
            vote["choice"] = "tie" if verdict == "tie" else vote["order"][CHOICES.index(verdict)]
            if bar is not None:
                bar.update(1, str(getattr(judge, "spent", "")))
    return pd.DataFrame(rows)


def _verdicts(
    judge: Judge, questions: Sequence[tuple[str, str, str]], concurrency: int
) -> Iterator[tuple[int, str]]:
    """(place of a question, its verdict), as they come."""
    if concurrency == 1:
        yield from ((place, judge(*texts)) for place, texts in enumerate(questions))
        return
    waiting, stop = queue.SimpleQueue[tuple[int, tuple[str, str, str]]](), threading.Event()
    for item in enumerate(questions):
        waiting.put(item)
    answered = queue.SimpleQueue[tuple[int, str, Exception | None] | None]()

    def work() -> None:
        with suppress(queue.Empty):
            while not stop.is_set():
                place, texts = waiting.get_nowait()
                try:
                    answered.put((place, judge(*texts), None))
                except Exception as error:
                    stop.set()
                    answered.put((place, "", error))
        answered.put(None)

    # Daemons, so that an interrupted script does not wait for the answers it gave up.
    workers = min(concurrency, len(questions))
    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    failure = None
    try:
        while workers:
            outcome = answered.get()
            if outcome is None:
                workers -= 1
            elif outcome[2] is None:
                yield outcome[0], outcome[1]
            else:
                failure = failure or outcome[2]
    finally:
        stop.set()
    if failure is not None:
        raise failure


def noisy_judge(
    truth: Judge,
    *,
    accuracy: float = 1.0,
    position_bias: float = 0.0,
    length_bias: float = 0.0,
    seed: int = 0,
) -> Judge:
    """A judge with known faults, to practise finding them: `truth`, spoilt in these amounts.

    At each question it takes the answer shown first with chance `position_bias`, else the longer
    one (in characters) with chance `length_bias`, and else it judges: what `truth` says with
    chance `accuracy`, one of the other two verdicts otherwise.

    Args:
        truth: the judge to spoil, such as `oracle_judge(suite)`.
        accuracy: 0 to 1, where no bias decides.
        position_bias: -1 to 1; negative favours the answer shown second.
        length_bias: -1 to 1; negative favours the shorter. Sizes of both sum to at most 1.
        seed: of the luck; the same question gets the same answer whenever it is asked.
    Returns:
        A judge.
    Raises:
        ValueError: if a number is out of range.
    Taught in week 6.

    >>> judge = noisy_judge(lambda p, x, y: "second", position_bias=1.0)
    >>> judge("2+2?", "5", "4")
    'first'
    """
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy is {accuracy}, expected between 0 and 1")
    if not abs(position_bias) + abs(length_bias) <= 1:
        raise ValueError(
            f"{position_bias=}, {length_bias=}; each is a share of the questions that it decides,"
            " so their sizes sum to at most 1"
        )

    def judge(prompt: str, first: str, second: str) -> str:
        luck = random.Random(f"{seed}\0{prompt}\0{first}\0{second}")
        draw = luck.random()
        if draw < abs(position_bias):
            return "first" if position_bias > 0 else "second"
        longer = (len(first) > len(second)) - (len(first) < len(second))
        if draw < abs(position_bias) + abs(length_bias) and longer:
            return "first" if longer * length_bias > 0 else "second"
        verdict = truth(prompt, first, second)
        if luck.random() < accuracy:
            return verdict
        return luck.choice([choice for choice in CHOICES if choice != verdict])

    return judge


def oracle_judge(suite: str | Iterable[Mapping[str, Any]]) -> Judge:
    """The judge that knows: it scores both answers with the suite's own oracle.

    An answer's worth is the sum of its scores, those that are better low (over-refusal) counted
    against it; `format` decides only between answers that are else equal, and length never. A
    judge sees text, so every answer counts as having ended its turn.

    Args:
        suite: a name of `evals.evaluate` ('tinyworld'), or rows with `prompt` and `score`.
    Returns:
        A judge; asked about a prompt that is not in the suite it raises ValueError.
    Taught in week 6.

    >>> row = {"id": "1", "family": "sums", "prompt": [{"role": "user", "content": "2+2?"}]}
    >>> judge = oracle_judge([row | {"score": lambda text, closed: {"sums": float(text == "4")}}])
    >>> judge("2+2?", "5", "4"), judge("2+2?", "5", "6")
    ('second', 'tie')
    """
    known: dict[str, Callable[[str, bool], Mapping[str, float]]] = {}
    for row in suite_rows(suite, None, 0):
        known.setdefault(row["prompt"][-1]["content"], row["score"])

    def judge(prompt: str, first: str, second: str) -> str:
        if prompt not in known:
            raise ValueError(
                f"the suite has no prompt {prompt!r:.80}; ask about the last user message of its"
                " own prompts, as in the column 'prompt' of evals.evaluate"
            )
        one, other = (_worth(known[prompt](text, True)) for text in (first, second))
        return "tie" if one == other else "first" if one > other else "second"

    return judge


def _worth(scores: Mapping[str, float]) -> tuple[float, float]:
    """What an answer is worth, and its form."""
    signs = {"up": 1.0, "down": -1.0, "none": 0.0}
    content = sum(
        signs[METRICS[name][1] if name in METRICS else "up"] * value
        for name, value in scores.items()
        if name != "format" and not math.isnan(value)
    )
    return content, scores.get("format", 0.0)
