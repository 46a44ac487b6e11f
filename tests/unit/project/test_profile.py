import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import postlab
from postlab import profile as module
from postlab.preflight import estimate
from postlab.profile import PROFILES, StageConfig, describe_machine, get_profile, gpu

NAMES = ["tiny", "smol", "t4", "rented"]


def stages(profile) -> dict[str, StageConfig]:
    found = {"sft": profile.sft, "dpo": profile.dpo, "grpo": profile.grpo}
    if profile.grpo.warm_start:
        found["grpo's sft"] = profile.grpo.warm_start
    return found


SOURCE_ROWS = {("gsm8k", "grpo"): 7473}
SOURCE_ROWS |= {("everyday", "sft"): 595, ("everyday", "dpo"): 618, ("everyday", "grpo"): 240}
ALL = [(name, stage) for name in NAMES for stage in stages(PROFILES[name])]


def test_unknown_profile_names_the_four():
    with pytest.raises(ValueError, match="'huge'.*tiny, smol, t4, rented.*POSTLAB_PROFILE"):
        get_profile("huge")


def test_argument_beats_variable_beats_machine(monkeypatch):
    monkeypatch.setattr(module, "gpu", lambda: ("NVIDIA H100", 81_559))
    monkeypatch.delenv("POSTLAB_PROFILE", raising=False)
    assert get_profile().name == "rented"
    monkeypatch.setenv("POSTLAB_PROFILE", "smol")
    assert get_profile().name == "smol"
    assert get_profile("tiny").name == "tiny"


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (None, "tiny"),
        (("Tesla T4", 15_360), "t4"),
        (("NVIDIA GeForce RTX 4080", 16_376), "t4"),
        (("NVIDIA GeForce RTX 4090", 24_564), "rented"),
        (("NVIDIA A100-SXM4-80GB", 81_920), "rented"),
    ],
)
def test_machine_chooses(monkeypatch, found, name):
    monkeypatch.setattr(module, "gpu", lambda: found)
    monkeypatch.delenv("POSTLAB_PROFILE", raising=False)
    assert get_profile().name == name


def fake_smi(folder: Path, script: str, monkeypatch) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpu_is_the_first_that_nvidia_smi_names(tmp_path, monkeypatch):
    fake_smi(tmp_path, "echo 'Tesla T4, 15360'; echo 'NVIDIA A100, 81920'", monkeypatch)
    assert gpu() == ("Tesla T4", 15_360)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu() is None


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "true"])
def test_broken_nvidia_smi_is_no_gpu(tmp_path, monkeypatch, script):
    fake_smi(tmp_path, script, monkeypatch)
    assert gpu() is None


def test_no_nvidia_smi_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu() is None


def test_a_changed_profile_changes_nobody_elses():
    mine = get_profile("tiny")
    mine.sft.trainer["learning_rate"] = 7.0
    mine.lora["target_modules"].clear()
    assert get_profile("tiny").sft.trainer["learning_rate"] != 7.0
    assert len(PROFILES["tiny"].lora["target_modules"]) == 7


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_shows_in_one_line_and_its_table_shows_everything(name):
    profile = get_profile(name)
    for shown in (repr(profile), str(profile), repr(profile.sft)):
        assert len(shown) < 100 and "\n" not in shown
    assert repr(profile).startswith(f"Profile(name={name!r}")
    table = profile.table()
    assert len(table) <= 60  # of more rows, pandas would show a notebook the ends only
    assert table.loc["eval_prompts", name] == profile.eval_prompts
    assert table.loc["lora", name] == profile.lora
    for stage in ("sft", "dpo", "grpo"):
        config = getattr(profile, stage)
        told = table.loc["rows", stage] if "rows" in table.index else None  # None in every stage
        assert told == config.rows
        assert {k: table.loc[k, stage] for k in config.trainer} == config.trainer
    if name == "t4":
        assert table.loc["rows", "warm_start"] == profile.grpo.warm_start.rows


def test_models_and_precision_are_the_designs():
    assert list(PROFILES) == NAMES
    tiny, smol, t4, rented = PROFILES.values()
    assert (tiny.base_model, tiny.load_in_4bit, tiny.dtype) == ("", False, "float32")
    assert (smol.base_model, smol.load_in_4bit, smol.dtype) == ("smol", False, "float32")
    for big in (t4, rented):
        assert big.base_model == "unsloth/mistral-7b-v0.3-bnb-4bit" and big.load_in_4bit
        assert big.second_model == "unsloth/Qwen2.5-7B-bnb-4bit"
    assert "1.5B" in t4.grpo.base_model and t4.grpo.warm_start  # a chain of its own
    assert rented.grpo.base_model is None  # all stages on one model


