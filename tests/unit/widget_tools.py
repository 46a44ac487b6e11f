"""What the tests of widgets share: hostile text, the tags of a page, and a widget's parts."""

from __future__ import annotations

from html.parser import HTMLParser

import ipywidgets

EVIL = "<script>window.marker=1</script><img src=x onerror='window.marker=1'>&amp;</pre>"
TAGS = {
    "b",
    "div",
    "i",
    "p",
    "pre",
    "progress",
    "span",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
}


def all_widgets(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    return [widget, *(w for child in getattr(widget, "children", ()) for w in all_widgets(child))]


class Tags(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data
