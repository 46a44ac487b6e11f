"""Week 5, DPO.

- figures: the notebook's figures
- pictures: the picture of its main idea
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week05.figures import plot_arms, plot_length, plot_logps, plot_margins
from postlab.course.week05.pictures import draw_loss

__all__ = [
    "draw_loss",
    "plot_arms",
    "plot_length",
    "plot_logps",
    "plot_margins",
]

_doors.publish(__name__)
