"""The comparison of a profile's runs: summary.json, stages.png, report.html, and Markdown.

- summary: run folders read and compared; `python -m postlab.report PROFILE` calls it
- page: the HTML file
- written: the same comparison in sentences
"""

from postlab.report.summary import summarise, summary_frame, write_report, written_comparison

__all__ = [
    "summarise",
    "summary_frame",
    "write_report",
    "written_comparison",
]
