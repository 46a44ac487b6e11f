"""What a comparison of stages may claim, worded once for the figures and reports.

- reading: the run folders of a profile, read so that a damaged one costs that stage and no other
- summary: all finished stages of a profile, each compared with its parent
- comparison: labels, colours, the merging of seeds, and the finding for each stage
- claim: each change with its verdict and what a reader must know to believe it
"""

from postlab import _doors
from postlab.claims.claim import CAVEATS, Claim, claims
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
    signed,
    stage_label,
)
from postlab.claims.reading import Problem, StageRun, read_runs
from postlab.claims.summary import summarised, summary_frame

__all__ = [
    "CAVEATS",
    "COUNTED",
    "INK",
    "MECHANISM",
    "ORDER",
    "STAGE_COLOURS",
    "Claim",
    "Problem",
    "StageRun",
    "claims",
    "findings",
    "in_order",
    "is_share",
    "merge_seeds",
    "metric_label",
    "points",
    "read_runs",
    "signed",
    "stage_label",
    "summarised",
    "summary_frame",
]

_doors.publish(__name__)
