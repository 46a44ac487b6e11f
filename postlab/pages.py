"""What the widgets are made of: escaped text, buttons, and what is shown without a kernel.

A part of `postlab.widgets`. A model's text is escaped here and nowhere else, and stands in a `pre`,
so that no page takes a dollar sign for mathematics. Left out: Markdown in replies.
"""

from __future__ import annotations

import html
import sys
import unicodedata
from typing import Any

import ipywidgets

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDE = {"width": "100%", "overflow": "visible"}
_TEXT = (
    "white-space:pre-wrap;overflow-wrap:anywhere;font:inherit;margin:4px 0;"
    "max-height:30em;overflow:auto"
)


def shown(text: str) -> str:
    """Text as a page can show it: control characters by number, line breaks and tabs kept.

    >>> shown("a" + chr(27) + "[31m" + chr(13) + chr(10) + "b")
    'a‹1B›[31m\\nb'
    """
    text = text.replace("\r\n", "\n")
    hidden = {c for c in text if unicodedata.category(c) in ("Cc", "Cs")} - {"\n", "\t"}
    return text.translate({ord(c): f"\u2039{ord(c):02X}\u203a" for c in hidden})


def text_html(text: str) -> str:
    """A model's words as a block of their own."""
    if not text.strip():
        return "<div><i>(nothing)</i></div>"
    # A page drops the line break after <pre>, so this one is given to it.
    return f'<pre dir="auto" style="{_TEXT}">\n{html.escape(shown(text))}</pre>'


def button(label: str, click: Any, style: str = "") -> ipywidgets.Button:
    """A button as wide as its label."""
    layout = {"width": "auto", "height": "38px", "margin": "4px"}
    made = ipywidgets.Button(description=label, button_style=style, layout=layout)
    made.on_click(click)
    return made


def bundle(widget: ipywidgets.Widget, text: str, page: str) -> dict[str, Any]:
    """The live widget, and what a page without a kernel shows in its place."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    data = {"text/plain": text, "text/html": page, WIDGET_VIEW: view}
    if "google.colab" in sys.modules:  # there it is not said which of the two would be chosen
        del data["text/html"]
    return data
