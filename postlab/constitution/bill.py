"""What a labeller's tokens cost: per-token prices, in place of a flat price per question.

`comparison_cost` has the roadmap's flat prices. A flat price hides what the price depends on: the
model, the length of the constitution (which is read again with every question), and how much the
labeller writes before its verdict. Left out: discounts for cached prefixes and for batches, and
what it costs to train a labeller or to find out whether it can be trusted.
"""

from __future__ import annotations

import math


def token_cost(
    *, read: float, written: float = 0.0, usd_per_million: tuple[float, float] = (0.20, 1.20)
) -> float:
    """The price of tokens, in dollars.

    Args:
        read: tokens that the labeller reads.
        written: tokens that it writes; none where only a probability is taken.
        usd_per_million: dollars for a million tokens read and a million written. The default is the
            list price of GPT-5.6 Luna on OpenAI's model page, as looked up in December 2026: prices
            change within months, so pass your own.
    Returns:
        Dollars.
    Raises:
        ValueError: if a number is negative or not finite.
    Taught in week 9.

    >>> round(token_cost(read=500_000, written=100_000), 2)
    0.22
    """
    prices = dict(zip(("price read", "price written"), usd_per_million, strict=True))
    for name, value in ({"read": read, "written": written} | prices).items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} is {value}; expected a number from 0")
    return (read * usd_per_million[0] + written * usd_per_million[1]) / 1e6
