"""What is decided before any process group exists: how many processes, and what to run."""

from __future__ import annotations

import fcntl
import io
import os
import sys
import threading
from pathlib import Path

import pytest

from postlab import storage
from postlab.runs import processes

WEEK = Path(__file__).resolve().parents[3] / "notebooks" / "src" / "week03_sft_unsloth.py"
STAGES = str(WEEK.parent.parent / "stages.py")
ACCELERATED = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}
LAUNCH = ["python", "/bin/accelerate", "launch", "--cpu", "--num_processes", "2", "train.py"]
LAUNCHER_SETS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "ACCELERATE_USE_CPU")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER_SETS:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(processes, "_ancestors", lambda: [["bash"], LAUNCH])


def launched(monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_without_a_launcher_there_is_one_process(monkeypatch):
    assert (processes.rank(), processes.count()) == (0, 1)
    assert processes.on_first(lambda: 5) == 5
    processes.wait()
    monkeypatch.setenv("WORLD_SIZE", "2")  # some clusters set it to the number of machines
    assert (processes.rank(), processes.count()) == (0, 1)


def test_a_launcher_says_who_this_is(monkeypatch):
    launched(monkeypatch, "1")
    assert (processes.rank(), processes.count()) == (1, 2)


def test_a_launch_of_one_process_is_left_alone():
    argv = ["python", str(WEEK)]
    assert processes.relaunch({}, argv) == []
    assert processes.relaunch({"ACCELERATE_USE_CPU": "True"}, argv) == []
    assert processes.relaunch({"MASTER_ADDR": "127.0.0.1"}, argv) == []
    mpi = ACCELERATED | {"OMPI_COMM_WORLD_RANK": "0"}
    assert processes.relaunch(mpi, argv) == []


def test_the_variables_alone_are_no_launch(monkeypatch):
    monkeypatch.setattr(processes, "_ancestors", lambda: [["bash"]])
    assert processes.relaunch(ACCELERATED, ["python", str(WEEK)]) == []


def test_accelerates_single_cpu_process_is_replaced_by_as_many_as_were_asked_for():
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for target in (["train.py", "--rows", "3"], ["-m", "train", "3"]):
        assert processes.relaunch(ACCELERATED, ["python", *target]) == [*run, *target]
    assert processes.relaunch(ACCELERATED, ["python", str(WEEK)]) == [*run, STAGES, "03"]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ("--num_processes 2", 2),
        ("--num-processes=4 --cpu", 4),
        ("--config_file cpu.yaml", None),
        ("--num_processes 4 --num_machines 2", None),
    ],
)
def test_how_many_were_asked_for(options: str, asked: int | None):
    line = ["python", "accelerate", "launch", *options.split(), "train.py"]
    assert processes.processes_asked(line) == asked


@pytest.mark.parametrize("target", [["train.py"], ["-c", "import postlab"]])
def test_what_cannot_be_repeated_is_refused(target, monkeypatch):
    launch = LAUNCH if target[0] == "-c" else ["python", "accelerate", "launch", *target]
    monkeypatch.setattr(processes, "_ancestors", lambda: [launch])
    with pytest.raises(ValueError, match="--num_processes 2 SCRIPT, or torchrun"):
        processes.relaunch(ACCELERATED, ["python", *target])


def test_torchrun_on_a_weeks_script_leaves_its_asides_out():
    launched = {"RANK": "1", "WORLD_SIZE": "2"}
    assert processes.relaunch(launched, ["py", str(WEEK)]) == ["py", STAGES, "03"]
    assert processes.relaunch(launched, ["py", STAGES, "03"]) == []
    assert processes.relaunch(launched, ["py", "mine/week03_mine.py"]) == []
    assert processes.relaunch({"RANK": "0", "WORLD_SIZE": "1"}, ["py", str(WEEK)]) == []


def test_torchrun_without_cpu_mode_gets_it_and_only_the_first_prints(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    first = sys.stdout
    launched(monkeypatch, "0")
    processes.join_launch("cpu", gpu=lambda: pytest.fail("asked without need"))
    assert os.environ["ACCELERATE_USE_CPU"] == "true" and sys.stdout is first
    launched(monkeypatch, "1")
    processes.join_launch("cpu", gpu=lambda: None)
    print("unseen")
    sys.stdout.close()
    assert first.getvalue() == ""


def test_several_processes_of_a_gpu_profile_need_one(monkeypatch):
    launched(monkeypatch, "0")
    processes.join_launch("H100", gpu=lambda: ("H100", 81_000))
    with pytest.raises(ValueError, match="each would train separately. Set POSTLAB_PROFILE=tiny"):
        processes.join_launch("T4", gpu=lambda: None)


def test_a_trainer_that_is_alone_in_a_launch_is_refused(monkeypatch):
    processes.check_group(1)
    launched(monkeypatch, "0")
    processes.check_group(2)
    with pytest.raises(RuntimeError, match="2 processes, but the trainer sees 1"):
        processes.check_group(1)


def test_a_lock_can_be_waited_for(tmp_path):
    path = tmp_path / ".lock"
    with path.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(storage.StageBusy, match="busy"), storage.locked(path, "busy"):
            pass
        with pytest.raises(storage.StageBusy), storage.locked(path, "busy", wait_s=0.2):
            pass
        threading.Timer(0.2, lambda: fcntl.flock(other, fcntl.LOCK_UN)).start()
        with storage.locked(path, "busy", wait_s=30):
            pass
