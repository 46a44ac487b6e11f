"""Schematics: text stays inside its box, at any size, and a row of tokens wraps."""

import pytest

from postlab.show import PHONE, arrow, box, canvas, note, tokens

ROW = [
    "<|im_start|>",
    "user",
    " What",
    " is",
    " two",
    " plus",
    " two",
    "?",
    "WWWW",
    "illi",
    "$x$",
    "<|im_end|>",
]


def _extents(fig):
    """Of every text: its own box and that of the canvas, pixels."""
    fig.draw_without_rendering()
    (axes,) = fig.axes
    return [(text, text.get_window_extent()) for text in axes.texts if text.get_text()]


@pytest.mark.parametrize("size", [9, 11, 13])
def test_tokens_hold_their_text_and_wrap(size):
    fig, axes = canvas(PHONE, 40)
    places = tokens(axes, (1, 1), ROW, ["white"] * len(ROW), size=size)
    assert len({y for _, y, _ in places}) > 1
    assert all(x + width / 2 <= PHONE - 2 + 1e-9 for x, _, width in places)
    for (text, extent), (x, _, width) in zip(_extents(fig), places, strict=True):
        left = axes.transData.transform((x - width / 2, 0))[0]
        right = axes.transData.transform((x + width / 2, 0))[0]
        assert left <= extent.x0 and extent.x1 <= right, text.get_text()


def test_a_dark_box_gets_white_text():
    _, axes = canvas(20, 10)
    box(axes, (1, 1, 8, 4), "dark", fill="#0072B2")
    box(axes, (10, 1, 8, 4), "pale", fill="#ededed")
    dark, pale = axes.texts
    assert dark.get_color() == "white" and pale.get_color() != "white"


def test_arrows_and_notes_stay_where_they_are_put():
    fig, axes = canvas(40, 10, "A title")
    arrow(axes, (2, 5), (30, 5), "a note", shift=(0, -2))
    note(axes, (1, 8), "from here on")
    texts = {text.get_text(): text.get_position() for text in axes.texts}
    assert texts["a note"] == (16, 3) and texts["from here on"] == (1, 8)
    assert fig.get_suptitle() == "A title"
