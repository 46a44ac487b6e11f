"""The number that an answer in words comes down to: sums of `everyday` and of suites of one's own.

Left out: numbers over 999 in words, fractions, percentages as shares, and units.
"""

from __future__ import annotations

import re
from collections import deque
from decimal import Decimal, InvalidOperation

_NAMES = (
    "zero one two three four five six seven eight nine",
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
    "twenty thirty forty fifty sixty seventy eighty ninety",
)
UNITS, TEENS, TENS = (names.split() for names in _NAMES)
IN_WORDS = {word: value for value, word in enumerate(UNITS + TEENS)}
IN_WORDS |= {word: 10 * value for value, word in enumerate(TENS, 2)}
_SMALL = rf"(?:(?:{'|'.join(TENS)})(?:[- ](?:{'|'.join(UNITS[1:])}))?|{'|'.join(TEENS + UNITS)})"
SPELLED = re.compile(
    rf"\b(?:(?:a|{'|'.join(UNITS[1:])})[- ]hundred(?:(?: and)?[- ]{_SMALL})?|{_SMALL})\b"
)
AMOUNT = re.compile(  # an ordinal, and a digit inside a name, is none
    r"(?<![a-z0-9_])-?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?![0-9]|(?:st|nd|rd|th)\b)"
)
STEP = re.compile(r"\bstep [0-9]+\b")
BESIDE = re.compile(  # before a number that says when or of how many
    r"\b(?:in(?:to)?|after|for|per|than|within|over|every|(?<!total )(?<!sum )of) $"
)
COMPARED = re.compile(  # '9 is the largest of the 3'
    r"\b(?:than|sum of|product of|difference between|(?:\w{2,12}est|most|out)\b.{0,20}\bof)\b"
)
ASIDE = re.compile(r"\([^()]*\)")
REASON = re.compile(r",? (?:because|since|who)\b|; the (?:others?|rest)\b")
STATES = re.compile(r"is|are|was|were|remain|altogether")
TOTAL = re.compile(r"[^0-9]{0,30}\b(?:in total|in all|altogether|overall)\W{0,9}$")
CENTS = re.compile(
    r"([0-9]) (dollars?|euros?|pounds?)(?:,? and|,)? ([0-9]{1,2}) (?:cents?|pence)\b"
)
MARKED = re.compile(
    r"####|\\boxed\{|\b(?:answer|result)(?: [a-z']{1,15}){0,6}?(?: is| are| was| be|:| =)"
)
# What comes before the outcome in the sentence that concludes an answer.
LEADS = re.compile(  # a colon only before the last words: 'get on: 24'
    r"=|\u2192|:(?= -?[0-9][0-9.,]{0,15}(?: [a-z]{1,15}){0,2}\W{0,3}$)|\b(?:it's|that's|is|are|was"
    r"|were|be|has|have|had|gets?|got|makes?|made|leaves?|equals?|gives?|needs?|costs?|pays?|paid"
    r"|spends?|spent|takes?|took|keeps?|becomes?|remains?|so|therefore|thus|hence|totals?"
    r"|altogether|left with)\b"
)
OPERATOR = re.compile(
    r"(?: [a-z]{1,15}){0,2} ?(?:[-+*/x\u00d7\u00f7]|plus|minus|times|multiplied by|divided by) ?"
)
TYPED = str.maketrans({"\u2212": "-", "\xa0": " ", "\u202f": "", "\u2009": "", "$": ""})


