"""Which model, data, precision and batch each stage uses, and what this machine is.

One switch of four: `tiny` (the embedded base, any laptop), `smol` (SmolLM2-135M on a CPU), `t4`
(a free Colab GPU) and `rented` (A100 or H100). A stage's `trainer` holds TRL 1.14.2's own argument
names, all but `output_dir` and `seed`: `SFTConfig(**profile.sft.trainer, output_dir=..., seed=0)`.
A profile of your own is a `Profile`, or a YAML file that says in what it differs from one of these.

What this leaves out: it tunes nothing to the memory found (`preflight` estimates that), and `tiny`
and `smol` stay on the CPU even where there is a GPU; their minutes are rounded from recorded runs
on two cores. `t4` and `rented` are set by arithmetic from published speeds; their minutes are
estimates until a run on such a device is recorded.

vLLM samples only if POSTLAB_VLLM=1 asks for it: nobody has yet run these notebooks with it, it
fixes torch's version, and an installed vLLM must not change what a run does.
"""

import ast
import copy
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab import _doors
from postlab.overlay import check_kind, check_names, did_you_mean, laid_over, read_yaml, shown

if TYPE_CHECKING:  # pandas loads when a table is wanted, not on import
    import pandas as pd

__all__ = [
    "PROFILES",
    "PROJECTIONS",
    "STAGE_WEEKS",
    "Profile",
    "StageConfig",
    "check_own",
    "check_vllm",
    "data_dir",
    "describe_machine",
    "device_name",
    "get_profile",
    "gpu",
    "read_profile",
    "stage_command",
    "vllm_requested",
]

# The linear layers that get an adapter.
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
T4_CLASS_MIB = 16_500  # what nvidia-smi calls a 16 GB card is 15,360 (T4) to 16,384 MiB
PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "bitsandbytes", "datasets", "numpy")

GSM8K_PROMPT = (
    "Solve the problem step by step, one calculation a line. End with '#### ' and the final number."
)


@dataclass(frozen=True)
class StageConfig:
    """One stage of training: its rows, and every argument of its TRL config.

    Args:
        source: for `postlab.datasets.*_rows`: a known name, a Hub id or a local file.
        rows: how many training rows, None for all of them.
        trainer: TRL's argument names and values, all but `output_dir` and `seed`.
        minutes: expected training time on the profile's device; 0 where nobody has measured it.
        eval_minutes: expected time of the evaluations that its notebook is the first to make: the
            stage's own, and its start's where no notebook before has evaluated that.
        system_prompt: put before each prompt, where the source does not ask for a format itself.
        base_model: where the stage leaves the profile's chain and starts from a model of its own.
        warm_start: the SFT stage which comes first on that `base_model`.
        columns: for `postlab.datasets.*_rows`, where the source has names of its own: our name of a
            field -> its name there.
        reward: one of `REWARDS`, by which GRPO is trained; None is math_reward.
    """

    source: str
    rows: int | None
    trainer: Mapping[str, Any]
    minutes: float = 0.0
    eval_minutes: float = 0.0
    system_prompt: str | None = None
    base_model: str | None = None
    warm_start: "StageConfig | None" = None
    columns: Mapping[str, Any] | None = None
    reward: str | None = None

    def __repr__(self) -> str:
        """One line; `trainer` holds the rest, and `Profile.table` shows it."""
        return f"StageConfig(source={self.source!r}, rows={self.rows}, minutes={self.minutes:g})"


