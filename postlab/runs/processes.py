"""A stage trained by several processes: the first one evaluates and writes, the others wait for it.

`torchrun` and `accelerate launch` start the same script several times. Each process runs every
cell, the trainers average their gradients (DDP), and whatever must happen once goes through
`on_first`: an evaluation, a run folder's manifest, the final weights, the report. A failure in the
first process is raised in the others too, so that none of them waits for a result that never comes.

Two launches need help, and get it in `join_launch`. `accelerate launch --cpu --num_processes 2`
starts one process only, unless MPI is installed. `torchrun` on a CPU starts two, but accelerate
forms a group of them only in its CPU mode; otherwise each would train alone, without an error.

Left out: MPI's own launchers; models split over devices (FSDP, ZeRO-3), which the first process
could not evaluate alone; several machines without a shared runs folder. Tried on CPUs only.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from postlab.redaction import redact

T = TypeVar("T")

# Torch gives up waiting after 30 minutes, and evaluating a 7B may take longer. When a process dies
# the others notice at once by the closed connection, so this limit is for one that hangs.
PATIENCE = timedelta(hours=12)
_alone = False  # in the first process, while the others wait: nothing may wait for them


class FirstProcessFailed(RuntimeError):
    """The first process raised an error while this one waited for it."""


def count() -> int:
    """How many processes the launcher started, 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1) if "RANK" in os.environ else 1


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def on_first(work: Callable[[], T]) -> T:
    """Run `work` in the first process only, and return its result in every process.

    Every process has to make this call. Inside `work`, calls to `on_first` and `wait` do not wait.

    Args:
        work: takes nothing; what it returns must be picklable.
    Raises:
        FirstProcessFailed: in the other processes, if `work` raised an error in the first one.
    """
    global _alone
    if count() == 1 or _alone:
        return work()
    distributed = _group()
    outcome: list[Any] = [None, None]  # the result, and what went wrong
    failure = None
    if rank() == 0:
        _alone = True
        try:
            outcome[0] = work()
        except Exception as error:
            failure, outcome[1] = error, redact(f"{type(error).__name__}: {error}")
        finally:
            _alone = False
    distributed.broadcast_object_list(outcome, src=0, device="cpu")
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise FirstProcessFailed(f"The first process failed: {outcome[1]}")
    return outcome[0]


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1 and not _alone:
        _group().barrier()


def check_group(members: int) -> None:
    """Check that the trainer sees every launched process.

    Raises:
        RuntimeError: if not: each process would train alone, into the same folder.
    """
    if members != count():
        raise RuntimeError(
            f"The launcher started {count()} processes, but the trainer sees {members}, so they "
            f"would not train together. On a CPU, set use_cpu=True in the trainer's config (or "
            f"ACCELERATE_USE_CPU=true), and launch with torchrun or accelerate launch, not MPI."
        )


def join_launch(device: str, *, gpu: Callable[[], Any]) -> None:
    """Make sure that several launched processes really train together; `postlab.start` calls this.

    May replace this process (`os.execv`), which is why it comes before anything has been computed.
    Only the first process prints from here on; errors go to stderr in all of them.

    Args:
        device: the profile's; "cpu" means that a GPU is left alone.
        gpu: whether there is one, asked only where it matters.
    Raises:
        ValueError: if the processes could not train together.
    """
    command = relaunch(os.environ, sys.orig_argv)
    if command:
        print(f"postlab: running {' '.join(Path(part).name for part in command)}", flush=True)
        os.environ.pop("KMP_AFFINITY", None)  # accelerate's would bind all processes to one core
        os.execv(command[0], command)
    if count() == 1:
        return
    if device == "cpu":
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    elif not gpu():
        raise ValueError(
            f"{count()} processes were started with a GPU profile, but this machine has no GPU, so "
            f"each would train separately. Set POSTLAB_PROFILE=tiny, or start a single process."
        )
    if rank():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (to the end of the process)


def relaunch(environ: Mapping[str, str], argv: Sequence[str]) -> list[str]:
    """The command that has to take this process's place, or [] if it is right as it is.

    Args:
        environ: the environment, as the launcher set it.
        argv: this process's command line, as in `sys.orig_argv`.
    Raises:
        ValueError: if accelerate was asked for several CPU processes and it is unclear how many.
    """
    target = _without_asides(argv[1:])
    if "RANK" in environ and int(environ.get("WORLD_SIZE") or 1) > 1:  # torchrun's work is done
        return [argv[0], *target] if target != list(argv[1:]) else []
    # accelerate sets MASTER_ADDR where it was asked for more than one process, and MPI sets a rank
    several = "MASTER_ADDR" in environ and not any("_RANK" in name for name in environ)
    if not several or not _cpu_mode(environ):
        return []
    launch = next((line for line in _ancestors() if _is_accelerate(line)), None)
    if launch is None:
        return []
    process_count = processes_asked(launch)
    if process_count is None or not target or (target[0].startswith("-") and target[0] != "-m"):
        raise ValueError(
            "accelerate launch starts only one CPU process unless MPI is installed, and postlab "
            "can't tell from this command how to start the others. On a single machine, use: "
            "accelerate launch --cpu --num_processes 2 SCRIPT, "
            "or torchrun --nproc_per_node 2 SCRIPT"
        )
    if process_count == 1:
        return []
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={process_count}"]
    return [sys.executable, *run, *target]


def processes_asked(launch: Sequence[str]) -> int | None:
    """`--num_processes` of an `accelerate launch` on one machine; None if it is not there.

    >>> processes_asked("accelerate launch --cpu --num_processes 2 train.py".split())
    2
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--num_processes", "--num-processes", type=int)
    parser.add_argument("--num_machines", "--num-machines", type=int, default=1)
    known, _ = parser.parse_known_args(launch[1:])
    return known.num_processes if known.num_machines == 1 else None


def _cpu_mode(environ: Mapping[str, str]) -> bool:
    return environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")


def _is_accelerate(line: Sequence[str]) -> bool:
    return any("accelerate" in Path(part).name for part in line[:3])


def _ancestors() -> Iterable[list[str]]:
    """The command lines above this process, the nearest first."""
    import psutil  # accelerate needs it too

    for process in psutil.Process().parents():
        try:
            yield process.cmdline()
        except psutil.Error:
            continue


def _without_asides(target: Sequence[str]) -> list[str]:
    """A notebook's script is run through `notebooks/stages.py`, which leaves its asides out.

    The asides only work in a single process: they compare bit for bit, or empty a folder.
    """
    script = Path(target[0]) if target else Path()
    numbered = re.match(r"[a-z]+(\d\d)_", script.name)
    stages = script.absolute().parent.parent / "stages.py"
    if numbered and script.parent.name == "src" and stages.is_file():
        return [str(stages), numbered[1]]
    return list(target)


def _group() -> Any:
    """torch.distributed with all processes in one group; the first call makes it."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        on_gpu = torch.cuda.is_available() and not _cpu_mode(os.environ)
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        # the messages of `on_first` go through gloo on a GPU as well
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        distributed.init_process_group(backend, timeout=PATIENCE)
    return distributed
