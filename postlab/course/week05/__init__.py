"""Week 5, DPO.

- figures: the notebook's figures
- pictures: the pictures of its ideas
- trained: recorded runs as a frame, and arms compared over seeds
- ultrafeedback: eight rows in the form of UltraFeedback
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week05.figures import (
    plot_arms,
    plot_gains,
    plot_grid,
    plot_length,
    plot_logps,
    plot_margins,
)
from postlab.course.week05.pictures import draw_loss, draw_ultrafeedback
from postlab.course.week05.trained import compare_arms, run_scores
from postlab.course.week05.ultrafeedback import ultrafeedback_sample

__all__ = [
    "compare_arms",
    "draw_loss",
    "draw_ultrafeedback",
    "plot_arms",
    "plot_gains",
    "plot_grid",
    "plot_length",
    "plot_logps",
    "plot_margins",
    "run_scores",
    "ultrafeedback_sample",
]

_doors.publish(__name__)