@dataclass(frozen=True)
class Profile:
    """Everything a notebook needs to know about where it runs.

    Args:
        base_model: Hub id or folder; "" is the embedded base, "smol" SmolLM2 from its PyPI wheel.
        dtype: for `from_pretrained`: "float32", "float16", "bfloat16", or None to let it choose.
        max_length: tokens of prompt and reply together, `max_seq_length` for Unsloth.
        lora: arguments of `FastLanguageModel.get_peft_model`, all but `random_state`.
        chat_template: name for `unsloth.chat_templates.get_chat_template`, for base models which
            have no template; None where the tokenizer brings its own.
        suite: the held-out prompts: a name in `evals`, several joined by "+", a JSONL file, or
            rows, as `evals.evaluate` takes them.
        eval_prompts: held-out prompts a family; None for all of them.
        eval_samples: answers to each prompt that is asked at temperature 1.
        device: name for `preflight`; "cpu" means that a GPU is left alone.
        judge_model: an instruct model that judges pairs of answers, if possible from another family
            than the policy; None: the policy judges itself, which only shows the mechanism.
        fast_inference: arguments of `FastLanguageModel.from_pretrained` for the policy of GRPO,
            where vLLM samples; empty where it does not.
        report_to: one of `TRACKERS`, which gets every stage's log as well; "" is none.
    """

    name: str
    base_model: str
    second_model: str | None
    load_in_4bit: bool
    dtype: str | None
    max_length: int
    lora: Mapping[str, Any]
    chat_template: str | None
    sft: StageConfig
    dpo: StageConfig
    grpo: StageConfig
    suite: str | Sequence[Any]
    eval_prompts: int | None
    eval_samples: int
    device: str
    judge_model: str | None = None
    fast_inference: Mapping[str, Any] = field(default_factory=dict)
    report_to: str = ""

    def __repr__(self) -> str:
        """One line; `table` shows everything."""
        return (
            f"Profile(name={self.name!r}, base_model={self.base_model!r}, device={self.device!r})"
        )

    def table(self) -> "pd.DataFrame":
        """Every setting, a row each: the profile's own in a column of its name, then the stages'.

        A cell is empty where a stage leaves an argument to TRL's default. What is None or empty in
        every column has no row.

        >>> get_profile("tiny").table().loc["learning_rate", ["sft", "dpo", "grpo"]].tolist()
        [0.002, 0.0004, 0.0001]
        """
        import pandas as pd

        stages = {"sft": self.sft, "dpo": self.dpo, "grpo": self.grpo}
        if self.grpo.warm_start:
            stages["warm_start"] = self.grpo.warm_start
        own = {k: v for k, v in vars(self).items() if k != "name" and k not in stages}
        columns = {self.name: own}
        for name, stage in stages.items():
            settings = {k: v for k, v in vars(stage).items() if k not in ("trainer", "warm_start")}
            columns[name] = settings | dict(stage.trainer)
        names = dict.fromkeys(
            name
            for settings in columns.values()
            for name in settings
            if any(one.get(name) not in (None, {}) for one in columns.values())
        )
        cells = {
            column: [settings.get(name, "") for name in names]
            for column, settings in columns.items()
        }
        return pd.DataFrame(cells, index=pd.Index(names, name="setting"))


def _lora(r: int, alpha: int, checkpointing: bool | str) -> dict[str, Any]:
    return dict(
        r=r, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=list(PROJECTIONS),
        use_gradient_checkpointing=checkpointing,
    )  # fmt: skip


# The trainer's own NaN filter replaces a NaN loss by the mean of the others: a run that has failed
# would look healthy, so it is off. Two checkpoints are kept, since the newest may be half written.
_ALWAYS = dict(
    max_grad_norm=1.0, weight_decay=0.0, train_sampling_strategy="random", dataloader_num_workers=0,
    report_to="none", disable_tqdm=True, logging_strategy="steps", logging_nan_inf_filter=False,
    save_strategy="steps", save_total_limit=2, eval_strategy="no",
)  # fmt: skip
_CPU = _ALWAYS | dict(
    use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False, dataloader_pin_memory=False,
    optim="adamw_torch",
)  # fmt: skip
_GPU = _ALWAYS | dict(gradient_checkpointing=True, optim="adamw_8bit", logging_steps=5)
_T4 = _GPU | dict(fp16=True, bf16=False, save_steps=25)  # bf16 on a T4 is emulated
_RENTED = _GPU | dict(fp16=False, bf16=True, save_steps=100)

_SFT = dict(packing=False, completion_only_loss=True)
_DPO = dict(beta=0.1, loss_type=["sigmoid"])
# On-policy GRPO without a KL term, spelled out because weeks 7 and 8 vary it.
_GRPO = dict(
    loss_type="dapo", scale_rewards="group", beta=0.0, epsilon=0.2, num_iterations=1,
    temperature=1.0, top_p=1.0, top_k=0, mask_truncated_completions=False,
    importance_sampling_level="token", shuffle_dataset=True, remove_unused_columns=False,
    log_completions=False, use_vllm=False,
)  # fmt: skip

