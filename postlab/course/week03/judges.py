"""Is a training row's reply right? The counterpart of `oracle.judge` for `everyday`.

It can't judge replies to open questions, because no program of the suite scores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from postlab.evals import METRICS, everyday_rows


def everyday_judge() -> Callable[[Mapping[str, Any]], bool | None]:
    """Make a function that tells whether the reply in a row of `everyday` gets every best score.

    Returns:
        For a row with `prompt` and `completion`: True or False, or None where nothing can say (an
        open question, or a prompt that isn't one of the suite's training prompts).

    >>> prompt = [{"role": "user", "content": "Which beans is chocolate made from?"}]
    >>> replies = [[{"role": "assistant", "content": text}] for text in ("Cocoa beans.", "Peas.")]
    >>> [everyday_judge()({"prompt": prompt, "completion": reply}) for reply in replies]
    [True, False]
    """
    scores = {row["prompt"][-1]["content"]: row["score"] for row in everyday_rows("train")}

    def judge(row: Mapping[str, Any]) -> bool | None:
        score = scores.get(row["prompt"][-1]["content"])
        values = score(row["completion"][-1]["content"], True) if score else {}
        if not values:
            return None
        return all(value == (METRICS[name][1] == "up") for name, value in values.items())

    return judge
