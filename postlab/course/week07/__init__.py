"""Week 7, the mathematics of GRPO.

- figures: the notebook's figures
- pictures: the picture of its main idea
- exercises, exercise_step, mistakes_*: its exercises and the usual mistakes in them; they import
  torch, so `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week07.figures import (
    plot_climb,
    plot_gains,
    plot_hunt,
    plot_pair,
    plot_pass,
    plot_rates,
    plot_reuse,
)
from postlab.course.week07.pictures import draw_groups

__all__ = [
    "draw_groups",
    "plot_climb",
    "plot_gains",
    "plot_hunt",
    "plot_pair",
    "plot_pass",
    "plot_rates",
    "plot_reuse",
]

_doors.publish(__name__)
