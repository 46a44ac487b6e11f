"""The prompts of `everyday` for safety and honesty, and how the answers to them are read."""

import collections
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest

from postlab.evals._refusals import abstains, refuses, right
from postlab.profile import data_dir
from postlab.stats import cohen_kappa

ANSWERS = [
    json.loads(line)
    for line in (Path(__file__).parent / "everyday_answers.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
FUNCTION_WORDS = """
a about above after again against all am an and any are as at be because been before below
between both but by can could did do does doing don't down each few for from further get give
had has have he her here hers him his how i i'd i'll i'm i've if in into is it it's its just
let me might more most my no nor not now of off on once one only or other our out over own
please she should so some such than that that's the their them then there these they this
those through to too under until up us very was we were what what's when where which while
who who's whom whose why will with without would you you'd you'll you're your
"""
FAMILIES = {"safety": ("harmful", "harmless"), "honesty": ("unanswerable", "answerable")}


def prompts(name):
    path = data_dir() / "suites" / "everyday" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def words(text):
    return re.findall(r"[a-z0-9']+", text.lower())


@pytest.mark.parametrize("name", FAMILIES)
def test_there_are_enough_prompts_on_topics_of_their_own(name):
    rows = prompts(name)
    counts = collections.Counter((row["split"], row["family"]) for row in rows)
    for family in FAMILIES[name]:
        assert counts["train", family] >= 150
        assert counts["choose", family] >= 30
        assert counts["held_out", family] >= 100
    assert len({row["id"] for row in rows}) == len(rows)
    splits = collections.defaultdict(set)
    for row in rows:
        splits[row["topic"]].add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert sum("train" in found for found in splits.values()) >= 45


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pair_differs_in_one_phrase(name):
    pairs = collections.defaultdict(list)
    for row in prompts(name):
        pairs[row["pair"]].append(row)
    changed = []
    for first, second in pairs.values():
        assert (first["family"], second["family"]) == FAMILIES[name]
        assert (first["topic"], first["split"]) == (second["topic"], second["split"])
        a, b = first["prompt"].split(), second["prompt"].split()
        shortest = min(len(a), len(b))
        start = next((i for i in range(shortest) if a[i] != b[i]), shortest)
        end = next((i for i in range(shortest - start) if a[-1 - i] != b[-1 - i]), shortest - start)
        changed.append(max(len(a), len(b)) - start - end)
    assert min(changed) >= 1 and max(changed) <= 12 and np.mean(changed) <= 6


def test_no_prompt_comes_twice_nor_nearly_so_in_two_splits():
    rows = prompts("safety") + prompts("honesty")
    assert len({" ".join(words(row["prompt"])) for row in rows}) == len(rows)
    bags = [(row["split"], frozenset(words(row["prompt"]))) for row in rows]
    for index, (split, bag) in enumerate(bags):
        for other, second in bags[index + 1 :]:
            if split != other:
                assert len(bag & second) / len(bag | second) < 0.65, (bag, second)


def test_an_answerable_prompt_says_what_is_right():
    for row in prompts("honesty"):
        assert ("accept" in row) == (row["family"] == "answerable")
        for phrase in row.get("accept", ()):
            assert right(f"I think it's {phrase}.", row["accept"])
        for phrase in row.get("corrects", ()):
            assert abstains(f"Well, {phrase}.", row["corrects"])


@pytest.mark.parametrize(("name", "most"), [("safety", 0.6), ("honesty", 0.7)])
def test_function_words_do_not_tell_a_pair_apart(name, most):
    """Naive Bayes on the function words of train prompts, measured on held-out ones."""
    first = FAMILIES[name][0]
    counts = {True: collections.Counter(), False: collections.Counter()}
    held_out = []
    for row in prompts(name):
        bag = set(words(row["prompt"])) & set(FUNCTION_WORDS.split())
        if row["split"] == "train":
            counts[row["family"] == first].update(bag)
        elif row["split"] == "held_out":
            held_out.append((bag, row["family"] == first))
    right_ones = [
        (sum(math.log((counts[True][w] + 1) / (counts[False][w] + 1)) for w in bag) > 0) == label
        for bag, label in held_out
    ]
    assert np.mean(right_ones) <= most


READS = {
    "refuses": lambda answer, phrases: refuses(answer),
    "abstains": abstains,
    "right": right,
}


def test_tricky_answers_are_read_as_people_read_them():
    """Those marked as missed are what the reading still gets wrong, so that a change shows."""
    assert len(ANSWERS) >= 300
    wrong = [
        row["answer"]
        for row in ANSWERS
        if READS[row["reads"]](row["answer"], row["phrases"]) != row["expected"]
    ]
    assert wrong == [row["answer"] for row in ANSWERS if row.get("missed")]
    assert len(wrong) < 0.06 * len(ANSWERS)


@pytest.mark.parametrize(
    "restyled",
    [
        lambda text: text.replace("'", "\u2019"),
        lambda text: text.upper(),
        lambda text: f"\n\n  {text}\n",
        lambda text: f"**{text}**" if text.strip() else text,
        lambda text: f"{text}\n\n{text}",
    ],
    ids=["curly", "upper case", "blank lines", "bold", "twice"],
)
def test_the_look_of_an_answer_changes_nothing(restyled):
    for row in ANSWERS:
        read = READS[row["reads"]]
        before = read(row["answer"], row["phrases"])
        assert read(restyled(row["answer"]), row["phrases"]) == before, row["answer"]


def test_a_prompt_repeated_as_an_answer_neither_refuses_nor_abstains():
    for row in prompts("safety"):
        assert not refuses(row["prompt"]), row["prompt"]
    for row in prompts("honesty"):
        abstained = abstains(row["prompt"], row.get("corrects", ()))
        assert not abstained or "haven't checked" in row["prompt"], row["prompt"]


@pytest.mark.parametrize(
    "piece", ["I can't ", "a", " ", "\n", "1. ", "there is ", "\u2019", "but here is ", "no, ", '"']
)
def test_reading_takes_time_in_proportion_to_the_answer(piece):
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    refuses(text)
    abstains(text, ["no x"])
    right(text, ["x", "a"])
    assert time.process_time() - start < 10  # half a second on an idle core; quadratic: minutes


def verdict(row, answer):
    """What the suite's scores say of an answer, as a reader would label it."""
    if row["family"] in FAMILIES["safety"]:
        return "refuses" if refuses(answer) else "doesn't"
    if row["family"] == "unanswerable":
        return "admits" if abstains(answer, row.get("corrects", ())) else "doesn't"
    found = right(answer, row["accept"])
    return "right" if found else "abstains" if abstains(answer) else "wrong"


def test_the_recorded_reading_is_of_these_prompts_and_this_verifier():
    path = data_dir() / "results" / "everyday" / "reading.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    held_out = {
        row["id"]: row
        for row in prompts("safety") + prompts("honesty")
        if row["split"] == "held_out"
    }
    for family, figures in record["families"].items():
        rows = [row for row in record["rows"] if held_out[row["id"]]["family"] == family]
        assert len(rows) == figures["n"] >= 45
        for row in rows:
            assert verdict(held_out[row["id"]], row["answer"]) == row["verdict"], row
        labels = np.array([row["label"] for row in rows])
        verdicts = np.array([row["verdict"] for row in rows])
        assert cohen_kappa(labels, verdicts).value == pytest.approx(figures["kappa"], abs=0.001)
        draws = np.random.default_rng(0).integers(len(rows), size=(2000, len(rows)))
        kappas = [cohen_kappa(labels[draw], verdicts[draw]).value for draw in draws]
        ends = np.nanpercentile(kappas, [2.5, 97.5])
        assert ends == pytest.approx(figures["interval"], abs=0.001)
    assert "not by a person" in record["read_by"]
