"""The sections of `make gpu-smoke` as a test, on a machine with a GPU; without one it is skipped.

One test with a subtest per section, as two at once would share the GPU's memory and time. Not run
on a GPU yet.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import smoke  # noqa: E402


def cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.mark.skipif(not cuda(), reason="torch.cuda.is_available() is False")
def test_every_section_that_fits_into_ten_minutes_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for name, value in smoke.QUIET.items():
        monkeypatch.setenv(name, value)
    setup = smoke.choose(tmp_path, dry=False)
    outcomes = smoke.run_all(
        smoke.chosen(setup, []), tmp_path, smoke.start_with(setup), limit=smoke.LIMIT
    )
    for outcome in outcomes:
        with subtests.test(outcome.name):
            if outcome.status == "not run":
                pytest.skip(outcome.why)
            assert outcome.status == "passed", smoke.summary(outcome)
