"""What the roadmap's three projects cost on rented GPUs: an estimate, before anything is rented.

Rows, batches and steps are those of the profiles `t4` and `rented`, and so are the hours on their
own devices; ranges and dollars come from `preflight.estimate`, whose ranges are wide on purpose.
Only the mean lengths below are assumed.
Left out: downloads, idle time, storage, failed runs, and the runs before the one you keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postlab.preflight import estimate
from postlab.profile import StageConfig, get_profile

if TYPE_CHECKING:
    import pandas as pd

TOKENS = {"openhermes": 400, "ultrafeedback": 530, "gsm8k": 128}  # mean: a text; a side; a prompt
ROWS = {"ultrafeedback": 61_000}  # where a profile takes a source whole
DEVICES = (("T4, free", "T4", "t4"), ("T4", "T4", "t4"),
           ("A100 80GB", "A100 80GB", "rented"), ("H100", "H100", "rented"))  # fmt: skip
RANGED = ("hours", "hours_low", "hours_high", "dollars", "dollars_low", "dollars_high")


def bill() -> pd.DataFrame:
    """Hours and dollars of SFT, DPO and GRPO by device, with a total, all of it estimated.

    Returns:
        device, project, model, rows, fits, hours and dollars with the ends of their ranges (the
        ends of a total are the sums of the ends), and prices_of, the month of the prices. On a
        profile's own device the middle is what the profile plans, as in README and the setup
        cells; the ranges, and other devices' hours, are preflight's. Hours include the profile's
        evaluation, as planned for its own device.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for name, device, profile_name in DEVICES:
        part = [_row(*stage, device, profile_name) for stage in _stages(profile_name)]
        if name.endswith("free"):
            part = [row | dict.fromkeys(RANGED[3:], 0.0) for row in part]
        total = {key: sum(row[key] for row in part) for key in RANGED}
        part.append(total | {"project": "all three", "fits": all(row["fits"] for row in part)})
        rows += [{"device": name} | row for row in part]
    columns = ["device", "project", "model", "rows", "fits", *RANGED]
    return pd.DataFrame(rows)[columns].assign(prices_of=part[0]["prices_of"])


def _stages(profile_name: str) -> list[tuple[str, str, StageConfig]]:
    """(project, preflight's stage, settings) of what is trained, in order."""
    profile = get_profile(profile_name)
    stages = [("SFT", "sft", profile.sft), ("DPO", "dpo", profile.dpo)]
    if profile.grpo.warm_start:
        stages.append(("SFT before GRPO", "sft", profile.grpo.warm_start))
    return [*stages, ("GRPO", "grpo", profile.grpo)]


def _row(project: str, stage: str, how: StageConfig, device: str, profile_name: str) -> dict:
    profile, trainer = get_profile(profile_name), how.trainer
    batch = trainer["per_device_train_batch_size"]
    accumulation = trainer["gradient_accumulation_steps"]
    small = profile.grpo.base_model  # the model of GRPO's own chain, where there is one
    model = (small if project.endswith("GRPO") else None) or profile.base_model
    rows, length, more = how.rows or ROWS.get(how.source, 0), TOKENS[how.source], {}
    if stage == "grpo":
        group, new = trainer["num_generations"], trainer["max_completion_length"]
        rows = trainer["max_steps"] * batch * accumulation // group
        length, more = length + new, {"group": group, "new_tokens": new}
    plan = estimate(
        stage, model=model, device=device, batch=batch * (2 if stage == "dpo" else 1),
        length=length, bits=4, lora_rank=profile.lora["r"], examples=rows, engine="unsloth",
        accumulation=accumulation, optimizer=trainer["optim"],
        epochs=trainer.get("num_train_epochs", 1), **more,
    )  # fmt: skip
    assert plan.hours and plan.hours_range and plan.dollars and plan.dollars_range
    rate, evaluation = plan.dollars / plan.hours, how.eval_minutes / 60
    own = how.minutes and device == profile.device  # then the profile says how long it takes
    middle = how.minutes / 60 if own else plan.hours
    hours = [h + evaluation for h in (middle, *plan.hours_range)]
    spent = [*hours, *(h * rate for h in hours)]
    row: dict[str, Any] = dict(zip(RANGED, spent, strict=True))
    return row | {
        "project": project, "model": plan.model, "rows": rows, "fits": plan.fits,
        "prices_of": plan.prices_of,
    }  # fmt: skip
