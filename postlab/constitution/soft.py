"""Soft labels: how likely a labeller thinks it is that one reply keeps the rules better.

A hard label throws away how sure the labeller was, and a margin drops the pairs on which it was
not sure enough. Bai et al. train their preference model on probabilities instead. Here they come
from a critic that is asked about each reply and rule by itself (`verdict_chances`), so they need no
order of replies and have no position bias.

Left out: calibration (a probability is taken as the critic gives it), and weights of rules.
"""

from __future__ import annotations

from collections.abc import Sequence

from postlab.constitution.criticism import check_request
from postlab.constitution.labellers import Pair
from postlab.constitution.rules import Constitution
from postlab.constitution.speakers import Chances
from postlab.sampling import Messages


def breach_chances(
    chances: Chances, constitution: Constitution, replies: Sequence[tuple[Messages, str]]
) -> list[list[float]]:
    """How likely each reply is to break each rule. Minus their sum is a reward for direct RLAIF.

    Args:
        chances: of `verdict_chances`.
        constitution: the rules.
        replies: (n,) what was asked, as messages, and the reply.
    Returns:
        (n,) a list with one probability per rule, in the constitution's order.
    Source: Lee et al. 2023, arXiv 2309.00267 (rewards without a reward model). Taught in week 9.

    >>> from postlab.constitution import Rule
    >>> rules = Constitution((Rule("harm", "Hurt nobody."),), "{rule}?", "Revise.")
    >>> breach_chances(lambda talks: [0.9, 0.4], rules, [([], "Strike."), ([], "No.")])
    [[0.9], [0.4]]
    """
    talks = [
        check_request(constitution, rule, prompt, reply)
        for prompt, reply in replies
        for rule in constitution.rules
    ]
    flat, n = (chances(talks) if talks else []), len(constitution.rules)
    return [flat[i : i + n] for i in range(0, len(flat), n)]


def soft_labels(chances: Chances, constitution: Constitution, pairs: Sequence[Pair]) -> list[float]:
    """The probability that reply a breaks fewer rules than reply b; equal numbers count half.

    Breaches are taken as independent, which they are not quite: it is the one assumption needed to
    get from a probability per rule to one per pair.

    Args:
        chances: of `verdict_chances`.
        constitution: the rules.
        pairs: (n,) what was asked, as messages, reply a and reply b.
    Returns:
        (n,) probabilities; 0.5 where the critic sees no difference.
    Source: Bai et al. 2022, arXiv 2212.08073, section 4.1 (soft labels). Taught in week 9.

    >>> from postlab.constitution import Rule
    >>> rules = Constitution((Rule("harm", "Hurt nobody."),), "{rule}?", "Revise.")
    >>> p = soft_labels(lambda talks: [0.9, 0.4], rules, [([], "Strike.", "No.")])
    >>> round(p[0], 2)  # 0.1 * 0.4, and half of 0.1 * 0.6 + 0.9 * 0.4
    0.25
    """
    replies = [(prompt, text) for prompt, *both in pairs for text in both]
    counts = [_counts(one) for one in breach_chances(chances, constitution, replies)]
    return [_fewer(a, b) for a, b in zip(counts[::2], counts[1::2], strict=True)]


def _counts(chances: Sequence[float]) -> list[float]:
    """The probabilities that 0, 1, 2, ... rules are broken."""
    counts = [1.0]
    for p in chances:
        padded = zip([*counts, 0.0], [0.0, *counts], strict=True)
        counts = [(1 - p) * same + p * one_less for same, one_less in padded]
    return counts


def _fewer(first: Sequence[float], second: Sequence[float]) -> float:
    """The probability that the first number is smaller; equal numbers count half."""
    smaller = sum(p * sum(second[k + 1 :]) for k, p in enumerate(first))
    return smaller + 0.5 * sum(p * q for p, q in zip(first, second, strict=True))
