"""A disk that is full or read-only at each kind of write: nothing is lost, and it goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("on_small_disk.py")
MOUNTED = 'mount -t tmpfs -o size=16m none "$1" && shift && exec "$@"'
FULL = [
    f"{kind}, {pages} pages free"
    for pages in (0, 1)
    for kind in (
        *("checkpoint", "seal", "model", "log", "first manifest", "last manifest"),
        *("evaluation, samples.jsonl", "evaluation, eval.jsonl", "evaluation, manifest.json"),
        *("report, summary.json", "report, stages.png", "report, report.html"),
    )
]
READ_ONLY = ["checkpoint, turned read-only", "model, turned read-only"]
KINDS = [*FULL, "model, limited size of a file", *READ_ONLY]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What happened at each kind of write, on 16 MB of memory mounted in a namespace of its own."""
    mount = tmp_path_factory.mktemp("small disk")
    inside = ["unshare", "-rm", "sh", "-c", MOUNTED, "sh", str(mount)]
    try:
        trial = subprocess.run([*inside, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if trial.returncode:
        pytest.skip(f"`unshare -rm` can't mount here: {trial.stderr.strip()}")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*inside, sys.executable, str(SCRIPT), str(mount)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["kind"]: line for line in lines}


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_that_fails_loses_nothing_and_goes_on(results: dict, kind: str) -> None:
    got = results[kind]
    assert got["error"] == ("ReadOnlyFolder" if kind in READ_ONLY else "DiskFull"), got
    assert "Nothing saved earlier is lost" in got["message"]
    what = {"checkpoint": "a checkpoint of sft", "seal": "a checkpoint of sft"}
    what |= {"evaluation": "the evaluation of sft", "report": "the report"}
    what |= {"first manifest": "the manifest of sft"}
    assert what.get(kind.split(",")[0], "the final model of sft") in got["message"]
    assert got["kept"] and got["right"] and got["litter"] == [], got


def test_no_kind_is_left_out(results: dict) -> None:
    assert list(results) == KINDS
