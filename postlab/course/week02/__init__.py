"""Week 2, LoRA and QLoRA.

- figures: the notebook's figures
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week02.figures import (
    plot_block_error,
    plot_codebook,
    plot_first_step,
    plot_learning_rates,
    plot_losses,
    plot_memory,
    plot_merges,
    plot_quality,
    plot_scalings,
    plot_step_memory,
)

__all__ = [
    "plot_block_error",
    "plot_codebook",
    "plot_first_step",
    "plot_learning_rates",
    "plot_losses",
    "plot_memory",
    "plot_merges",
    "plot_quality",
    "plot_scalings",
    "plot_step_memory",
]

_doors.publish(__name__)
