"""Week 1, the map of post-training.

- figures: the notebook's figures
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week01.figures import (
    plot_behaviour,
    plot_falling,
    plot_parts,
    plot_surprise,
    plot_trained_share,
)

__all__ = [
    "plot_behaviour",
    "plot_falling",
    "plot_parts",
    "plot_surprise",
    "plot_trained_share",
]

_doors.publish(__name__)
