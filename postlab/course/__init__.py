"""What belongs to the twelve notebooks and to nothing else.

- check: the exercises' checks
- week01 to week11: each week's exercises, figures and experiments' helpers
- recorded: how a recorded experiment is written and read
"""

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

__all__ = [
    "finished",
    "listed",
    "log_columns",
    "log_history",
    "numbers",
    "provenance",
    "week_of",
    "write_result",
]
