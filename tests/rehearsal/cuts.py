"""What a rehearsal changes in a profile, inside the kernel that walks a notebook.

Steps, rows, evaluation prompts, lengths, batch sizes and the intervals of logging and saving are
cut, and precision is set to what a CPU supports. Everything else stays as in the profile: its name,
models, data sources, template, suite, optimizer, gradient checkpointing and chain of stages.
`PLANTED` lists deliberate faults that a rehearsal must detect.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any

STEPS, ROWS, PROMPTS, TOKENS, NEW_TOKENS = 3, 40, 6, 256, 24
CPU = dict(use_cpu=True, bf16=False, fp16=False, dataloader_pin_memory=False)
PLANTED = ("renamed column", "missing metric", "wrong key in a config")


def apply(profile_name: str) -> None:
    """Cut the profile, and plant the fault that $POSTLAB_PLANT names; before `postlab.start`."""
    from postlab import profile

    _stay_here()
    if is_file(profile_name):
        whole = profile.read_profile
        profile.read_profile = lambda path: cut(whole(path))
        return
    profile.PROFILES[profile_name] = cut(profile.PROFILES[profile_name])
    fault = os.environ.get("POSTLAB_PLANT")
    if fault:
        plant(fault, profile_name)


def is_file(profile_name: str) -> bool:
    """Whether it is a profile of one's own, in a YAML file."""
    return profile_name.endswith((".yaml", ".yml"))


def cut(profile: Any) -> Any:
    """The profile, as small as its stages can be made on a CPU."""
    stages = {name: cut_stage(getattr(profile, name)) for name in ("sft", "dpo", "grpo")}
    return dataclasses.replace(profile, dtype="float32", eval_prompts=PROMPTS, **stages)


def cut_stage(stage: Any) -> Any:
    how = dict(stage.trainer)
    small = CPU | {"max_steps": STEPS, "logging_steps": 1, "save_steps": 2}
    small["gradient_accumulation_steps"] = min(2, how["gradient_accumulation_steps"])
    group = how.get("num_generations")
    small["per_device_train_batch_size"] = group or min(2, how["per_device_train_batch_size"])
    if "max_length" in how:
        small["max_length"] = min(TOKENS, how["max_length"])
    if "max_completion_length" in how:
        small["max_completion_length"] = min(NEW_TOKENS, how["max_completion_length"])
    return dataclasses.replace(
        stage,
        trainer=how | small,
        rows=min(ROWS, stage.rows or ROWS),
        warm_start=stage.warm_start and cut_stage(stage.warm_start),
    )


def plant(fault: str, profile_name: str) -> None:
    """Put in one of `PLANTED`.

    Raises:
        ValueError: if there is no such fault.
    """
    from postlab import profile
    from postlab.evals import suites

    if fault == "renamed column":  # the server's rows have it: see walk.py
        return
    if fault == "missing metric":
        scored = suites._gsm8k_score
        suites._gsm8k_score = lambda gold: (
            lambda answer, closed: {
                name: value
                for name, value in scored(gold)(answer, closed).items()
                if name != "gsm8k_lenient"
            }
        )
    elif fault == "wrong key in a config":
        here = profile.PROFILES[profile_name]
        wrong = dataclasses.replace(here.sft, trainer=dict(here.sft.trainer) | {"max_lenght": 64})
        profile.PROFILES[profile_name] = dataclasses.replace(here, sft=wrong)
    else:
        raise ValueError(f"no fault {fault!r} to plant; expected one of {', '.join(PLANTED)}")


def _stay_here() -> None:
    """Block connections to other machines: what needs the real Hub fails immediately."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
            raise ConnectionRefusedError(f"a rehearsal may not connect to {address[0]}")
        return connect(self, address)

    socket.socket.connect = local  # type: ignore[method-assign]
