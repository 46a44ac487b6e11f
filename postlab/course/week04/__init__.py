"""Week 4, preference theory.

- figures: the notebook's figures
- exercises, mistakes_*: the exercises and common mistakes in them; they import torch, so
  `postlab.course.check` loads them only when they are needed
"""

from postlab import _doors
from postlab.course.week04.figures import (
    plot_bandit,
    plot_calibration,
    plot_frontier,
    plot_overoptimisation,
    plot_ppo,
    plot_support,
)

__all__ = [
    "plot_bandit",
    "plot_calibration",
    "plot_frontier",
    "plot_overoptimisation",
    "plot_ppo",
    "plot_support",
]

_doors.publish(__name__)
