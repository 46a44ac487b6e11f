"""The comparison of a profile's runs, as summary.json, stages.png and report.html.

- summary: reads and compares the run folders; `python -m postlab.report PROFILE` calls it
- reading: the run folders, and what is damaged in them
- page: the HTML file
- written: the same comparison in sentences
"""

from postlab import _doors
from postlab.report.summary import summarise, summary_frame, write_report, written_comparison

__all__ = [
    "summarise",
    "summary_frame",
    "write_report",
    "written_comparison",
]

_doors.publish(__name__)
