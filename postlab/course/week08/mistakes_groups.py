"""What goes wrong in the chance that a group is silent."""

from __future__ import annotations

from postlab.course.check._parts import Mistake

SILENT_SHARE = (
    Mistake(
        "wrong_only",
        "you count groups that are all wrong: those that are all right are as silent",
        lambda p, size: (1 - p) ** size,
    ),
    Mistake(
        "right_only",
        "you count groups that are all right: those that are all wrong are as silent",
        lambda p, size: p**size,
    ),
    Mistake(
        "signal_share",
        "that is the share of groups which do teach: 1 minus what is asked for",
        lambda p, size: 1 - p**size - (1 - p) ** size,
    ),
    Mistake(
        "one_fewer",
        "you leave the first answer out: the chance that the others are like *it*, given that it "
        "is right, or wrong, still has to be weighed by how often it is",
        lambda p, size: p ** (size - 1) + (1 - p) ** (size - 1),
        lambda p, size: (p ** (size - 1) + (1 - p) ** (size - 1)) / 2,
    ),
    Mistake(
        "multiplied",
        "you multiply the two: a group cannot be all right and all wrong at once. Either is "
        "enough, so their chances add",
        lambda p, size: p**size * (1 - p) ** size,
        lambda p, size: (p * (1 - p)) ** size,
    ),
    Mistake(
        "size_as_factor",
        "you multiply by the size: answers are drawn one after the other, so the chance of all is "
        "the product of theirs, a power",
        lambda p, size: p * size + (1 - p) * size,
        lambda p, size: p / size + (1 - p) / size,
    ),
    Mistake(
        "one_less",
        "you count p twice as right or wrong: the second term is of 1 - p",
        lambda p, size: 2 * p**size,
        lambda p, size: 2 * (1 - p) ** size,
    ),
)
