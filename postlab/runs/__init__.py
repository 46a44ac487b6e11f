"""The run folder: how a stage is trained, resumed, reused, evaluated and found again.

- run: the folder of a stage, its manifest, and the stages that are shipped
- key, code: a hash of what made a stage: config, data, parent, versions and source code
- training, weights, packing, malloc: what is added to a trainer, and the weights it saves
- processes: one stage trained by several processes
- frames: evaluations as files
- machine, verified: the device and the time spent on it, and the last full run
- place, space: whether a run's folder takes what is saved, and what to delete if the disk is full
"""

from postlab import _doors
from postlab.runs.code import package_source, trace_code
from postlab.runs.key import changes, digest, versions
from postlab.runs.machine import describe_environment, run_root
from postlab.runs.malloc import freed_memory_kept
from postlab.runs.packing import without_padding
from postlab.runs.processes import FirstProcessFailed, join_launch, on_first
from postlab.runs.run import (
    BESIDE,
    CHAIN,
    STAGES,
    DamagedStage,
    MissingStage,
    Run,
    adopt_shipped,
    find_stage,
    missing_stage,
)
from postlab.runs.training import NaNLoss
from postlab.runs.verified import last_run, note_run
from postlab.storage import DiskFull, FileInUse, ReadOnlyFolder, StageBusy

__all__ = [
    "BESIDE",
    "CHAIN",
    "STAGES",
    "DamagedStage",
    "DiskFull",
    "FileInUse",
    "FirstProcessFailed",
    "MissingStage",
    "NaNLoss",
    "ReadOnlyFolder",
    "Run",
    "StageBusy",
    "adopt_shipped",
    "changes",
    "describe_environment",
    "digest",
    "find_stage",
    "freed_memory_kept",
    "join_launch",
    "last_run",
    "missing_stage",
    "note_run",
    "on_first",
    "package_source",
    "run_root",
    "trace_code",
    "versions",
    "without_padding",
]

_doors.publish(__name__)
