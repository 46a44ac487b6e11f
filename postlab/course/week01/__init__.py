"""Week 1, the map of post-training.

- figures: the notebook's figures
- exercises, mistakes_*: its exercises and what goes wrong in them; they import torch, and
  `postlab.course.check` loads them
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
