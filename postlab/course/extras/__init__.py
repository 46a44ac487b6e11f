"""What the notebooks beyond the twelve weeks need: notebooks/extras/*.

- pictures: who samples and who scores in distillation; the two copies of the weights in RL;
  which turns of a conversation are trained; an episode with calls; three sources of pairs
- figures: the recorded comparisons, the teacher's verdict on one answer, and how long a model
  thinks
- figures_rl: one episode as its tokens, calls by price, and training with other samplers
- figures_pairs: how likely two sources of pairs are, and what training on each leads to
- moves: changes over seeds and prompts, and accuracy up to a budget
- mismatch: samplers that differ from the trainer, and TRL's correction without vLLM
- tools: a calculator and a look-up as an environment, their questions, and credit by turns
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
from postlab.course.extras.figures_pairs import plot_likelihoods, plot_sources
from postlab.course.extras.figures_rl import (
    plot_calls,
    plot_corrections,
    plot_episode,
    plot_trust,
)
from postlab.course.extras.mismatch import (
    OtherSampler,
    corrected,
    fake_quantised,
    importance_weights,
)
from postlab.course.extras.moves import family_moves, mean_until
from postlab.course.extras.pictures import (
    draw_pair_sources,
    draw_turn_masks,
    draw_turns,
    draw_two_copies,
    draw_who_scores,
)
from postlab.course.extras.tools import (
    KINDS,
    NEEDED,
    World,
    credited_by_turn,
    is_right,
    questions,
    right_minus_price,
    sample_turns_with_engine,
    tool_rows,
    turn_advantages,
    turn_of_token,
    with_tools,
)

__all__ = [
    "KINDS",
    "NEEDED",
    "OtherSampler",
    "World",
    "corrected",
    "credited_by_turn",
    "draw_pair_sources",
    "draw_turn_masks",
    "draw_turns",
    "draw_two_copies",
    "draw_who_scores",
    "fake_quantised",
    "family_moves",
    "importance_weights",
    "is_right",
    "mean_until",
    "plot_budget",
    "plot_calls",
    "plot_corrections",
    "plot_curves",
    "plot_episode",
    "plot_families",
    "plot_likelihoods",
    "plot_ratios",
    "plot_sources",
    "plot_thinking",
    "plot_trust",
    "plot_turns",
    "plot_verdict",
    "questions",
    "right_minus_price",
    "sample_turns_with_engine",
    "tool_rows",
    "turn_advantages",
    "turn_of_token",
    "with_tools",
]

_doors.publish(__name__)
