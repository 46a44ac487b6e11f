"""The notes that notebooks print when a cell doesn't apply, by profile and week.

If a note is added or removed, the rehearsal fails until someone has reviewed it and updated this
list. Weeks that aren't listed print none.
"""

from __future__ import annotations

GSM8K = {
    "03": ["GSM8K contains no unsafe requests and no unanswerable questions."],
    "05": ["GSM8K contains no unsafe requests, so there are no refusals to check."],
}
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


def not_here(profile: str, week: str) -> list[str]:
    return SENTENCES[profile].get(week, [])
