"""A mock interview: questions with rubrics, graded by yourself, and repeated when they are due.

- questions: the bank in `bank/*.yaml`, with recorded logs and computed estimates filled in
- evidence: questions about the learner's own runs; their words are in `evidence.yaml`
- history: every grade in a JSONL file, when a question is due again, and the gaps by week and topic
- session: `interview`, its widget, code rounds, and a second opinion by a language model
"""

from postlab import _doors
from postlab.course.interview.evidence import evidence_questions
from postlab.course.interview.history import gaps
from postlab.course.interview.questions import KINDS, Question, bank
from postlab.course.interview.session import Interview, interview

__all__ = [
    "KINDS",
    "Interview",
    "Question",
    "bank",
    "evidence_questions",
    "gaps",
    "interview",
]

_doors.publish(__name__)
