"""Soft labels and the bill: hand-worked numbers, then brute force over what may be broken."""

from __future__ import annotations

import itertools
import math

import pytest

from postlab import constitution as cai

RULES = cai.Constitution(
    (cai.Rule("one", "First."), cai.Rule("two", "Second."), cai.Rule("three", "Third.")),
    "Against {rule}?",
    "Revise.",
)
ASKED = [{"role": "user", "content": "How?"}]
CHANCES = {"a": (0.9, 0.2, 0.5), "b": (0.1, 0.6, 0.3), "sure": (1.0, 1.0, 0.0), "none": (0, 0, 0)}


def chances(talks):
    """Looks up the reply and the rule."""
    places = {rule.text: i for i, rule in enumerate(RULES.rules)}
    return [
        CHANCES[talk[-2]["content"]][places[talk[-1]["content"].removeprefix("Against ")[:-1]]]
        for talk in talks
    ]


def by_brute_force(a: str, b: str) -> float:
    """Every combination of broken rules, with its probability."""
    total = 0.0
    for broken in itertools.product((0, 1), repeat=6):
        p = math.prod(
            c if x else 1 - c for c, x in zip(CHANCES[a] + CHANCES[b], broken, strict=True)
        )
        first, second = sum(broken[:3]), sum(broken[3:])
        total += p * (1.0 if first < second else 0.5 if first == second else 0.0)
    return total


@pytest.mark.parametrize(("a", "b"), [("a", "b"), ("a", "sure"), ("none", "b"), ("a", "a")])
def test_a_soft_label_is_the_probability_of_fewer_breaches(a, b):
    p, turned = cai.soft_labels(chances, RULES, [(ASKED, a, b), (ASKED, b, a)])
    assert p == pytest.approx(by_brute_force(a, b))
    assert p + turned == pytest.approx(1)  # no side is preferred for its place


def test_a_sure_critic_gives_hard_labels_and_no_pairs_give_none():
    assert cai.soft_labels(chances, RULES, [(ASKED, "none", "sure")]) == [1.0]
    assert cai.soft_labels(chances, RULES, []) == []


def test_breach_chances_are_in_the_rules_order():
    said = cai.breach_chances(chances, RULES, [(ASKED, "b"), (ASKED, "a")])
    assert said == [list(CHANCES["b"]), list(CHANCES["a"])]


def test_tokens_are_billed_by_their_own_prices():
    assert cai.token_cost(read=2e6, written=1e6, usd_per_million=(0.5, 4.0)) == 5.0
    assert cai.token_cost(read=0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [{"read": -1}, {"read": 1, "written": math.nan}, {"read": 1, "usd_per_million": (-1, 1)}],
)
def test_a_bill_of_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a number from 0"):
        cai.token_cost(**wrong)
