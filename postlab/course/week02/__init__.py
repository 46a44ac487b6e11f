"""Week 2, LoRA and QLoRA.

- figures: the notebook's figures
- pictures: its pictures of ideas
- cost: what a training step of SmolLM2 takes
- adapters: what its build does, checked; it imports torch, so it is loaded when it is needed
- exercises, mistakes_*: its exercises and the usual mistakes in them; they import torch, so
  `postlab.course.check` loads them when they are needed
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from postlab import _doors
from postlab.course.week02.cost import smol_step
from postlab.course.week02.figures import (
    plot_block_error,
    plot_codebook,
    plot_first_step,
    plot_learning_rates,
    plot_losses,
    plot_merges,
    plot_quality,
    plot_rl,
    plot_scalings,
    plot_step_memory,
)
from postlab.course.week02.pictures import draw_adapter, draw_memory, draw_nf4

__all__ = [
    "check_adapters",
    "cost",
    "draw_adapter",
    "draw_memory",
    "draw_nf4",
    "plot_block_error",
    "plot_codebook",
    "plot_first_step",
    "plot_learning_rates",
    "plot_losses",
    "plot_merges",
    "plot_quality",
    "plot_rl",
    "plot_scalings",
    "plot_step_memory",
    "smol_step",
]


def check_adapters(
    inject: Callable[..., Any], merge: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Check the build of week 2: say what happened, and return two functions that are right.

    Args:
        inject: `inject(model, names, *, r, alpha)` freezes a model and puts adapters on the linear
            layers whose names end in one of `names`, in place.
        merge: `merge(model)` replaces each adapted layer by a plain nn.Linear, in place.
    Returns:
        The learner's functions if both are right, otherwise the reference's.
    """
    from postlab.course.week02 import adapters

    outcome = adapters.examine(inject, merge)
    for line in adapters.lines(outcome):
        print(textwrap.fill(line, 100, subsequent_indent="  "))
    right = outcome.status == "right"
    return (inject, merge) if right else (adapters.inject, adapters.merge)


_doors.publish(__name__)