# Evaluation minutes, over three seeds: base and SFT 34 s, DPO 17 s, GRPO 17 s, 2,000 answers each.
TINY = Profile(
    name="tiny", base_model="", second_model=None, load_in_4bit=False, dtype="float32",
    max_length=256, lora=_lora(16, 32, False), chat_template=None,
    sft=StageConfig(
        source="tinyworld", rows=6400, minutes=1.0, eval_minutes=0.6,
        trainer=_CPU | _SFT | dict(
            max_steps=400, per_device_train_batch_size=16, gradient_accumulation_steps=1,
            learning_rate=2e-3, lr_scheduler_type="linear", warmup_steps=8,
            max_length=256, logging_steps=5, save_steps=200,
        ),
    ),
    # The likelihood term was meant to protect the how-to's, whose steps are the rejected reply
    # where a person is meant. Week 5's record doesn't show that it does. The term stays because
    # all shipped stages and recorded results were trained with it.
    dpo=StageConfig(
        source="tinyworld", rows=3200, minutes=1.0, eval_minutes=0.3,
        trainer=_CPU | _DPO | dict(
            loss_type=["sigmoid", "sft"], loss_weights=[1.0, 2.0], beta=0.5,
            max_steps=200, per_device_train_batch_size=16, gradient_accumulation_steps=1,
            learning_rate=4e-4, lr_scheduler_type="linear", warmup_steps=8,
            max_length=256, logging_steps=5, save_steps=100,
        ),
    ),
    grpo=StageConfig(  # 64 completions a step: 8 prompts, 8 answers each
        source="tinyworld", rows=2000, minutes=1.0, eval_minutes=0.3,
        trainer=_CPU | _GRPO | dict(
            max_steps=40, per_device_train_batch_size=64, gradient_accumulation_steps=1,
            num_generations=8, max_completion_length=64,
            learning_rate=1e-4, lr_scheduler_type="linear", warmup_steps=0,
            logging_steps=1, save_steps=25,
        ),
    ),
    suite="tinyworld", eval_prompts=200, eval_samples=4, device="cpu",
)  # fmt: skip

# The base is not quantized: at 135M parameters four bits save 0.4 GB, and without them the CPU
# engine of `sampling` can read the policy. Two cores at 70 tokens/s, rows of 45 tokens:
#   SFT   100 steps x 8 rows x 45 tokens = 36k tokens                              = 9 minutes
#   DPO   60 steps x 8 pairs x 2 x 50 tokens, and the reference a third of it      = 15 minutes
#   GRPO  40 steps x 32 completions x 40 tokens, and sampling 10 tokens of each    = 14 minutes
SMOL = Profile(
    name="smol", base_model="smol", second_model=None, load_in_4bit=False, dtype="float32",
    max_length=192, lora=_lora(16, 32, False), chat_template=None,
    sft=StageConfig(
        source="everyday", rows=None, minutes=10, eval_minutes=15,
        trainer=_CPU | _SFT | dict(
            max_steps=100, per_device_train_batch_size=8, gradient_accumulation_steps=1,
            learning_rate=4e-4, lr_scheduler_type="linear", warmup_steps=5,
            max_length=192, logging_steps=2, save_steps=25,
        ),
    ),
    dpo=StageConfig(
        source="everyday", rows=None, minutes=12, eval_minutes=5,
        trainer=_CPU | _DPO | dict(
            loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0], beta=0.1,
            max_steps=60, per_device_train_batch_size=8, gradient_accumulation_steps=1,
            learning_rate=2e-4, lr_scheduler_type="linear", warmup_steps=4,
            max_length=192, logging_steps=1, save_steps=10,
        ),
    ),
    grpo=StageConfig(  # 32 completions a step, sampled together: 4 prompts, 8 answers each
        source="everyday", rows=None, minutes=15, eval_minutes=5,
        trainer=_CPU | _GRPO | dict(
            max_steps=40, per_device_train_batch_size=32, gradient_accumulation_steps=1,
            num_generations=8, max_completion_length=24,
            learning_rate=2e-4, lr_scheduler_type="constant", warmup_steps=0,
            logging_steps=1, save_steps=10,
        ),
    ),
    suite="everyday-small", eval_prompts=120, eval_samples=8, device="cpu", judge_model="smol",
)  # fmt: skip

# Unsloth's trainer on a GPU makes an unset `epsilon_high` 0.28, DAPO's value; TRL makes it epsilon.
# Weeks 7 and 8 speak of a symmetric clip, so it is set. On a CPU, Unsloth leaves it alone.
_GPU_GRPO = _GRPO | dict(epsilon_high=0.2)

