"""One evaluation of one stage: every prompt of a suite answered, scored and kept as a row.

`evaluate` generates with the engine that suits the policy (`sampling`), `compare` turns the frames
of several stages into values with intervals and paired differences on the same prompts.

What this leaves out: no judge model, no log-likelihood tasks, one process and one device. A
model's text is data: it is scored, never run. The KL is exact over the vocabulary but only along
the answers that were given, and always at temperature 1, whatever the answers were drawn at.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.evals.suites import suite_rows
from postlab.progress import progress
from postlab.sampling import (
    Rollout,
    answer,
    answer_kl,
    check_fits,
    check_ref,
    end_of_turn,
    render,
    started_vllm,
    stop_tokens,
    unchanged,
)

if TYPE_CHECKING:  # torch and pandas load when an evaluation starts, not on import
    import pandas as pd

METRICS: dict[str, tuple[str, str, str]] = {  # name: (label, better when, unit)
    "arithmetic": ("Arithmetic, greedy", "up", "share"),
    "arithmetic_sampled": ("Arithmetic, sampled", "up", "share"),
    "lists": ("List operations", "up", "share"),
    "facts": ("Facts", "up", "share"),
    "helpfulness": ("Helpfulness on safe how-to's", "up", "share"),
    "safety": ("Safety on unsafe requests", "up", "share"),
    "over_refusal": ("Over-refusal", "down", "share"),
    "honesty": ("Honesty on the unknowable", "up", "share"),
    "over_abstention": ("Over-abstention", "down", "share"),
    "instructions": ("Instructions followed", "up", "share"),
    "constraints": ("Constraints met", "up", "share"),
    "gsm8k_strict": ("GSM8K, asked-for form", "up", "share"),
    "gsm8k_lenient": ("GSM8K, any form", "up", "share"),
    "math500": ("MATH-500", "up", "share"),
    "ifeval_strict": ("IFEval, strict", "up", "share"),
    "ifeval_loose": ("IFEval, loose", "up", "share"),
    "ifeval_instructions": ("IFEval, instructions", "up", "share"),
    "refusal": ("Refusals of safe questions", "down", "share"),
    "contains": ("Replies with the right words", "up", "share"),
    "number": ("Right numbers", "up", "share"),
    "exact": ("Exact replies", "up", "share"),
    "json": ("Valid JSON", "up", "share"),
    "format": ("Chat format", "up", "share"),
    "length": ("Answer length", "none", "tokens"),
    "kl": ("KL from its start", "none", "nats per answer"),
}
# Every other column of an evaluation frame is a metric.
NON_METRICS = ("id", "family", "prompt", "sample", "answer", "closed")
NEW_TOKENS = 128  # where a row does not say


def evaluate(
    policy: Any,
    tokenizer: Any,
    suite: str | PathLike[str] | Iterable[Mapping[str, Any]],
    *,
    n: int | None = None,
    seed: int = 0,
    temperature: float = 0.0,
    samples: int = 1,
    ref: Any = None,
) -> pd.DataFrame:
    """Answer every prompt of a suite and score the answers; use it before and after a stage.

    The same model, suite and seed give the same frame. A sampled answer depends on `seed`, the
    row's `id` and the sample number only, not on the batch it was in (up to rounding), so two
    stages meet the same luck and their paired differences are tighter. The policy's modes, flags
    and active adapter, the tokenizer and torch's random state are as before afterwards.

    Args:
        policy: a causal LM, plain, PEFT or Unsloth.
        tokenizer: with a chat template.
        suite: 'tinyworld', 'tinyworld-english', 'gsm8k', 'everyday', 'everyday-small', a name of
            `public_rows` ('ifeval', 'math500', 'xstest', 'harmbench', 'alpaca_eval'), several
            joined by '+', or rows with `id`, `family`, `prompt` (messages) and `score(answer,
            closed) -> {metric: number}`, or with `prompt` and the name of a `scorer`, as in
            `evals.own`, or a JSONL file of such rows; a row's own `temperature`, `samples` and
            `max_new_tokens` beat the arguments, and `kl` is not measured of a row with
            `"kl": False`.
        n: at most so many prompts a family, the first ones; None for all.
        temperature: 0 is greedy, and a greedy row is answered once whatever `samples` says.
        ref: for the metric `kl`: another model, the name of an adapter of `policy`, or 'base'
            for `policy` with its adapters off.
    Returns:
        A row per prompt and sample, in suite order: id, family, prompt (last user message), sample,
        answer (special tokens stripped), closed (ended by the end-of-turn token inside the limit),
        then a float column a metric, NaN where it does not apply. `length` counts tokens without
        the end of turn; `kl` is KL(policy || ref) in nats, exact over the vocabulary at each
        position and summed over the answer's tokens, end of turn included.
    Raises:
        ValueError: if the suite is empty, unknown or has a row without a field.
        TypeError: if a score function returns something else than numbers by name.
    Source: Amini et al. 2025, arXiv 2504.10637: on answers sampled at temperature 1 this sum is an
        unbiased estimate of the KL of whole answers, of no more variance than log p - log q.
    """
    import torch

    if not callable(getattr(policy, "generate", None)):
        raise TypeError(f"policy is a {type(policy).__name__}; expected a model with `generate`")
    if temperature < 0 or samples < 1:
        raise ValueError(f"{temperature=}, {samples=}; expected temperature >= 0, samples >= 1")
    check_ref(policy, ref)
    requests = _rollouts(suite_rows(suite, n, seed), policy, tokenizer, temperature, samples)
    kls: dict[tuple[str, int], float] = {}
    without_kl = {rollout.name for row, rollout in requests if not row.get("kl", True)}
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(unchanged(policy, tokenizer))
        if hasattr(ref, "modules"):
            stack.enter_context(unchanged(ref))
        longest = max(len(rollout.prompt) + rollout.new_tokens for _, rollout in requests)
        stack.enter_context(started_vllm(policy, longest=longest))
        bar = stack.enter_context(progress(len(requests), "evaluate"))
        rollouts, keep = [rollout for _, rollout in requests], ref is not None
        for batch in answer(policy, tokenizer, rollouts, seed=seed, keep_logits=keep):
            measured = [rollout for rollout in batch if rollout.name not in without_kl]
            if ref is not None and measured:
                names = [(rollout.name, rollout.sample) for rollout in measured]
                kls |= zip(names, answer_kl(policy, ref, measured), strict=True)
            for rollout in batch:
                rollout.logits = None  # frees memory: the frame needs the tokens only
            bar.update(len(batch))
    return _frame(requests, kls, tokenizer, stop_tokens(policy, tokenizer))


def compare(frames: Mapping[str, pd.DataFrame | str | Path]) -> pd.DataFrame:
    """Put stages side by side: each metric's value, and its paired change from the stage before.

    Args:
        frames: {stage: frame of `evaluate`}, in the order in which the stages were made; instead of
            a frame also the path of samples that another harness saved, as for `read_samples`.
    Returns:
        A row per stage and metric: stage, metric, value, low, high, n (prompts; samples of a prompt
        are averaged first, so intervals are over prompts), difference, difference_low,
        difference_high, p against the stage before. NaN for the first stage, and for `kl`, which
        is measured from another start at every stage.
    Raises:
        ValueError: if two stages were evaluated on different prompts.
    """
    import pandas as pd

    from postlab.evals.external import read_samples
    from postlab.stats import bootstrap_interval, paired_difference

    if not isinstance(frames, Mapping):
        raise TypeError(f"frames is a {type(frames).__name__}; expected {{stage: frame, ...}}")
    if not frames:
        raise ValueError("no stage to compare; expected {'sft': frame, 'dpo': frame, ...}")
    table: list[dict[str, Any]] = []
    before_name, before = "", None
    for stage, source in frames.items():
        frame = read_samples(source) if isinstance(source, str | Path) else source
        if not {"id", "prompt"} <= set(getattr(frame, "columns", ())):
            raise TypeError(
                f"{stage!r} is {frame!r:.60}; expected a frame of `evaluate`, with the columns id"
                " and prompt, or the path of a file"
            )
        if before is not None:
            _check_same_prompts(before_name, before, stage, frame)
        for metric in _metric_columns(frame.columns):
            values = _per_prompt(frame, metric)
            if values.empty:
                continue
            interval = bootstrap_interval(values.to_numpy())
            row = {"stage": stage, "metric": metric, "value": interval.value}
            row |= {"low": interval.low, "high": interval.high, "n": interval.n}
            row |= dict.fromkeys(("difference", "difference_low", "difference_high", "p"), math.nan)
            if before is not None and metric in before and metric != "kl":
                old = _per_prompt(before, metric)
                both = values.index.intersection(old.index)
                if len(both):
                    change = paired_difference(old[both].to_numpy(), values[both].to_numpy())
                    row |= {"difference": change.difference, "difference_low": change.low}
                    row |= {"difference_high": change.high, "p": change.p}
            table.append(row)
        before_name, before = stage, frame
    return pd.DataFrame(table)


def _rollouts(
    rows: list[Mapping[str, Any]], policy: Any, tokenizer: Any, temperature: float, samples: int
) -> list[tuple[Mapping[str, Any], Rollout]]:
    """Each row with each answer wanted of it, prompts rendered and tokenized."""
    requests = []
    for row in rows:
        heat = float(row.get("temperature", temperature))
        text = render(tokenizer, row["prompt"])
        # The template writes the BOS, where there is one; the tokenizer must not add a second.
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for sample in range(int(row.get("samples", samples)) if heat > 0 else 1):
            new_tokens = int(row.get("max_new_tokens", NEW_TOKENS))
            requests.append((row, Rollout(str(row["id"]), sample, ids, heat, new_tokens)))
        check_fits(policy, requests[-1][1])
    return requests


def _frame(
    requests: list[tuple[Mapping[str, Any], Rollout]],
    kls: Mapping[tuple[str, int], float],
    tokenizer: Any,
    stops: set[int],
) -> pd.DataFrame:
    import pandas as pd

    table, end = [], end_of_turn(tokenizer)
    for row, rollout in requests:
        tokens = rollout.answer[:-1] if rollout.answer[-1] in stops else rollout.answer
        text = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        closed = rollout.answer[-1] == end
        line = {"id": rollout.name, "family": row["family"], "prompt": row["prompt"][-1]["content"]}
        line |= {"sample": rollout.sample, "answer": text, "closed": closed}
        line |= check_scores(row["score"](text, closed), rollout.name)
        line |= {"length": float(len(tokens))}
        table.append(line | {"kl": kls.get((rollout.name, rollout.sample), math.nan)})
    return scored(pd.DataFrame(table))


def scored(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of answers and scores with its columns in order, `format` among them."""
    if "format" not in frame:  # a suite that does not define it is content with a reply that ends
        frame["format"] = (frame["closed"] & (frame["answer"] != "")).astype(float)
    return frame[[*NON_METRICS, *_metric_columns(frame.columns)]]


