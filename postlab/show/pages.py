"""What the widgets are made of: escaped text, buttons, and what is shown without a kernel.

A part of `postlab.show`. A model's text is escaped here and nowhere else, and stands in a `pre`,
so that no page takes a dollar sign for mathematics. Left out: Markdown in replies.
"""

from __future__ import annotations

import html
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import ipywidgets

if TYPE_CHECKING:
    import pandas as pd

    from postlab.judge import Pair

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDE = {"width": "auto", "overflow": "visible"}  # of a widget that is as wide as its text
_TEXT_LABELS = hasattr(ipywidgets.IntSlider, "description_allow_html")  # from 8 on
_TEXT_STYLE = (
    "white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal;font:inherit;margin:4px 0;"
    "max-height:30em;overflow:auto"
)
FRAME_STYLE = "border:1px solid rgba(128,128,128,0.5);border-radius:6px;padding:8px 14px"


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
    return f'<pre dir="auto" style="{_TEXT_STYLE}">\n{html.escape(shown(text))}</pre>'


def label(name: str) -> str:
    """A name as a slider's description, which ipywidgets 7 (Colab has it) takes for HTML."""
    return shown(name) if _TEXT_LABELS else html.escape(shown(name))


def button(label: str, click: Any, style: str = "") -> ipywidgets.Button:
    """A button as wide as its label."""
    layout = {"width": "auto", "height": "38px", "margin": "4px"}
    control = ipywidgets.Button(description=label, button_style=style, layout=layout)
    control.on_click(click)
    return control


def bundle(widget: ipywidgets.Widget, text: str, page: str) -> dict[str, Any]:
    """The live widget, and what a page without a kernel shows in its place."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    data = {"text/plain": text, "text/html": page, WIDGET_VIEW: view}
    if "google.colab" in sys.modules:  # there it is not said which of the two would be chosen
        del data["text/html"]
    return data


def pair_html(pair: Pair) -> str:
    """One pair without its stages; in a narrow window the second reply stands below the first."""
    column = f"flex:1 1 300px;min-width:0;{FRAME_STYLE}"
    replies = "".join(
        f'<div style="{column}"><b>Reply {number}</b>{text_html(reply)}</div>'
        for number, reply in enumerate(pair.replies, start=1)
    )
    return (
        f'<div style="margin:8px 0"><b>Prompt</b>{text_html(pair.prompt)}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:12px;margin:8px 0">{replies}</div>'
    )


def table_html(table: pd.DataFrame) -> str:
    """A small table, spaced by its own style."""
    page = table.round(3).to_html(index=False, border=0, na_rep="", escape=True)
    # Cell text is escaped, so these are tags; a widget gets no table style from the page.
    for tag in ("th", "td"):
        page = page.replace(f"<{tag}>", f'<{tag} style="padding:3px 12px;text-align:left">')
    return page