# `preflight` with engine="unsloth" on a T4, the middle of its range: 3,000 rows x 400 tokens at 550
# tokens/s, and 1,000 pairs of 2 x 530 at 450. GRPO takes a 1.5B, as sampling a 7B fills a session:
# a chain of its own, base -> SFT -> GRPO, which is never compared with the 7B stages.
# Evaluation: 200 problems of GSM8K x 320 tokens, 776 prompts of `everyday` x 64 to 160: 64k and
# 74k tokens. 7B, batch 55: 310 tokens/s, 7.4 minutes, and 3.2 of KL where there is a reference:
# base 7.4 + SFT 10.6, DPO 10.6. 1.5B, batch 200: 2,600 tokens/s, 0.9 minutes, and 1.5 of KL. (At a
# batch of 16 the 7B made 100 tokens/s.)
_T4_SFT = _T4 | _SFT | dict(
    num_train_epochs=1, per_device_train_batch_size=2, gradient_accumulation_steps=4,
    learning_rate=2e-4, lr_scheduler_type="cosine", warmup_steps=0.03, max_length=1024,
)  # fmt: skip
T4 = Profile(
    name="t4", base_model="unsloth/mistral-7b-v0.3-bnb-4bit",
    second_model="unsloth/Qwen2.5-7B-bnb-4bit", load_in_4bit=True, dtype="float16",
    max_length=1024, lora=_lora(16, 16, "unsloth"), chat_template="chatml",
    sft=StageConfig(
        source="openhermes", rows=3000, minutes=36, eval_minutes=18, trainer=_T4_SFT
    ),
    dpo=StageConfig(
        source="ultrafeedback", rows=1000, minutes=39, eval_minutes=11,
        trainer=_T4 | _DPO | dict(
            num_train_epochs=1, per_device_train_batch_size=1, gradient_accumulation_steps=8,
            learning_rate=5e-6, lr_scheduler_type="linear", warmup_steps=0.1, max_length=768,
        ),
    ),
    grpo=StageConfig(
        source="gsm8k", rows=2000, minutes=52, eval_minutes=2, system_prompt=GSM8K_PROMPT,
        base_model="unsloth/Qwen2.5-1.5B-bnb-4bit",
        warm_start=StageConfig(
            source="openhermes", rows=2000, minutes=6, eval_minutes=2, trainer=_T4_SFT
        ),
        trainer=_T4 | _GPU_GRPO | dict(
            max_steps=150, per_device_train_batch_size=8, gradient_accumulation_steps=2,
            num_generations=8, max_completion_length=256,
            learning_rate=1e-5, lr_scheduler_type="cosine", warmup_steps=0.1,
        ),
    ),
    suite="everyday+gsm8k", eval_prompts=200, eval_samples=1, device="T4",
    judge_model="unsloth/Qwen2.5-7B-Instruct-bnb-4bit",
)  # fmt: skip

# `preflight` with engine="unsloth" on an H100, the middle of its range: 50,000 rows x 400 tokens at
# 6,800 tokens/s are 49 minutes, 61,000 pairs of 2 x 530 tokens at 5,500 are 198, and 400 GRPO steps
# of 64 completions four hours. An A100 takes twice as long for SFT and DPO, and 1.3 times for GRPO.
# Evaluation: 1,319 problems x 320 tokens and 776 prompts of `everyday`, 496k tokens in all, batch
# 256: 3,500 tokens/s on an H100, 2.4 minutes, and 1.5 of KL. All of these speeds are the arithmetic
# of `preflight.devices`, the geometric mean of its fast and slow pace.
RENTED = Profile(
    name="rented", base_model=T4.base_model, second_model=T4.second_model, load_in_4bit=True,
    dtype="bfloat16", max_length=2048, lora=_lora(32, 32, "unsloth"), chat_template="chatml",
    sft=StageConfig(
        source="openhermes", rows=50_000, minutes=50, eval_minutes=7,
        trainer=_RENTED | _SFT | dict(
            num_train_epochs=1, per_device_train_batch_size=8, gradient_accumulation_steps=4,
            learning_rate=2e-4, lr_scheduler_type="cosine", warmup_steps=0.03, max_length=2048,
        ),
    ),
    dpo=StageConfig(
        source="ultrafeedback", rows=None, minutes=200, eval_minutes=4,
        trainer=_RENTED | _DPO | dict(
            num_train_epochs=1, per_device_train_batch_size=4, gradient_accumulation_steps=8,
            learning_rate=5e-6, lr_scheduler_type="linear", warmup_steps=0.1, max_length=1536,
        ),
    ),
    grpo=StageConfig(
        source="gsm8k", rows=None, minutes=240, eval_minutes=4, system_prompt=GSM8K_PROMPT,
        trainer=_RENTED | _GPU_GRPO | dict(
            max_steps=400, per_device_train_batch_size=16, gradient_accumulation_steps=4,
            num_generations=8, max_completion_length=512,
            learning_rate=5e-6, lr_scheduler_type="cosine", warmup_steps=0.05,
        ),
    ),
    suite="everyday+gsm8k", eval_prompts=1319, eval_samples=1, device="H100",
    judge_model=T4.judge_model,
)  # fmt: skip

