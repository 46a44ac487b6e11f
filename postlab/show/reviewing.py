"""The review: training rows one by one, keep, drop or unsure with a reason, in two passes.

A part of `postlab.show`. The one text field takes the reason, or a letter and the reason, followed
by Enter; ipywidgets hears keys nowhere else. The second pass shows nothing of the first.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from postlab.judge import (
    DECISIONS,
    ReviewItem,
    ReviewLog,
    review_agreement,
    review_frame,
    review_items,
)
from postlab.show.pages import FRAME_STYLE, WIDE, bundle, button, shown, table_html, text_html

if TYPE_CHECKING:
    import pandas as pd

PAUSE_S = 0.3  # a second click or Enter sooner than this is a slip: nobody has read the next row
LETTERS = {"k": "keep", "d": "drop", "u": "unsure"}
_PAGE = "font-size:15px;line-height:1.5;color:var(--jp-ui-font-color1,inherit)"
_QUESTION = "Would you train on this row?"


def review(rows: Sequence[Mapping[str, Any]], *, path: str | Path, seed: int = 0) -> Review:
    """Review training rows by hand, twice: keep, drop or unsure, with a reason.

    Write down first what a good row is. The second pass begins when the first is complete, has an
    order of its own, and measures how far you agree with yourself.

    Args:
        rows: with `prompt` and `completion`, as `datasets.instruction_rows` makes them; a sample
            that you can read twice, such as 50.
        path: the JSONL file that each decision is added to; a new review on the same file goes on.
        seed: of the order of both passes.
    Returns:
        Review: the last value of a cell shows it.
    Raises:
        ValueError: if a row has no prompt or completion, or `path` holds something else.
    Taught in week 3.

    >>> import tempfile
    >>> def row(prompt, reply):
    ...     return {"prompt": [{"role": "user", "content": prompt}],
    ...             "completion": [{"role": "assistant", "content": reply}]}
    >>> sums = [row("2+3?", "5"), row("2+4?", "7"), row("3+3?", "6"), row("1+1?", "3")]
    >>> checked = review(sums, path=tempfile.mkdtemp() + "/review.jsonl")
    >>> while checked.item:
    ...     prompt, reply = checked.item.prompt, checked.item.reply
    ...     right = eval(prompt[:-1]) == int(reply)
    ...     checked.decide("keep" if right else "drop", "" if right else "wrong sum")
    >>> checked.agreement()[["measure", "value", "rows"]].values.tolist()
    [['same decision', 1.0, 4], ['kappa', 1.0, 4]]
    >>> [r["prompt"][0]["content"] for r in checked.kept()]
    ['2+3?', '3+3?']
    """
    return Review(rows, review_items(rows, seed=seed), ReviewLog(path))


class Review:
    """Decisions on rows in two passes; made by `review`."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        items: tuple[ReviewItem, ...],
        log: ReviewLog,
    ) -> None:
        self._rows, self._items, self._log = rows, items, log
        self._shown: ReviewItem | None = None
        self._shown_at, self._acted_at = time.monotonic(), -math.inf
        self._make_widgets()
        self._refresh()

    @property
    def item(self) -> ReviewItem | None:
        """The row that waits for a decision, with its pass; None after the last."""
        decisions = self._log.read()
        return next((item for item in self._items if item.key not in decisions), None)

    def decide(self, decision: str, reason: str = "") -> None:
        """Save a decision on the row that is shown.

        Args:
            decision: "keep", "drop" or "unsure".
            reason: in a few words; whoever drops a row, or isn't sure of it, has to give one.
        Raises:
            ValueError: if the decision is another word, the reason is missing, or no row is left.
        """
        if decision not in DECISIONS:
            raise ValueError(f"decision is {decision!r}; expected one of {', '.join(DECISIONS)}")
        if decision != "keep" and not reason.strip():
            raise ValueError(f"give a reason for {decision!r}, such as 'wrong sum'")
        item = self.item
        if item is None:
            raise ValueError("every row has both decisions; undo() takes the last one back")
        if item == self._shown:  # else another review on the same file has decided on it
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._log.add(
                {"review": item.key, "row": item.row, "pass": item.round, "decision": decision}
                | {"reason": reason.strip(), "time": now}
                | {"seconds": round(time.monotonic() - self._shown_at, 1)}
            )
        self._refresh()

    def undo(self) -> None:
        """Take the last decision back, and show its row again; without one, do nothing."""
        mine = {item.key for item in self._items}
        for key in [key for key in self._log.read() if key in mine][-1:]:
            self._log.add({"review": key, "undo": True})
        self._refresh()

    def decisions(self) -> pd.DataFrame:
        """A line per row that was decided on.

        Returns:
            row (its index), prompt, reply, first, second, first_reason, second_reason.
        """
        return review_frame(self._items, self._log.read())

    def agreement(self) -> pd.DataFrame:
        """How far the two passes agree: the share of rows and Cohen's kappa, with 95% intervals.

        Returns:
            measure, value, low, high, rows; no lines before a row has both decisions.
        """
        return review_agreement(self.decisions())

    def kept(self) -> list[Mapping[str, Any]]:
        """The rows that both passes keep, in their order: those to train on."""
        frame = self.decisions()
        both = frame[(frame["first"] == "keep") & (frame["second"] == "keep")]
        return [self._rows[index] for index in both["row"]]

    def __repr__(self) -> str:
        item = self._items[0]
        return "\n".join(
            [f"{_QUESTION} The first of {len(self._rows)} rows:"]
            + [f"\n{name}\n{shown(text)}" for name, text in _parts(item)]
            + ["", _agreement_text(self.agreement())]
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        head = f"<div>{_QUESTION} The first of {len(self._rows)} rows:</div>"
        page = f"{head}{_item_html(self._items[0])}{self._agreement_html()}"
        return bundle(self.widget, repr(self), f'<div style="{_PAGE}">{page}</div>')

    def _make_widgets(self) -> None:
        self._page = ipywidgets.HTML(layout=WIDE)
        self._status = ipywidgets.HTML(layout=WIDE)
        self._agreement = ipywidgets.HTML(layout=WIDE)
        self._field = ipywidgets.Text(
            placeholder="Reason, or a letter and the reason: d wrong sum ⏎",
            continuous_update=False,
            layout={"width": "380px", "height": "38px", "margin": "4px"},
        )
        styles = {"keep": "success", "drop": "danger", "unsure": "warning"}
        self._buttons = [
            button(
                decision.capitalize(),
                lambda _, decision=decision: self._act(decision, self._field.value),
                style,
            )
            for decision, style in styles.items()
        ]
        self._undo = button("Undo", lambda _: self._act("undo", ""))
        self._field.observe(self._on_enter, "value")
        wrapped = ipywidgets.Layout(flex_flow="row wrap", align_items="center", **WIDE)
        bar = ipywidgets.Box([self._field, *self._buttons, self._undo], layout=wrapped)
        parts = [self._page, bar, self._status, self._agreement]
        self.widget = ipywidgets.VBox(parts, layout={"max_width": "1200px", **WIDE})

    def _on_enter(self, change: dict[str, Any]) -> None:
        """A line that begins with a letter of LETTERS decides; any other waits for a button."""
        letter, _, reason = change["new"].strip().partition(" ")
        if letter.lower() in LETTERS:
            self._act(LETTERS[letter.lower()], reason)

    def _act(self, action: str, reason: str) -> None:
        """Do what a click or a line asks for; what goes wrong has to be read in the widget."""
        now = time.monotonic()
        slip, self._acted_at = now - self._acted_at < PAUSE_S, now
        if slip:
            return
        try:
            if action == "undo":
                self.undo()
            else:
                self.decide(action, reason)
        except (OSError, ValueError) as error:
            self._say(f"Not saved: {error}")
            return
        self._field.value = ""
        if hasattr(self._field, "focus"):  # from ipywidgets 8 on
            self._field.focus()

    def _refresh(self) -> None:
        """Show the row that waits for a decision."""
        decisions, item = self._log.read(), self.item
        number = item.round if item else 2
        of_pass = [one for one in self._items if one.round == number]
        done = sum(one.key in decisions for one in of_pass)
        bar = f'<progress value="{done}" max="{len(of_pass)}" style="width:160px"></progress>'
        head = f"{_QUESTION} &nbsp; Pass {number} of 2 &nbsp; {bar} &nbsp; {done} of {len(of_pass)}"
        page = _item_html(item) if item else "<p>Both passes are complete. Thank you!</p>"
        self._page.value = f'<div style="{_PAGE}"><div>{head}</div>{page}</div>'
        for control in (*self._buttons, self._field):
            control.disabled = item is None
        mine = {one.key for one in self._items}
        self._undo.disabled = not mine & decisions.keys()
        strangers = len(decisions.keys() - mine)
        notes = [f"{len(mine & decisions.keys())} decisions saved in {self._log.path.name}"]
        notes += [f"not counted, as they are on other rows: {strangers}"] * bool(strangers)
        notes += [f"left out, as the line was cut off: {self._log.torn}"] * bool(self._log.torn)
        self._say("; ".join(notes))
        # While the second pass runs, a table of agreement would say what the first one decided.
        self._agreement.value = "" if item else self._agreement_html()
        self._shown, self._shown_at = item, time.monotonic()

    def _agreement_html(self) -> str:
        table = self.agreement()
        return table_html(table) if len(table) else f"<p>{_agreement_text(table)}</p>"

    def _say(self, text: str) -> None:
        self._status.value = f'<span style="opacity:0.75">{html.escape(shown(text))}</span>'


def _parts(item: ReviewItem) -> list[tuple[str, str]]:
    return [("Prompt", item.prompt), ("Reply", item.reply)]


def _item_html(item: ReviewItem) -> str:
    blocks = [
        f'<div style="{FRAME_STYLE};margin:8px 0"><b>{name}</b>{text_html(text)}</div>'
        for name, text in _parts(item)
    ]
    return "".join(blocks)


def _agreement_text(table: pd.DataFrame) -> str:
    if not len(table):
        return "No row has both decisions yet."
    return str(table.round(2).to_string(index=False))
