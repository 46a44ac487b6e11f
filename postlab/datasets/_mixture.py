"""Draw rows so that their domains are in given shares.

Left out: what the shares should be. TARGET_MIX is one published answer for one model and one set of
evaluations. Taught in week 3.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from postlab.datasets._measures import domain_of
from postlab.datasets._rows import Rows

# domain: share, of one published set; it fits that model and its rows.
TARGET_MIX = {"maths": 0.394, "code": 0.389, "chat": 0.176, "instructions": 0.041}

Row = Mapping[str, Any]


def mix(
    rows: Sequence[Row],
    target: Mapping[str, float],
    *,
    n: int,
    seed: int = 0,
    domain: Callable[[Row], str] | None = None,
) -> Rows:
    """Draw n rows, none twice, whose domains are in the shares of `target`.

    Args:
        target: domain -> share, such as TARGET_MIX; shares add up to 1.
        domain: says a row's domain; by default `domain_of`.
    Returns:
        The rows in random order.
    Raises:
        ValueError: if a domain has too few rows; it says how many rows could be reached.

    >>> rows = [{"domain": "maths"}] * 6 + [{"domain": "chat"}] * 6
    >>> sorted(row["domain"] for row in mix(rows, {"maths": 0.75, "chat": 0.25}, n=4))
    ['chat', 'maths', 'maths', 'maths']
    """
    if abs(sum(target.values()) - 1) > 1e-6 or min(target.values()) < 0:
        raise ValueError(f"target must hold shares that add up to 1, got {dict(target)}")
    if n < 1:
        raise ValueError(f"n must be a positive number of rows, got {n}")
    pools: dict[str, list[Row]] = {}
    for row in rows:
        pools.setdefault((domain or domain_of)(row), []).append(row)
    quota = _whole(target, n)
    short = {name: len(pools.get(name, ())) for name in quota if quota[name]}
    if any(short[name] < quota[name] for name in short):
        most = min(int(count / target[name]) for name, count in short.items())
        raise ValueError(
            f"{n:,} rows of this mix need {_listed(quota)}, but there are {_listed(short)}; "
            f"at most about {most:,} rows reach it: lower n, add rows, or change the target"
        )
    rng = random.Random(seed)
    sample = [
        row for name, count in quota.items() for row in rng.sample(pools.get(name, []), count)
    ]
    rng.shuffle(sample)
    return Rows(sample, getattr(rows, "source", "rows"), {"not drawn": len(rows) - len(sample)})


def _whole(target: Mapping[str, float], n: int) -> dict[str, int]:
    """Counts that add up to n: shares rounded down, the rest to the largest remainders."""
    counts = {name: int(share * n + 1e-9) for name, share in target.items()}
    by_rest = sorted(target, key=lambda name: counts[name] - target[name] * n)
    for name in by_rest[: n - sum(counts.values())]:
        counts[name] += 1
    return counts


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
