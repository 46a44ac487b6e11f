"""The sections of `make gpu-smoke` as tests, on a machine with a GPU; without one they are skipped.

Not run on a GPU yet.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import smoke  # noqa: E402


def cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


pytestmark = [
    pytest.mark.skipif(not cuda(), reason="torch.cuda.is_available() is False"),
    pytest.mark.xdist_group("gpu"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, smoke.Outcome]]:
    """Every section, run once, in the time that `make gpu-smoke` has."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in smoke.QUIET.items():
            patch.setenv(name, value)
        setup = smoke.choose(tmp_path_factory.mktemp("smoke"), dry=False)
        done = smoke.run_all(
            smoke.chosen(setup, []), setup.folder, smoke.start_with(setup), limit=smoke.LIMIT
        )
    yield {outcome.name: outcome for outcome in done}


@pytest.mark.parametrize("section", [section.name for section in smoke.SECTIONS])
def test_section(section: str, outcomes: dict[str, smoke.Outcome]) -> None:
    outcome = outcomes[section]
    if outcome.status == "not run":
        pytest.skip(f"not run: {outcome.why}")
    assert outcome.status == "passed", smoke.summary(outcome)
