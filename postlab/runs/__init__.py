"""The run folder: how a stage is trained, resumed, reused, evaluated once and found again.

- run: the folder of a stage, its manifest, and the stages that are shipped
- key, code: what made a stage, hashed: config, data, parent, versions and source code
- training, weights, packing, malloc: what is added to a trainer, and what it leaves behind
- processes: one stage trained by several processes
- frames, machine, verified: evaluations as files, the device and its time, the last full run
"""

from postlab.runs.code import package_source, trace
from postlab.runs.key import changes, digest, versions
from postlab.runs.machine import describe, run_root
from postlab.runs.malloc import freed_memory_kept
from postlab.runs.packing import without_padding
from postlab.runs.processes import enter, on_first
from postlab.runs.run import (
    CHAIN,
    EMBEDDED,
    STAGES,
    DamagedStage,
    MissingStage,
    Run,
    adopt,
    find_stage,
    missing,
)
from postlab.runs.training import NaNLoss
from postlab.runs.verified import last_run, note_run
from postlab.storage import DiskFull, ReadOnlyFolder, StageBusy

__all__ = [
    "CHAIN",
    "EMBEDDED",
    "STAGES",
    "DamagedStage",
    "DiskFull",
    "MissingStage",
    "NaNLoss",
    "ReadOnlyFolder",
    "Run",
    "StageBusy",
    "adopt",
    "changes",
    "describe",
    "digest",
    "enter",
    "find_stage",
    "freed_memory_kept",
    "last_run",
    "missing",
    "note_run",
    "on_first",
    "package_source",
    "run_root",
    "trace",
    "versions",
    "without_padding",
]
