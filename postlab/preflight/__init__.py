"""Memory, time and cost of a stage on a device, estimated before any download.

- planning: `estimate`
- memory: what a training step holds in memory, byte by byte
- devices: GPUs, their prices, and seconds per step
- architectures: the shapes of known models
- advice: whether a plan fits, and the nearest change that does
"""

from postlab import _doors
from postlab.preflight.architectures import Architecture, architecture
from postlab.preflight.planning import Estimate, estimate

__all__ = [
    "Architecture",
    "Estimate",
    "architecture",
    "estimate",
]

_doors.publish(__name__)
