"""Wrong answers to `mcnemar_p`, as people write them."""

import math


def half_of_it(gained, lost):
    n = gained + lost
    return sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n


def this_outcome_only(gained, lost):
    n = gained + lost
    return 2 * math.comb(n, gained) * 0.5**n


def from_gained_up(gained, lost):
    n = gained + lost
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(gained, n + 1)) / 2**n)


def range_ends_early(gained, lost):
    n, fewer = gained + lost, min(gained, lost)
    return 2 * sum(math.comb(n, k) for k in range(fewer)) / 2**n


def counts_outcomes(gained, lost):
    n = gained + lost
    return 2 * sum(math.comb(n, k) for k in range(min(gained, lost) + 1))


def the_textbook_statistic(gained, lost):
    return (gained - lost) ** 2 / (gained + lost)


def chi_square_with_correction(gained, lost):
    z = (abs(gained - lost) - 1) / math.sqrt(gained + lost)
    return math.erfc(z / math.sqrt(2))


def one_minus(gained, lost):
    n, fewer = gained + lost, min(gained, lost)
    return 1 - 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n


def share_gained(gained, lost):
    return gained / (gained + lost)


def may_exceed_one(gained, lost):
    n, fewer = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    return 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n


def two_for_nothing(gained, lost):
    n, fewer = gained + lost, min(gained, lost)
    return 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n


def powers_of_a_half(gained, lost):
    n, fewer = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, k) * 0.5**n for k in range(fewer + 1)))


def gained_only(gained, lost):
    return 0.5**gained


def a_pair(gained, lost):
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    return 2 * tail, n


MUTANTS = {
    "half_of_it": "one_sided",
    "this_outcome_only": "point",
    "from_gained_up": "fixed_tail",
    "range_ends_early": "strict",
    "counts_outcomes": "not_divided",
    "the_textbook_statistic": "statistic",
    "chi_square_with_correction": "approximation",
    "one_minus": "complement",
    "share_gained": "share",
    "may_exceed_one": "above_one",
    "two_for_nothing": "nothing_changed",
    "powers_of_a_half": "underflow",
    "gained_only": "ignores_lost",
    "a_pair": "wrong_type",
}
