"""Process reward models: step labels, a score for every step, and what to do with the scores.

A solution is a row in TRL's stepwise form: `prompt` (messages), `completions` (its steps, in order)
and `labels` (one a step: 1 right, 0 wrong, a share between them, None where nobody knows). The
label of a step stands on its last token and nowhere else, so a token-classification head of
transformers, trained by transformers' `Trainer`, is a process reward model; with the label of the
last step alone it is an outcome reward model.

Rooms: `prm_steps` splits replies and places labels, `prm_labels` finds labels (the oracle, and
rollouts that need none but the final answer), `prm_scores` reads a trained head, `prm_choice`
chooses among n replies and finds the first wrong step, `prm_search` searches over steps.

Simplified against the papers: no generative verifier that writes why, no tree search, steps are cut
by a pattern and not by a model. A step is *right* when the solution is still on track after it, so
what follows a wrong step is wrong too; people who label stop at the first wrong step.

Source: Lightman et al. 2023, arXiv 2305.20050; Wang et al. 2023 (Math-Shepherd), arXiv 2312.08935.
Taught in week 10.
"""

from __future__ import annotations

from postlab.prm_choice import best_of_n, error_f1, first_wrong, vote_of_n
from postlab.prm_labels import agreement, hard_labels, oracle_labels, rollout_labels
from postlab.prm_scores import aggregate, process_reward, step_scores
from postlab.prm_search import Found, beam_search
from postlab.prm_steps import (
    LINES,
    SUMS,
    encode_steps,
    outcome_rows,
    sample_solutions,
    split_steps,
    step_row,
)

__all__ = [
    "LINES",
    "SUMS",
    "Found",
    "agreement",
    "aggregate",
    "beam_search",
    "best_of_n",
    "encode_steps",
    "error_f1",
    "first_wrong",
    "hard_labels",
    "oracle_labels",
    "outcome_rows",
    "process_reward",
    "rollout_labels",
    "sample_solutions",
    "split_steps",
    "step_row",
    "step_scores",
    "vote_of_n",
]