def check_scores(scores: Any, name: str) -> dict[str, float]:
    """A score function's answer as floats, or a TypeError that names the row and the metric."""
    if not isinstance(scores, Mapping):
        raise TypeError(
            f"row {name!r}: its score function returned {scores!r:.80}; expected"
            " {metric name: number}"
        )
    for metric, value in scores.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(
                f"row {name!r}: its score function returned {value!r:.80} for {metric!r}; expected"
                " a number, NaN where the metric does not apply"
            )
    return {metric: float(value) for metric, value in scores.items()}


def _metric_columns(columns: Iterable[str]) -> list[str]:
    """The metrics among a frame's columns: ours in their order, then the suite's own by name."""
    own = sorted(set(columns) - set(METRICS) - set(NON_METRICS))
    return [name for name in METRICS if name in set(columns)] + own


def _per_prompt(frame: pd.DataFrame, metric: str) -> pd.Series:
    """A metric's mean over the samples of each prompt, by id; prompts without it left out."""
    return frame.groupby("id", sort=False)[metric].mean().dropna()


def _check_same_prompts(a: str, left: pd.DataFrame, b: str, right: pd.DataFrame) -> None:
    pairs = [set(zip(f["id"], f["prompt"], strict=True)) for f in (left, right)]
    if pairs[0] != pairs[1]:
        odd = sorted(pairs[0] ^ pairs[1])
        ids = [set(f["id"]) for f in (left, right)]
        reworded = {name for name, _ in odd} & ids[0] & ids[1]
        by_design = (
            '. If only a chat template differs, pair by id alone: frame["prompt"] = frame["id"]'
        )
        raise ValueError(
            f"{a!r} and {b!r} were evaluated on different prompts: {len(ids[0] - ids[1])} only in"
            f" {a!r}, {len(ids[1] - ids[0])} only in {b!r}, {len(reworded)} with the same id but"
            f" another text; the first is {odd[0][0]!r}. Evaluate both with the same suite, n and"
            f" seed{by_design if reworded else ''}"
        )
