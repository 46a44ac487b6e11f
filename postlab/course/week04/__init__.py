"""Week 4, preference theory.

- figures, pictures: the notebook's figures, and its pictures of ideas
- nine, ppo_build, ppo_reference: the world of nine replies and the build in it (they import torch)
- exercises, mistakes_*: the exercises and common mistakes in them; they import torch, so
  `postlab.course.check` loads them only when they are needed
"""

from postlab import _doors
from postlab.course.week04.figures import (
    plot_bandit,
    plot_calibration,
    plot_faults,
    plot_frontier,
    plot_matched,
    plot_overoptimisation,
    plot_ppo,
    plot_support,
)
from postlab.course.week04.pictures import draw_four_models, draw_two_roads

__all__ = [
    "draw_four_models",
    "draw_two_roads",
    "nine",
    "plot_bandit",
    "plot_calibration",
    "plot_faults",
    "plot_frontier",
    "plot_matched",
    "plot_overoptimisation",
    "plot_ppo",
    "plot_support",
    "ppo_build",
    "ppo_reference",
]

_doors.publish(__name__)
