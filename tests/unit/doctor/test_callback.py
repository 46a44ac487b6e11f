"""DoctorCallback in a real trainer, and by itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tiny_model import build_tiny

from postlab.doctor import DoctorCallback

STILL = [{"step": i, "loss": 0.7, "rewards/margins": 0.0} for i in range(12)]


def feed(doctor: DoctorCallback, log: list[dict], *, main: bool = True) -> SimpleNamespace:
    """The log, entry by entry, as a trainer shows it."""
    control = SimpleNamespace(should_training_stop=False)
    for end in range(1, len(log) + 1):
        state = SimpleNamespace(log_history=log[:end], global_step=end, is_world_process_zero=main)
        doctor.on_log(None, state, control)
    doctor.on_train_end(None, state, control)
    return control


def test_a_finding_is_printed_once_when_it_appears():
    lines: list[str] = []
    doctor = DoctorCallback(show=lines.append)
    control = feed(doctor, STILL)
    assert [f.code for f in doctor.findings] == ["adapter_still"]
    assert len(lines) == 1 and not control.should_training_stop
    early = [line for line in lines if line.startswith("doctor, step 12")]
    assert not early  # it was said when it appeared, not at the end


def test_it_stops_on_what_is_named_and_on_nothing_else():
    stopping = DoctorCallback(stop_on="adapter_still", show=lambda line: None)
    assert feed(stopping, STILL).should_training_stop
    assert stopping.stopped_by is stopping.findings[0]
    assert not feed(
        DoctorCallback(stop_on={"nan"}, show=lambda line: None), STILL
    ).should_training_stop


def test_another_process_finds_the_same_and_prints_nothing():
    lines: list[str] = []
    doctor = DoctorCallback(stop_on={"adapter_still"}, show=lines.append)
    assert feed(doctor, STILL, main=False).should_training_stop and not lines


def test_an_unknown_code_is_named():
    with pytest.raises(ValueError, match="'nann'.*expected.*nan"):
        DoctorCallback(stop_on={"nann"})


def test_a_long_log_is_not_read_at_every_step(monkeypatch):
    looks = []
    monkeypatch.setattr("postlab.doctor.callback.diagnose", lambda log, **_: looks.append(1) or [])
    state = SimpleNamespace(log_history=[], global_step=0, is_world_process_zero=True)
    doctor = DoctorCallback()
    for _ in range(5_000):
        state.log_history.append({"loss": 1.0})
        doctor.on_log(None, state, None)
    assert len(looks) < 700


def test_in_a_trainer(tmp_path):
    """A rate of a billion ruins the model, and the trainer ends early."""
    import torch
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    rows = [{"input_ids": torch.arange(1, 9), "labels": torch.arange(1, 9)} for _ in range(64)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=60, per_device_train_batch_size=1, logging_steps=1,
        learning_rate=1e9, lr_scheduler_type="constant", report_to=[], use_cpu=True,
        logging_nan_inf_filter=False, max_grad_norm=0, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    lines: list[str] = []
    doctor = DoctorCallback(
        stop_on={"nan", "nan_as_zero", "lr_too_high", "adapter_still"}, show=lines.append
    )
    model = AutoModelForCausalLM.from_pretrained(build_tiny(tmp_path / "tiny"))
    trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[doctor])
    trainer.train()
    assert doctor.stopped_by is not None and trainer.state.global_step < 60
    assert any("training stops here" in line for line in lines)
