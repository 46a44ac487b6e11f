"""A training run while it trains."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from postlab.show import LiveView, live

EVIL = "<script>alert(1)</script>"
LOG = [{"step": k, "loss": 1 / k, "reward": k / 50, "learning_rate": 1e-4} for k in range(1, 51)]


def drawn(log, **options):
    page = live.page(log, step=len(log), steps=100, **options)
    ElementTree.fromstring(page)  # well formed, so nothing of the log broke out
    return page


class Display:
    """A notebook's display handle, which keeps what it was given."""

    def __init__(self):
        self.pages = []

    def update(self, view):
        self.pages.append(view._repr_mimebundle_()["text/html"])


@pytest.fixture
def notebook(monkeypatch):
    shown = Display()
    monkeypatch.setattr(live, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda view, display_id: shown)
    return shown


def state(log, *, first=True):
    return SimpleNamespace(
        log_history=log, global_step=len(log), max_steps=100, is_world_process_zero=first
    )


def test_a_panel_for_each_value_that_was_logged():
    page = drawn(LOG, stage="grpo")
    assert re.findall(r"<div><b>([^<]+)</b>", page) == ["loss", "reward", "learning rate"]
    assert "grpo, step 50 of 100" in page and page.count("<polyline") == 3
    assert ">0.02</text>" in page and ">1</text>" in page  # the loss from 1 to 0.02
    assert "The doctor" in page


def test_a_flat_curve_has_its_label_beside_it():
    page = drawn(LOG, names=["learning_rate"])
    (at,), (line,) = (
        re.findall(r'<text x="52" y="(\d+)">', page),
        re.findall('points="([^"]*)"', page),
    )
    assert {float(point.split(",")[1]) for point in line.split()} == {live.HEIGHT}
    assert int(at) == live.HEIGHT + 6  # the baseline of a text that is centred on the axis


def test_ones_own_names_and_order():
    page = drawn(LOG, names=["reward", "mine", "loss"])
    assert re.findall(r"<div><b>([^<]+)</b>", page) == ["reward", "loss"]


def test_the_doctor_speaks_while_it_trains():
    log = [{"step": k, "loss": 0.7, "rewards/margins": 0.0} for k in range(1, 12)]
    assert "adapter_still" in drawn(log)


def test_nothing_yet():
    assert "Nothing has been logged yet" in drawn([])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None, "0.3", True, [1], 10**300])
def test_what_is_no_number_is_left_out(bad):
    log = [*LOG[:20], {"step": 21, "loss": bad}]
    assert drawn(log).count("<polyline") == 3
    assert "<polyline" not in drawn([{"step": 1, "loss": bad}])


def test_a_step_that_is_no_number_is_counted():
    log = [{"step": step, "loss": 0.5} for step in (1, None, 10**300, "4")]
    assert live._points(log, "loss") == [(1, 0.5), (1, 0.5), (2, 0.5), (3, 0.5)]


def test_text_of_the_log_is_escaped():
    log = [{"step": k, EVIL: 0.3, "loss": 0.4} for k in range(10)]
    page = drawn(log, stage=EVIL, names=[EVIL, "loss"])
    assert EVIL not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize("n", [1, 2, 199, 200, 201, 5000])
def test_long_curves_are_thinned_and_keep_their_end(n):
    points = live._points([{"step": k, "loss": k} for k in range(n)], "loss")
    assert len(points) <= live.POINTS and points[-1] == (n - 1, n - 1)
    gaps = {b[0] - a[0] for a, b in zip(points, points[1:], strict=False)}
    assert len(gaps) <= 1


def test_one_output_is_rewritten_and_its_last_state_stays(notebook):
    view, log = LiveView("sft", every_s=0), []
    view.on_train_begin(None, state(log), None)
    for entry in LOG:
        log.append(entry)
        view.on_log(None, state(log), None)
    view.on_train_end(None, state(log), None)
    assert len(notebook.pages) >= 2 and "step 50 of 100" in notebook.pages[-1]
    assert view._repr_mimebundle_()["text/html"] == notebook.pages[-1]


def test_states_are_rationed(notebook):
    view = LiveView(every_s=3600)
    view.on_train_begin(None, state([]), None)
    for k in range(1, 50):
        view.on_log(None, state(LOG[:k]), None)
    assert len(notebook.pages) == 1
    view.on_train_end(None, state(LOG), None)
    assert "step 50" in notebook.pages[-1]


def test_only_the_first_process_shows_it(notebook):
    view = LiveView(every_s=0)
    view.on_train_begin(None, state([], first=False), None)
    view.on_log(None, state(LOG, first=False), None)
    assert not notebook.pages


def test_outside_of_a_notebook_nothing_is_shown(capsys):
    view = LiveView()
    view.on_train_begin(None, state([]), None)
    view.on_log(None, state(LOG), None)
    view.on_train_end(None, state(LOG), None)
    view.on_save(None, state(LOG), None)  # an event that it doesn't look at
    assert capsys.readouterr().out == ""


def test_it_is_no_part_of_what_is_trained():
    assert LiveView.watches_only
