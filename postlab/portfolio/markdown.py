"""Markdown as a reader sees it: parsed once, by markdown-it, for the pages and for the audit.

HTML in a document is shown as text, never passed on. Headings get the anchors that GitHub gives
them, tables scroll on a narrow screen, and links between documents lead to their pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

NARROW = {"figures/stages.png": "figures/stages-narrow.png"}  # the same, drawn for a phone


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    rules: Any = parser.renderer
    table = '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>\n'
    rules.rules["table_open"] = lambda *_: table
    rules.rules["table_close"] = lambda *_: "</table></div>\n"
    image = rules.rules["image"]

    def with_narrow(tokens: Sequence[Token], index: int, *rest: Any) -> str:
        narrow = NARROW.get(str(tokens[index].attrGet("src")))
        html: str = image(tokens, index, *rest)
        source = f'<source media="(max-width: 40rem)" srcset="{narrow}">'
        return f"<picture>{source}{html}</picture>" if narrow else html

    rules.rules["image"] = with_narrow
    return parser


def parse(text: str) -> list[Token]:
    """The blocks of a document; headings have their anchor as `id`."""
    tokens, taken = _parser().parse(text), dict[str, int]()
    for token, inside in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open":
            slug = _slug(plain(inside.children or []))
            count = taken[slug] = taken.get(slug, -1) + 1
            token.attrSet("id", f"{slug}-{count}" if count else slug)
    return tokens


def plain(children: Sequence[Token]) -> str:
    """The text of an inline token's children, as it is read aloud."""
    parts = []
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif child.type == "image":
            parts.append(plain(child.children or []))
        else:
            parts.append(child.content)
    return "".join(parts)


def anchors(tokens: Sequence[Token]) -> set[str]:
    """The anchors that a link may lead to."""
    return {str(token.attrGet("id")) for token in tokens if token.type == "heading_open"}


def title(text: str) -> str:
    """The first heading of a document, or its first words."""
    tokens = parse(text)
    for token, inside in zip(tokens, tokens[1:], strict=False):
        if token.type == "heading_open":
            return plain(inside.children or [])
    return " ".join(text.split()[:8]) or "Portfolio"


def without_front_matter(text: str) -> str:
    """A document without the lines between two '---' that it begins with."""
    if text.startswith("---\n"):
        end = text.find("\n---\n", 3)
        if end >= 0:
            return text[end + 5 :]
    return text


def to_html(text: str, page_name: Callable[[str], str]) -> str:
    """A document's body as HTML; links to other documents (sft.md) lead to their pages."""
    tokens = parse(text)
    for token in tokens:
        for child in token.children or []:
            if child.type == "link_open":
                child.attrSet("href", _page_link(str(child.attrGet("href") or ""), page_name))
    html: str = _parser().renderer.render(tokens, _parser().options, {})
    return html


def _page_link(href: str, page_name: Callable[[str], str]) -> str:
    parts = urlsplit(href)
    if parts.scheme or parts.netloc or not parts.path.endswith(".md") or "/" in parts.path:
        return href
    return page_name(parts.path[:-3]) + (f"#{parts.fragment}" if parts.fragment else "")


def _slug(text: str) -> str:
    """As GitHub makes anchors: small letters, digits, hyphens for spaces, nothing else."""
    kept = (c for c in text.strip().lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")
