"""The oracle for rows reads every question back, and its verdict is that of the evaluation."""

from __future__ import annotations

import random

import pytest

from postlab.tinyworld import corpus, oracle, tasks

FAMILIES = (*tasks.FAMILIES, "json", "code")


def row(question: str, reply: str) -> dict:
    said = {"role": "assistant", "content": reply}
    return {"prompt": [{"role": "user", "content": question}], "completion": [said]}


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_question_is_read_back_into_its_item(family: str, split: str):
    rng = random.Random(f"{family} {split}")
    for _ in range(300):
        item = tasks.draw(family, rng, split)
        text = tasks.ask(item, rng, split)
        assert oracle.read(text) == item, text
        assert oracle.read(tasks.told(item) + text) == item, text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_reply_is_right_and_a_flawed_one_is_wrong(family: str):
    rng = random.Random(family)
    for _ in range(100):
        item = tasks.draw(family, rng, "train")
        text = tasks.ask(item, rng, "train")
        assert oracle.judge(row(text, tasks.solution(item))) is True
        style = "worked" if family == "arithmetic" else None  # a blurted one may be right by chance
        assert oracle.judge(row(text, tasks.flaw(item, rng, style=style))) is False


def test_what_it_cannot_judge_is_neither_right_nor_wrong():
    assert oracle.judge(row("Who are you?", "A model.")) is None
    critiques = [r for r in corpus.sft_rows(n=300) if r["family"] == "critique"]
    assert critiques and {oracle.judge(r) for r in critiques} == {None}


def test_a_system_message_is_no_obstacle_and_a_second_turn_is():
    asked = row("What is 2+3+4?", "2+3=5, 5+4=9. #### 9")
    system = {"role": "system", "content": "Be brief."}
    assert oracle.judge(asked | {"prompt": [system, *asked["prompt"]]}) is True
    assert oracle.judge(asked | {"prompt": asked["prompt"] * 3}) is None


def test_the_share_of_right_sums_is_that_of_the_teachers_habits():
    """Of three terms 85% are blurted and a tenth of those is right; the rest is 96% right."""
    sums = [r for r in corpus.sft_rows(n=20_000) if r["family"] == "arithmetic"]
    three = [r for r in sums if r["prompt"][0]["content"].count("+") == 2]
    right = sum(oracle.judge(r) for r in three) / len(three)
    assert abs(right - (0.85 * 0.1 + 0.15 * 0.96)) < 0.03
