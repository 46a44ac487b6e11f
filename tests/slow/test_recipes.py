"""The recipes for several GPUs, as far as two CPU processes can run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "recipes" / "train.py"
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SHORT = ["--profile", "tiny", "--rows", "64", "--set", "max_steps=3", "--set", "logging_steps=1"]
SHORT += ["--set", "save_steps=3"]


def run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def train(stage: str, output: Path, *more: str, processes: int = 1) -> list[dict]:
    """What the trainer logged, step by step."""
    start = TWO if processes == 2 else [sys.executable]
    run([*start, str(TRAIN), stage, *SHORT, *more, "--output", str(output)], output.parent)
    state = output / "checkpoints" / "checkpoint-3" / "trainer_state.json"
    return json.loads(state.read_text(encoding="utf-8"))["log_history"]


@pytest.mark.timeout(900)
def test_two_processes_train_what_one_does_with_twice_the_accumulation(tmp_path: Path) -> None:
    double = ("--set", "gradient_accumulation_steps=2")
    for stage, parent in (("sft", None), ("dpo", "sft one")):
        given = ["--parent", str(tmp_path / parent)] if parent else []
        one = train(stage, tmp_path / f"{stage} one", *given, *double)
        two = train(stage, tmp_path / f"{stage} two", *given, processes=2)
        for name in ("loss", "grad_norm"):
            steps = [entry[name] for entry in one if name in entry]
            assert len(steps) == 3 and len(set(steps)) == 3
            assert [entry[name] for entry in two if name in entry] == pytest.approx(steps, rel=1e-3)
        assert (tmp_path / f"{stage} two" / "adapter_model.safetensors").is_file()

    # What comes out is a policy like any other, and GRPO goes on from it.
    logged = train("grpo", tmp_path / "grpo", "--parent", str(tmp_path / "dpo two"), processes=2)
    assert len([entry for entry in logged if "reward" in entry]) == 3
    load = (
        "import sys; from postlab.models import load_policy;"
        "model, tokenizer = load_policy(sys.argv[1], profile='tiny'); print(model.active_adapter)"
    )
    assert run([sys.executable, "-c", load, str(tmp_path / "grpo")], tmp_path).strip() == "default"


SHARDED = '''
"""Three steps of SFT on the embedded model: argument "one", or "shards" under torchrun."""
import json, os, sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from postlab.models import tiny_base

sharded = sys.argv[1] == "shards"
if sharded:
    dist.init_process_group("gloo")
rank, world = (dist.get_rank(), dist.get_world_size()) if sharded else (0, 1)
model = AutoModelForCausalLM.from_pretrained(tiny_base(), dtype=torch.float32)
whole = sum(p.numel() for p in model.parameters())
kinds = []
if sharded:
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    kinds = [isinstance(m, FSDPModule) for m in (model, *model.model.layers)]
    kinds += [isinstance(p, DTensor) for p in model.parameters()]
held = sum((p.to_local() if sharded else p).numel() for p in model.parameters())
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
luck = torch.Generator().manual_seed(0)
losses = []
for _ in range(3):
    ids = torch.randint(5, 500, (8, 24), generator=luck)[rank::world]
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    mean = loss.detach() / world
    if sharded:
        dist.all_reduce(mean)
        norm = norm.full_tensor()
    losses.append([mean.item(), norm.item()])
if rank == 0:
    print(json.dumps({"losses": losses, "kinds": kinds, "held": held, "whole": whole}))
if sharded:
    dist.destroy_process_group()
'''


@pytest.mark.timeout(600)
def test_fully_shard_splits_the_model_and_trains_the_same(tmp_path: Path) -> None:
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED, encoding="utf-8")
    one = json.loads(run([sys.executable, str(script), "one"], tmp_path).splitlines()[-1])
    two = json.loads(run([*TWO, str(script), "shards"], tmp_path).splitlines()[-1])
    assert two["kinds"] and all(two["kinds"])  # accelerate on a CPU would have left DDP
    assert 0.45 * two["whole"] < two["held"] < 0.55 * two["whole"] and one["held"] == one["whole"]
    assert two["losses"] == [pytest.approx(step, rel=1e-4) for step in one["losses"]]
    assert len({tuple(step) for step in one["losses"]}) == 3
