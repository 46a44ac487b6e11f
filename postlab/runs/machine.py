"""Where runs lie, and what one took: the run root, device, commit, time and peak memory.

Nothing here names a user, a machine or an absolute path. Left out: other accelerators than CUDA.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from postlab.profile import describe_machine

PACKAGE = Path(__file__).resolve().parents[1]
_charged: float | None = None  # up to when this process's time has been counted in some manifest


def run_root() -> Path:
    """$POSTLAB_RUNS; else `runs/` at the top of the clone one works in; else `./runs`."""
    if chosen := os.environ.get("POSTLAB_RUNS"):
        return Path(chosen)
    here = Path.cwd()
    # Jupyter starts a kernel in notebooks/, a script runs from the top: both mean the same folder
    clone = next((f for f in (here, *here.parents) if (f / "notebooks" / "src").is_dir()), here)
    return clone / "runs"


def describe_environment() -> dict[str, Any]:
    """The machine, the versions of what is loaded or would train, and the commit in a clone."""
    from postlab.runs.key import versions

    device = describe_machine()
    device.pop("versions")
    return {"device": device, "versions": versions(), "commit": _commit()}


def spent(manifest: dict[str, Any]) -> dict[str, Any]:
    """Add this process's time since the last count, and its peaks, to those of `manifest`.

    The first count of a process starts with the process, so imports are in it, and the walls of all
    stages add up to the walls of all processes.
    """
    global _charged
    now = time.monotonic()  # no clock that can be set meanwhile
    seconds = now - _charged if _charged is not None else _process_age()
    _charged = now
    measured = {
        "wall_s": round(manifest.get("wall_s", 0.0) + seconds, 3),
        "peak_rss_gb": max(manifest.get("peak_rss_gb", 0.0), _peak_rss_gb()),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peak = round(torch.cuda.max_memory_allocated() / 1e9, 3)
        measured["peak_gpu_gb"] = max(manifest.get("peak_gpu_gb", 0.0), peak)
    return measured


def _process_age() -> float:
    """Seconds since this process started; on Linux by the clock since boot, which nobody sets."""
    least = time.process_time()
    try:
        stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(stat.rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):  # macOS, Windows
        try:
            import psutil
        except ImportError:  # without the training extra
            return least
        age = time.time() - psutil.Process().create_time()
    return max(age, least)


def _peak_rss_gb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage may report the launching process's peak on Linux
        for line in status.read_text("utf-8").splitlines():
            if line.startswith("VmHWM"):
                return round(int(line.split()[1]) * 1024 / 1e9, 3)
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)


def _commit() -> str | None:
    if not (PACKAGE.parent / ".git").exists():
        return None
    command = ["git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
