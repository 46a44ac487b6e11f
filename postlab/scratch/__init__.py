"""Post-training from scratch in plain torch, with losses that agree with TRL's."""

from typing import TYPE_CHECKING

from postlab import _doors

if TYPE_CHECKING:  # each is imported when it is first used: most of them need torch
    from postlab.scratch import (
        grpo,
        lora,
        losses,
        nf4,
        policy_gradient,
        ppo,
        preferences,
        sampling,
        tokens,
    )

__all__ = [
    "grpo",
    "lora",
    "losses",
    "nf4",
    "policy_gradient",
    "ppo",
    "preferences",
    "sampling",
    "tokens",
]

_doors.publish(__name__)
