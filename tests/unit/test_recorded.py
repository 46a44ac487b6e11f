"""What experiments share: a run is made once, kept, and read back; lists stand in one text."""

from __future__ import annotations

import pytest

from postlab.recorded import finished, listed


def test_a_finished_run_is_read_and_not_made_again(tmp_path, capsys):
    part, made = tmp_path / "arm-0.json", []

    def make():
        made.append(1)
        return {"loss": 0.5, "seed": 0}

    first = finished(part, make, begun=0.0)
    assert capsys.readouterr().out.startswith("arm-0.json: ")
    assert finished(part, make, begun=0.0) == first == {"loss": 0.5, "seed": 0}
    assert made == [1] and capsys.readouterr().out == ""


def test_an_interrupted_run_leaves_no_file(tmp_path):
    part = tmp_path / "arm-0.json"

    def make():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finished(part, make, begun=0.0)
    assert not part.exists()


def test_a_list_comes_back_from_its_text():
    values = [0.0, 1.0, -123.456, 1e-5]
    assert [float(text) for text in listed(values, digits=6).split()] == values
