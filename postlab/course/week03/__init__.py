"""Week 3, SFT and its data.

- figures: the notebook's figures; figures_experiments: those of its experiments
- judges: whether a reply of `everyday`'s training rows is right
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week03.figures import plot_curation
from postlab.course.week03.figures_experiments import (
    plot_families,
    plot_forgetting,
    plot_quality,
    plot_sides,
    plot_stopping,
)
from postlab.course.week03.judges import everyday_judge

__all__ = [
    "everyday_judge",
    "plot_curation",
    "plot_families",
    "plot_forgetting",
    "plot_quality",
    "plot_sides",
    "plot_stopping",
]

_doors.publish(__name__)
