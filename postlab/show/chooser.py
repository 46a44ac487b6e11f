"""The token chooser: the token view of one row after the other, chosen by a slider.

Left out: anything that needs JavaScript of our own; Colab loads none without asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ipywidgets

from postlab.chat import TokenView, token_view
from postlab.show.pages import WIDE, bundle, button, text_html


def token_chooser(rows: Sequence[dict], tokenizer: Any, *, max_length: int) -> TokenChooser:
    """Look at the tokens of one row after the other: the token view with a slider.

    Args:
        rows: dicts with `prompt` and `completion`, each a list of messages.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: tokens kept a row, as in `encode`.
    Returns:
        TokenChooser: the last value of a cell shows it.
    Raises:
        ValueError: if there is no row, or as `token_view` does for the first one.
    Taught in week 3.
    """
    if not len(rows):
        raise ValueError("rows is empty; expected instruction rows with prompt and completion")
    return TokenChooser(rows, tokenizer, max_length)


class TokenChooser:
    """The token view of one row at a time; made by `token_chooser`."""

    def __init__(self, rows: Sequence[dict], tokenizer: Any, max_length: int) -> None:
        self._rows, self._tokenizer, self._max_length = rows, tokenizer, max_length
        self._page = ipywidgets.HTML(layout=WIDE)
        self._slider = ipywidgets.IntSlider(
            0,
            0,
            len(rows) - 1,
            description="row",
            continuous_update=False,
            layout={"width": "420px"},
        )
        self._slider.observe(lambda _: self._refresh(), "value")
        steps = [
            button(label, lambda _, step=step: self._move(step))
            for label, step in (("Previous", -1), ("Next", 1))
        ]
        bar = ipywidgets.Box([self._slider, *steps], layout={"flex_flow": "row wrap"})
        self.widget = ipywidgets.VBox([bar, self._page], layout=WIDE)
        self._page.value = self.view(0)._repr_html_()

    def view(self, row: int) -> TokenView:
        """The tokens of one row, by its number from 0."""
        tokens = token_view([self._rows[row]], self._tokenizer, max_length=self._max_length)
        return replace(tokens, first=row)

    def __repr__(self) -> str:
        return f"{self.view(self._slider.value)!r}\n(one of {len(self._rows):,} rows)"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        page = self.view(self._slider.value)._repr_html_()
        rest = f"<div>(one of {len(self._rows):,} rows)</div>"
        return bundle(self.widget, repr(self), page + rest)

    def _move(self, step: int) -> None:
        self._slider.value = min(max(self._slider.value + step, 0), len(self._rows) - 1)

    def _refresh(self) -> None:
        try:
            self._page.value = self.view(self._slider.value)._repr_html_()
        except (TypeError, ValueError, KeyError) as error:  # one bad row must not end the reading
            text = f"row {self._slider.value}: {type(error).__name__}: {error}"
            self._page.value = text_html(text)
