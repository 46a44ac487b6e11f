"""Answers read strictly and leniently: how much of a gain is mere format."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from postlab.evals import readings
from postlab.evals.forms import last_number

ROOT = Path(__file__).resolve().parents[3]


READ = [  # answer to 12+30+15, strict, lenient
    ("12+30=42, 42+15=57. #### 57", 1, 1),
    ("#### 57", 1, 1),
    ("It is 57.", 0, 1),
    ("57", 0, 1),
    ("#### 57 or so", 0, 1),
    ("#### 56", 0, 0),
    ("12+30=42, 42+15=57. No, 58.", 0, 0),
    ("#### -57", 0, 0),
    ("", 0, 0),
    ("no idea", 0, 0),
    ("#### 5757", 0, 0),
]


@pytest.mark.parametrize(("answer", "strict", "lenient"), READ)
def test_an_answer_is_read_strictly_and_leniently(answer, strict, lenient):
    from postlab.tinyworld.oracle import read
    from postlab.tinyworld.tasks import score

    asked = "What is 12+30+15?"
    row = {"id": "a", "family": "arithmetic", "prompt": asked, "answer": answer}
    row["arithmetic"] = score(read(asked), answer, True)["arithmetic"]
    found = readings(pd.DataFrame([row])).iloc[0]
    assert (found["strict"], found["lenient"]) == (strict, lenient)
    assert found["format"] == strict - lenient


def test_lenient_reading_shares_no_code_with_the_reward():
    source = (ROOT / "postlab" / "evals" / "forms.py").read_text(encoding="utf-8")
    assert "import" in source and "from postlab.rewards" not in source


def test_samples_of_a_prompt_are_averaged_and_another_family_is_refused():
    rows = {"id": ["a", "a"], "family": "arithmetic_sampled", "prompt": "What is 2+3?"}
    rows |= {"answer": ["#### 5", "4"], "arithmetic_sampled": [1.0, 0.0]}
    frame = pd.DataFrame(rows)
    assert readings(frame, "arithmetic_sampled").to_numpy().tolist() == [[0.5, 0.5, 0.0]]
    with pytest.raises(ValueError, match="no answer of the family 'arithmetic'; the frame has"):
        readings(frame)


def test_gsm8k_is_read_by_its_own_columns():
    rows = {"id": ["a"], "family": "gsm8k", "prompt": "?", "answer": "5"}
    frame = pd.DataFrame(rows | {"gsm8k_strict": [0.0], "gsm8k_lenient": [1.0]})
    assert readings(frame, "gsm8k").iloc[0].tolist() == [0.0, 1.0, -1.0]


def test_a_number_of_many_digits_is_no_number_in_part():
    assert last_number("1234567890") is None and last_number("x=-3") == -3
