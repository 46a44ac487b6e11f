"""Each tracker, installed beside the lock files, follows a real run and keeps it on this machine.

They get a folder of their own, since trackio's gradio pins older packages than requirements.lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from postlab.profile import TRACKERS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
import postlab
from postlab.datasets import instruction_rows
from postlab.models import tiny_base
from postlab.profile import get_profile

lab = postlab.Lab(get_profile("tiny"), seed=0)
sft = dict(lab.profile.sft.trainer) | {"max_steps": 3, "logging_steps": 1, "save_steps": 3}
assert sft["report_to"] == sys.argv[1]
run = lab.run("sft", parent=None)
rows = Dataset.from_list(instruction_rows("tinyworld", split="train", n=64, seed=0))
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(tiny_base()),
    processing_class=AutoTokenizer.from_pretrained(tiny_base()),
    train_dataset=rows.select_columns(["prompt", "completion"]),
    args=SFTConfig(output_dir=str(run.checkpoints), seed=0, **sft),
)
log = run.train(trainer)
assert sum("loss" in entry for entry in log) == 3
print("trained")
"""
LEAVES = {"trackio": "*.db", "tensorboard": "*tfevents*", "wandb": "*.wandb"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_run_is_followed_without_a_network(tracker: str, tmp_path: Path):
    beside = tmp_path / "beside"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-warn-conflicts", "--target"]
    done = subprocess.run([*install, str(beside), tracker], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {tracker}: {done.stderr.strip()[-200:]}")
    # What the lock files pin comes first, so that the tracker adds packages and replaces none.
    # Without a route, whatever would be sent fails loudly or is not sent.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(beside)]),
        "POSTLAB_REPORT_TO": tracker,
        "POSTLAB_RUNS": str(tmp_path / "runs"),
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hub"),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    late = f"import sys; sys.path.append(sys.path.pop(sys.path.index({str(beside)!r})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{late}\n{SCRIPT}", tracker],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained" in done.stdout
    left = [p for p in tmp_path.rglob(LEAVES[tracker]) if beside not in p.parents]
    assert left and all(p.stat().st_size for p in left), sorted(tmp_path.rglob("*"))[:50]
