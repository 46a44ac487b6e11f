"""The comparison of a profile's runs, as summary.json, stages.png and report.html.

- summary: writes what `claims` reads and compares; `python -m postlab.report PROFILE` calls it
- page: the HTML file
- written: the same comparison in sentences
"""

from postlab import _doors
from postlab.claims import summary_frame
from postlab.report.summary import draw_stages, summarise, write_report, written_comparison

__all__ = [
    "draw_stages",
    "summarise",
    "summary_frame",
    "write_report",
    "written_comparison",
]

_doors.publish(__name__)
