"""The constraints of `everyday`: right, wrong and tricky answers to each kind, and endless text."""

from __future__ import annotations

import time

import pytest

from postlab.evals._instructions import KINDS, check_constraint, met

ONE = {"least": 1, "most": 1}
TWO = {"least": 2, "most": 2}
THREE = {"least": 3, "most": 3}
FRENCH = "Le marché est dans la rue. Il y a des fruits et du fromage."
GERMAN = "Die Flüsse enden im Meer. Das ist bei uns nicht anders."
SPANISH = "Los pingüinos viven en el sur. Comen peces y nadan muy bien."
ITALIAN = "Il direttore non suona. Guida gli altri con le mani e con gli occhi."
PORTUGUESE = "Os lobos vivem em grupos. Não são perigosos para as pessoas."

ANSWERS = [
    ("words", ONE, {
        "Moon": 1, "**Moon.**": 1, "The moon": 0, "It's": 1, "well-known": 1, "1,000": 1,
        "": 0, "Moon\n\nMoon": 0, "`Moon`": 1, "3.5": 1, "- Moon": 1, "…": 0,
    }),
    ("words", {"most": 5}, {
        "One two three four five": 1, "One two three four five six": 0,
        "1. One two\n2. Three four": 1,
        "One, two – three; four (five)!": 1, "Don’t stop the old clock": 1, "\n\n": 0,
        "# A title": 1, "loop " * 50: 0,
    }),
    ("sentences", TWO, {
        "Owls hunt. They see well.": 1, "Owls hunt at night.": 0, "Dr. Smith saw it. It flew.": 1,
        "It costs 3.50 dollars. That's cheap.": 1, "Really?! Yes.": 1,
        "Come at 5 p.m. on Monday. Bye": 1,
        'She said "Stop!" and left. I stayed.': 1, "Owls hunt... and sleep. They fly.": 1,
        "- Owls hunt\n- Owls sleep": 1, "Owls hunt\n\nOwls sleep": 1, "owls hunt. owls sleep.": 1,
        "J. K. Rowling wrote it. I read it.": 1, "So do I. You too.": 1, "One. Two. Three.": 0,
        "1. Eat.\n2. Sleep.": 1, "Owls hunt. 🦉": 0, "**Owls hunt.** They see.": 1,
    }),
    ("paragraphs", TWO, {
        "One.\n\nTwo.": 1, "One.\nTwo.": 0, "One.\n \t\nTwo.": 1, "One.\n\n\n\nTwo.": 1,
        "One.": 0, "One.\n\nTwo.\n\nThree.": 0, "# Title\n\nOne.\n\nTwo.": 1,
        "\n\nOne.\n\nTwo.\n\n": 1,
    }),
    ("lines", THREE, {
        "a\nb\nc": 1, "a\n\nb\n\nc": 1, "a\nb": 0, "a\nb\nc\n": 1, "a b c": 0, "a\nb\nc\nd": 0,
        "```\na\nb\nc\n```": 1, "- a\n- b\n- c": 1, "Here it is:\na\nb\nc": 0,
    }),
    ("bullets", THREE, {
        "- a\n- b\n- c": 1, "* a\n* b\n* c": 1, "• a\n• b\n• c": 1, "•a\n•b\n•c": 1,
        "1. a\n2. b\n3. c": 0, "- a\n- b": 0, "- a\n  - b\n- c": 0, "- a\n  - x\n- b\n- c": 1,
        "Here you go:\n\n- **a**: x\n- b\n- c": 1, "a - b\nc - d\ne - f": 0, "- a - b - c": 0,
        "---\n- a\n- b\n- c": 1, "– a\n– b\n– c": 1, "**a**\n**b**\n**c**": 0,
    }),
    ("numbered", THREE, {
        "1. a\n2. b\n3. c": 1, "1) a\n2) b\n3) c": 1, "1. a\n2. b": 0, "- a\n- b\n- c": 0,
        "1. a 2. b 3. c": 0, "Steps:\n1. a\n\n2. b\n\n3. c": 1, "**1.** a\n**2.** b\n**3.** c": 1,
        "**1. a**\n**2. b**\n**3. c**": 1, "1.5 litres\n2.5 litres\n3.5 litres": 0,
        "1. a\n   1. x\n   2. y\n2. b\n3. c": 1, "1. a\n2. b\n3. c\n4. d": 0,
    }),
    ("include", {"phrases": ["river", "old bridge"]}, {
        "The River has an old bridge.": 1, "The rivers have an old bridge.": 0, "river": 0,
        "OLD BRIDGE, RIVER": 1, "The river's old bridge": 1, "an old\nbridge over the river": 1,
        "an old, bridge over a river": 1, "the **river** and the *old bridge*": 1,
        "old stone bridge, river": 0, "river-side old bridge": 1,
    }),
    ("avoid", {"phrases": ["hot", "don't"]}, {
        "It is warm.": 1, "It is HOT.": 0, "It's a hotel.": 1, "Don’t go.": 0, "a red-hot iron": 0,
        "**hot**": 0, "": 0, "shot": 1, "a hot's": 0, "do not": 1,
    }),
    ("count", {"word": "tick"} | THREE, {
        "tick tick tick": 1, "Tick, TICK, tick.": 1, "tick tick": 0, "ticks tick tick": 0,
        "tick tick tick tick": 0, "tick-tick-tick": 1, "**tick** tick tick": 1,
        "ticking tick tick tick": 1,
    }),
    ("count", {"word": "oboe", "most": 1}, {
        "the oboe": 1, "oboe and oboe": 0, "a flute": 1, "Oboes": 1,
    }),
    ("avoid_letters", {"letters": "e"}, {
        "A cat sits.": 1, "The cat": 0, "E": 0, "café": 0, "É": 0, "12 %": 1, "": 0,
        "A bright island": 1,
    }),
    ("avoid_marks", {"marks": ","}, {
        "No pause here.": 1, "Well, yes": 0, "1,000": 0, "semi; colon": 1, "“quoted”": 1, "": 0,
        "- a\n- b": 1, "a، b": 1,
    }),
    ("avoid_marks", {"marks": "*!"}, {"**bold**": 0, "Hi!": 0, "plain": 1, "* item": 0}),
    ("starts", {"phrase": "Good morning"}, {
        "Good morning, all.": 1, "good morning": 1, "**Good morning**": 1, '"Good morning!"': 1,
        "Good mornings": 0, "A good morning": 0, "Good": 0, "Good, morning": 1, "“Good morning”": 1,
    }),
    ("ends", {"phrase": "stay tuned"}, {
        "Bye, stay tuned!": 1, "Stay tuned": 1, "stay tuned. Bye": 0, "stay finetuned": 0,
        "tuned": 0, "please **stay tuned**.": 1, "stay\ntuned": 1, 'He said "stay tuned."': 1,
    }),
    ("case", {"case": "upper"}, {
        "HELLO THERE!": 1, "Hello": 0, "HELLo": 0, "123": 1, "HELLO 3 TIMES": 1, "ÄRGER": 1, "…": 0,
        "**STOP**": 1, "THE McD": 0,
    }),
    ("case", {"case": "lower"}, {
        "hello there.": 1, "Hello": 0, "i am": 1, "I am": 0, "iPhone": 0, "ärger": 1, "3 cats": 1,
        "!": 0,
    }),
    ("json", {"keys": ["a", "b"]}, {
        '{"a": 1, "b": 2}': 1, '```json\n{"a": 1, "b": [2]}\n```': 1, "{'a': 1, 'b': 2}": 0,
        '{"a": 1}': 0, '{"a": 1, "b": 2, "c": 3}': 0, 'Here: {"a": 1, "b": 2}': 0, "[1]": 0,
        '{"a": "he said “hi”", "b": "x_y_"}': 1, '{"a": 1, "b": 2,}': 0,
        '```\n{"b": 1, "a": 2}\n```': 1,
        '{"a": 1, "b": 2}\n\nI hope this helps!': 0, "[" * 100_000: 0,
    }),
    ("language", {"language": "french"}, {
        FRENCH: 1, GERMAN: 0, SPANISH: 0, ITALIAN: 0, PORTUGUESE: 0,
        "The market is in the street.": 0,
        FRENCH + " (The market is in the street. There are fruits and cheese.)": 0, "Bonjour": 0,
        "C’est l’heure qu’il aime le plus.": 1,
    }),
    ("language", {"language": "german"}, {FRENCH: 0, GERMAN: 1, "Der See ist tief und kalt.": 1}),
    ("language", {"language": "spanish"}, {SPANISH: 1, PORTUGUESE: 0, ITALIAN: 0, FRENCH: 0}),
    ("language", {"language": "italian"}, {ITALIAN: 1, SPANISH: 0, FRENCH: 0, PORTUGUESE: 0}),
    ("language", {"language": "portuguese"}, {PORTUGUESE: 1, SPANISH: 0, ITALIAN: 0}),
    ("language", {"language": "english"}, {"The cat is on the mat.": 1, FRENCH: 0}),
    ("one_of", {"options": ["tea", "coffee"]}, {
        "tea": 1, "Coffee.": 1, "**Tea**": 1, "Tea or coffee": 0, "I'd say tea.": 0, "TEA!": 1,
        "teas": 0, "tea\n": 1, "- tea": 1, "Answer: tea": 0, '"tea"': 1,
    }),
    ("question", {"ends": True}, {
        "Shall we?": 1, "Shall we? Yes.": 0, "“Shall we?”": 1, "**Shall we?**": 1, "Shall we?!": 0,
        "Shall we": 0, "(Shall we?)": 1, "?": 1, "Is it?\n": 1,
    }),
    ("question", {"ends": False}, {"Yes.": 1, "Yes?": 0}),
]  # fmt: skip
CASES = [
    ({"kind": kind} | arguments, answer, bool(right))
    for kind, arguments, answers in ANSWERS
    for answer, right in answers.items()
]


