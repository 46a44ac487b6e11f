"""Wrong answers to `jaccard`, as people write them."""


def containment(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    return len(a & b) / max(1, len(a))


def overlap_coefficient(first, second, *, n):
    a = {" ".join(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {" ".join(second[i : i + n]) for i in range(len(second) - n + 1)}
    if not a or not b:
        return 0.0
    return len(a.intersection(b)) / min(len(a), len(b))


def of_the_larger(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    return len(a & b) / max(len(a), len(b), 1)


def sum_below(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    total = len(a) + len(b)
    return len(a & b) / total if total else 0.0


def dice_coefficient(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 0.0


def jaccard_distance(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    return len(a ^ b) / len(a | b) if a | b else 0.0


def how_many(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    return len(a & b)


def range_one_short(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n)}
    return len(a & b) / len(a | b) if a | b else 0.0


def range_too_long(first, second, *, n):
    a = {tuple(first[i : i + n]) for i, _ in enumerate(first)}
    b = {tuple(second[i : i + n]) for i, _ in enumerate(second)}
    return len(a & b) / len(a | b)


def words_only(first, second, *, n):
    a, b = set(first), set(second)
    return len(a & b) / len(a | b)


def jumps_by_n(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(0, len(first) - n + 1, n)}
    b = {tuple(second[i : i + n]) for i in range(0, len(second) - n + 1, n)}
    return len(a & b) / len(a | b) if a | b else 0.0


def sets_of_sets(first, second, *, n):
    a = {frozenset(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {frozenset(second[i : i + n]) for i in range(len(second) - n + 1)}
    return len(a & b) / len(a | b) if a | b else 0.0


def of_characters(first, second, *, n):
    one, two = " ".join(first), " ".join(second)
    a = {one[i : i + n] for i in range(len(one) - n + 1)}
    b = {two[i : i + n] for i in range(len(two) - n + 1)}
    return len(a & b) / len(a | b)


def with_counters(first, second, *, n):
    from collections import Counter

    a = Counter(tuple(first[i : i + n]) for i in range(len(first) - n + 1))
    b = Counter(tuple(second[i : i + n]) for i in range(len(second) - n + 1))
    either = sum((a | b).values())
    return sum((a & b).values()) / either if either else 0.0


def divides_by_nothing(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    return len(a & b) / len(a | b)


def lists_in_a_set(first, second, *, n):
    a = {first[i : i + n] for i in range(len(first) - n + 1)}
    b = {second[i : i + n] for i in range(len(second) - n + 1)}
    return len(a & b) / len(a | b)


def pairs_whatever_n(first, second, *, n):
    a, b = set(zip(first, first[1:])), set(zip(second, second[1:]))  # noqa: B905, RUF007
    return len(a & b) / len(a | b) if a | b else 1.0


def pops_the_words(first, second, *, n):
    a, b = set(), set()
    while len(first) >= n:
        a.add(tuple(first[:n]))
        first.pop(0)
    while len(second) >= n:
        b.add(tuple(second[:n]))
        second.pop(0)
    return len(a & b) / len(a | b) if a | b else 0.0


def prints_the_share(first, second, *, n):
    a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
    b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
    print(len(a & b) / len(a | b))


MUTANTS = {
    "containment": "first_set",
    "overlap_coefficient": "smaller_set",
    "of_the_larger": "larger_set",
    "sum_below": "sum_of_sets",
    "dice_coefficient": "dice",
    "jaccard_distance": "distance",
    "how_many": "shared_count",
    "range_one_short": "last_run_missing",
    "range_too_long": "short_runs_too",
    "words_only": "single_words",
    "jumps_by_n": "side_by_side",
    "sets_of_sets": "order_lost",
    "of_characters": "letters",
    "with_counters": "counted_twice",
    "divides_by_nothing": "no_runs",
    "lists_in_a_set": "raises_TypeError",
    "pairs_whatever_n": "ignores_n",
    "pops_the_words": "edits_inputs",
    "prints_the_share": "returns_none",
}
