"""Which of two stages answers open questions better: one call, with its cost told first.

No program can score advice, an explanation or a plan, so a judge compares two stages' answers to
the same prompts. `quality_cost` says what that takes; `response_quality` asks in both orders and
returns the win rate, the win rate at equal length, the judge's bias for a position, and how far
the judge agrees with your own blind votes.

What this leaves out: several judges, answers over several turns, reasoning before the verdict, and
the term for a prompt's difficulty in AlpacaEval 2, which takes many models to fit.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab.judge.endpoint import JudgeError, Spent
from postlab.judge.models import RUBRIC, VERDICT_TOKENS, EndpointJudge, ModelJudge
from postlab.judge.pairs import Judge, judge_pairs
from postlab.judge.rates import bootstrap_controlled_rate, position_bias, preference_rate
from postlab.judge.votes import Pair, VoteLog, pairs_of
from postlab.redaction import redact
from postlab.stats import Interval, cohen_kappa

if TYPE_CHECKING:
    import pandas as pd

MOST_FAILED = 0.1  # of the questions; beyond it the judge is broken rather than unlucky
FIRST_FAILED = 3  # failures, before any answer, after which no more is asked
CHARACTERS_PER_TOKEN = 4  # of English, for an endpoint whose tokenizer isn't here
_COLUMNS = ("id", "prompt", "order", "choice", "length_a", "length_b")


@dataclass(frozen=True)
class QualityCost:
    """What it takes to compare two stages' answers.

    Args:
        prompts: that both stages answered.
        identical: of them, those with the same answer twice: ties that nobody is asked about.
        calls: questions to the judge, both orders counted.
        tokens_in: of all questions: counted for a model in memory, estimated from the characters
            for an endpoint; None for a judge that is a plain function.
        tokens_out: of all replies, at most; None as above.
        seconds: expected, for a model in memory, from one question that was timed; else None.
        usd: expected, for an endpoint whose prices are known; else None.
    """

    prompts: int
    identical: int
    calls: int
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None
    usd: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.calls:,} questions to the judge on {self.prompts:,} prompts"]
        if self.identical:
            parts.append(f"none where the answers are identical ({self.identical:,})")
        if self.tokens_in is not None:
            out = f" and at most {self.tokens_out:,} out" if self.tokens_out else ""
            parts.append(f"about {self.tokens_in:,} tokens in{out}")
        if self.seconds is not None:
            parts.append(f"about {_duration(self.seconds)}")
        if self.usd is not None:
            parts.append(f"about ${self.usd:.4f}")
        return "; ".join(parts)


@dataclass(frozen=True, repr=False)
class ResponseQuality:
    """How two stages' answers compare; made by `response_quality`.

    Args:
        stages: a, the one before, and b, the one after.
        win_rate: of b over a, ties counted half; n is the number of prompts.
        length_controlled: the same at equal length; None if there can be none.
        length_note: why there is none, or why it says little; else empty.
        position_bias: of the judge: share for the answer shown first minus share for the second,
            over the prompts it was asked about; None if it was asked about none.
        consistent: share of the prompts the judge was asked about where both orders got the same
            verdict; near 0 the win rate is 50% whatever the answers are.
        ties: share of the judge's verdicts that were a tie.
        b_longer, a_longer: shares of the prompts where that stage's answer has more characters.
        kappa: Cohen's kappa of the judge with your blind votes; None without votes on these
            answers. A verdict that changes with the order counts as a tie.
        identical: prompts with the same answer twice, counted as ties.
        failed: prompts left out, as the judge gave no verdict in at least one order.
        failure: why the first of them failed.
        votes: a row per verdict: `judge_pairs`' columns, with the prompt's own id as `id`.
    """

    stages: tuple[str, str]
    win_rate: Interval
    length_controlled: Interval | None
    length_note: str
    position_bias: Interval | None
    consistent: float
    ties: float
    b_longer: float
    a_longer: float
    kappa: Interval | None
    identical: int
    failed: int
    failure: str
    votes: pd.DataFrame = field(compare=False)

    def __repr__(self) -> str:
        a, b = self.stages
        lines = [f"{b} against {a} on {self.win_rate.n:,} prompts, judged in both orders"]
        lines += [f"identical answers, counted as ties: {self.identical:,}"] * bool(self.identical)
        if self.failed:
            lines.append(f"prompts left out, no verdict: {self.failed:,} ({self.failure})")
        controlled = note = self.length_note
        if self.length_controlled is not None:
            controlled = _share(self.length_controlled) + f"; {note}" * bool(note)
        longer = f"{b}'s answer in {self.b_longer:.0%}, {a}'s in {self.a_longer:.0%} of the prompts"
        rows = {"win rate": _share(self.win_rate), "at equal length": controlled, "longer": longer}
        if self.position_bias is not None:
            bias = self.position_bias
            rows["position bias"] = (
                f"{bias.value:+.2f} ({bias.low:+.2f} to {bias.high:+.2f}),"
                " positive for the answer shown first"
            )
            rows["same in both orders"] = f"{self.consistent:.0%} of the verdicts"
            rows["verdicts 'tie'"] = f"{self.ties:.0%}"
        kappa = self.kappa
        rows["kappa with your votes"] = (
            "no votes on these answers"
            if kappa is None
            else f"undefined: {kappa.n} votes, all the same and as the judge's"
            if math.isnan(kappa.value)
            else f"{kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f}), {kappa.n} votes"
        )
        return "\n".join([*lines, *(f"  {name:<22}{text}" for name, text in rows.items())])


def quality_cost(
    frames: Mapping[str, pd.DataFrame],
    judge: Judge,
    *,
    rubric: str | None = RUBRIC,
    limit: int | None = None,
    seed: int = 0,
) -> QualityCost:
    """What `response_quality` would take with the same arguments; nothing is sent anywhere.

    A model in memory is timed on one question of median length, whose verdict is thrown away.

    Args:
        frames, judge, rubric, limit, seed: as for `response_quality`.
    Returns:
        QualityCost; print it. Answers in an endpoint's log are counted although they're free.
    Raises:
        ValueError: as `response_quality`.
    Taught in week 6.

    >>> import pandas as pd
    >>> asked = {"id": ["a", "b"], "prompt": ["Tea?", "Rain?"]}
    >>> frames = {"sft": pd.DataFrame(asked | {"answer": ["Boil water.", "Stay in."]}),
    ...           "dpo": pd.DataFrame(asked | {"answer": ["Boil water.", "Take a coat."]})}
    >>> print(quality_cost(frames, lambda prompt, first, second: "tie"))
    2 questions to the judge on 2 prompts; none where the answers are identical (1)
    """
    pairs = _pairs(frames, limit, seed)
    return _cost(pairs, _with(judge, rubric))


def response_quality(
    frames: Mapping[str, pd.DataFrame],
    judge: Judge,
    *,
    base: str | None = None,
    rubric: str | None = RUBRIC,
    limit: int | None = None,
    votes: str | Path | None = None,
    concurrency: int = 1,
    seed: int = 0,
    resamples: int = 1000,
) -> ResponseQuality:
    """Compare two stages' answers to open questions, by a judge that is asked in both orders.

    The cost is printed before anything is asked; `quality_cost` tells it without asking. The
    length-controlled rate assumes that the judge's taste for length is the same at all prompts and
    that lengths vary both ways; what is better *because* it is longer is taken away as well. A
    prompt on which the judge fails is left out and counted; more than a tenth of failed questions
    is an error, and so is a judge whose first three questions all fail.

    Args:
        frames: {stage: frame of `evals.evaluate`}, the stage before and the one after, on the same
            prompts; where a prompt has several samples, the first one is judged.
        judge: of `model_judge` or `endpoint_judge`, or any function (prompt, first, second) ->
            "first", "second" or "tie". It should be tuned for chat, from another family than the
            policy, and not the model whose votes trained it.
        base: folder or name of the model that the stages were trained from, such as `lab.base`;
            needed if the judge is a model, because that model, untuned, may not judge.
        rubric: what a model judge goes by; None for the usual criteria. A plain function has its
            own.
        limit: at most so many prompts, drawn at random by `seed`; None for all.
        votes: the JSONL file of `show.arena`, for the agreement with your own blind votes.
        concurrency: questions at the same time, for an endpoint.
        seed: of the draw and of the bootstrap.
        resamples: of the bootstrap of the length-controlled rate.
    Returns:
        ResponseQuality; its repr is a small report.
    Raises:
        ValueError: if there aren't two stages, their prompts differ, a number is out of range, or
            the judge is an untuned model or `base` itself.
        JudgeError: if too many questions failed.
    Source: Zheng et al. 2023, arXiv 2306.05685 (judges, both orders); Dubois et al. 2024, arXiv
        2404.04475 (length control). Taught in week 6.

    >>> import pandas as pd
    >>> asked = {"id": ["a", "b"], "prompt": ["Tea?", "Rain?"]}
    >>> frames = {"sft": pd.DataFrame(asked | {"answer": ["Boil water.", "Stay in."]}),
    ...           "dpo": pd.DataFrame(asked | {"answer": ["Boil water.", "Take a coat."]})}
    >>> longer = lambda prompt, a, b: "first" if len(a) > len(b) else "second"
    >>> response_quality(frames, longer).win_rate.value  # a tie and a win
    2 questions to the judge on 2 prompts; none where the answers are identical (1)
    0.75
    """
    import pandas as pd

    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected 1 or more")
    pairs, judge = _pairs(frames, limit, seed), _with(judge, rubric)
    _refuse_untuned(judge, base)
    log = {} if votes is None else VoteLog(votes).read()  # a wrong file fails before any question
    cost = _cost(pairs, judge)
    print(cost, flush=True)

    # 1. Ask about the pairs that differ, and leave out those with a verdict missing.
    said, failures = _ask(pairs, tuple(frames), judge, concurrency)
    judged = said[~said["id"].isin(failures)]
    # 2. The others are ties.
    parts = [part for part in (judged, _ties(pairs)) if len(part)]  # empty ones have no dtypes
    everything = pd.concat(parts, ignore_index=True)
    per_prompt = everything.drop_duplicates("id")
    gap = per_prompt["length_b"] - per_prompt["length_a"]
    # 3. The same votes with length controlled, where that can be done.
    try:
        controlled = bootstrap_controlled_rate(everything, resamples=resamples, seed=seed)
        note = _only_length(judged)
    except ValueError as error:
        controlled, note = None, str(error)
    a, b = frames
    return ResponseQuality(
        stages=(a, b),
        win_rate=preference_rate(everything),
        length_controlled=controlled,
        length_note=note,
        position_bias=position_bias(judged) if len(judged) else None,
        consistent=float((judged.groupby("id")["choice"].nunique() == 1).mean()),
        ties=float((judged["choice"] == "tie").mean()),
        b_longer=float((gap > 0).mean()),
        a_longer=float((gap < 0).mean()),
        kappa=_agreement(pairs, (a, b), judged, log),
        identical=cost.identical,
        failed=len(failures),
        failure=next(iter(failures.values()), ""),
        votes=everything,
    )


def _only_length(judged: pd.DataFrame) -> str:
    """A caveat where the verdicts follow length and nothing else; else nothing."""
    gap = (judged["length_b"] - judged["length_a"]).to_numpy()
    points = judged["choice"].map({"a": -1, "tie": 0, "b": 1}).to_numpy()
    signs = set(points[gap != 0] * np.sign(gap[gap != 0]))
    if signs not in ({1}, {-1}):
        return ""
    taste = "longer" if signs == {1} else "shorter"
    return (
        f"every verdict went to the {taste} answer, so these votes say nothing about quality at"
        " equal length; the rate is 50% by symmetry"
    )


class _Counted:
    """A judge whose failures are noted instead of raised, until there are too many of them."""

    def __init__(self, judge: Judge, calls: int) -> None:
        self.judge, self.allowed = judge, int(MOST_FAILED * calls)
        self.failures: dict[tuple[str, str, str], str] = {}
        self.answered, self._lock = 0, threading.Lock()

    @property
    def spent(self) -> Any:
        return self.judge.spent  # type: ignore[attr-defined]  # of an endpoint; others lack it

    def __call__(self, prompt: str, first: str, second: str) -> str:
        try:
            verdict = self.judge(prompt, first, second)
        except Exception as error:  # of any kind: the judge may be the learner's own
            why = redact(f"{type(error).__name__}: {error}")[:200]
            with self._lock:
                self.failures[prompt, first, second] = why
                failed = len(self.failures)
                if failed > self.allowed or (failed >= FIRST_FAILED and not self.answered):
                    raise JudgeError(
                        f"the judge failed on {failed} of the {failed + self.answered} questions"
                        f" asked so far, so the comparison was stopped; the last failure was {why}"
                    ) from None
            return "tie"  # its prompt is left out
        with self._lock:
            self.answered += 1
        return verdict


def _ask(
    pairs: Sequence[Pair], stages: tuple[str, ...], judge: Judge, concurrency: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The verdicts on the pairs that differ, and {id of a prompt that failed: why}."""
    import pandas as pd

    questions = [(p.id, p.prompt, *_in_order(p, stages)) for p in pairs if not p.identical]
    if not questions:
        return pd.DataFrame(columns=_COLUMNS), {}
    ids, prompts, a, b = zip(*questions, strict=True)
    counted = _Counted(judge, 2 * len(ids))
    said = judge_pairs(counted, prompts, a, b, concurrency=concurrency)
    why = counted.failures
    failures = {
        name: why.get((prompt, one, other)) or why[prompt, other, one]
        for name, prompt, one, other in questions
        if (prompt, one, other) in why or (prompt, other, one) in why
    }
    return said.assign(id=[ids[index] for index in said["id"]]), failures