@pytest.mark.parametrize(("constraint", "answer", "right"), CASES)
def test_an_answer_is_judged_as_a_reader_would(constraint, answer, right):
    check_constraint(constraint)
    assert met(constraint, answer) is right


def test_each_kind_has_right_and_wrong_answers():
    for kind in KINDS:
        verdicts = [right for constraint, _, right in CASES if constraint["kind"] == kind]
        assert len(verdicts) >= 8 and 0 < sum(verdicts) < len(verdicts), kind


@pytest.mark.parametrize(
    "constraint",
    [
        "words", {"kind": "rhyme"}, {"kind": "words"}, {"kind": "words", "most": -1},
        {"kind": "words", "least": 4, "most": 2}, {"kind": "words", "most": "3"},
        {"kind": "words", "most": True}, {"kind": "count", "word": "a"},
        {"kind": "avoid", "phrases": "hot"}, {"kind": "avoid", "phrases": []},
        {"kind": "avoid", "phrases": ["!"]}, {"kind": "starts", "phrase": "..."},
        {"kind": "language", "language": "klingon"}, {"kind": "case", "case": "title"},
        {"kind": "question", "ends": 1}, {"kind": "json", "keys": ["a"], "most": 3},
        {"kind": "ends"},
    ],
)  # fmt: skip
def test_a_constraint_that_cannot_be_checked_says_what_is_expected(constraint):
    with pytest.raises(ValueError, match=r"constraint .*expected"):
        check_constraint(constraint)


ENDLESS = [
    "." * 100_000 + "x", "a-" * 50_000, "1. " * 33_000, " " * 100_000, "\n \t" * 33_000,
    "- " * 50_000,
    "*" * 100_000, "_a" * 50_000, "A. " * 33_000, "'" * 100_000, "the " * 25_000,
    '."' * 50_000 + "x",
    "[" * 100_000, "`" * 100_000, "#" * 100_000, "1." * 50_000, "# \n" * 33_000, "é" * 100_000,
    "Mr. " * 25_000, "\n- a" * 25_000, "." + '"' * 100_000 + "x", "1,1" * 33_000,
    " \n" * 50_000 + "x",
]  # fmt: skip


@pytest.mark.parametrize("text", ENDLESS, ids=lambda text: repr(text[:6]))
def test_endless_text_is_read_in_linear_time(text):
    for kind, arguments in {case[0]: case[1] for case in ANSWERS}.items():
        start = time.process_time()
        met({"kind": kind} | arguments, text)
        assert time.process_time() - start < 1.0, kind  # a quadratic check takes minutes