def last_number(answer: str) -> Decimal | None:
    """The number that an answer gives as its outcome; None if it gives none.

    In this order: what follows the last '####', '\\\\boxed{' or 'the answer is'; in the last
    sentence with a number, what follows its last '=', verb or 'so', unless that is itself a sum;
    else that sentence's last number. Numbers may be spelled, to 999.

    >>> last_number("Each has 3, so it is 3 x 4 = 12 after 2 days.")
    Decimal('12')
    """
    text = _digits(answer)
    for mark in reversed(list(MARKED.finditer(text))[-5:]):
        clause = re.split(r"(?<=[.!?])\s|\n", text[mark.end() : mark.end() + 200].lstrip(" :\n"))[0]
        number = AMOUNT.match(clause)
        if number and not re.match(OPERATOR.pattern + "[0-9]", clause[number.end() :]):
            return value_of(number[0])
        if AMOUNT.search(clause):
            return _outcome(clause)
    for sentence in reversed(re.split(r"(?<=[.!?])\s+|\n+", text)):
        if AMOUNT.search(sentence):
            return _outcome(sentence)
    return Decimal(1) if re.search(r"\bone\b", text) else None


def _digits(answer: str) -> str:
    """The answer in small letters, its spelled numbers in digits and without list marks.

    'one' stays, which is mostly a pronoun.
    """
    text = answer.translate(TYPED).replace("**", "").lower()
    rows = filter(None, (" ".join(row.split()) for row in text.splitlines()))
    lines, due = [], 1
    for line in rows:
        if line.startswith((f"{due}. ", f"{due}) ")):  # the next item of a list
            line, due = line[len(str(due)) + 2 :], due + 1
        lines.append(STEP.sub("step", line))
    text = SPELLED.sub(_spelled, "\n".join(lines))
    return CENTS.sub(lambda m: f"{m[1]}.{int(m[3]):02} {m[2]}", text)


def _spelled(match: re.Match[str]) -> str:
    if match[0] == "one":
        return "one"
    total = 0
    for word in re.split(r"[- ]", match[0]):
        total = max(total, 1) * 100 if word == "hundred" else total + IN_WORDS.get(word, 0)
    return str(total)


def _outcome(sentence: str) -> Decimal | None:
    """The number on which a sentence with numbers comes down."""
    matches = AMOUNT.finditer(sentence)
    last = deque(matches, maxlen=1)[0]  # a list of all of them would take superlinear time
    sentence = sentence[max(0, last.end() - 1000) : last.end() + 100]
    aside = ASIDE.sub("", sentence)
    sentence = aside if AMOUNT.search(aside) else sentence
    conclusion = REASON.split(sentence, maxsplit=1)[0]
    sentence = conclusion if AMOUNT.search(conclusion) else sentence
    numbers = list(AMOUNT.finditer(sentence))
    joined = set()  # numbers that stand beside an operator
    for left, right in zip(numbers, numbers[1:], strict=False):
        if OPERATOR.fullmatch(sentence, left.end(), right.start()):
            joined |= {left, right}
    leads = [m for m in LEADS.finditer(sentence) if m.end() <= numbers[-1].start()]
    if TOTAL.match(sentence, numbers[-1].end()):
        return value_of(numbers[-1][0])
    if not leads:
        free = [n for n in numbers if not BESIDE.search(sentence[: n.start()][-12:])]
        return value_of((free or numbers)[-1][0])
    after = [number for number in numbers if number.start() >= leads[-1].end()]
    before = numbers[: len(numbers) - len(after)]
    alone = [number for number in after if number not in joined]
    between = sentence[leads[-1].end() : after[0].start()]
    compared = COMPARED.search(between)
    if before and before[-1] not in joined and (compared or not alone):
        chosen = before[-1]  # '12 is 5 plus 7', '9 is more than 8'
    elif len(leads) == len(before) == 1 and before[0].start() == 0 and STATES.match(leads[0][0]):
        # '12 apples are left after 3 days', but '5 weeks are 35 days'
        chosen = before[0] if between.strip() else (alone or after)[0]
    else:
        chosen = alone[0] if alone else after[-1]
    return value_of(chosen[0])


# The suites that have a name.


def value_of(number: str) -> Decimal | None:
    try:
        return Decimal(number.strip().replace(",", ""))
    except InvalidOperation:
        return None
