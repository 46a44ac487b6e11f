"""Week 6, comparing SFT and DPO.

- figures: the notebook's figures
- pictures: the pictures of its ideas
- compare_build, compare_reference: its build, judged by simulation, and the build as we wrote it
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week06 import compare_build
from postlab.course.week06.figures import (
    plot_bootstrap,
    plot_coverage,
    plot_detectable,
    plot_judges,
    plot_metrics,
    plot_power,
    plot_seeds,
)
from postlab.course.week06.pictures import draw_pairs, draw_sources

__all__ = [
    "compare_build",
    "draw_pairs",
    "draw_sources",
    "plot_bootstrap",
    "plot_coverage",
    "plot_detectable",
    "plot_judges",
    "plot_metrics",
    "plot_power",
    "plot_seeds",
]

_doors.publish(__name__)
