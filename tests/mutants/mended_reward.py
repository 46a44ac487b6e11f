"""Wrong answers to `mended_reward`, as people write them."""

import re


def still_nothing_false(reply, gold, values):
    words = reply.lower().replace(".", " ").replace(",", " ").split()
    return 0.0 if any(v in words for v in values if v != gold) else 1.0


def without_the_shrug(reply, gold, values):
    words = re.findall(r"\w+", reply.lower())
    if "not" in words:
        return 0.0
    return float(all(v == gold or v not in words for v in values))


def right_one_somewhere(reply, gold, values):
    return 1.0 if gold in re.findall(r"\w+", reply.lower()) else 0.0


def as_a_piece_of_text(reply, gold, values):
    return float(gold in reply.lower())


def last_one_counts(reply, gold, values):
    named = [w for w in re.findall(r"\w+", reply.lower()) if w in values]
    return float(bool(named) and named[-1] == gold)


def first_one_counts(reply, gold, values):
    for word in re.findall(r"\w+", reply.lower()):
        if word in values:
            return float(word == gold)
    return 0.0


def exactly_once(reply, gold, values):
    named = [w for w in re.findall(r"\w+", reply.lower()) if w in values]
    return float(named == [gold])


def small_letters(reply, gold, values):
    named = {w for w in re.findall(r"\w+", reply) if w in values}
    return float(named == {gold})


def one_value_whichever(reply, gold, values):
    named = {w for w in re.findall(r"\w+", reply.lower()) if w in values}
    return float(len(named) == 1)


def share_of_the_named(reply, gold, values):
    named = {w for w in re.findall(r"\w+", reply.lower()) if w in values}
    return float(gold in named) / max(1, len(named))


def pays_the_wrong(reply, gold, values):
    named = {w for w in re.findall(r"\w+", reply.lower()) if w in values}
    return float(named != {gold})


def fails_on_silence(reply, gold, values):
    named = {w for w in re.findall(r"\w+", reply.lower()) if w in values}
    return float(named == {gold}) if reply[0] else 0.0


def compares_without_float(reply, gold, values):
    named = {w for w in re.findall(r"\w+", reply.lower()) if w in values}
    return named == {gold}


def edits_the_values(reply, gold, values):
    values.remove(gold)
    words = re.findall(r"\w+", reply.lower())
    return float(gold in words and not any(v in words for v in values))


def prints_it(reply, gold, values):
    named = {w for w in re.findall(r"\w+", reply.lower()) if w in values}
    print(float(named == {gold}))


MUTANTS = {
    "still_nothing_false": "hole_open",
    "without_the_shrug": "shrug_only",
    "right_one_somewhere": "all_listed",
    "as_a_piece_of_text": "substring",
    "last_one_counts": "last_value",
    "first_one_counts": "first_value",
    "exactly_once": "said_once",
    "small_letters": "capitals",
    "one_value_whichever": "counted_only",
    "share_of_the_named": "share_paid",
    "pays_the_wrong": "turned_round",
    "fails_on_silence": "empty_reply",
    "compares_without_float": "wrong_type",
    "edits_the_values": "edits_inputs",
    "prints_it": "returns_none",
}