# What `rented` is with vLLM: Unsloth loads GRPO's policy with vLLM's engine beside it, on the same
# base weights, and TRL samples with that engine. Without `fast_inference` TRL would start an engine
# of its own, and could not bring it a LoRA on 4-bit weights. Half of the memory is the engine's.
_FAST_INFERENCE = dict(fast_inference=True, gpu_memory_utilization=0.5)
_VLLM_GRPO = dict(use_vllm=True, vllm_mode="colocate", vllm_gpu_memory_utilization=0.5)
VLLM_BOUNDS = ("0.20", "0.30")  # that TRL 1.14.2 takes; outside of them it only warns

# Use `get_profile`, which returns a copy.
PROFILES: dict[str, Profile] = {p.name: p for p in (TINY, SMOL, T4, RENTED)}

# Which week's notebook makes a stage. Of the library only this module and `lab` name weeks.
STAGE_WEEKS = {"sft": "03", "dpo": "05", "grpo": "07", "cai": "09", "prm": "10", "multi": "11"}

REWARDS = ("math_reward", "format_reward")  # of `postlab.rewards`, for rows of a prompt and answer
TRACKERS = ("trackio", "tensorboard", "wandb")  # what may follow a training; none of them is needed
DATA_FILES = (".json", ".jsonl", ".ndjson", ".parquet")
CONFIGS = {"sft": "sft", "dpo": "dpo", "grpo": "grpo", "warm_start": "sft"}  # stage: TRL's trainer
# Beside what a profile sets, what Unsloth's `get_peft_model` takes.
LORA = ("use_rslora", "modules_to_save", "layers_to_transform", "layers_pattern", "loftq_config")
DTYPES = ("float32", "float16", "bfloat16", None)
_FILES: dict[str, Path] = {}  # profiles of one's own that were read, and from where


def stage_command(profile_name: str, stage: str, seed: int, *, portable: bool = False) -> str:
    """The one command that makes a stage and its evaluation.

    Args:
        portable: name a profile's file without its folder, for text that others read.

    >>> stage_command("t4", "dpo", 2)
    'make week N=05 PROFILE=t4 SEED=2'
    """
    # The base is evaluated where SFT is made; a T4's small chain begins where GRPO is.
    week = STAGE_WEEKS.get(stage, "07" if stage == "sft-small" else "03")
    if profile_name not in PROFILES and profile_name not in _FILES:
        return f"the notebook of week {week}, with the profile {profile_name!r} and seed {seed}"
    file = Path(_FILES.get(profile_name, profile_name))
    profile = shlex.quote(file.name if portable else str(file))
    return f"make week N={week} PROFILE={profile} SEED={seed}"


def get_profile(name: str | Path | None = None) -> Profile:
    """The profile asked for, else $POSTLAB_PROFILE, else the one that suits this machine.

    Without an NVIDIA GPU that is `tiny`, with one of at most 16 GB `t4`, else `rented`. The profile
    is a copy, so that a notebook which changes a number changes nobody else's.

    Args:
        name: 'tiny', 'smol', 't4', 'rented' or a YAML file of your own; None chooses as above.
    Returns:
        Its models, rows and trainer settings, stage by stage.
    Raises:
        ValueError, TypeError, OSError: if there is no profile of that name, or as `read_profile`.

    >>> get_profile("tiny").sft.trainer["bf16"]
    False
    """
    name = name or os.environ.get("POSTLAB_PROFILE") or _suits(gpu())
    if str(name).endswith((".yaml", ".yml")):
        return read_profile(name)
    if str(name) not in PROFILES:
        raise ValueError(
            f"unknown profile {str(name)!r}; expected one of {', '.join(PROFILES)}, or a file of"
            " your own that ends in .yaml (argument `profile`, or the variable POSTLAB_PROFILE)"
        )
    profile = copy.deepcopy(PROFILES[str(name)])
    if name == "rented" and vllm_requested() and gpu() is not None:  # never on a T4
        check_vllm()
        trainer = dict(profile.grpo.trainer) | _VLLM_GRPO
        how = _FAST_INFERENCE | {"max_lora_rank": profile.lora["r"]}
        grpo = replace(profile.grpo, trainer=trainer)
        profile = replace(profile, grpo=grpo, fast_inference=how)
    return _tracked(profile, "")


