"""Two processes on a CPU train what one does with twice the accumulation, and only one writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CUT = Path(__file__).with_name("cut_stages.py")
ACCELERATE = [str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
TWO = {
    "accelerate": [*ACCELERATE, "--num_processes", "2"],
    "torchrun": [*TORCHRUN, "--nproc_per_node=2"],
}
STAGES = {"03": "sft", "05": "dpo", "07": "grpo"}
PARENTS = {"sft": "base", "dpo": "sft", "grpo": "dpo"}
LIMIT_S = 500  # one launch takes about a minute on two idle cores


def run(command: list[str], runs: Path, **more: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; the whole launch is killed after LIMIT_S."""
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment |= {"POSTLAB_RUNS": str(runs), "POSTLAB_PROFILE": "tiny", "PYTHONPATH": path}
    environment |= {"OMP_NUM_THREADS": "1", "TRACE": f"{runs}.trace"} | more
    job = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = job.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        _, stderr = job.communicate()
        pytest.fail(f"not done after {LIMIT_S} s: {stderr[-3000:]}")
    return job.returncode, stdout, stderr


def read(runs: Path, stage: str, name: str = "manifest.json") -> dict:
    return json.loads((runs / "tiny" / "seed-0" / stage / name).read_text(encoding="utf-8"))


def logged(runs: Path, stage: str, name: str) -> list[float]:
    log = read(runs, stage, "trainer_state.json")["log_history"]
    return [entry[name] for entry in log if name in entry]


@pytest.mark.timeout(3 * LIMIT_S)
@pytest.mark.parametrize(
    ("week", "launcher"), [("03", "accelerate"), ("05", "torchrun"), ("07", "accelerate")]
)
def test_two_processes_are_one_with_twice_the_accumulation(
    week: str, launcher: str, tmp_path: Path
) -> None:
    stage, two, one = STAGES[week], tmp_path / "two processes", tmp_path / "one"
    code, stdout, stderr = run([*TWO[launcher], str(CUT), week], two)
    assert code == 0, stderr[-3000:]
    code, _, alone = run([sys.executable, str(CUT), week], one, ACCUMULATION="2")
    assert code == 0, alone[-3000:]

    assert len(logged(two, stage, "loss")) == 10
    for name, tolerance in (("loss", 1e-5), ("grad_norm", 1e-4)):
        expected = pytest.approx(logged(one, stage, name), abs=tolerance, rel=0)
        assert logged(two, stage, name) == expected

    # one process evaluated, wrote and printed
    assert set(Path(f"{two}.trace").read_text().splitlines()) == {"0 evaluates", "0 writes"}
    assert stdout.count("tiny, seed 0") == 1
    assert "StageBusy" not in stderr

    # the run is complete, and the other process's random state can be resumed from
    folder = two / "tiny" / "seed-0" / stage
    manifest = read(two, stage)
    assert manifest["status"] == "complete" and manifest["config"]["world_size"] == 2
    assert manifest["eval"]["columns"] and (folder / "samples.jsonl").stat().st_size
    assert (folder / "model" / "adapter_model.safetensors").exists()
    sealed = json.loads((folder / "checkpoints" / "checkpoint-10" / "sha256.json").read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= sealed.keys()
    assert read(two, PARENTS[stage])["eval"]["key"] == read(one, PARENTS[stage])["eval"]["key"]
    assert not list(two.rglob("*.tmp-*")) and not list(two.rglob("*.previous*"))


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_failure_in_the_first_process_ends_the_launch(tmp_path: Path) -> None:
    begun = time.monotonic()
    code, _, stderr = run([*TWO["accelerate"], str(CUT), "03"], tmp_path / "runs", FAIL="1")
    assert code != 0
    assert "OSError: the evaluation broke off" in stderr
    assert "FirstProcessFailed" in stderr or "SIGTERM" in stderr  # raised there, or ended
    assert time.monotonic() - begun < 200


SMALL = """
import os, signal, sys, time
from datetime import timedelta
from postlab.runs import processes

how = sys.argv[1]
os.environ["ACCELERATE_USE_CPU"] = "true"
processes.wait()
if how == "works":
    inner = lambda: processes.on_first(lambda: os.environ["RANK"])
    print("\\n" + processes.on_first(inner) + processes.on_first(inner) + "\\n", end="", flush=True)
elif how == "dies":
    processes.on_first(lambda: os.kill(os.getpid(), signal.SIGKILL))
elif how == "raises":
    try:
        processes.on_first(lambda: 1 // 0)
    except (ZeroDivisionError, processes.FirstProcessFailed) as error:
        print(f"\\n{type(error).__name__}\\n", end="", flush=True)
    processes.wait()  # the two are in step again
"""


@pytest.mark.parametrize(
    ("how", "ends_well", "printed"),
    [
        ("works", True, ["00", "00"]),
        ("raises", True, ["FirstProcessFailed", "ZeroDivisionError"]),
        ("dies", False, []),
    ],
)
@pytest.mark.timeout(2 * LIMIT_S)
def test_what_the_first_process_does(
    how: str, ends_well: bool, printed: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    begun = time.monotonic()
    code, stdout, stderr = run([*TWO["torchrun"], str(script), how], tmp_path / "runs")
    assert (code == 0) is ends_well, stderr[-3000:]
    assert ("SIGKILL" in stderr) is (how == "dies")  # and not of an import, say
    assert sorted(filter(None, stdout.splitlines())) == printed
    assert time.monotonic() - begun < 120
