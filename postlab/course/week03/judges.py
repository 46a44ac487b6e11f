"""Is a training row's reply right? What `oracle.judge` says in the tiny world, for `everyday`.

Left out: replies that no program of the suite scores, which are those to open questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from postlab.evals import METRICS, everyday_rows


def everyday_judge() -> Callable[[Mapping[str, Any]], bool | None]:
    """A function that tells of a row of `everyday` whether its reply gets every best score.

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
