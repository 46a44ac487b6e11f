"""Every training configuration of the GPU profiles, as this process's TRL builds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROFILES = ("t4", "rented")
# Unsloth counts processors and memory to choose how many processes tokenize; TRL takes one.
OF_THE_MACHINE = {"dataset_num_proc"}


def configurations() -> dict[str, dict[str, str]]:
    """{"t4 sft": {field: value as text}}, and the same GRPO stage with `epsilon_high` not set."""
    import transformers.training_args as training_args
    import trl

    from postlab.profile import get_profile

    training_args.is_torch_bf16_gpu_available = lambda: True  # what an A100 or H100 answers
    tables = {}
    for name in PROFILES:
        profile = get_profile(name)
        stages = {"sft": profile.sft, "dpo": profile.dpo, "grpo": profile.grpo}
        if profile.grpo.warm_start:
            stages["warm_start"] = profile.grpo.warm_start
        for stage, config in stages.items():
            kind = "SFTConfig" if stage == "warm_start" else f"{stage.upper()}Config"
            tables[f"{name} {stage}"] = fields(getattr(trl, kind), config.trainer)
        unset = {k: v for k, v in profile.grpo.trainer.items() if k != "epsilon_high"}
        tables[f"{name} grpo, epsilon_high not set"] = fields(trl.GRPOConfig, unset)
    return tables


def fields(kind: type, arguments: Mapping[str, Any]) -> dict[str, str]:
    config = kind(output_dir="out", seed=0, **arguments)
    plain = {k: getattr(v, "value", v) for k, v in vars(config).items() if not k.startswith("_")}
    return {name: str(value) for name, value in plain.items() if name not in OF_THE_MACHINE}
