"""A capstone: one question of the learner's own, its prediction registered before anything runs.

- proposal: a YAML file read into a `Proposal`, registered, and the evaluations kept beside it
- judging: whether the prediction was supported, refuted or left open, and what wasn't as registered
- taste: the part of the rubric for research taste that can be computed
- bill: what the roadmap's three projects cost on rented GPUs, estimated
"""

from postlab import _doors
from postlab.course.capstone.bill import bill
from postlab.course.capstone.judging import Judgement, judge
from postlab.course.capstone.proposal import (
    Arm,
    Prediction,
    Proposal,
    Registration,
    keep,
    kept,
    read_proposal,
    read_registration,
    register,
)
from postlab.course.capstone.taste import rubric

__all__ = [
    "Arm",
    "Judgement",
    "Prediction",
    "Proposal",
    "Registration",
    "bill",
    "judge",
    "keep",
    "kept",
    "read_proposal",
    "read_registration",
    "register",
    "rubric",
]

_doors.publish(__name__)
