"""What is wrong with a training run, read from its log alone.

- diagnosis: `diagnose`, and `Finding`, the form in which every room reports a fault
- rules, rules_pairs, rules_grpo: one function per fault
- log, names: a log history as series of numbers, whatever its trainer calls them
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
