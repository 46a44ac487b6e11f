"""What this machine can do at most: the speed of its matrix products and of its memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def machine(clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """The fastest of some large products and of some sums over memory: GFLOP/s and GB/s."""
    import torch

    a, b, x = torch.randn(1024, 1024), torch.randn(1024, 1024), torch.randn(2**26)
    product = min(timed(lambda: a @ b, clock)[0] for _ in range(20))
    read = min(timed(x.sum, clock)[0] for _ in range(10))
    return {"gflops": 2 * 1024**3 / product / 1e9, "gbytes": x.numel() * 4 / read / 1e9}


def timed(
    work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """Seconds that `work` took by a clock, and what it gave."""
    begun = clock()
    found = work()
    return clock() - begun, found
