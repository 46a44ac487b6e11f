"""Evaluate one stage on a suite of prompts, and compare stages side by side.

- evaluation: every prompt of a suite answered, scored and kept as a row; frames compared
- suites: what is asked, by name, and the check of rows that you bring
- forms: answers read strictly and leniently, to tell format from knowledge
"""

from postlab import _doors
from postlab.evals.evaluation import METRICS, NON_METRICS, compare, evaluate
from postlab.evals.forms import readings
from postlab.evals.key import answer_inputs, score_again, scorer_hash
from postlab.evals.suites import suite_rows

__all__ = [
    "METRICS",
    "NON_METRICS",
    "answer_inputs",
    "compare",
    "evaluate",
    "readings",
    "score_again",
    "scorer_hash",
    "suite_rows",
]

_doors.publish(__name__)
