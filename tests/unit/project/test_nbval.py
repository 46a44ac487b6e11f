"""The lanes in which `make nbval` runs the notebooks."""

import sys
from pathlib import Path

import pytest
from modules import module_at

ROOT = Path(__file__).resolve().parents[3]
nbval = module_at(ROOT / ".ci" / "nbval.py", "nbval_lanes")
WEEKS = sorted((ROOT / "notebooks").glob("week*.ipynb"))
EXTRAS = sorted((ROOT / "notebooks" / "extras").glob("*.ipynb"))


@pytest.mark.parametrize("notebooks", [WEEKS, EXTRAS, EXTRAS[:1], []])
def test_every_notebook_runs_once(notebooks):
    lanes = nbval.lanes(notebooks)
    assert sorted(n for lane in lanes for n in lane) == notebooks
    assert all(lane == sorted(lane) for lane in lanes)


def test_the_stages_are_made_in_one_lane_in_their_order():
    staged, _ = nbval.lanes(WEEKS)
    assert [n.stem[4:6] for n in staged] == list(nbval.MAKES_STAGES)


@pytest.mark.parametrize("bad", [[], ["b"], ["a", "c"]])
def test_a_notebook_that_fails_is_named_and_the_others_run(bad, monkeypatch, tmp_path, capsys):
    def command(notebook):
        ran = f"import pathlib, sys; pathlib.Path({str(tmp_path)!r}, {notebook.stem!r}).touch()"
        return [sys.executable, "-c", f"{ran}; print('said'); sys.exit({notebook.stem in bad})"]

    monkeypatch.setattr(nbval, "command", command)
    monkeypatch.setattr(sys, "argv", ["nbval.py", "a.ipynb", "b.ipynb", "c.ipynb"])
    if bad:
        with pytest.raises(SystemExit, match=f"failed: {', '.join(bad)}$"):
            nbval.main()
    else:
        nbval.main()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]
    assert capsys.readouterr().out.count("said") == 3
