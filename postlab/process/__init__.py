"""Process reward models: step labels, a score for each step, and ways to use the scores.

A solution is a row in TRL's stepwise form: `prompt` (messages), `completions` (its steps, in order)
and `labels` (one a step: 1 right, 0 wrong, a share between them, None where nobody knows). The
label of a step stands on its last token and nowhere else, so a token-classification head of
transformers, trained by transformers' `Trainer`, is a process reward model; with the label of the
last step alone it is an outcome reward model.

Files: `steps` splits replies and places labels, `labels` finds labels (the oracle, and
rollouts that need none but the final answer), `scores` reads a trained head, `choice`
chooses among n replies and finds the first wrong step, `search` searches over steps.

Simplified against the papers: no generative verifier that writes why, no tree search, steps are cut
by a pattern and not by a model. A step is *right* when the solution is still on track after it, so
what follows a wrong step is wrong too; people who label stop at the first wrong step.

Source: Lightman et al. 2023, arXiv 2305.20050; Wang et al. 2023 (Math-Shepherd), arXiv 2312.08935.
Taught in week 10.
"""

from postlab import _doors
from postlab.process.choice import best_of_n, error_f1, first_wrong, vote_of_n
from postlab.process.labels import agreement, hard_labels, oracle_labels, rollout_labels
from postlab.process.scores import aggregate, process_reward, step_scores
from postlab.process.search import beam_search
from postlab.process.steps import (
    LINES,
    encode_steps,
    outcome_rows,
    sample_solutions,
    split_steps,
    step_row,
)

__all__ = [
    "LINES",
    "aggregate",
    "agreement",
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

_doors.publish(__name__)
