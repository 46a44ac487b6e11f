"""What experiments share: a run is made once, kept, and read back; lists of numbers take a line."""

from __future__ import annotations

import json
import math

import pytest

from postlab.course import finished, listed, log_columns, log_history, numbers
from postlab.course.recorded import json_text


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


def test_listed_numbers_come_back_from_their_file():
    values = [0.0, 1.0, -123.456, 1e-5]
    assert numbers(json.loads(json_text(listed(values, digits=6)))).tolist() == values
    assert math.isnan(numbers(json.loads(json_text(listed([math.nan]))))[0])


def test_the_text_of_a_record_is_what_json_reads_back():
    record = {"a": [], "b": {}, "c": [[1, 2], [0.5]], "d": ["x" * 50] * 3, "e": None, "f": ["é"]}
    text = json_text(record)
    assert json.loads(text) == record
    assert ' "c": [\n  [1, 2],\n  [0.5]\n ]' in text  # one line per row of a table
    assert text.count("x" * 50 + '"') == text.count('\n  "x') == 3  # and per item of long text


def test_a_log_history_comes_back_from_its_columns():
    log = [{"loss": 0.5, "step": i} for i in range(3)] + [{"train_loss": 0.5, "step": 3}]
    columns = log_columns(log)
    assert columns["steps"] == {"loss": [0.5] * 3, "step": [0, 1, 2]}
    assert log_history(columns) == log


@pytest.mark.parametrize("log", [[{"loss": 1.0}], [{"loss": 1.0}, {"kl": 0.1}, {"train_loss": 1}]])
def test_a_log_history_that_is_no_table_is_refused(log):
    with pytest.raises(ValueError, match="all log the same names"):
        log_columns(log)
