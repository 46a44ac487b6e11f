"""Wrong answers to `silent_share`, as people write them."""


def all_wrong(p, size):
    wrong = 1.0
    for _ in range(size):
        wrong *= 1 - p
    return wrong


def all_right(p, size):
    return pow(p, size)


def those_that_teach(p, size):
    return 1 - (p**size + (1 - p) ** size)


def after_the_first(p, size):
    right, wrong = p ** (size - 1), (1 - p) ** (size - 1)
    return right + wrong


def product(p, size):
    return (p**size) * ((1 - p) ** size)


def times(p, size):
    return size * p + size * (1 - p)


def twice_right(p, size):
    return p**size + p**size


MUTANTS = {
    "all_wrong": "wrong_only",
    "all_right": "right_only",
    "those_that_teach": "signal_share",
    "after_the_first": "one_fewer",
    "product": "multiplied",
    "times": "size_as_factor",
    "twice_right": "one_less",
}
