"""The recorded comparison with math-verify: its counts add up, and our verdicts are today's."""

import json
from collections import Counter
from pathlib import Path

import pytest

from postlab.rewards import math_reward

PATH = Path(__file__).resolve().parents[3] / "data/results/math_golds/agreement.json"


@pytest.fixture(scope="module")
def record():
    return json.loads(PATH.read_text(encoding="utf-8"))


def test_counts_follow_from_the_listed_differences(record):
    listed = record["differences"]
    assert Counter(row["kind"] for row in listed) == record["kinds"]
    for name, suite in record["suites"].items():
        for field, ours in (("agree", "ours"), ("agree_unworked", "unworked")):
            differ = sum(row["suite"] == name and row[ours] != row["theirs"] for row in listed)
            assert suite["comparisons"] - suite[field] == differ, (name, field)


def test_agreement_is_at_least_98_percent_over_2000_golds(record):
    suites = record["suites"].values()
    compared = sum(suite["comparisons"] for suite in suites)
    assert record["distinct_golds"] >= 2000
    assert sum(suite["agree"] for suite in suites) >= 0.98 * compared


def test_a_sample_of_our_verdicts_is_what_the_code_says(record):
    short = [row for row in record["differences"] if len(row["gold"]) <= 60][::12]
    assert len(short) > 8
    for row in short:
        for switch, verdict in ((False, row["ours"]), (True, row["unworked"])):
            rewards = math_reward([row["reply"]], [row["gold"]], unworked=switch)
            assert bool(rewards[0]) == verdict, row
