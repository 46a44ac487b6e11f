"""While training, memory that was freed stays with the process; it matters on a CPU.

A step allocates and frees the same activations as the step before. As a rule glibc gives what lies
at the heap's end back to the system each time, and the next step pays for every page anew.

Left out: allocators other than glibc's (Linux), which are left alone, and blocks above 32 MiB,
which glibc always maps and returns one by one.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names for them, from malloc.h
LARGEST_BLOCK = 32 * 2**20  # glibc's own limit for MMAP_THRESHOLD on 64 bits
NEVER = 2**31 - 1  # the largest int: so much is never free at the end of the heap


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep freed memory inside; give it back outside. Yields whether the allocator agreed."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield False
        return
    agreed = bool(
        libc.mallopt(TRIM_THRESHOLD, NEVER) and libc.mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
    )
    try:
        yield agreed
    finally:
        # once set it is fixed: this is as far as glibc would have raised it by itself
        libc.mallopt(TRIM_THRESHOLD, 2 * LARGEST_BLOCK)
        libc.malloc_trim(0)
