"""Week 1, the map of post-training.

- figures: the notebook's figures
- pictures: its schematics
- exercises, exercise_train, mistakes_*: its exercises and the usual mistakes in them; they import
  torch, so `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week01.figures import (
    plot_behaviour,
    plot_falling,
    plot_parts,
    plot_surprise,
    plot_trained_share,
)
from postlab.course.week01.pictures import draw_mask, draw_pipeline, draw_shift

__all__ = [
    "draw_mask",
    "draw_pipeline",
    "draw_shift",
    "plot_behaviour",
    "plot_falling",
    "plot_parts",
    "plot_surprise",
    "plot_trained_share",
]

_doors.publish(__name__)
