"""What a comparison of stages may claim, worded once for the figures and reports.

- comparison: labels, colours, the merging of seeds, and the finding for each stage
"""

from postlab import _doors
from postlab.claims.comparison import (
    COUNTED,
    INK,
    MECHANISM,
    ORDER,
    STAGE_COLOURS,
    findings,
    in_order,
    is_share,
    merge_seeds,
    metric_label,
    points,
    stage_label,
)

__all__ = [
    "COUNTED",
    "INK",
    "MECHANISM",
    "ORDER",
    "STAGE_COLOURS",
    "findings",
    "in_order",
    "is_share",
    "merge_seeds",
    "metric_label",
    "points",
    "stage_label",
]

_doors.publish(__name__)
