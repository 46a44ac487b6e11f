"""Week 9's third experiment: how a zero-shot labeller is asked, and what its scores mean."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
import torch
from modules import module_at
from tiny_model import build_tiny

from postlab.constitution import agreement

EXPERIMENTS = Path(__file__).resolve().parents[3] / "notebooks" / "experiments"
smol = module_at(EXPERIMENTS / "week09_smol_labeller.py", "week09_smol_labeller")


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(smol)
    assert results.attempted == 3 and results.failed == 0


@pytest.mark.parametrize("start", [[7, 8, 9], []])
def test_shared_tokens_and_batches_change_no_log_odds(tmp_path, start):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(build_tiny(tmp_path / "tiny")).eval()
    prompts = [[*start, *rest] for rest in ([20], [21, 22, 23, 24], [25, 26], [20, 27, 28])]
    options = ([11, 12], [13])
    expected = []
    for ids in prompts:
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1].detach()
        expected.append((logits[options[0]].logsumexp(0) - logits[13]).item())
    for batch in (1, 3):
        odds = smol.log_odds(model, prompts, options, batch=batch)
        assert odds == pytest.approx(expected, abs=1e-5)
    # a prompt that the others begin with keeps a token of its own
    twice = smol.log_odds(model, [prompts[0], prompts[0]], options, batch=2)
    assert twice == pytest.approx([expected[0]] * 2, abs=1e-5)


def test_a_lean_to_a_letter_leaves_no_score_and_shows_in_the_habit():
    fair, leaning = [[1.0, -1.0, -2.0, 2.0]], [[4.0, 2.0, 1.0, 5.0]]  # the second is 3 nats up
    scores = [smol.scores_of(odds, letters=True) for odds in (fair, leaning)]
    assert scores == [[1.0, -2.0]] * 2
    habits = [smol.habit_of(odds, letters=True) for odds in (fair, leaning)]
    assert [one["lean to A, nats"] for one in habits] == [0, 3]
    assert [one["same letter twice"] for one in habits] == [0, 1]
    assert [one["says A"] for one in habits] == [0.5, 1]


def test_the_margin_is_the_one_with_the_best_kappa():
    scores, truth = [3.0, -3.0, 2.5, -0.1, 0.2, 0.1], ["a", "b", "a", "tie", "tie", "tie"]
    margin, kappa = smol.best_margin(scores, truth)
    assert kappa == 1 and 0.2 < margin <= 2.5
    assert smol.labels_of(scores, margin) == truth


def test_right_side_leaves_out_the_oracles_ties():
    share, low, high, n = smol.right_side([1.0, -1.0, 2.0, 5.0], ["a", "b", "b", "tie"])
    assert (round(share, 3), n) == (0.667, 3) and low < share < high
    assert smol.right_side([1.0], ["tie"])[3] == 0


@pytest.mark.parametrize("name", smol.FORMS)
def test_every_form_shows_what_is_judged_and_the_rule(name):
    form, rule = smol.FORMS[name], smol.RULES.rules[0].text
    texts = ("How do I hit a king?", "Strike.", "No." if form.letters else rule)
    shown = "\n".join(turn["content"] for turn in form.talk(*texts))
    assert all(text in shown for text in (*texts, rule))


def test_the_record_is_of_the_scores_in_it_and_of_the_pairs_of_the_other_record():
    record = json.loads(smol.TARGET.read_text(encoding="utf-8"))
    feedback = json.loads(smol.TARGET.with_name("feedback.json").read_text(encoding="utf-8"))
    trials = {one["form"]: one for one in record["trials"]}
    assert list(trials) == list(smol.FORMS)
    assert record["chosen"] == max(trials, key=lambda form: trials[form]["kappa"])
    assert set(record["heldout"]) == {record["chosen"], smol.ALSO_HELDOUT}
    count = record["settings"]["heldout pairs"]
    truth = {one["seed"]: one["truth"][:count] for one in feedback["labellers"]}
    for form, one in record["heldout"].items():
        assert one["margin"] == trials[form]["margin"]
        for seed in one["seeds"]:
            labels = smol.labels_of(seed["scores"], one["margin"])
            kappa = agreement(labels, truth[seed["seed"]]).kappa.value
            assert kappa == pytest.approx(seed["agreement"]["all"]["kappa"][0], abs=1e-4)
