"""Every trainer config of every profile is taken by the installed TRL, on a machine of its kind.

The configs are made in a process of their own: they set up Accelerate's state for a whole process,
and what it answers about bfloat16 is stubbed there.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import postlab
from postlab.profile import PROFILES

SCRIPT = """
import json, sys
import torch, transformers.training_args as ta
from trl import DPOConfig, GRPOConfig, SFTConfig
from postlab.profile import PROFILES

CONFIGS = {"sft": SFTConfig, "dpo": DPOConfig, "grpo": GRPOConfig}
found = {}
for name, profile in PROFILES.items():
    # Only the GPU profiles may think that there is a GPU which knows bfloat16.
    ta.is_torch_bf16_gpu_available = lambda: profile.device != "cpu"
    stages = {kind: getattr(profile, kind) for kind in CONFIGS}
    if profile.grpo.warm_start:
        stages["sft "] = profile.grpo.warm_start
    for stage, config in stages.items():
        made = CONFIGS[stage.strip()](**config.trainer, output_dir=sys.argv[1], seed=3)
        values = {key: getattr(made, key) for key in config.trainer}
        values["generation_batch_size"] = getattr(made, "generation_batch_size", None)
        found[f"{name} {stage.strip()}{' first' if stage.endswith(' ') else ''}"] = values
try:
    SFTConfig(output_dir=sys.argv[1], use_cpu=True, bf16=False, max_seq_length=8)
except TypeError as error:
    found["max_seq_length"] = "refused" if "max_seq_length" in str(error) else str(error)
print(json.dumps(found, default=lambda value: getattr(value, "value", str(value))))
"""
CASES = [f"{name} {stage}" for name in PROFILES for stage in ("sft", "dpo", "grpo")]
CASES += [f"{name} sft first" for name, profile in PROFILES.items() if profile.grpo.warm_start]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("configs")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True,
        cwd=Path(postlab.__file__).parent.parent,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "deprecat" not in ran.stderr.lower(), ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


def config_of(case: str) -> dict:
    name, kind, *first = case.split()
    stage = PROFILES[name].grpo.warm_start if first else getattr(PROFILES[name], kind)
    return dict(stage.trainer)


@pytest.mark.parametrize("case", CASES)
def test_trl_takes_every_argument_as_it_is(made, case):
    for key, value in config_of(case).items():
        expected = [] if key == "report_to" else value  # TRL spells "none" so
        assert made[case][key] == expected, key


def test_nothing_was_left_out(made):
    assert sorted(made) == sorted([*CASES, "max_seq_length"])


@pytest.mark.parametrize("name", list(PROFILES))
def test_trl_samples_all_groups_of_a_step_at_once(made, name):
    trainer = PROFILES[name].grpo.trainer
    got = made[f"{name} grpo"]
    step = trainer["per_device_train_batch_size"] * trainer["gradient_accumulation_steps"]
    assert got["generation_batch_size"] == step  # on-policy: one update a generation
    assert step % trainer["num_generations"] == 0


def test_an_unknown_argument_is_not_swallowed(made):
    assert made["max_seq_length"] == "refused"
