"""What the notebooks beyond the twelve weeks need: notebooks/extras/*.

- pictures: who samples and who scores in distillation; the two copies of the weights in RL;
  which turns of a conversation are trained
- figures: the recorded comparisons, the teacher's verdict on one answer, and how long a model
  thinks
- moves: changes over seeds and prompts, and accuracy up to a budget
- mismatch: samplers that differ from the trainer, and TRL's correction without vLLM
"""

from postlab import _doors
from postlab.course.extras.figures import (
    plot_budget,
    plot_curves,
    plot_families,
    plot_ratios,
    plot_thinking,
    plot_turns,
    plot_verdict,
)
from postlab.course.extras.mismatch import (
    OtherSampler,
    corrected,
    fake_quantised,
    importance_weights,
)
from postlab.course.extras.moves import family_moves, mean_until
from postlab.course.extras.pictures import draw_turn_masks, draw_two_copies, draw_who_scores

__all__ = [
    "OtherSampler",
    "corrected",
    "draw_turn_masks",
    "draw_two_copies",
    "draw_who_scores",
    "fake_quantised",
    "family_moves",
    "importance_weights",
    "mean_until",
    "plot_budget",
    "plot_curves",
    "plot_families",
    "plot_ratios",
    "plot_thinking",
    "plot_turns",
    "plot_verdict",
]

_doors.publish(__name__)
