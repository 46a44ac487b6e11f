"""One evaluation of one stage, and stages side by side.

- evaluation: every prompt of a suite answered, scored and kept as a row; frames compared
- suites: what is asked, by name, and the check of rows that you bring
- forms: answers read strictly and leniently, to tell format from knowledge
"""

from postlab.evals.evaluation import METRICS, TEXT, compare, evaluate
from postlab.evals.forms import readings
from postlab.evals.key import asked, score_again, scorers
from postlab.evals.suites import suite_rows

__all__ = [
    "METRICS",
    "TEXT",
    "asked",
    "compare",
    "evaluate",
    "readings",
    "score_again",
    "scorers",
    "suite_rows",
]