def read_profile(path: str | Path) -> Profile:
    """A profile of your own, from a YAML file that names the one it is `like`.

    Fields that the file doesn't have are that profile's; mappings such as `sft` and `trainer` are
    merged. Relative paths are relative to the file. A `source` without `rows` and a `suite` without
    `eval_prompts` are used whole, and `num_train_epochs` without `max_steps` takes away the other
    profile's `max_steps`, which would win. Expected minutes are not taken over.

    Args:
        path: the file; README.md shows one.
    Returns:
        The profile, its data files as absolute paths.
    Raises:
        OSError: if there is no such file.
        ValueError, TypeError: for what can't be right; the message has the file, the field, what it
            holds and what was expected.
    """
    path = Path(os.path.expanduser(path))  # Path.expanduser raises where there is no such user
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no profile {str(path)!r} in {Path.cwd()}; expected a YAML file with `name`,"
            " `like` and what differs (argument `profile`, or the variable POSTLAB_PROFILE)"
        )
    values, where = read_yaml(path), f"{path}, "
    like = values.pop("like", None)
    if not isinstance(like, str) or like not in PROFILES:
        raise ValueError(f"{where}like is {shown(like)}; expected one of {', '.join(PROFILES)}")
    if "name" not in values:
        raise ValueError(f"{where}name is missing; expected a name for the run folder")
    parent = get_profile(like)
    stages: dict[str, Any] = {name: _unmeasured(stage) for name, stage in _main(parent)}
    profile = laid_over(replace(parent, **stages), values, where)
    changed: dict[str, Any] = {
        name: _own_stage(stage, values.get(name, {}), path, name) for name, stage in _main(profile)
    }
    for name in ("base_model", "second_model", "judge_model"):
        if (model := getattr(profile, name)) is not None:
            changed[name] = _model(model, path, name)
    if isinstance(profile.suite, str):
        changed["suite"] = _data_file(profile.suite, path, "suite")
    if "suite" in values and "eval_prompts" not in values:
        changed["eval_prompts"] = None
    profile = replace(profile, **changed)
    check_own(profile, where)
    _FILES[profile.name] = path.absolute()
    return _tracked(profile, where)


def _tracked(profile: Profile, where: str) -> Profile:
    """The profile with its tracker, or $POSTLAB_REPORT_TO, in every stage's trainer."""
    asked = os.environ.get("POSTLAB_REPORT_TO") or profile.report_to
    if asked in ("", "none"):
        return profile
    if asked not in TRACKERS:
        raise ValueError(
            f"{where}report_to is {shown(asked)}; expected one of {', '.join(TRACKERS)}, or none"
        )
    if util.find_spec(asked) is None:
        raise ValueError(
            f"{where}report_to is {asked}, which is not installed: pip install {asked}"
        )
    stages: dict[str, Any] = {name: _reporting(stage, asked) for name, stage in _main(profile)}
    return replace(profile, report_to=asked, **stages)


def _reporting(stage: StageConfig, tracker: str) -> StageConfig:
    warm = stage.warm_start and _reporting(stage.warm_start, tracker)
    return replace(stage, trainer=dict(stage.trainer) | {"report_to": tracker}, warm_start=warm)


def _unmeasured(stage: StageConfig) -> StageConfig:
    warm = stage.warm_start and _unmeasured(stage.warm_start)
    return replace(stage, minutes=0.0, eval_minutes=0.0, warm_start=warm)


def _own_stage(stage: StageConfig, values: Mapping[str, Any], path: Path, name: str) -> StageConfig:
    """A stage with its paths found, and with one length of training."""
    given = values.get("trainer", {})
    changed: dict[str, Any] = {"source": _data_file(stage.source, path, f"{name}.source")}
    if "source" in values and "rows" not in values:
        changed["rows"] = None
    if "num_train_epochs" in given and "max_steps" not in given:
        changed["trainer"] = {k: v for k, v in stage.trainer.items() if k != "max_steps"}
    if stage.base_model is not None:
        changed["base_model"] = _model(stage.base_model, path, f"{name}.base_model")
    if stage.warm_start:
        warm = values.get("warm_start") or {}
        changed["warm_start"] = _own_stage(stage.warm_start, warm, path, f"{name}.warm_start")
    return replace(stage, **changed)


