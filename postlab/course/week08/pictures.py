"""Week 8's picture: one ratio per token, or one per answer, and what a clip does to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from postlab.claims import STAGE_COLOURS
from postlab.show import PHONE, box, canvas, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXTS = ("12", "+", "30", "=", "42", ".", "####", "42")
# Log-probs under the policy minus those under the sampler, nats: an invented answer.
LOG_RATIOS = np.array([0.05, -0.02, 0.10, 0.01, 0.42, -0.04, 0.03, 0.33])
CLIPPED = "#f6d9cc"


def draw_ratios(low: float = 0.2, high: float = 0.2) -> Figure:
    """Draw an answer's ratios per token, as in GRPO, and its single ratio, as in GSPO.

    Args:
        low, high: the clip's distances from 1, for the ratios of tokens.
    """
    ratios = np.exp(LOG_RATIOS)
    clipped = ratios > 1 + high  # the answer's advantage is positive: only the upper clip acts
    whole = float(np.exp(LOG_RATIOS.mean()))
    fig, axes = canvas(
        PHONE,
        30,
        f"GRPO clips {clipped.sum()} of {len(TEXTS)} tokens; GSPO keeps or drops all of them",
    )
    note(axes, (1, 1.8), "an answer with a positive advantage (invented numbers)", size=11)
    for place, text in enumerate(TEXTS):
        cell = (1 + 8.4 * place, 4, 7.8, 4)
        box(axes, cell, text, colour=STAGE_COLOURS["grpo"])
        fill = CLIPPED if clipped[place] else "white"
        ratio = (1 + 8.4 * place, 11, 7.8, 4)
        box(axes, ratio, f"{ratios[place]:.2f}", fill=fill, bold=bool(clipped[place]))
    note(
        axes, (1, 9.6), "GRPO: for each token, probability now / probability when sampled", size=11
    )
    note(axes, (1, 17), f"shaded: above {1 + high:g}, so this token gets no gradient", size=11)
    note(axes, (1, 21), "GSPO: one ratio, the geometric mean over the answer's tokens", size=11)
    box(axes, (1, 22.6, 67, 4), f"{whole:.2f}")
    note(
        axes,
        (1, 28.2),
        "above its own, much narrower clip, all of its tokens get no gradient",
        size=11,
    )
    return fig
