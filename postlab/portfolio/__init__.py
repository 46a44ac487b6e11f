"""A portfolio made from the learner's own runs, in which every number is bound to its evidence.

- binding: placeholders such as `{{dpo.safety.change}}`, and what the runs say for them
"""

from postlab import _doors
from postlab.portfolio.binding import Evidence, Value, evidence, placeholders, render, sentence

__all__ = [
    "Evidence",
    "Value",
    "evidence",
    "placeholders",
    "render",
    "sentence",
]

_doors.publish(__name__)
