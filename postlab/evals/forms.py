"""How much of a gain is mere format: answers read strictly and leniently, by the evaluation.

A part of `postlab.evals`, and no relation of `postlab.rewards`: the truth is what the oracle reads
from the question, and both readings are made here, so a policy that learned to please the reward's
extractor is not read by it. Strict is the oracle's own metric: `#### ` and the number, at the end.
Lenient takes the last number there is, wherever it stands. What strict reading gained and lenient
reading did not is format: the policy knew the number before, and now says it as it was asked to.

Left out: answers right by luck, and a number that was worked out and then followed by another one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from postlab.tinyworld.oracle import read

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = re.compile(r"(?<![0-9])-?[0-9]{1,6}(?![0-9])")


def last_number(text: str) -> int | None:
    """The last whole number in a text; None where there is none.

    >>> last_number("12+30=42, 42+15=57. It is 57!"), last_number("no idea")
    (57, None)
    """
    numbers = _NUMBER.findall(text)
    return int(numbers[-1]) if numbers else None


def readings(frame: pd.DataFrame, family: str = "arithmetic") -> pd.DataFrame:
    """Read each answer twice: is it right as it was asked for, and is its number right at all?

    Args:
        frame: of `evals.evaluate`: sums of the tiny world, or `gsm8k`.
        family: arithmetic, arithmetic_sampled or gsm8k.
    Returns:
        A row a prompt, in the frame's order, by id: strict and lenient, 0 to 1 (means over the
        prompt's samples), and format, strict less lenient: 0, or what the form costs.
    Raises:
        ValueError: if the frame has no answer of that family.
    Taught in week 7.

    >>> import pandas as pd
    >>> asked = {"id": ["a", "b"], "family": "arithmetic", "prompt": ["What is 2+3?"] * 2}
    >>> said = {"answer": ["2+3=5. #### 5", "It is 5."], "arithmetic": [1.0, 0.0]}
    >>> readings(pd.DataFrame(asked | said)).to_numpy().tolist()
    [[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]
    """
    rows = frame[frame["family"] == family]
    if rows.empty:
        known = ", ".join(sorted(set(frame["family"])))
        raise ValueError(f"no answer of the family {family!r}; the frame has {known}")
    if family == "gsm8k":
        table = rows[["id"]].assign(strict=rows["gsm8k_strict"], lenient=rows["gsm8k_lenient"])
    else:
        pairs = zip(rows["prompt"], rows["answer"], strict=True)
        right = [float(last_number(answer) == _sum(prompt)) for prompt, answer in pairs]
        table = rows[["id"]].assign(strict=rows[family], lenient=right)
    table["format"] = table["strict"] - table["lenient"]
    return table.groupby("id", sort=False).mean()


def _sum(prompt: str) -> int:
    """What the numbers of a prompt add up to, by the oracle."""
    item = read(prompt)
    if item is None:
        raise ValueError(f"not a sum of tinyworld's: {prompt!r:.80}")
    return sum(item.args)
