"""`make stages`, killed again and again at any moment, ends as if it had never been touched."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("sft", "dpo", "grpo")
# Seconds after which each attempt is killed: while importing, training, evaluating, in each stage.
MOMENTS = (7, 31, 60, 100, 20, 75, 45, 110, 15, 70, 12)


def make_stages(runs: Path, *, kill_after: float | None = None) -> bool:
    """Run the main job; True if it came to its end."""
    environment = os.environ | {"POSTLAB_RUNS": str(runs), "POSTLAB_PROFILE": "tiny"}
    job = subprocess.Popen(
        ["make", "stages", "SEED=0"],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = job.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
        return False
    assert job.returncode == 0, output[-3000:]
    return True


def without_timings(summary: dict) -> dict:
    kept = {key: value for key, value in summary.items() if key not in ("wall_s", "peak_rss_gb")}
    stages = [{k: v for k, v in stage.items() if k[-2:] != "_s"} for stage in summary["stages"]]
    return kept | {"stages": stages}


def losses(runs: Path, stage: str) -> list[float]:
    state = json.loads((runs / "tiny" / "seed-0" / stage / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


@pytest.mark.timeout(3600)
def test_killed_and_started_again_is_the_same_as_uninterrupted(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert make_stages(whole)
    kills = 0
    for moment in MOMENTS:
        if make_stages(killed, kill_after=moment):
            break
        kills += 1
    assert kills >= 5, f"only {kills} kills before it was done"
    assert make_stages(killed)
    one, two = (
        json.loads((runs / "tiny" / "summary.json").read_text()) for runs in (whole, killed)
    )
    for stage in STAGES:
        assert losses(killed, stage) == pytest.approx(losses(whole, stage), abs=1e-6, rel=0)
    assert without_timings(two) == without_timings(one)


# Twenty kills in all; a draw can be repeated with POSTLAB_KILL_DRAW.
KILLS = {0: 7, 1: 7, 2: 6}
DRAW = int(os.environ.get("POSTLAB_KILL_DRAW", "100"))


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows can't fork a process")
@pytest.mark.parametrize("seed", KILLS)
def test_killed_at_random_moments_it_is_the_same(tmp_path: Path, seed: int) -> None:
    """In short steps, and without the imports, so that every kill falls into work on the runs."""
    script = Path(__file__).with_name("killed_stages.py")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"POSTLAB_RUNS": str(tmp_path / "runs"), "PYTHONPATH": path}
    arguments = [str(number) for number in (seed, KILLS[seed], DRAW + seed)]
    print(f"SEED, kills, draw: {', '.join(arguments)}")
    job = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print(job.stdout)
    assert job.returncode == 0, job.stderr[-4000:]
    lines = [json.loads(line) for line in job.stdout.splitlines() if line.startswith("{")]
    assert len([line for line in lines if "kill" in line]) == KILLS[seed]
    results = [line for line in lines if "same" in line]
    assert results
    for line in results:
        assert line["litter"] == [] and all(line["same"].values()), line