@pytest.mark.parametrize(("name", "stage"), ALL)
def test_trainer_arguments_leave_folder_and_seed_to_the_notebook(name, stage):
    trainer = stages(PROFILES[name])[stage].trainer
    assert not {"output_dir", "seed", "data_seed"} & set(trainer)
    assert trainer["logging_nan_inf_filter"] is False  # a NaN loss must be seen


@pytest.mark.parametrize(("name", "stage"), ALL)
def test_lengths_fit_the_model(name, stage):
    profile = PROFILES[name]
    trainer = stages(profile)[stage].trainer
    assert trainer.get("max_length", 0) <= profile.max_length
    assert trainer.get("max_completion_length", 0) < profile.max_length


def sequences_a_step(trainer) -> int:
    return trainer["per_device_train_batch_size"] * trainer["gradient_accumulation_steps"]


@pytest.mark.parametrize("name", NAMES)
def test_a_grpo_step_holds_whole_groups(name):
    trainer = PROFILES[name].grpo.trainer
    assert sequences_a_step(trainer) % trainer["num_generations"] == 0
    assert trainer["num_generations"] >= 2


@pytest.mark.parametrize(("name", "stage"), ALL)
def test_no_row_is_trained_on_twice_but_in_smols_sft(name, stage):
    config = stages(PROFILES[name])[stage]
    if "num_train_epochs" in config.trainer:
        assert config.trainer["num_train_epochs"] == 1
        return
    prompts = sequences_a_step(config.trainer) // config.trainer.get("num_generations", 1)
    rows = config.rows or SOURCE_ROWS[config.source, stage]
    passes = 2 if (name, stage) == ("smol", "sft") else 1  # few rows, written by hand
    assert config.trainer["max_steps"] * prompts <= passes * rows


@pytest.mark.parametrize("name", ["t4", "rented"])
def test_the_clip_is_symmetric_on_a_gpu_too(name):
    """Unset, Unsloth's trainer on a GPU makes the upper bound 0.28."""
    trainer = PROFILES[name].grpo.trainer
    assert trainer["epsilon_high"] == trainer["epsilon"] == 0.2


RENTED = PROFILES["rented"].grpo.trainer


@pytest.fixture
def vllm(monkeypatch):
    """A GPU, and a version of vLLM beside it; returns how to change either."""

    def have(version, gpu=("NVIDIA H100", 81_559)):
        monkeypatch.setattr(module, "_version", lambda name: version)
        monkeypatch.setattr(module, "gpu", lambda: gpu)

    monkeypatch.delenv("POSTLAB_VLLM", raising=False)
    have("0.25.1")
    return have


def test_vllm_samples_only_where_it_is_asked_for(vllm, monkeypatch):
    assert get_profile("rented").grpo.trainer == RENTED and not get_profile("rented").fast_inference
    monkeypatch.setenv("POSTLAB_VLLM", "0")
    assert get_profile("rented").grpo.trainer == RENTED
    monkeypatch.setenv("POSTLAB_VLLM", "1")
    rented = get_profile("rented")
    assert rented.grpo.trainer["use_vllm"] and rented.grpo.trainer["vllm_mode"] == "colocate"
    assert rented.fast_inference["fast_inference"] and RENTED["use_vllm"] is False
    assert rented.fast_inference["max_lora_rank"] == rented.lora["r"]
    assert rented.sft == PROFILES["rented"].sft
    for name in ("tiny", "smol", "t4"):  # on a T4, vLLM and TRL do not run together
        assert get_profile(name) == PROFILES[name]
    vllm("0.25.1", gpu=None)  # a rehearsal on a CPU
    assert get_profile("rented") == PROFILES["rented"]


@pytest.mark.parametrize("version", ["0.20.0", "0.27.1", "0.30.0", "0.30.1"])
def test_versions_of_vllm_that_trl_takes(vllm, version):
    vllm(version)
    assert module.check_vllm() == version


