"""The notes that notebooks print when a cell doesn't apply, by profile and week.

If a note is added or removed, the rehearsal fails until someone has reviewed it and updated this
list. Weeks that aren't listed print none.
"""

from __future__ import annotations

GSM8K = {
    "03": [
        "its suite has none of the tiny world's deeds and riddles.",
        "the stage above is QLoRA already, so there is no LoRA run to compare it with.",
    ],
    "05": ["no answer refuses in the tiny world's words, so there is nothing to check."],
    "06": ["its suite measures neither safety nor honesty, so the rule can only object."],
    "07": [
        "on a GPU Unsloth replaces TRL's GRPOTrainer by one that only trains models that Unsloth"
        " loaded; run this section with POSTLAB_PROFILE=tiny."
    ],
}
ASIDES = {"03": 1, "07": 1}  # of these notes, the last so many are printed by asides
SENTENCES = {
    "t4": GSM8K
    | {
        "12": [
            "GRPO started from a separate 1.5B model, so it can't be compared with the 7B stages;"
            " weeks 7 and 8 compare it with its own starting point."
        ]
    },
    "rented": GSM8K,
}


def not_here(profile: str, week: str, *, asides: bool = True) -> list[str]:
    notes = SENTENCES[profile].get(week, [])
    return notes if asides else notes[: len(notes) - ASIDES.get(week, 0)]
