"""`freed_memory_kept`: what is freed inside stays resident, and is given back outside."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
from pathlib import Path
from postlab.runs import freed_memory_kept

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def worked():  # 160 MiB in blocks of 16, freed again
    blocks = [bytearray(16 * 2**20) for _ in range(10)]
    del blocks

with freed_memory_kept() as agreed:
    before = resident()
    worked()
    inside = resident() - before
outside = resident() - before
worked()
print(agreed, inside, outside, resident() - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in __import__("platform").libc_ver(),
    reason="only glibc's allocator is spoken to",
)
def test_freed_memory_stays_inside_and_is_given_back_outside():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    agreed, inside, outside, later = done.stdout.split()
    assert agreed == "True" and float(inside) > 120
    assert float(outside) < 40  # given back
    assert float(later) < 104  # a later block is not kept without end: glibc's own 64 MiB and slack


def test_another_allocator_is_left_alone(monkeypatch):
    from postlab.runs import malloc

    monkeypatch.setattr(malloc.sys, "platform", "darwin")
    with malloc.freed_memory_kept() as agreed:
        assert agreed is False
