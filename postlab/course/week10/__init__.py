"""Week 10, process rewards.

- figures: the notebook's figures; figures_gamed: those of a process reward that is gamed
- pictures: the picture of its main idea
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week10.figures import (
    found_errors,
    gains,
    hits_by_place,
    plot_choice,
    plot_errors,
    plot_gains,
    plot_step_scores,
)
from postlab.course.week10.figures_gamed import curves, plot_gamed
from postlab.course.week10.pictures import draw_rewards

__all__ = [
    "draw_rewards",
    "curves",
    "found_errors",
    "gains",
    "hits_by_place",
    "plot_choice",
    "plot_errors",
    "plot_gains",
    "plot_gamed",
    "plot_step_scores",
]

_doors.publish(__name__)
