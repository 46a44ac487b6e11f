"""Week 1's pictures of ideas: who learns from what, and which tokens of a row are trained."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from postlab.claims import STAGE_COLOURS
from postlab.show import FROZEN, PALE, PHONE, arrow, box, canvas, note, tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES = (  # stage, its name, what it sees, what it does with that
    ("base", "base", "documents", "continue the page,\ntoken by token"),
    ("sft", "SFT", "prompts, each with\na reply somebody wrote", "imitate such replies"),
    (
        "dpo",
        "DPO or RLHF",
        "prompts with two replies,\none preferred",
        "make the better kind\nof reply likelier",
    ),
    (
        "grpo",
        "GRPO",
        "prompts and a reward:\na program, or a model",
        "repeat what scored well\namong its own replies",
    ),
)


def draw_pipeline() -> Figure:
    """Draw the stages from base to GRPO: the data that each sees, and what it learns from it."""
    row, height = 11.5, 8.0
    fig, axes = canvas(
        PHONE,
        row * len(STAGES) + 2.5,
        "Each stage goes on from the last, with another kind of data",
    )
    note(axes, (1, 1.3), "data", bold=True)
    note(axes, (29, 1.3), "model", bold=True)
    note(axes, (46, 1.3), "what it learns to do", bold=True)
    for place, (stage, name, data, lesson) in enumerate(STAGES):
        y = 3.2 + place * row
        box(axes, (1, y, 23, height), data, dashed=True, size=11)
        arrow(axes, (24.3, y + height / 2), (28.7, y + height / 2))
        colour = STAGE_COLOURS[stage]
        box(axes, (29, y, 15, height), name, colour=colour, fill=colour, bold=True)
        note(axes, (46, y + height / 2), lesson, size=11.5)
        if place:
            arrow(axes, (36.5, y - row + height), (36.5, y - 0.1))
            note(axes, (37.6, y - (row - height) / 2), "weights", size=10.5)
    return fig


def draw_shift(row: Mapping[str, Any], tokenizer: Any, *, max_length: int = 256) -> Figure:
    """Draw which token each position of one row's last turn reads, and which it has to predict.

    Args:
        row: `prompt` and `completion`, lists of messages; its reply should be short.
        tokenizer: with its chat template.
        max_length: as for `postlab.chat.encode`, whose mask is drawn.
    """
    pairs = _shown(row, tokenizer, max_length)
    first = next(t for t, (_, trained) in enumerate(pairs) if trained)
    pairs = pairs[max(0, first - 3) :]  # the end of the header, and the reply
    step, height = 4.6, 3.6
    title = "The output at each position is trained to give the next token"
    fig, axes = canvas(PHONE, step * (len(pairs) - 1) + 4, title)
    note(axes, (1, 1.3), "ids[:, :-1], read", bold=True)
    note(axes, (27, 1.3), "ids[:, 1:], the label", bold=True)
    note(axes, (48, 1.3), "mask[:, 1:]", bold=True)
    for place, ((text, _), (label, trained)) in enumerate(pairwise(pairs)):
        y = 3.4 + step * place
        box(axes, (1, y, 15, height), text, colour=PALE, fill=FROZEN, size=11)
        arrow(axes, (16.5, y + height / 2), (26.3, y + height / 2))
        colour = STAGE_COLOURS["sft"] if trained else FROZEN
        box(axes, (27, y, 15, height), label, colour=PALE, fill=colour, size=11)
        note(axes, (48, y + height / 2), "1, trained" if trained else "0, not trained")
    return fig


def draw_mask(row: Mapping[str, Any], tokenizer: Any, *, max_length: int = 256) -> Figure:
    """Draw one row as tokens, a line of the template per line, the trained ones in SFT's colour.

    Args:
        row: `prompt` and `completion`, lists of messages.
        tokenizer: with its chat template.
        max_length: as for `postlab.chat.encode`, whose mask is drawn.
    """
    lines: list[list[tuple[str, int]]] = [[]]
    pairs = _shown(row, tokenizer, max_length)
    for text, trained in pairs:
        lines[-1].append((text, trained))
        if text.endswith("↵"):
            lines.append([])
    lines = [line for line in lines if line]
    count = sum(trained for _, trained in pairs)
    title = f"{count} of {len(pairs)} tokens are trained: the reply and what ends it"
    fig, axes = canvas(PHONE, 5.2 * len(lines) + 7, title)
    y = 1.0
    for line in lines:
        colours = [STAGE_COLOURS["sft"] if trained else FROZEN for _, trained in line]
        boxes = tokens(axes, (1, y), [text for text, _ in line], colours, limit=PHONE - 1)
        y = boxes[-1][1] + 5.2
    for x, colour, text in (
        (1, FROZEN, "only read: written by the user or the template"),
        (43, STAGE_COLOURS["sft"], "trained: the loss counts it"),
    ):
        box(axes, (x, y + 0.6, 2.4, 2.4), colour=colour, fill=colour)
        note(axes, (x + 3.2, y + 1.8), text, size=10.5)
    axes.set_ylim(max(y + 4, axes.get_ylim()[0]), 0)
    return fig


def _shown(row: Mapping[str, Any], tokenizer: Any, max_length: int) -> list[tuple[str, int]]:
    """Each token of a row as it is written in a picture, and whether it is trained."""
    from postlab.chat import encode

    batch = encode([dict(row)], tokenizer, max_length=max_length)
    pairs = []
    for token, trained in zip(
        *(batch[k][0].tolist() for k in ("input_ids", "loss_mask")), strict=True
    ):
        text = tokenizer.decode([token]).replace(" ", "·").replace("\n", "↵")
        # A full stop alone would look like the dot that stands for a space.
        pairs.append(("“.”" if text == "." else text, trained))
    return pairs