def _data_file(value: str, path: Path, field_name: str) -> str:
    """A file's absolute path; a name and a Hub id stay as they are."""
    file = path.absolute().parent / os.path.expanduser(value)
    if file.is_file():
        return str(file)
    if value.endswith(DATA_FILES) or value.startswith((".", "/", "~")):
        raise ValueError(f"{path}, {field_name} is {value!r}; there is no file {file}")
    return value


def _model(value: str, path: Path, field_name: str) -> str:
    """A folder's absolute path; a Hub id and the built-in names stay as they are."""
    folder = path.absolute().parent / os.path.expanduser(value)
    if value in ("", "smol"):
        return value
    if folder.is_dir():
        return str(folder)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value):
        raise ValueError(
            f"{path}, {field_name} is {value!r}; expected 'smol', '' (the embedded model), a Hub id"
            f" such as 'Qwen/Qwen2.5-0.5B', or a folder (there is no {folder})"
        )
    return value


def check_own(profile: Profile, where: str = "") -> None:
    """Check a profile that is none of `PROFILES`, before anything is loaded.

    Args:
        where: what stands before a field's name in messages, such as the file.
    Raises:
        ValueError, TypeError: if its name isn't one for a folder, or is taken; if a stage has a
            trainer argument that TRL doesn't know, or of another type; if a count is below 1.
    """
    name = profile.name
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,63}", name):
        raise ValueError(
            f"{where}name is {shown(name)}; expected letters, digits, '_', '-' and '.', as it names"
            " the folder of its runs"
        )
    if name.lower() in PROFILES:
        raise ValueError(f"{where}name is {name!r}, which is one of postlab's own; choose another")
    if profile.dtype not in DTYPES:
        raise ValueError(f"{where}dtype is {profile.dtype!r}; expected one of {DTYPES}")
    check_names(profile.lora, (*PROFILES["tiny"].lora, *LORA), f"{where}lora.")
    for key, kind in (("r", "int"), ("lora_alpha", "float"), ("lora_dropout", "float")):
        check_kind(profile.lora.get(key), frozenset([kind]), f"{where}lora.{key}")
    counts = {"eval_prompts": profile.eval_prompts, "eval_samples": profile.eval_samples}
    counts |= {"max_length": profile.max_length, "lora.r": profile.lora["r"]}
    warm = profile.grpo.warm_start
    for stage_name, stage in _main(profile) + ([("grpo.warm_start", warm)] if warm else []):
        here = stage_name.rpartition(".")[2]
        counts[f"{stage_name}.rows"] = stage.rows
        known = trl_arguments(CONFIGS[here])
        for key, value in stage.trainer.items():
            place = f"{where}{stage_name}.trainer.{key}"
            if key in ("output_dir", "seed"):
                raise ValueError(f"{place} is set by the notebook; leave it out")
            if known and key not in known:
                close = did_you_mean(key, known)
                raise ValueError(f"{place}: TRL's {here.upper()}Config has no such field; {close}")
            check_kind(value, known.get(key, frozenset()), place)
        for ours, theirs in (stage.columns or {}).items():
            kinds = frozenset(["str", "NoneType"])
            check_kind(theirs, kinds, f"{where}{stage_name}.columns.{ours}")
        if stage.reward is not None and (here != "grpo" or stage.reward not in REWARDS):
            expected = f"one of {', '.join(REWARDS)}" if here == "grpo" else "no reward but GRPO's"
            raise ValueError(f"{where}{stage_name}.reward is {stage.reward!r}; expected {expected}")
    for key, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{where}{key} is {count}; expected at least 1")


def _main(profile: Profile) -> list[tuple[str, StageConfig]]:
    return [("sft", profile.sft), ("dpo", profile.dpo), ("grpo", profile.grpo)]


def trl_arguments(stage: str) -> dict[str, frozenset[str]]:
    """The fields of TRL's config for "sft", "dpo" or "grpo", and the kinds of value each takes.

    They are read from the packages' source: importing TRL would load torch, and must not come
    before Unsloth. An empty dict if the packages aren't installed; an empty set for any kind.
    """
    known: dict[str, frozenset[str]] = {}
    files = (f"trainer/{stage}_config.py", "trainer/base_config.py", "training_args.py")
    for package, name in zip(("trl", "trl", "transformers"), files, strict=True):
        spec = util.find_spec(package)
        path = Path(((spec and spec.submodule_search_locations) or [""])[0], name)
        if not path.is_file():
            return {}
        known = _annotated(path) | known  # a subclass's field comes first
    return known


