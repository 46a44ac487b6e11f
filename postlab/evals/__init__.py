"""Evaluate one stage on a suite of prompts, and compare stages side by side.

- evaluation: answers and scores every prompt of a suite, one row each; compares the frames
- suites: the named suites of prompts, and the check of rows that you bring
- own: suites of your own in a JSONL file, scored by functions that its rows name
- everyday: natural English prompts for real models, scored by programs
- external: reads the samples that lm-evaluation-harness or inspect-ai saved
- public: IFEval, MATH-500, XSTest, HarmBench and AlpacaEval, read from the Hub
- forms: reads answers strictly and leniently, to separate format from knowledge
"""

from postlab import _doors
from postlab.evals.evaluation import METRICS, NON_METRICS, compare, evaluate
from postlab.evals.everyday import everyday_rows
from postlab.evals.external import read_samples
from postlab.evals.forms import readings
from postlab.evals.key import answer_inputs, score_again, scorer_hash
from postlab.evals.own import SCORERS
from postlab.evals.public import public_rows
from postlab.evals.suites import SUITES, suite_rows

__all__ = [
    "METRICS",
    "NON_METRICS",
    "SCORERS",
    "SUITES",
    "answer_inputs",
    "compare",
    "evaluate",
    "everyday_rows",
    "public_rows",
    "read_samples",
    "readings",
    "score_again",
    "scorer_hash",
    "suite_rows",
]

_doors.publish(__name__)
