"""Process reward models: step labels, a score for each step, and ways to use the scores.

A solution is a row in TRL's stepwise form: `prompt` (messages), `completions` (its steps, in order)
and `labels` (one per step: 1 for right, 0 for wrong, a fraction in between, None if unknown). The
label of a step is placed on its last token only. A token-classification head from transformers,
trained with transformers' `Trainer`, is therefore a process reward model; trained on the label of
the last step alone, it is an outcome reward model.

- steps: replies split into steps, and labels placed on tokens
- labels: labels from the oracle, or from rollouts, which need only the final answer
- scores: the scores of a trained head
- choice: choosing among n replies, and finding the first wrong step
- search: beam search over steps
- credit: advantages per token from step scores, for reinforcement learning

Simplified against the papers: there is no generative verifier that explains its verdict and no tree
search, and a pattern rather than a model splits the steps. A step is *right* if the solution is
still on track after it, so every step after a wrong one is wrong too; human labellers stop at the
first wrong step.

Source: Lightman et al. 2023, arXiv 2305.20050; Wang et al. 2023 (Math-Shepherd), arXiv 2312.08935.
Taught in week 10.
"""

from postlab import _doors
from postlab.process.choice import best_of_n, error_f1, first_wrong, vote_of_n
from postlab.process.credit import step_advantages, token_steps
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
    "step_advantages",
    "step_row",
    "step_scores",
    "token_steps",
    "vote_of_n",
]

_doors.publish(__name__)
