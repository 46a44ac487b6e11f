"""Week 10, process rewards.

- figures: the notebook's figures; figures_gamed: those of a process reward that is gamed;
  figures_heads: what a head sees; figures_credit: credit for each step
- pictures: the pictures of its main ideas
- credit_build: the build, advantages per token (it imports torch)
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week10.figures import (
    form_only,
    found_errors,
    gains,
    hits_by_place,
    plot_choice,
    plot_errors,
    plot_step_scores,
)
from postlab.course.week10.figures_credit import (
    credit_rows,
    mended,
    mistakes_left,
    plot_credit,
)
from postlab.course.week10.figures_gamed import curves, plot_gamed
from postlab.course.week10.figures_heads import (
    auc,
    auc_rows,
    hard_choice,
    hard_gains,
    natural_rows,
    plot_auc,
    plot_hard_choice,
)
from postlab.course.week10.pictures import draw_credit, draw_rewards

__all__ = [
    "auc",
    "auc_rows",
    "credit_build",
    "credit_rows",
    "curves",
    "draw_credit",
    "draw_rewards",
    "form_only",
    "found_errors",
    "gains",
    "hard_choice",
    "hard_gains",
    "hits_by_place",
    "mended",
    "mistakes_left",
    "natural_rows",
    "plot_auc",
    "plot_choice",
    "plot_credit",
    "plot_errors",
    "plot_gamed",
    "plot_hard_choice",
    "plot_step_scores",
]

_doors.publish(__name__)