@cache
def _annotated(path: Path) -> dict[str, frozenset[str]]:
    classes = (n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.ClassDef))
    return {
        line.target.id: _kinds(ast.unparse(line.annotation))
        for node in classes
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def _kinds(annotation: str) -> frozenset[str]:
    """The kinds that an annotation's text names; none where it names something else.

    >>> sorted(_kinds("list[str] | None")), sorted(_kinds("SchedulerType | str"))
    (['NoneType', 'list'], [])
    """
    parts = {part.split("[")[0].strip() for part in annotation.split("|")}
    simple = {"None": "NoneType"} | {name: name for name in ("bool", "int", "float", "str")}
    simple |= {"list": "list", "dict": "dict"}
    return frozenset(simple[part] for part in parts) if parts <= set(simple) else frozenset()


def vllm_requested() -> bool | None:
    """What POSTLAB_VLLM says: True for 1, False for 0, None if it is not set.

    With 1, vLLM answers in evaluations and samples in `rented`'s GRPO. With 0 it does neither, even
    where a policy was loaded with vLLM's engine beside it.

    Raises:
        ValueError: if it says anything else.
    """
    value = os.environ.get("POSTLAB_VLLM", "").strip()
    if value not in ("", "0", "1"):
        raise ValueError(
            f"POSTLAB_VLLM is {value!r}; expected 1 to use vLLM, 0 never to use it, or nothing"
        )
    return None if value == "" else value == "1"


def check_vllm() -> str:
    """The version of vLLM, if it is one that TRL works with.

    Raises:
        ValueError: if there is none, or another one.
    """
    low, high = VLLM_BOUNDS
    beyond = f"0.{int(high.split('.')[1]) + 1}"
    fix = f"install vllm>={low},<{beyond} (it fixes torch's version) or unset POSTLAB_VLLM"
    version = _version("vllm")
    if version is None:
        raise ValueError(f"POSTLAB_VLLM is 1, but vLLM is not installed; {fix}")
    numbers = [tuple(map(int, text.split(".")[:2])) for text in (low, version, high)]
    if numbers != sorted(numbers):
        raise ValueError(
            f"POSTLAB_VLLM is 1 and vLLM {version} is installed; expected {low} to {high}, which"
            f" TRL 1.14.2 works with: {fix}"
        )
    return version


def _suits(gpu_info: tuple[str, int] | None) -> str:
    if gpu_info is None:
        return "tiny"
    return "t4" if gpu_info[1] <= T4_CLASS_MIB else "rented"


def gpu() -> tuple[str, int] | None:
    """Name and memory in MiB of the first NVIDIA GPU that this process may use, or None.

    Asks nvidia-smi, so that choosing a profile loads no torch.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        name, memory = result.stdout.strip().splitlines()[0].rsplit(",", 1)
        return name.strip(), int(memory)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def describe_machine() -> dict[str, Any]:
    """What a result was made on: Python, processors, memory in GiB, GPU and package versions.

    Names neither the host nor any path, so that it can be published with the result.
    """
    gpu_info = gpu()
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cpus = os.cpu_count() or 1
    memory: float | None
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # not on Windows
        memory = _memory_gib()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": cpus,
        "ram_gib": memory,
        "gpu": gpu_info and gpu_info[0],
        "gpu_gib": gpu_info and round(gpu_info[1] / 1024, 1),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _memory_gib() -> float | None:
    try:
        import psutil
    except ImportError:  # without the training extra
        return None
    return round(psutil.virtual_memory().total / 2**30, 1)


def device_name(device: Mapping[str, Any]) -> str:
    """What `describe_machine` found, in a word: the GPU, or the processors and the memory.

    >>> device_name({"gpu": None, "cpus": 2, "ram_gib": 23.5})
    '2 CPU cores, 23.5 GiB'
    """
    return device.get("gpu") or f"{device['cpus']} CPU cores, {device['ram_gib']} GiB"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def data_dir() -> Path:
    """The embedded data: inside the package where it was built into a wheel, else the clone's."""
    packed = Path(__file__).parent / "_data"
    return packed if packed.is_dir() else Path(__file__).parent.parent / "data"


_doors.publish(__name__)
