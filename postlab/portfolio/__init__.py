"""A portfolio made from the learner's own runs, in which every number is bound to its evidence.

- binding: placeholders such as `{{dpo.safety.change}}`, and what the runs say for them
- publish: the models, rows and Space sent to the Hub, after a dry run
- space: the Gradio Space, a blind side by side of the stages
"""

from postlab import _doors
from postlab.portfolio.binding import Evidence, Value, evidence, placeholders, render, sentence
from postlab.portfolio.publish import Plan, UploadFailed, publish
from postlab.portfolio.space import write_space

__all__ = [
    "Evidence",
    "Value",
    "evidence",
    "placeholders",
    "render",
    "sentence",
    "Plan",
    "UploadFailed",
    "publish",
    "write_space",
]

_doors.publish(__name__)
