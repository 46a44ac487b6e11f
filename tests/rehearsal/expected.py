"""The notes that notebooks print when a cell doesn't apply, by profile and week.

If a note is added or removed, the rehearsal fails until someone has reviewed it and updated this
list. Weeks that aren't listed print none.
"""

from __future__ import annotations

GPU = {
    "03": ["the stage above is QLoRA already, so there is no LoRA run to compare it with."],
    "07": [
        "on a GPU Unsloth replaces TRL's GRPOTrainer by one that only trains models that Unsloth"
        " loaded; run this section with POSTLAB_PROFILE=tiny."
    ],
}
ASIDES = {"03": 1, "07": 1}  # of these notes, the last so many are printed by asides
SENTENCES = {
    "t4": GPU
    | {
        "12": [
            "GRPO started from a separate 1.5B model, so it can't be compared with the 7B stages;"
            " weeks 7 and 8 compare it with its own starting point."
        ]
    },
    "rented": GPU,
}


def not_here(profile: str, week: str, *, asides: bool = True) -> list[str]:
    notes = SENTENCES[profile].get(week, [])
    return notes if asides else notes[: len(notes) - ASIDES.get(week, 0)]
