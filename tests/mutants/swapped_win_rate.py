"""Wrong answers to `swapped_win_rate`, as people write them."""


def adds_them_up(a_first, b_first):
    return sum(a + b for a, b in zip(a_first, b_first, strict=True)) / (2 * len(a_first))


def first_order_only(a_first, b_first):
    return sum(a_first) / len(a_first)


def for_b(a_first, b_first):
    return sum(1 - a + b for a, b in zip(a_first, b_first, strict=True)) / 2 / len(a_first)


def divides_by_pairs(a_first, b_first):
    return sum(a + 1 - b for a, b in zip(a_first, b_first, strict=True)) / len(a_first)


def a_sum(a_first, b_first):
    return sum((a + 1 - b) / 2 for a, b in zip(a_first, b_first, strict=True))


def counts_wins(a_first, b_first):
    wins = sum(a == 1 for a in a_first) + sum(b == 0 for b in b_first)
    return wins / (len(a_first) + len(b_first))


def without_ties(a_first, b_first):
    votes = [*a_first, *(1 - b for b in b_first)]
    decided = [vote for vote in votes if vote != 0.5]
    return sum(decided) / len(decided)


def wins_both_ways(a_first, b_first):
    both = zip(a_first, b_first, strict=True)
    return sum(a == 1 and b == 0 for a, b in both) / len(a_first)


def where_they_agree(a_first, b_first):
    agreed = [a for a, b in zip(a_first, b_first, strict=True) if a + b == 1]
    return sum(agreed) / len(agreed)


def disagreement_is_a_tie(a_first, b_first):
    total = 0
    for a, b in zip(a_first, b_first, strict=True):
        total += a if a + b == 1 else 0.5
    return total / len(a_first)


def a_list(a_first, b_first):
    return [(a + 1 - b) / 2 for a, b in zip(a_first, b_first, strict=True)]


def subtracts_lists(a_first, b_first):
    return sum(a_first - b_first) / len(a_first)


def turns_the_callers_list(a_first, b_first):
    for i, vote in enumerate(b_first):
        b_first[i] = 1 - vote
    return (sum(a_first) + sum(b_first)) / (2 * len(a_first))


MUTANTS = {
    "adds_them_up": "not_turned",
    "first_order_only": "one_order",
    "for_b": "other_side",
    "divides_by_pairs": "doubled",
    "a_sum": "not_averaged",
    "counts_wins": "ties_are_losses",
    "without_ties": "ties_dropped",
    "wins_both_ways": "both_or_nothing",
    "where_they_agree": "inconsistent_dropped",
    "disagreement_is_a_tie": "inconsistent_tied",
    "a_list": "wrong_type",
    "subtracts_lists": "raises_TypeError",
    "turns_the_callers_list": "edits_inputs",
}
