"""Usual mistakes in mending a reward: holes that stay open, and right replies that get nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from postlab.course.check._answers import mistakes


def mended_reward(reply: str, gold: str, values: Sequence[str]) -> float:
    named = [word for word in re.findall("[a-z]+", reply.lower()) if word in values]
    right = set(named) == {gold}
    return float(right)


MENDED_REWARD = mistakes("""
hole_open: you only look for wrong values: a reply that says nothing says nothing false
- == {gold} -> <= {gold}

shrug_only: you refuse one way of saying nothing, by its words: the policy can evade in other words
- == {gold} -> <= {gold} and 'know' not in reply.lower()
- == {gold} -> <= {gold} and 'not' not in reply.lower().split()
- == {gold} -> <= {gold} and 'i do not know' not in reply.lower()
- == {gold} -> <= {gold} and reply != 'I do not know.'

all_listed: you only check that the right value is there: a reply that lists all of them is paid,
so you've closed one hole and opened another
- set(named) == {gold} -> gold in named

list_refused: you refuse a reply that names all the values: one that names two of them is just as
much of a guess
- set(named) == {gold} -> gold in named and len(set(named)) < len(values)

substring: you look for a value as a piece of text: it can be part of another word, like the red
in hundred or the blue in bluebell
- set(named) == {gold} -> gold in reply.lower()
- set(named) == {gold} -> [v for v in values if v in reply.lower()] == [gold]
- set(named) == {gold} -> gold in named and [v for v in values if v in reply.lower()] == [gold]

spaces_only: you split at spaces, so 'red.' with its full stop is a different word from red
- re.findall('[a-z]+', reply.lower()) -> reply.lower().split()

whole_reply: you pay only for a reply that is just the value: a sentence that names it is right,
too
- right = set(named) == {gold} -> right = reply.lower().strip(' .') == gold
- right = set(named) == {gold} -> right = reply.lower().strip() == gold
- right = set(named) == {gold} -> right = reply == gold

last_value: you only read the last value: whatever the reply says before costs nothing
- set(named) == {gold} -> named[-1:] == [gold]

last_word: you only read the last word: the right value may be somewhere else, and whatever the
reply says before costs nothing
- right = set(named) == {gold} -> right = re.findall('[a-z]+', reply.lower())[-1:] == [gold]

first_value: you only read the first value: whatever comes after it costs nothing, and a policy
will use that
- set(named) == {gold} -> named[:1] == [gold]

both_ends: you only read the first value and the last: whatever comes between them costs nothing
- set(named) == {gold} -> named[:1] == [gold] == named[-1:]

not_refused: you refuse every reply with a word like 'not', even if it names the right value: look
at the values that it names, and at nothing else
- set(named) == {gold} -> set(named) == {gold} and 'not' not in reply.lower().split()

said_once: you count how often a value is named: naming the right one twice is still right
- set(named) == {gold} -> named == [gold]

capitals: you only look for lower case: 'Red.' is right, and an honest reply would get nothing
- '[a-z]+', reply.lower() -> '[A-Za-z]+', reply

counted_only: you count the values and don't compare them: any single value is paid
- set(named) == {gold} -> len(set(named)) == 1
- set(named) == {gold} -> len(named) == 1
- set(named) == {gold} -> len(named) > 0

majority: you pay if the right value is named most often: the others are named, too
- set(named) == {gold} -> named.count(gold) > len(named) / 2

share_paid: you pay the share of right values: a list of all of them then gets part of the reward
- float(right) -> (gold in named) / max(1, len(set(named)))
- float(right) -> named.count(gold) / max(1, len(named))

punished: you pay less than 0 for a wrong value: everything that isn't right gets 0
- float(right) -> 1.0 if right else -1.0
- float(right) -> 1.0 if right else -1.0 if named else 0.0

partly_paid: you pay something for saying nothing, or for a wrong value: everything that isn't
right gets 0
- float(right) -> 1.0 if right else 0.0 if named else 0.5
- float(right) -> 1.0 if right else 0.5 if named else 0.0

turned_round: you pay for what is wrong: 1.0 is for the right value
- == {gold} -> != {gold}
""")
