"""What is wrong with a training run, read from its log alone.

- diagnosis: `diagnose`, and `Finding`, the form in which every room reports a fault
- rules, rules_pairs, rules_grpo: one function per fault
- log, names: a log history as series of numbers, whatever its trainer calls them
- callback: the doctor in a trainer, while it trains
"""

from postlab import _doors
from postlab.doctor.callback import DoctorCallback, Watcher
from postlab.doctor.diagnosis import CODES, Finding, diagnose, finds, listed
from postlab.doctor.log import finite

__all__ = [
    "CODES",
    "DoctorCallback",
    "Finding",
    "Watcher",
    "diagnose",
    "finds",
    "finite",
    "listed",
]

_doors.publish(__name__)
