"""Week 7, the mathematics of GRPO.

- figures: the notebook's figures
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week07.figures import (
    plot_climb,
    plot_gains,
    plot_hunt,
    plot_pair,
    plot_pass,
    plot_reuse,
    plot_schedule,
)

__all__ = [
    "plot_climb",
    "plot_gains",
    "plot_hunt",
    "plot_pair",
    "plot_pass",
    "plot_reuse",
    "plot_schedule",
]

_doors.publish(__name__)
