"""Week 6, comparing SFT and DPO.

- figures: the notebook's figures
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week06.figures import (
    plot_bootstrap,
    plot_detectable,
    plot_judges,
    plot_metrics,
    plot_power,
    plot_seeds,
)

__all__ = [
    "plot_bootstrap",
    "plot_detectable",
    "plot_judges",
    "plot_metrics",
    "plot_power",
    "plot_seeds",
]

_doors.publish(__name__)
