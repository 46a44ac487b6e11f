"""Training rows for a person to review twice, and the file that keeps the decisions.

A part of `postlab.judge` that knows no widget. Everybody who labels data should label a part of it
again: how often you agree with yourself limits how far anybody can agree with you. The second pass
has an order of its own, so that a decision doesn't lean on the one before it. Decisions belong to
the words that were read, as votes do: a changed row is asked about again.

Left out: several reviewers in one file, more than two passes, and edits of a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from postlab import stats
from postlab.judge.votes import VoteLog, content_hash, unfit

if TYPE_CHECKING:
    import pandas as pd

DECISIONS = ("keep", "drop", "unsure")  # what a reviewer may say of a row
PASSES = (1, 2)


@dataclass(frozen=True)
class ReviewItem:
    """One row in one pass.

    Args:
        key: of the pass and the row's words.
        row: its index among the rows.
        round: the pass, 1 or 2.
        prompt, reply: what is shown.
    """

    key: str
    row: int
    round: int
    prompt: str
    reply: str


def review_items(rows: Sequence[Mapping[str, Any]], *, seed: int) -> tuple[ReviewItem, ...]:
    """Every row once in each pass, in reviewing order.

    Args:
        rows: with `prompt` and `completion`, lists of messages, as `instruction_rows` makes them.
        seed: of the order of both passes.
    Raises:
        ValueError: if there is no row, or a row lacks one of the two.
    """
    if not rows:
        raise ValueError("rows is empty; a review needs at least one row")
    items, copies = [], Counter[tuple[str, str]]()
    for index, row in enumerate(rows):
        missing = [name for name in ("prompt", "completion") if not row.get(name)]
        if missing:
            raise ValueError(
                f"row {index} has no {missing[0]!r}; expected rows with prompt and completion,"
                " lists of messages, as `instruction_rows` returns them"
            )
        words = (_text(row["prompt"]), _text(row["completion"]))
        copies[words] += 1
        for number in PASSES:
            key = content_hash([number, *words, copies[words]])[:16]
            draw = content_hash([seed, key])
            items.append((number, draw, ReviewItem(key, index, number, *words)))
    return tuple(item for *_, item in sorted(items, key=lambda one: one[:2]))


class ReviewLog(VoteLog):
    """Decisions on rows in a JSONL file, each on the disk before the next row is shown."""

    field, what = "review", "decision on a row"

    def _problem(self, record: Any) -> str | None:
        return unfit(record, self.field, texts=("reason",), choices=DECISIONS, choice="decision")


def review_frame(
    items: Sequence[ReviewItem], decisions: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """A line per row that was decided on, with both passes side by side.

    Args:
        decisions: as `ReviewLog.read` returns them.
    Returns:
        row, prompt, reply, first, second (the decisions; "" while there is none), first_reason and
        second_reason, in the order of the rows.
    """
    import pandas as pd

    lines: dict[int, dict[str, Any]] = {}
    for item in sorted(items, key=lambda one: (one.row, one.round)):
        empty = {"row": item.row, "prompt": item.prompt, "reply": item.reply}
        line = lines.setdefault(item.row, empty)
        decision = decisions.get(item.key, {})
        name = ("first", "second")[item.round - 1]
        line[name], line[f"{name}_reason"] = (decision.get(k, "") for k in ("decision", "reason"))
    columns = ["row", "prompt", "reply", "first", "second", "first_reason", "second_reason"]
    frame = pd.DataFrame(lines.values(), columns=columns)
    return frame[(frame["first"] != "") | (frame["second"] != "")].reset_index(drop=True)


def review_agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """How far the two passes agree, over the rows that have both.

    Args:
        frame: as `review_frame` returns it.
    Returns:
        A line for the share agreed on (Wilson's interval) and one for Cohen's kappa, which is 0
        where passes agree as often as chance would have it: measure, value, low, high, rows. No
        lines while no row has both decisions; kappa is NaN if both passes used one label only.
    """
    import pandas as pd

    both = frame[(frame["first"] != "") & (frame["second"] != "")]
    lines = []
    if len(both):
        same = int((both["first"] == both["second"]).sum())
        measures = {"same decision": stats.wilson(same, len(both))}
        measures["kappa"] = stats.cohen_kappa(both["first"].tolist(), both["second"].tolist())
        lines = [(name, m.value, m.low, m.high, m.n) for name, m in measures.items()]
    return pd.DataFrame(lines, columns=["measure", "value", "low", "high", "rows"])


def _text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The words of a prompt or completion; with their roles where there are several turns."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)
