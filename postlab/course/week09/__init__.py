"""Week 9, constitutional AI.

- figures: the notebook's figures
- pictures: the picture of its main idea
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week09.figures import moved, plot_cost, plot_moves, plot_noise
from postlab.course.week09.pictures import draw_halves

__all__ = [
    "draw_halves",
    "moved",
    "plot_cost",
    "plot_moves",
    "plot_noise",
]

_doors.publish(__name__)
