"""Week 8, debugging GRPO.

- figures: the notebook's figures
- figures_hack, figures_ablations, figures_tasks: figures of the recorded experiments
- pictures: the picture of its main idea
- rewards: a reward with a hole in it
- ablations: the recorded ablations as tables
- rubric: a rubric as reward, with gates, and the same rubric for a judge
- resampling: DAPO's dynamic sampling for TRL
- gym: puzzles from reasoning-gym
- exercises, mistakes_*, fill_build, mend_build, rule_build: its exercises and builds, and the usual
  mistakes in them; they import torch, so they are loaded when they are needed
"""

from postlab import _doors
from postlab.course.week08.ablations import (
    ablation_differences,
    ablation_table,
    paired_differences,
    rewards_by_update,
)
from postlab.course.week08.figures import plot_signals
from postlab.course.week08.figures_ablations import plot_ablations, plot_variants
from postlab.course.week08.figures_hack import by_prompt, curves, plot_proxy, plot_repairs
from postlab.course.week08.figures_tasks import plot_seen_and_unseen
from postlab.course.week08.gym import RUNS_ANSWERS, gym_reward, gym_rows
from postlab.course.week08.pictures import draw_ratios
from postlab.course.week08.resampling import dynamic_sampling
from postlab.course.week08.rewards import nothing_false_reward
from postlab.course.week08.rubric import (
    CRITERIA,
    Criterion,
    grades,
    read_grades,
    rubric_question,
    rubric_score,
)

__all__ = [
    "CRITERIA",
    "RUNS_ANSWERS",
    "Criterion",
    "ablation_differences",
    "ablation_table",
    "by_prompt",
    "curves",
    "draw_ratios",
    "dynamic_sampling",
    "gym_reward",
    "gym_rows",
    "fill_build",
    "grades",
    "mend_build",
    "nothing_false_reward",
    "paired_differences",
    "plot_ablations",
    "plot_proxy",
    "plot_repairs",
    "plot_seen_and_unseen",
    "plot_signals",
    "plot_variants",
    "read_grades",
    "rewards_by_update",
    "rubric_question",
    "rubric_score",
    "rule_build",
]

_doors.publish(__name__)
