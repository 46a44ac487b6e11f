"""Beam search over steps: keep the prefixes that the process reward model likes, and go on.

Every round each of `beams` prefixes of a prompt is continued by `width` steps drawn from the
policy; all are scored, the best `beams` different ones stay, finished ones among them. It ends when
all kept are finished. What it costs is counted in tokens drawn, so that it can be compared with
best-of-n at equal cost.

Left out: tree search with values, diversity terms, and the reward model's own cost, one forward
pass a candidate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from postlab.process.scores import aggregate
from postlab.process.steps import SUMS, draw, split_steps
from postlab.sampling import Messages, Rollout, check_fits, render, stop_tokens

STEP_END = r"[,.]\s+"  # the text of a token that ends a step of tinyworld's sums

Score = Callable[[Sequence[dict[str, Any]]], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Found:
    """What a search found for one prompt: the reply, its score, and tokens drawn on the way."""

    reply: str
    score: float
    tokens: int


@dataclass
class _Beam:
    ids: list[int]  # of the reply so far
    done: bool
    score: float = 0.0


def beam_search(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Messages],
    score: Score,
    *,
    beams: int = 4,
    width: int = 4,
    how: str = "min",
    temperature: float = 1.0,
    step_tokens: int = 16,
    max_steps: int = 10,
    step_end: str = STEP_END,
    at: str = SUMS,
    seed: int = 0,
) -> list[Found]:
    """Search for each prompt's best reply, step by step.

    Args:
        model: the policy.
        tokenizer: its own.
        prompts: messages, P of them.
        score: rows with `prompt` and `completions` -> a chance a step, such as `step_scores` with
            a head; called once a round.
        beams: prefixes kept a prompt.
        width: continuations drawn a prefix.
        how: of `aggregate`, over the steps so far.
        temperature: of the draws, above 0.
        step_tokens: where a step that does not end is cut.
        max_steps: rounds at most; what is unfinished then counts as it is.
        step_end: pattern that a token's whole text has to fit to end a step.
        at: where a prefix is cut into steps for `score`, as in `split_steps`; where steps are
            lines: `LINES`, step_end=r"\\n+", and a score with separator="\\n".
        seed: of the draws.
    Returns:
        Found a prompt.
    Raises:
        ValueError: if a number is out of range, or no token of the tokenizer ends a step.
    Source: Snell et al. 2024, arXiv 2408.03314, section 5. Taught in week 10.
    """
    if min(beams, width, step_tokens, max_steps) < 1 or temperature <= 0:
        raise ValueError(
            f"{beams=}, {width=}, {step_tokens=}, {max_steps=}, {temperature=}; expected at least "
            "1 each, and a temperature above 0"
        )
    ends, stops = _step_ends(tokenizer, step_end), stop_tokens(model, tokenizer)
    prompt_ids = [
        tokenizer(render(tokenizer, p), add_special_tokens=False)["input_ids"] for p in prompts
    ]
    # 1. One frontier per prompt, which starts as the empty prefix alone.
    frontier, tokens = [[_Beam([], False)] for _ in prompts], [0] * len(prompts)
    for number in range(max_steps):
        # 2. Continue the unfinished prefixes of all prompts together, `width` steps per prefix.
        going = [(i, b) for i, group in enumerate(frontier) for b in group if not b.done]
        if not going:
            break
        # In the first round there is one prefix instead of `beams`, so it samples for all beams.
        many = width * beams if number == 0 else width
        rollouts = [
            Rollout(f"{i} {b.ids}", k, prompt_ids[i] + b.ids, temperature, step_tokens)
            for i, b in going
            for k in range(many)
        ]
        check_fits(model, max(rollouts, key=lambda r: len(r.prompt)))
        with _also_stopping(model, ends):
            draw(model, tokenizer, rollouts, seed=seed)
        # 3. The candidates are the continuations and the finished beams; duplicates count once.
        candidates: list[dict[tuple, _Beam]] = [
            {tuple(b.ids): b for b in group if b.done} for group in frontier
        ]
        for number_of, rollout in enumerate(rollouts):
            i, beam = going[number_of // many]
            tokens[i] += len(rollout.answer)
            new = [t for t in rollout.answer if t not in stops]
            over = len(new) < len(rollout.answer) or len(new) == step_tokens
            ids = beam.ids + new
            candidates[i].setdefault(tuple(ids), _Beam(ids, over))
        # 4. The process reward model scores every candidate, and the best `beams` are kept.
        frontier = _best(candidates, prompts, tokenizer, score, how=how, beams=beams, at=at)
    # 5. The reply is the best beam of the last frontier.
    return [
        Found(_text(tokenizer, group[0].ids), group[0].score, spent)
        for group, spent in zip(frontier, tokens, strict=True)
    ]


def _best(
    candidates: Sequence[dict[tuple, _Beam]],
    prompts: Sequence[Messages],
    tokenizer: Any,
    score: Score,
    *,
    how: str,
    beams: int,
    at: str,
) -> list[list[_Beam]]:
    """The best beams of each prompt, best first; equal ones as they were drawn."""
    flat = [
        (prompt, beam, split_steps(_text(tokenizer, beam.ids), at=at))
        for prompt, group in zip(prompts, candidates, strict=True)
        for beam in group.values()
    ]
    rows = [{"prompt": prompt, "completions": steps} for prompt, _, steps in flat if steps]
    scores = iter(score(rows))
    for _, beam, steps in flat:
        beam.score = aggregate(next(scores), how) if steps else 0.0
    return [sorted(group.values(), key=lambda b: -b.score)[:beams] for group in candidates]


def _step_ends(tokenizer: Any, pattern: str) -> list[int]:
    """The tokens whose whole text ends a step."""
    ids = range(len(tokenizer))
    ends = [i for i in ids if re.fullmatch(pattern, tokenizer.decode([i]))]
    if not ends:
        raise ValueError(f"no token of this tokenizer fits step_end={pattern!r}")
    return ends


@contextmanager
def _also_stopping(model: Any, tokens: Sequence[int]) -> Iterator[None]:
    """Let the model's replies end at these tokens too, inside."""
    config = model.generation_config
    was = config.eos_token_id
    old = was if isinstance(was, list) else [] if was is None else [was]
    config.eos_token_id = [*old, *tokens]
    try:
        yield
    finally:
        config.eos_token_id = was


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True).strip()
