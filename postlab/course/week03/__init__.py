"""Week 3, SFT and its data.

- pictures: what SFT trains, from a row to a checkpoint
- figures: the figure of a curation; figures_experiments: the figures of the experiments
- dataset_build: the build, rows chosen on a budget; hygiene: what happens to each row of a file
- judges: whether the reply in one of `everyday`'s training rows is right
- exercises, mistakes_*: the exercises and common mistakes in them; they import torch, so
  `postlab.course.check` loads them only when they are needed
"""

from postlab import _doors
from postlab.course.week03.dataset_build import (
    Budget,
    DatasetCheck,
    check_dataset,
    heldout,
    our_choice,
    pool,
    random_choice,
)
from postlab.course.week03.figures import plot_curation
from postlab.course.week03.figures_experiments import (
    plot_forgetting,
    plot_quality,
    plot_seeds,
    plot_stopping,
    plot_terms,
)
from postlab.course.week03.hygiene import fate_table, known_faults, row_fates, sample_file
from postlab.course.week03.judges import everyday_judge
from postlab.course.week03.pictures import draw_sft

__all__ = [
    "draw_sft",
    "Budget",
    "DatasetCheck",
    "check_dataset",
    "dataset_build",
    "everyday_judge",
    "fate_table",
    "heldout",
    "known_faults",
    "our_choice",
    "plot_curation",
    "plot_forgetting",
    "plot_quality",
    "plot_seeds",
    "plot_stopping",
    "plot_terms",
    "pool",
    "random_choice",
    "row_fates",
    "sample_file",
]

_doors.publish(__name__)
