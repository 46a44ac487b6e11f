"""Week 9, constitutional AI.

- feedback: tables of the second experiment
- figures: the notebook's figures
- pictures: the pictures of its ideas
- rule_build: Build 9.1, a rule with its labeller, judged by what it does
- soft_dpo: DPO on labels that may be soft, for the second experiment and the build
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week09.feedback import arm_differences, difference_table, seed_table
from postlab.course.week09.figures import (
    moved,
    plot_bill,
    plot_moves,
    plot_noise,
)
from postlab.course.week09.pictures import draw_halves, draw_routes
from postlab.course.week09.rule_build import check_rule
from postlab.course.week09.soft_dpo import batches, both_sides, descend, train_soft_dpo

__all__ = [
    "arm_differences",
    "batches",
    "both_sides",
    "check_rule",
    "descend",
    "difference_table",
    "draw_halves",
    "draw_routes",
    "moved",
    "plot_bill",
    "plot_moves",
    "plot_noise",
    "seed_table",
    "train_soft_dpo",
]

_doors.publish(__name__)
