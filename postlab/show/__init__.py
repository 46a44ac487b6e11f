"""Figures and widgets for any run: stages compared, training logs, what a policy writes.

- plots: stages and training logs as figures
- layout: the panels, headlines and colours of every figure
- schematics: boxes, arrows and rows of tokens, for pictures of ideas
- voting: the arena, a blind vote between two replies
- reviewing: training rows reviewed by hand, twice
- explorer: the rollout explorer for GRPO's groups
- mixer: the soup mixer
- chooser: the token view with a slider
- live: a training run while it trains
- pages: escaped text, buttons, and the static form that shows without a kernel
"""

from postlab import _doors
from postlab.show.chooser import TokenChooser, token_chooser
from postlab.show.explorer import Answer, Group, record_groups, rollout_explorer
from postlab.show.layout import (
    GREY,
    MANNER_COLOURS,
    PALE,
    draw_moves,
    draw_seeds,
    headline,
    panels,
    running_mean,
)
from postlab.show.live import LiveView
from postlab.show.mixer import soup_mixer
from postlab.show.pages import WIDE, bundle, button, label, shown, table_html, text_html
from postlab.show.plots import plot_stages, plot_training
from postlab.show.reviewing import review
from postlab.show.schematics import FROZEN, PHONE, arrow, box, canvas, note, tokens
from postlab.show.voting import arena

__all__ = [
    "FROZEN",
    "GREY",
    "MANNER_COLOURS",
    "PALE",
    "PHONE",
    "WIDE",
    "Answer",
    "Group",
    "LiveView",
    "TokenChooser",
    "arena",
    "arrow",
    "box",
    "bundle",
    "button",
    "canvas",
    "draw_moves",
    "draw_seeds",
    "headline",
    "label",
    "note",
    "panels",
    "plot_stages",
    "plot_training",
    "record_groups",
    "review",
    "rollout_explorer",
    "running_mean",
    "shown",
    "soup_mixer",
    "table_html",
    "text_html",
    "token_chooser",
    "tokens",
]

_doors.publish(__name__)
