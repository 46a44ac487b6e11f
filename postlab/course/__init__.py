"""What only the twelve notebooks need: checks, figures and recorded results.

- check: the exercises' checks
- capstone: a question of the learner's own, registered, judged, and what the projects cost
- week01 to week12: each week's exercises, figures and helpers for its experiments
- interview: the mock interview
- extras: figures and helpers of the notebooks beyond the twelve weeks
- recorded: how a recorded experiment is written and read
"""

from typing import TYPE_CHECKING

from postlab import _doors
from postlab.course.doctor_weeks import week_of
from postlab.course.recorded import (
    finished,
    listed,
    log_columns,
    log_history,
    numbers,
    provenance,
    write_result,
)

if TYPE_CHECKING:  # each is imported when it is first used
    from postlab.course import (
        capstone,
        check,
        extras,
        interview,
        week01,
        week02,
        week03,
        week04,
        week05,
        week06,
        week07,
        week08,
        week09,
        week10,
        week11,
        week12,
    )

__all__ = [
    "capstone",
    "check",
    "extras",
    "finished",
    "interview",
    "listed",
    "log_columns",
    "log_history",
    "numbers",
    "provenance",
    "week01",
    "week02",
    "week03",
    "week04",
    "week05",
    "week06",
    "week07",
    "week08",
    "week09",
    "week10",
    "week11",
    "week12",
    "week_of",
    "write_result",
]

_doors.publish(__name__)
