"""Week 3, SFT and its data.

- pictures: what SFT trains, from a row to a checkpoint
- figures: the figure of a curation; figures_experiments: the figures of the experiments
- judges: whether the reply in one of `everyday`'s training rows is right
- exercises, mistakes_*: the exercises and common mistakes in them; they import torch, so
  `postlab.course.check` loads them only when they are needed
"""

from postlab import _doors
from postlab.course.week03.figures import plot_curation
from postlab.course.week03.figures_experiments import (
    plot_families,
    plot_forgetting,
    plot_quality,
    plot_stopping,
)
from postlab.course.week03.judges import everyday_judge
from postlab.course.week03.pictures import draw_sft

__all__ = [
    "draw_sft",
    "everyday_judge",
    "plot_curation",
    "plot_families",
    "plot_forgetting",
    "plot_quality",
    "plot_stopping",
]

_doors.publish(__name__)
