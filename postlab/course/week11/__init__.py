"""Week 11, several objectives.

- figures: the notebook's figures; figures_methods: those of single methods
- figures_own: the figure of a profile's own model
- record: the recorded experiment as arrays and frames
- levels: what a constraint costs
- volumes: the hypervolumes of measured policies, with intervals
- front_build: Build 11.1, labels that reach a stated point of the front
- pictures: the picture of its main idea
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from postlab import _doors
from postlab.course.week11 import front_build
from postlab.course.week11.figures import plot_front, plot_volumes
from postlab.course.week11.figures_methods import (
    plot_constraint,
    plot_doses,
    plot_dual,
    plot_soups,
    plot_weights,
)
from postlab.course.week11.figures_own import plot_own_front
from postlab.course.week11.levels import best_rows
from postlab.course.week11.pictures import draw_places
from postlab.course.week11.record import (
    METHODS,
    STARTS,
    bill,
    constraint_ends,
    constraint_held,
    constraint_rows,
    dose_rows,
    dual_rows,
    interval_rows,
    means_of,
    method_sets,
    paired_rows,
    values,
)
from postlab.course.week11.volumes import Hypervolume, chosen_hypervolume, hypervolumes

__all__ = [
    "draw_places",
    "METHODS",
    "STARTS",
    "Hypervolume",
    "best_rows",
    "bill",
    "chosen_hypervolume",
    "constraint_ends",
    "constraint_held",
    "constraint_rows",
    "dose_rows",
    "dual_rows",
    "front_build",
    "hypervolumes",
    "interval_rows",
    "means_of",
    "method_sets",
    "paired_rows",
    "plot_constraint",
    "plot_doses",
    "plot_dual",
    "plot_front",
    "plot_own_front",
    "plot_soups",
    "plot_volumes",
    "plot_weights",
    "values",
]

_doors.publish(__name__)
