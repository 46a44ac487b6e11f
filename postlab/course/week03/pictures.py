"""Week 3's picture: what a row goes through until the adapter has learned from it.

It shows no numbers. Grey is what is only read, as in the token view; blue is what is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlab.claims import STAGE_COLOURS
from postlab.show import FROZEN, GREY, PHONE, arrow, box, canvas, note, tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SFT, _TRAINED = STAGE_COLOURS["sft"], "#cfe3f2"
_PROMPT = ["<|im_start|>", "user", "↵", "What", "does", "the", "fetin", "eat", "?", "<|im_end|>"]
_OPENED = ["↵", "<|im_start|>", "assistant", "↵"]
_REPLY = ["The", "fetin", "eats", "roots.", "<|im_end|>"]


def draw_sft() -> Figure:
    """Draw QLoRA SFT: row, tokens with their mask, frozen base and adapter, loss, checkpoint."""
    fig, axes = canvas(PHONE, 68, "SFT trains an adapter to write the reply; grey is only read")
    # 1. A row: prompt and completion.
    note(axes, (1, 2.5), "1  A row")
    box(axes, (11, 0.5, 29, 4.4), "What does the fetin eat?", fill=FROZEN)
    box(axes, (42, 0.5, 27, 4.4), "The fetin eats roots.", fill=_TRAINED, colour=_SFT)
    arrow(axes, (35, 5.2), (35, 9))
    note(axes, (37, 7), "chat template, tokenizer")
    # 2. Its tokens, and the mask of the loss.
    note(axes, (1, 10.6), "2  Tokens and mask (simplified)")
    texts = _PROMPT + _OPENED + _REPLY
    read = len(_PROMPT) + len(_OPENED)
    fills = [FROZEN] * read + [_TRAINED] * len(_REPLY)
    tokens(axes, (1, 12.6), texts, fills, limit=PHONE - 1)
    note(axes, (1, 22.6), "grey: mask 0, read but not trained")
    note(axes, (37, 22.6), "blue: mask 1, trained", colour=_SFT)
    arrow(axes, (35, 23.6), (35, 27.8))
    # 3. The model: a frozen base in four bits, and the adapter.
    note(axes, (1, 29.2), "3  QLoRA")
    box(axes, (1, 31, 33, 11), "base model W\n4-bit (NF4), frozen", fill=FROZEN, dashed=True)
    note(axes, (36.2, 36.5), "+", size=16, bold=True)
    adapter = "adapter BA\n16 or 32 bits,\ntrained"
    box(axes, (40, 31, 21, 11), adapter, fill=_TRAINED, colour=_SFT)
    arrow(axes, (25, 42.5), (25, 48.4))
    note(axes, (7, 45.4), "next-token logits")
    # 4. The loss of the blue tokens, whose gradient reaches the adapter alone.
    note(axes, (1, 51.6), "4  Loss")
    box(axes, (11, 48.9, 33, 5.4), "mean of -log p(blue token)")
    _elbow(axes, (44.4, 51.6), (50.5, 42.4), _SFT)
    note(axes, (51.8, 46.4), "gradient", colour=_SFT)
    # 5. What is saved.
    _elbow(axes, (61.4, 36.5), (66, 60), GREY)
    note(axes, (1, 63.2), "5  Checkpoint")
    box(axes, (18, 60.4, 51, 5.6), "the adapter and the optimizer's state, not W")
    return fig


def _elbow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """An arrow that goes sideways first, and then up or down."""
    corner = (end[0], start[1])
    axes.plot(*zip(start, corner, strict=True), color=colour, linewidth=1.8)
    arrow(axes, corner, end, colour=colour)
