"""Every picture of an idea: text stays in its boxes and on the canvas, and a phone can read it."""

import importlib
import inspect
import pkgutil
from itertools import combinations

import pytest

from postlab import course
from postlab.show import PHONE

PARTS = [module.name for module in pkgutil.iter_modules(course.__path__) if module.ispkg]


def _pictures():
    for part in PARTS:
        try:
            module = importlib.import_module(f"postlab.course.{part}.pictures")
        except ModuleNotFoundError:
            continue
        for name, draw in inspect.getmembers(module, inspect.isfunction):
            parameters = inspect.signature(draw).parameters.values()
            needs = [p for p in parameters if p.default is p.empty]
            if name.startswith("draw_") and draw.__module__ == module.__name__ and not needs:
                yield pytest.param(draw, id=f"{part}.{name}")


PICTURES = list(_pictures())


def test_every_week_from_5_to_11_has_a_picture():
    assert {param.id[:6] for param in PICTURES} >= {f"week{n:02d}" for n in range(5, 12)}


@pytest.mark.parametrize("draw", PICTURES)
def test_text_stays_in_its_box_and_on_the_canvas(draw):
    fig = draw()
    fig.draw_without_rendering()
    edge = fig.bbox
    title = fig._suptitle.get_window_extent()
    assert edge.x0 <= title.x0 and title.x1 <= edge.x1, fig.get_suptitle()
    for axes in fig.axes:
        boxes = [patch.get_window_extent() for patch in axes.patches]
        for text in axes.texts:
            place = text.get_window_extent()
            if not text.get_text():
                continue
            assert edge.x0 <= place.x0 and place.x1 <= edge.x1, text.get_text()
            assert edge.y0 <= place.y0 and place.y1 <= edge.y1, text.get_text()
            x, y = (place.x0 + place.x1) / 2, (place.y0 + place.y1) / 2
            around = [b for b in boxes if b.contains(x, y) and text.get_ha() == "center"]
            if around:  # the innermost box whose middle is the text's
                box = min(around, key=lambda b: b.width * b.height)
                if abs(x - (box.x0 + box.x1) / 2) < 2:
                    assert box.x0 <= place.x0 and place.x1 <= box.x1, text.get_text()
                    assert box.y0 <= place.y0 and place.y1 <= box.y1, text.get_text()


@pytest.mark.parametrize("draw", PICTURES)
def test_texts_do_not_overlap_and_are_read_on_a_phone(draw):
    fig = draw()
    fig.draw_without_rendering()
    assert fig.get_suptitle()
    assert fig.get_size_inches()[0] <= PHONE / 10 + 0.01
    for axes in fig.axes:
        texts = [text for text in axes.texts if text.get_text()]
        assert all(text.get_size() >= 10.5 for text in texts)
        for first, second in combinations(texts, 2):
            a, b = first.get_window_extent(), second.get_window_extent()
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            down = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across <= 1 or down <= 3, (first.get_text(), second.get_text())