@pytest.mark.parametrize("version", ["0.19.1", "0.31.0", "0.9.2", "1.0.0", None])
def test_another_vllm_is_an_error_that_says_what_to_install(vllm, monkeypatch, version):
    vllm(version)
    monkeypatch.setenv("POSTLAB_VLLM", "1")
    with pytest.raises(ValueError, match=r"vllm>=0\.20,<0\.31 ") as raised:
        get_profile("rented")
    assert (version or "not installed") in str(raised.value)
    monkeypatch.delenv("POSTLAB_VLLM")
    get_profile("rented")  # an installed vLLM alone changes nothing


def test_a_strange_value_is_an_error(monkeypatch):
    monkeypatch.setenv("POSTLAB_VLLM", "yes")
    with pytest.raises(ValueError, match="POSTLAB_VLLM is 'yes'; expected 1"):
        module.vllm_requested()


@pytest.mark.parametrize(("name", "stage"), ALL)
def test_every_stage_is_evaluated_in_less_time_than_it_is_trained(name, stage):
    config = stages(PROFILES[name])[stage]
    # smol trains its SFT for minutes, and evaluates the wordy base beside it
    most = 2 if (name, stage) == ("smol", "sft") else 1
    assert 0 < config.eval_minutes < most * config.minutes


def test_tiny_grpo_samples_64_completions_of_8_prompts():
    trainer = PROFILES["tiny"].grpo.trainer
    assert sequences_a_step(trainer) == 64
    assert trainer["num_generations"] == 8


def test_smol_fits_75_minutes_at_measured_speeds():
    train, sample, forward, row = 70, 120, 210, 45  # tokens/s on two cores; tokens of a row
    smol = PROFILES["smol"]
    sft, dpo, grpo = smol.sft.trainer, smol.dpo.trainer, smol.grpo.trainer
    seconds = sft["max_steps"] * sequences_a_step(sft) * row / train
    seconds += dpo["max_steps"] * sequences_a_step(dpo) * 2 * row * (1 / train + 1 / forward)
    completions = grpo["max_steps"] * sequences_a_step(grpo)
    seconds += completions * (10 / sample + (row - 5) / train)  # a sum is short, and so its answer
    # Four evaluations of 776 prompts, the base up to the limit of about 86 tokens, and of 120 sums
    # drawn eight times; KL of three stages on one prompt in five.
    seconds += (776 * 86 + 960 * 24) / sample + 3 * (776 * 20 + 960 * 9) / sample
    seconds += 3 * (776 // 5) * 2 * row / forward
    assert seconds / 60 < 75


def test_description_tells_no_host_and_no_path(monkeypatch):
    monkeypatch.setattr(module, "gpu", lambda: ("Tesla T4", 15_360))
    found = describe_machine()
    assert (found["gpu"], found["gpu_gib"]) == ("Tesla T4", 15.0)
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert found["cpus"] >= 1 and found["ram_gib"] > 0.5
    assert found["versions"]["numpy"]
    text = json.dumps(found)
    assert socket.gethostname() not in text and os.sep not in text


def test_no_torch_is_loaded():
    code = (
        "import sys; from postlab import profile as p;"
        "p.get_profile(), p.describe_machine(), p.data_dir();"
        "print({'torch', 'transformers', 'trl', 'unsloth'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(postlab.__file__).parent.parent,
    )  # fmt: skip
    assert ran.stdout.strip() == "set()"


def test_data_is_the_wheels_else_the_clones(tmp_path, monkeypatch):
    package = tmp_path / "postlab"
    package.mkdir()
    monkeypatch.setattr(module, "__file__", str(package / "profile.py"))
    assert module.data_dir() == tmp_path / "data"
    (package / "_data").mkdir()
    assert module.data_dir() == package / "_data"


@pytest.mark.parametrize("name", ["t4", "rented"])
@pytest.mark.parametrize(("stage", "length"), [("sft", 400), ("dpo", 530)])
def test_the_minutes_on_a_gpu_are_the_middle_of_what_preflight_says(name, stage, length):
    """At the usual lengths that the profile's comments name, and 61,000 pairs of UltraFeedback."""
    profile = get_profile(name)
    config = getattr(profile, stage)
    plan = estimate(
        stage, model=profile.base_model, device=profile.device, bits=4, engine="unsloth",
        batch=config.trainer["per_device_train_batch_size"] * (2 if stage == "dpo" else 1),
        accumulation=config.trainer["gradient_accumulation_steps"], length=length,
        lora_rank=profile.lora["r"], examples=config.rows or 61_000,
        optimizer=config.trainer["optim"],
    )  # fmt: skip
    assert config.minutes == pytest.approx(60 * plan.hours, rel=0.03)
