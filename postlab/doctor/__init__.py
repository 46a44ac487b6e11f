"""What is wrong with a training run, read from its log alone.

- diagnosis: `diagnose`, and the shape in which every room of the package reports a fault
- rules, rules_grpo: a function for each fault
- log: a trainer's log history as series of numbers
"""

from postlab import _doors
from postlab.doctor.diagnosis import Finding, diagnose
from postlab.doctor.log import finite

__all__ = [
    "Finding",
    "diagnose",
    "finite",
]

_doors.publish(__name__)
