"""bench/profile_stages.py: an activity's time leaves out those inside it; the timing is no test."""

from __future__ import annotations

import doctest
import importlib
from functools import reduce
from pathlib import Path

import pytest
from modules import module_at

bench = module_at(
    Path(__file__).resolve().parents[3] / "bench" / "profile_stages.py", "bench_profile_stages"
)


def test_the_time_inside_an_activity_is_not_its_own(monkeypatch):
    times = iter([0, 1, 3, 7, 15, 31])
    monkeypatch.setattr(bench.Clock, "now", staticmethod(lambda: (t := float(next(times)), 2 * t)))
    clock = bench.Clock()  # 0
    inner = clock.around(lambda: "done", "inner")  # 3 to 7
    outer = clock.around(lambda: inner(), "outer")  # 1 to 15
    assert outer() == "done"
    clock.charge()  # 31
    assert dict(clock.seconds) == {
        bench.REST: [1 + 16, 34.0], "outer": [2 + 8, 20.0], "inner": [4, 8.0]
    }  # fmt: skip


def test_a_failure_ends_its_activity():
    clock = bench.Clock()
    with pytest.raises(ZeroDivisionError):
        clock.around(lambda: 1 / 0, "inner")()
    assert clock.active == [bench.REST]


@pytest.mark.parametrize(("module", "path"), [call[:2] for call in bench.CLOCKED])
def test_what_is_clocked_exists(module: str, path: str):
    assert callable(reduce(getattr, path.split("."), importlib.import_module(module)))


def test_doctest():
    result = doctest.testmod(bench)
    assert result.attempted and not result.failed
