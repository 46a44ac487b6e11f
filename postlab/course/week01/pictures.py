"""Week 1's pictures of ideas: who learns from what, and which tokens of a row are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from postlab.claims import STAGE_COLOURS
from postlab.show import FROZEN, PHONE, arrow, box, canvas, note, tokens

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
            note(axes, (37.6, y - (row - height) / 2), "weights", size=10)
    return fig


def draw_mask(row: Mapping[str, Any], tokenizer: Any, *, max_length: int = 256) -> Figure:
    """Draw one row as tokens, a line of the template per line, the trained ones in SFT's colour.

    Args:
        row: `prompt` and `completion`, lists of messages.
        tokenizer: with its chat template.
        max_length: as for `postlab.chat.encode`, whose mask is drawn.
    """
    from postlab.chat import encode

    batch = encode([dict(row)], tokenizer, max_length=max_length)
    ids, mask = batch["input_ids"][0].tolist(), batch["loss_mask"][0].tolist()
    lines: list[list[tuple[str, int]]] = [[]]
    for token, trained in zip(ids, mask, strict=True):
        text = tokenizer.decode([token])
        shown = text.replace(" ", "·").replace("\n", "↵")
        lines[-1].append(
            (
                "\N{LEFT DOUBLE QUOTATION MARK}.\N{RIGHT DOUBLE QUOTATION MARK}"
                if shown == "."
                else shown,
                trained,
            )
        )
        if text.endswith("\n"):
            lines.append([])
    lines = [line for line in lines if line]
    title = f"{sum(mask)} of {len(ids)} tokens are trained: the reply and what ends it"
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
