"""The recipes for several GPUs are files that the installed accelerate and TRL take."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from modules import module_at

from postlab.models import tiny_base
from postlab.profile import PROFILES

ROOT = Path(__file__).resolve().parents[3]
RECIPES = ROOT / "recipes"
CONFIGS = sorted((RECIPES / "accelerate").glob("*.yaml"))
LAUNCHERS = sorted((RECIPES / "launch").iterdir())
train = module_at(RECIPES / "train.py", "recipes_train")
what_fits = module_at(RECIPES / "what_fits.py", "recipes_what_fits")
README = (RECIPES / "README.md").read_text(encoding="utf-8")

PLUGIN = """
import json, os, sys
from argparse import Namespace
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import prepare_multi_gpu_env

arguments = launch_command_parser().parse_args(["--config_file", sys.argv[1], "train.py"])
arguments, *_ = _validate_launch_command(arguments)
os.environ.update(prepare_multi_gpu_env(arguments))
made = {"mixed_precision": os.environ["ACCELERATE_MIXED_PRECISION"], "fsdp": None}
if arguments.use_fsdp:
    import accelerate.utils.dataclasses as dataclasses  # FSDP 1 asks for a GPU when it is set up
    import torch
    dataclasses.is_cuda_available = lambda: True
    torch.cuda.current_device = lambda: 0
    from accelerate.utils import FullyShardedDataParallelPlugin
    plugin = FullyShardedDataParallelPlugin()
    made["fsdp"] = [
        plugin.fsdp_version, repr(plugin.cpu_offload), str(plugin.state_dict_type),
        plugin.cpu_ram_efficient_loading,
        str(plugin.reshard_after_forward or plugin.sharding_strategy),
    ]
if arguments.use_deepspeed:
    from accelerate.utils import DeepSpeedPlugin
    made["zero"] = DeepSpeedPlugin().zero_stage
print(json.dumps(made))
"""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_takes_every_field(path):
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert config.mixed_precision == "bf16" and config.num_processes > 1
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {"fsdp_config", "deepspeed_config"} | set(vars(config))
    assert set(given) <= known
    from accelerate.commands.launch import launch_command_parser

    options = {action.dest for action in launch_command_parser()._actions}
    assert set(given.get("fsdp_config", {})) <= options


@pytest.mark.parametrize(
    ("name", "fsdp"),
    [
        ("ddp", None),
        ("fsdp_qlora", [1, "CPUOffload(offload_params=True)", "SHARDED", True, "FULL_SHARD"]),
        ("fsdp2", [2, "OffloadPolicy()", "SHARDED", True, "True"]),
        ("zero3", None),
    ],
)
def test_accelerate_makes_the_plugin_of_each(name, fsdp):
    if name == "zero3" and not util.find_spec("deepspeed"):
        pytest.skip("deepspeed, an extra, is not installed")
    path = RECIPES / "accelerate" / f"{name}.yaml"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FSDP", "ACCELERATE"))}
    done = subprocess.run(
        [sys.executable, "-c", PLUGIN, str(path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["mixed_precision"] == "bf16"
    if fsdp is None:
        assert made["fsdp"] is None
    else:
        version, offload, state, frugal, reshard = made["fsdp"]
        assert [version, offload, frugal] == [fsdp[0], fsdp[1], fsdp[3]]
        assert fsdp[2] in state and fsdp[4] in reshard


def commands() -> list[tuple[str, list[str]]]:
    """(file, arguments) of every command of `train.py` in launchers and prose, variables filled."""
    filled = {
        "PROFILE": "rented",
        "METHOD": "lora",
        "MODEL": "a/b",
        "PORT": "8000",
        "OUTPUT": "out",
    }
    found = []
    for path in [*LAUNCHERS, RECIPES / "README.md", RECIPES / "train.py"]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r'(?:train\.py|"\$\{launch\[@\]\}") (?=sft|dpo|grpo)(.*)', text):
            for name, value in filled.items():
                line = line.replace(f"${name}", value)
            found.append((path.name, line.replace('"', "").rstrip("'").split()))
    return found


def test_every_command_is_one_that_the_script_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("out/sft", "runs/several/sft"):
        (tmp_path / folder).mkdir(parents=True)
    seen = commands()
    assert len(seen) >= 9 and {"machine.sh", "slurm.sbatch", "README.md"} <= {f for f, _ in seen}
    for _, arguments in seen:
        options = train.parse(arguments)
        assert options.stage in train.STAGES


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.name)
def test_launchers_are_whole_and_name_files_that_exist(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".sh", ".sbatch"):
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        task = yaml.safe_load(text)
        assert set(task) <= {"name", "workdir", "resources", "envs", "setup", "run"}
    named = set(re.findall(r"recipes/[\w/]+\.\w+", text))
    assert named and all((ROOT / name).is_file() for name in named)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sft", "--method", "full"], "learning_rate=1e-5"),
        (["sft", "--set", "max_steps"], "expected NAME=VALUE"),
        (["dpo", "--parent", "nowhere"], "no such folder"),
        (["ppo"], "invalid choice"),
    ],
)
def test_a_wrong_command_says_what_was_expected(arguments, said, capsys):
    with pytest.raises(SystemExit):
        train.parse(arguments)
    assert said in capsys.readouterr().err


def test_an_argument_that_is_not_trls_is_refused_before_anything_is_loaded():
    options = train.parse(["sft", "--profile", "tiny", "--set", "max_lenght=3"])
    with pytest.raises(ValueError, match="max_lenght: not an argument of TRL's SFTConfig"):
        train.make_trainer(options)


@pytest.mark.parametrize("profile", ["t4", "rented"])
@pytest.mark.parametrize("stage", train.STAGES)
def test_settings_are_the_profiles_but_what_cannot_be_sharded(profile, stage):
    options = train.parse([stage, "--set", "max_steps=7"])
    made = train.arguments_of(PROFILES[profile], options)
    theirs = dict(getattr(PROFILES[profile], stage).trainer)
    changed = {k for k in made if made[k] != theirs.get(k)}
    assert changed <= {"optim", "gradient_checkpointing_kwargs", "max_steps"}
    assert made["optim"] == "adamw_torch" and made["max_steps"] == 7
    assert not made["gradient_checkpointing_kwargs"]["use_reentrant"]


def test_the_template_makes_a_prompt_that_its_reply_continues():
    tokenizer = train.tokenizer_of(str(tiny_base()), None)
    tokenizer.chat_template = train.TEMPLATE
    asked = [{"role": "user", "content": "What is 2+3?"}]
    told = [*asked, {"role": "assistant", "content": "5"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(told, tokenize=False)
    assert whole == f"{prompt}5{tokenizer.eos_token}\n"


def test_the_table_of_what_fits_is_preflights():
    start, end = "<!-- what fits: written by recipes/what_fits.py -->\n", "\n<!-- to here -->"
    assert README.split(start)[1].split(end)[0] == what_fits.table()


def test_the_readme_lists_every_file():
    listed = set(re.findall(r"\]\(((?:accelerate|launch)/[\w.]+)\)", README))
    assert listed == {str(p.relative_to(RECIPES)) for p in [*CONFIGS, *LAUNCHERS]}


def test_docstring_examples():
    found = doctest.testmod(train)
    assert found.attempted and not found.failed
