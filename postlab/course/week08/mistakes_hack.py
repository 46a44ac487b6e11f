"""What goes wrong when a reward is mended: holes that stay, and honest words that go unpaid."""

from __future__ import annotations

import re
from collections.abc import Sequence

from postlab.course.check._answers import mistakes


def mended_reward(reply: str, gold: str, values: Sequence[str]) -> float:
    named = [word for word in re.findall("[a-z]+", reply.lower()) if word in values]
    right = set(named) == {gold}
    return float(right)


MENDED_REWARD = mistakes("""
hole_open: you look only for wrong values: who says nothing says nothing false
- == {gold} -> <= {gold}

shrug_only: you refuse one way of saying nothing, by its words: the next policy evades in others
- == {gold} -> <= {gold} and 'know' not in reply.lower()
- == {gold} -> <= {gold} and 'not' not in reply.lower().split()
- == {gold} -> <= {gold} and 'i do not know' not in reply.lower()
- == {gold} -> <= {gold} and reply != 'I do not know.'

all_listed: you look only whether the right value is there: a reply that lists them all is paid.
One hole closed, another one opened
- set(named) == {gold} -> gold in named

list_refused: you refuse a reply that names all the values: one that names two of them is as much
of a guess
- set(named) == {gold} -> gold in named and len(set(named)) < len(values)

substring: you look for the value as a piece of text: it is inside of other words too, as red is in
hundred
- set(named) == {gold} -> gold in reply.lower()
- set(named) == {gold} -> [v for v in values if v in reply.lower()] == [gold]

spaces_only: you split at spaces, so that 'red.' with its full stop is another word than red
- re.findall('[a-z]+', reply.lower()) -> reply.lower().split()

whole_reply: you pay for a reply that is nothing but the value: a sentence that says it is right too
- right = set(named) == {gold} -> right = reply.lower().strip(' .') == gold
- right = set(named) == {gold} -> right = reply.lower().strip() == gold
- right = set(named) == {gold} -> right = reply == gold

last_value: you read the last value only: what was said before it is free
- set(named) == {gold} -> named[-1:] == [gold]

last_word: you read the last word only: the right value may stand elsewhere, and what was said before
it is free
- right = set(named) == {gold} -> right = re.findall('[a-z]+', reply.lower())[-1:] == [gold]

first_value: you read the first value only: what comes after it is free, and a policy will use it
- set(named) == {gold} -> named[:1] == [gold]

said_once: you count how often a value is said: twice the right one is still the right one
- set(named) == {gold} -> named == [gold]

capitals: you look for small letters only: 'Red.' is right, and an honest reply would go unpaid
- '[a-z]+', reply.lower() -> '[A-Za-z]+', reply

counted_only: you count the values and do not compare: any single one is paid
- set(named) == {gold} -> len(set(named)) == 1
- set(named) == {gold} -> len(named) == 1
- set(named) == {gold} -> len(named) > 0

majority: you pay if the right value is said most often: the others are said too
- set(named) == {gold} -> named.count(gold) > len(named) / 2

share_paid: you pay by the share of right values: a list of all of them then has a part of the pay
- float(right) -> (gold in named) / max(1, len(set(named)))
- float(right) -> named.count(gold) / max(1, len(named))

punished: you pay less than 0 for a wrong value: what is not right is worth 0
- float(right) -> 1.0 if right else -1.0
- float(right) -> 1.0 if right else -1.0 if named else 0.0

partly_paid: you pay a part for saying nothing, or for a wrong value: what is not right is worth 0
- float(right) -> 1.0 if right else 0.0 if named else 0.5
- float(right) -> 1.0 if right else 0.5 if named else 0.0

turned_round: you pay for what is wrong: 1.0 is for the right value
- == {gold} -> != {gold}
""")