def _ties(pairs: Sequence[Pair]) -> pd.DataFrame:
    """The rows of `judge_pairs` for pairs of identical answers."""
    import pandas as pd

    rows = [
        (pair.id, pair.prompt, order, "tie", len(pair.replies[0]), len(pair.replies[0]))
        for pair in pairs
        if pair.identical
        for order in ("ab", "ba")
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _agreement(
    pairs: Sequence[Pair], stages: tuple[str, str], judged: pd.DataFrame, log: Mapping[str, Any]
) -> Interval | None:
    """Kappa of the judge's verdicts, both orders of a pair taken together, with blind votes."""
    points = judged["choice"].map({"a": -1, "tie": 0, "b": 1}).groupby(judged["id"]).sum()
    mine, judges = [], []
    for pair in pairs:
        if pair.key in log and pair.id in points.index:
            vote = log[pair.key]
            winner = vote.get(vote["choice"])  # a stage, or None for a tie
            mine.append("tie" if winner is None else "ab"[stages.index(winner)])
            judges.append("tie" if points[pair.id] == 0 else "ab"[int(points[pair.id] > 0)])
    return cohen_kappa(mine, judges) if mine else None


def _pairs(frames: Mapping[str, pd.DataFrame], limit: int | None, seed: int) -> tuple[Pair, ...]:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected 1 prompt or more, or None for all")
    pairs = pairs_of(frames, seed=seed)  # in an order drawn at random
    if len(frames) != 2:
        raise ValueError(
            f"got the stages {list(frames)}; expected two, the one before and the one after"
        )
    return pairs[:limit]


def _in_order(pair: Pair, stages: tuple[str, ...]) -> tuple[str, ...]:
    """The replies of the stage before and of the one after."""
    replies = dict(zip(pair.stages, pair.replies, strict=True))
    return tuple(replies[stage] for stage in stages)


def _with(judge: Judge, rubric: str | None) -> Judge:
    if not callable(judge):
        raise TypeError(
            f"judge is a {type(judge).__name__}; expected one of model_judge or endpoint_judge, or"
            " a function (prompt, first, second)"
        )
    return judge.with_rubric(rubric) if isinstance(judge, ModelJudge | EndpointJudge) else judge


def _refuse_untuned(judge: Judge, base: str | None) -> None:
    """Raise ValueError if a judge is a model that was never tuned to judge, or to chat."""
    if not isinstance(judge, ModelJudge | EndpointJudge):
        return
    if isinstance(judge, ModelJudge) and not getattr(judge.tokenizer, "chat_template", None):
        raise ValueError(
            "the judge's tokenizer has no chat template, so it is most likely a base model, which"
            " doesn't follow a question; load an instruct model, such as lab.profile.judge_model"
        )
    if base is None:
        raise ValueError(
            "base is None; pass the folder or name of the model that the stages were trained from,"
            " such as base=lab.base, so that it isn't asked to judge its own descendants"
        )
    if isinstance(judge, EndpointJudge):
        name, tuned = judge.model, False
    else:
        name = str(getattr(judge.model, "name_or_path", ""))
        tuned = bool(getattr(judge.model, "peft_config", None))  # an adapter is on it
    if not tuned and _same_model(name, base):
        raise ValueError(
            f"the judge is {PurePath(name).name!r}, the model that both stages were trained from;"
            " untuned, it can't judge what tuning changed. Take an instruct model of another"
            " family, or endpoint_judge"
        )


def _same_model(name: str, base: str) -> bool:
    from postlab.models import QUANTIZED_SUFFIX, resolve_base

    if base in ("", "smol"):  # a profile's names of the built-in bases
        base = resolve_base(base)
    if Path(name).is_dir() and Path(base).is_dir():
        return Path(name).samefile(base)
    one, other = (QUANTIZED_SUFFIX.sub("", PurePath(x).name.lower()) for x in (name, base))
    return one == other


def _cost(pairs: Sequence[Pair], judge: Judge) -> QualityCost:
    questions = [(p.prompt, *p.replies) for p in pairs if not p.identical]
    cost = QualityCost(len(pairs), len(pairs) - len(questions), 2 * len(questions))
    if not questions or not isinstance(judge, ModelJudge | EndpointJudge):
        return cost
    if isinstance(judge, ModelJudge):  # it reads one letter's probability and writes nothing
        sizes = [len(judge.tokens(*texts)) for texts in questions]
        tokens = 2 * sum(sizes)
        middle = sorted(range(len(sizes)), key=sizes.__getitem__)[len(sizes) // 2]
        seconds = _seconds(judge, questions[middle])
        expected = None if seconds is None else seconds * tokens / sizes[middle]
        return replace(cost, tokens_in=tokens, tokens_out=0, seconds=expected)
    characters = 2 * sum(len(judge.question(*texts)) for texts in questions)
    tokens_in, tokens_out = characters // CHARACTERS_PER_TOKEN, cost.calls * VERDICT_TOKENS
    bill = Spent(
        answers=cost.calls,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        usd_per_million=judge.spent.usd_per_million,
    )
    return replace(cost, tokens_in=tokens_in, tokens_out=tokens_out, usd=bill.usd)


def _seconds(judge: ModelJudge, texts: tuple[str, ...]) -> float | None:
    """What one question takes, once the model is warm; None if it is longer than the model's."""
    try:
        judge(*texts)
    except ValueError:
        return None
    begun = time.perf_counter()
    judge(*texts)
    return time.perf_counter() - begun


def _share(rate: Interval) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
