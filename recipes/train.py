"""One stage on several GPUs, by plain TRL: Unsloth, which the notebooks use, trains on one.

    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/train.py sft --rows 1000
    … recipes/train.py dpo --profile rented --parent runs/several/sft --output runs/several/dpo
    … recipes/train.py sft --profile rented --method full --set learning_rate=1e-5

Rows, columns, template and TRL's arguments are those of the profile, which may be a YAML file of
your own; `--set` changes one of TRL's arguments. The result is a folder in the usual form: an
adapter, or with `--method full` a whole model. `postlab.models.load_policy` reads both, and so does
`lab.evaluate`. An interrupted training goes on from its last checkpoint when it is started again.

Left out: the manifests of `make stages`, and evaluation, which one process does afterwards.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from pathlib import Path
from typing import Any

from postlab.datasets import instruction_rows, math_rows, preference_rows
from postlab.models import lora_config, resolve_base, unquantized
from postlab.profile import Profile, get_profile

STAGES = ("sft", "dpo", "grpo")
METHODS = ("qlora", "lora", "full")
COLUMNS = {
    "sft": ("prompt", "completion"),
    "dpo": ("prompt", "chosen", "rejected"),
    "grpo": ("prompt", "answer"),
}
# For a base without a template of its own. A turn ends with the tokenizer's own end of sequence, so
# that no token is added, which sharded embeddings would not survive.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + eos_token + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    trainer = make_trainer(options)
    trainer.train(resume_from_checkpoint=last_checkpoint(options.output))
    save(trainer, options.output)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, and errors that name what was expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--profile", default="rented", help="a name or a YAML file")
    parser.add_argument("--base", help="a Hub id or folder instead of the profile's model")
    parser.add_argument("--method", choices=METHODS, default="lora")
    parser.add_argument("--parent", type=Path, help="the adapter or model of an earlier stage")
    parser.add_argument("--output", type=Path, help="default: runs/several/STAGE")
    parser.add_argument("--rows", type=int, help="fewer rows than the profile's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    options.output = options.output or Path("runs") / "several" / options.stage
    try:
        options.set = dict(setting(text) for text in options.set)
    except ValueError as error:
        parser.error(str(error))
    if options.method == "full" and "learning_rate" not in options.set:
        parser.error(
            "--method full: the profiles' learning rates are LoRA's, about ten times what full "
            "fine-tuning takes; give yours with --set learning_rate=1e-5"
        )
    if options.parent and not options.parent.is_dir():
        parser.error(f"--parent {options.parent}: there is no such folder")
    return options


def setting(text: str) -> tuple[str, Any]:
    """One argument of TRL's.

    >>> setting("max_steps=10"), setting("bf16=True"), setting("optim=adamw_torch")
    (('max_steps', 10), ('bf16', True), ('optim', 'adamw_torch'))
    """
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise ValueError(f"--set {text}: expected NAME=VALUE, such as max_steps=10")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def make_trainer(options: argparse.Namespace) -> Any:
    """The stage's trainer, with the profile's rows and settings.

    Raises:
        ValueError: if a setting is not TRL's, or two of them contradict each other.
    """
    import trl
    from datasets import Dataset

    profile = get_profile(options.profile)
    stage = getattr(profile, options.stage)
    base = options.base or unquantized(resolve_base(stage.base_model or profile.base_model))
    config, trainer_class = {
        "sft": (trl.SFTConfig, trl.SFTTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
    }[options.stage]
    unknown = sorted(set(options.set) - set(config.__dataclass_fields__))
    if unknown:
        raise ValueError(f"--set {unknown[0]}: not an argument of TRL's {config.__name__}")
    settings = arguments_of(profile, options) | {"output_dir": str(options.output / "checkpoints")}
    model, adapter = policy(base, profile, options)
    rows = rows_of(profile, options)
    extra: dict[str, Any] = {}
    if options.stage == "grpo":
        from postlab import rewards

        extra["reward_funcs"] = getattr(rewards, stage.reward or "math_reward")
    trainer = trainer_class(
        model=model,
        args=config(seed=options.seed, **settings),
        processing_class=tokenizer_of(base, options.parent),
        train_dataset=Dataset.from_list(rows).select_columns(list(COLUMNS[options.stage])),
        peft_config=adapter,
        **extra,
    )
    wrap_adapters(trainer)
    return trainer


def arguments_of(profile: Profile, options: argparse.Namespace) -> dict[str, Any]:
    """The profile's arguments, but an optimizer whose state can be sharded, and yours."""
    chosen = dict(getattr(profile, options.stage).trainer)
    if chosen.get("gradient_checkpointing") or profile.lora.get("use_gradient_checkpointing"):
        chosen["gradient_checkpointing"] = True
        chosen["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    if "8bit" in str(chosen.get("optim", "")):  # its states are uint8 with a map beside them
        chosen["optim"] = "adamw_torch"
    return chosen | options.set


def policy(base: str, profile: Profile, options: argparse.Namespace) -> tuple[Any, Any]:
    """The model on no device yet, which accelerate decides, and the new adapter, None if none."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed

    set_seed(options.seed)  # the trainer sets it only after it has made the new adapter
    dtype = torch.float32 if profile.dtype == "float32" else torch.bfloat16
    how: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if options.method == "qlora":
        # Stored as bfloat16, as FSDP shards one floating-point type only.
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=dtype,
        )
    parent = options.parent
    is_adapter = bool(parent) and (parent / "adapter_config.json").is_file()
    place = parent if parent and not is_adapter else base
    model = AutoModelForCausalLM.from_pretrained(place, **how)
    model.config.use_cache = False
    if is_adapter:
        if options.method == "full":
            raise ValueError(
                f"--method full: {parent} is an adapter; merge it first (postlab export)"
            )
        return PeftModel.from_pretrained(model, str(parent), is_trainable=True), None
    if options.method == "full":
        return model, None
    return model, lora_config(profile)


def tokenizer_of(base: str, parent: Path | None) -> Any:
    """The earlier stage's tokenizer or the base's, with a template and a token for padding."""
    from transformers import AutoTokenizer

    own = parent and (parent / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(str(parent) if own else base, trust_remote_code=False)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def rows_of(profile: Profile, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The stage's training rows, as its notebook loads them."""
    stage = getattr(profile, options.stage)
    n = stage.rows if options.rows is None else options.rows
    common = {"split": "train", "n": n, "seed": options.seed, "columns": stage.columns}
    if options.stage == "grpo":
        return list(math_rows(stage.source, instruction=stage.system_prompt, **common))
    load = instruction_rows if options.stage == "sft" else preference_rows
    return list(load(stage.source, **common))


def wrap_adapters(trainer: Any) -> None:
    """Let FSDP 1 put trained and frozen weights into units of their own, as PEFT documents."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 1 and hasattr(trainer.model, "peft_config"):
        from peft.utils.other import fsdp_auto_wrap_policy

        plugin.auto_wrap_policy = fsdp_auto_wrap_policy(trainer.model)


def last_checkpoint(output: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    folder = output / "checkpoints"
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def save(trainer: Any, output: Path) -> None:
    """The whole adapter or model, gathered from all processes, and its tokenizer."""
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(output))
    if trainer.accelerator.is_main_process:
        print(f"saved in {output}", file=sys.stderr)


if __name__ == "__main__":
    main()
