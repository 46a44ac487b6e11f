"""The whole rehearsal: all twelve notebooks under `t4` and `rented`; planted faults."""

from __future__ import annotations

from pathlib import Path

import cuts
import pytest
import walk
from expected import not_here


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("profile", ["t4", "rented"])
def test_every_cell_of_every_notebook_runs(profile: str, tmp_path: Path):
    walks = walk.rehearse(profile, walk.WEEKS, tmp_path)
    print(walk.report(profile, walks))
    assert [one.week for one in walks] == list(walk.WEEKS)
    assert {one.week: one.errors for one in walks if one.errors} == {}
    for one in walks:
        assert [said for _, said in one.reasons] == not_here(profile, one.week)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("fault", "week", "told"),
    [
        ("renamed column", "03", "dialogue_turns"),
        ("missing metric", "07", "gsm8k_lenient"),
        ("wrong key in a config", "03", "max_lenght"),
    ],
)
def test_a_planted_fault_is_found(fault: str, week: str, told: str, tmp_path: Path):
    assert fault in cuts.PLANTED
    walks = walk.rehearse("t4", [week], tmp_path, plant=fault, asides=False, chain=False)
    errors = [what for one in walks for _, what in one.errors]
    assert any(told in what for what in errors), errors
