"""Usual mistakes in the share of zero-variance groups, as edits of `exercises.silent_share`."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

SILENT_SHARE = mistakes("""
wrong_only: you count only groups that are all wrong: groups that are all right teach nothing
either
- p ** size + (1 - p) ** size -> (1 - p) ** size

right_only: you count only groups that are all right: groups that are all wrong teach nothing
either
- p ** size + (1 - p) ** size -> p ** size

larger_only: you take the larger of the two probabilities: either case is enough, so they add up
- p ** size + (1 - p) ** size -> max(p ** size, (1 - p) ** size)

signal_share: that's the share of groups that do teach something: you want 1 minus this
- p ** size + (1 - p) ** size -> 1 - p ** size - (1 - p) ** size

not_all: you count groups with at least one right answer, or at least one wrong one: count those
that are all right or all wrong
- p ** size + (1 - p) ** size -> 1 - (1 - p) ** size
- p ** size + (1 - p) ** size -> 1 - p ** size

one_fewer: you leave out the first answer: that gives the probability that the others agree with it
*if* it is right, or wrong. Multiply by the probability that it is
- ** size -> ** (size - 1)
- p ** size + (1 - p) ** size -> (p ** (size - 1) + (1 - p) ** (size - 1)) / 2

halved: you take the mean of the two: a group can be all right or all wrong, so the two
probabilities add up
- p ** size + (1 - p) ** size -> (p ** size + (1 - p) ** size) / 2

multiplied: you multiply the two: a group can't be all right and all wrong at the same time. Either
is enough, so the probabilities add up
- p ** size + (1 - p) ** size -> p ** size * (1 - p) ** size

union: you subtract the product of the two, as for independent events: a group can't be both, so
there is nothing to subtract
- p ** size + (1 - p) ** size -> p ** size + (1 - p) ** size - p ** size * (1 - p) ** size

signs: you subtract one from the other: the probabilities add up
- p ** size + (1 - p) ** size -> p ** size - (1 - p) ** size
- p ** size + (1 - p) ** size -> abs(p ** size - (1 - p) ** size)

bracket: only p is raised to the power: the second term is all of 1 - p, raised to the power of
size
- (1 - p) ** size -> 1 - p ** size
- (1 - p) ** size -> (1 - p)

spread: you return a variance or a standard deviation: return the probability that all answers
agree
- p ** size + (1 - p) ** size -> p * (1 - p)
- p ** size + (1 - p) ** size -> size * p * (1 - p)

size_as_factor: you multiply by the size: the answers are sampled independently, so the probability
of all of them is a product, p to the power of size
- p ** size + (1 - p) ** size -> p / size + (1 - p) / size
- ** size -> * size

one_less: you count p twice, as right or as wrong: the second term is about 1 - p
- p ** size + (1 - p) ** size -> 2 * p ** size
- p ** size + (1 - p) ** size -> 2 * (1 - p) ** size
""")
