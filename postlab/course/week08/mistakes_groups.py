"""What goes wrong in the chance that a group is silent: edits of `exercises.silent_share`."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

SILENT_SHARE = mistakes("""
wrong_only: you count groups that are all wrong: those that are all right are as silent
- p ** size + (1 - p) ** size -> (1 - p) ** size

right_only: you count groups that are all right: those that are all wrong are as silent
- p ** size + (1 - p) ** size -> p ** size

larger_only: you take the larger of the two chances: either is enough, so they add
- p ** size + (1 - p) ** size -> max(p ** size, (1 - p) ** size)

signal_share: that is the share of groups which do teach: 1 minus what is asked for
- p ** size + (1 - p) ** size -> 1 - p ** size - (1 - p) ** size

not_all: you count groups with some right answer, or some wrong one: silent are those that are all
right or all wrong
- p ** size + (1 - p) ** size -> 1 - (1 - p) ** size
- p ** size + (1 - p) ** size -> 1 - p ** size

one_fewer: you leave the first answer out: the chance that the others are like *it*, given that it
is right, or wrong, still has to be weighed by how often it is
- ** size -> ** (size - 1)
- p ** size + (1 - p) ** size -> (p ** (size - 1) + (1 - p) ** (size - 1)) / 2

halved: you take the mean of the two: they are two ways to be silent, so their chances add
- p ** size + (1 - p) ** size -> (p ** size + (1 - p) ** size) / 2

multiplied: you multiply the two: a group cannot be all right and all wrong at once. Either is
enough, so their chances add
- p ** size + (1 - p) ** size -> p ** size * (1 - p) ** size

union: you take off the product of the two, as for independent events: a group cannot be both, so
there is nothing to take off
- p ** size + (1 - p) ** size -> p ** size + (1 - p) ** size - p ** size * (1 - p) ** size

signs: you subtract the one from the other: their chances add
- p ** size + (1 - p) ** size -> p ** size - (1 - p) ** size
- p ** size + (1 - p) ** size -> abs(p ** size - (1 - p) ** size)

bracket: the power is taken of p alone: the second term is the whole of 1 - p to the power of size
- (1 - p) ** size -> 1 - p ** size
- (1 - p) ** size -> (1 - p)

spread: you return a variance or a standard deviation: the chance that all are alike is wanted
- p ** size + (1 - p) ** size -> p * (1 - p)
- p ** size + (1 - p) ** size -> size * p * (1 - p)

size_as_factor: you multiply by the size: answers are drawn one after the other, so the chance of
all is the product of theirs, a power
- p ** size + (1 - p) ** size -> p / size + (1 - p) / size
- ** size -> * size

one_less: you count p twice as right or wrong: the second term is of 1 - p
- p ** size + (1 - p) ** size -> 2 * p ** size
- p ** size + (1 - p) ** size -> 2 * (1 - p) ** size
""")
