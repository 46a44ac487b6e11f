"""What `Run.train` adds to a trainer: progress, sealed checkpoints, a stop at NaN.

The Hugging Face trainer replaces a NaN loss by a mean of the losses before it, so a dead run looks
calm; here the filter is off and the first bad step ends the run. Left out: looking at every
micro-batch (a loss is seen when it is logged, the weights when they are saved).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from postlab import storage
from postlab.progress import Bar
from postlab.runs import processes, weights

FP16_PATIENCE = 10  # the fp16 loss scaler starts too high and skips steps until it fits
PRINTERS = ("PrinterCallback", "ProgressCallback", "NotebookProgressCallback")


class NaNLoss(RuntimeError):
    """Training met a loss, a gradient or weights that are not finite, and stopped."""


def fit(trainer: Any, *, stage: str, checkpoints: Path) -> dict[str, Any]:
    """Train from the last intact checkpoint, or from the start; return what it took.

    Raises:
        NaNLoss: if loss, gradient or weights stop being finite.
        RuntimeError: if the model has already moved and no checkpoint says from where.
    """
    from transformers import set_seed

    main = trainer.is_world_process_zero()
    resume = last_intact(checkpoints)
    for folder in damaged(checkpoints) if main else []:
        print(f"{stage}: {folder.name} was cut short or is damaged, skipped")
        storage.remove_folder(folder)
    if resume and main:
        print(f"{stage}: goes on from {resume.name}")
    if resume and _restore_finished(trainer, resume):
        return {"train_s": 0.0, "resumed_from": resume.name}
    if not resume and trainer.state.global_step:
        raise RuntimeError(
            f"This trainer has already taken {trainer.state.global_step} steps and there is no "
            f"checkpoint to go on from. Run the cells that make model and trainer again."
        )
    set_seed(trainer.args.seed)  # whatever cells ran before, the order of the rows is the same
    trainer.args.logging_nan_inf_filter = False
    keep_local(trainer.args.report_to, checkpoints.parent)
    added = attach(trainer, stage=stage, checkpoints=checkpoints, resume=resume)
    begun = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    finally:
        for callback in added:
            trainer.remove_callback(callback)
            if getattr(callback, "bar", None):
                callback.bar.close()
    seconds = round(time.perf_counter() - begun, 3)
    return {"train_s": seconds, "resumed_from": resume.name if resume else None}


def keep_local(trackers: Sequence[str] | str, folder: Path) -> None:
    """Let a tracker write to this machine only, unless the environment already says otherwise.

    TensorBoard's and trackio's files are local by themselves. Weights & Biases sends its own, so it
    is set to offline; `wandb sync` sends them later, if wanted.

    Args:
        trackers: the trainer's `report_to`.
        folder: the run's, which gets wandb's files.
    """
    if "wandb" in trackers:
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_DIR", str(folder))
        os.environ.setdefault("WANDB_SILENT", "true")


def attach(trainer: Any, *, stage: str, checkpoints: Path, resume: Path | None) -> list[Any]:
    """Add the callbacks of a run to `trainer`, in place of its own printing ones.

    Args:
        stage: the stage's name, for the progress line and the messages.
        checkpoints: the trainer's output folder.
        resume: the checkpoint the trainer will start from, None for a fresh start.
    Returns:
        the callbacks, to be removed after training.
    """
    from transformers import TrainerCallback, set_seed

    class Guard(TrainerCallback):
        """Stops at NaN and seals every checkpoint whose weights are finite."""

        def __init__(self) -> None:
            self.overflows = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # With a second adapter ("ref") in the checkpoint the trainer restores only that one,
            # and would go on from the parent's weights with the old optimizer state.
            if resume is not None and hasattr(trainer.model, "peft_config"):
                weights.load_weights(trainer.model, resume)
            # The processes of a launch share out one order of the rows, which is fixed by now. From
            # here each needs luck of its own, or GRPO would sample all of their prompts alike.
            if processes.rank():
                set_seed(args.seed + processes.rank())

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            bad = bad_number(logs or {})
            self.overflows = self.overflows + 1 if bad == "grad_norm" else 0
            tolerated = args.fp16 and bad == "grad_norm" and self.overflows < FP16_PATIENCE
            if bad and not tolerated:
                raise nan_loss(stage, state.global_step, f"{bad} = {logs[bad]}", args, checkpoints)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            folder = checkpoints / f"checkpoint-{state.global_step}"
            processes.wait()  # each process has put its random state into the folder
            if state.is_world_process_zero and folder.is_dir():
                if not weights.finite(trainer.model):
                    raise nan_loss(
                        stage, state.global_step, "weights not finite", args, checkpoints
                    )
                # A pickle of all settings, tokens included, which nothing reads again.
                (folder / "training_args.bin").unlink(missing_ok=True)
                storage.seal(folder)

    class Progress(TrainerCallback):
        """One line: steps, reward or loss, seconds left."""

        bar: Bar | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                self.bar = Bar(state.max_steps, stage, done=state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.bar:
                self.bar.update(1)

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            shown = next((name for name in ("reward", "loss") if name in (logs or {})), None)
            if self.bar and shown:
                note = f"{shown} {float(logs[shown]):.3f}"
                self.bar.set_postfix_str(note, refresh=False)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.bar:
                self.bar.close()

    for callback in list(trainer.callback_handler.callbacks):
        if any(base.__name__ in PRINTERS for base in type(callback).__mro__):
            trainer.remove_callback(callback)
    added = [Progress(), Guard()]
    for callback in added:
        trainer.add_callback(callback)
    return added


def bad_number(logs: dict[str, Any]) -> str | None:
    """The name of the logged value that shows a dead run, None if all is well.

    >>> bad_number({"loss": 0.0, "grad_norm": float("nan")})  # a NaN loss that a filter made 0
    'loss'
    >>> bad_number({"loss": 0.0, "grad_norm": 0.4})  # GRPO on-policy without KL
    """
    for name in ("loss", "train_loss", "eval_loss"):
        if name in logs and not math.isfinite(float(logs[name])):
            return name
    if "grad_norm" in logs and not math.isfinite(float(logs["grad_norm"])):
        return "loss" if float(logs.get("loss", 1.0)) == 0.0 else "grad_norm"
    return None


def nan_loss(stage: str, step: int, symptom: str, args: Any, checkpoints: Path) -> NaNLoss:
    """The error that says where a run died, what is left of it and what to try."""
    last = last_intact(checkpoints)
    checkpoint_note = f"{last.name} is intact" if last else "no checkpoint was written before it"
    advice = [f"a lower learning_rate (it is {args.learning_rate:g})"]
    if args.fp16:
        advice.append("bf16 or fp32 in place of fp16, whose largest number is 65504")
    if not args.max_grad_norm:
        advice.append("max_grad_norm=1.0")
    advice.append(
        "rows without a trained token (an empty completion, or one cut off by max_length)"
    )
    return NaNLoss(
        f"{stage} stopped at step {step}: {symptom}. Nothing after it can be used; "
        f"{checkpoint_note}. Try, in this order: {'; '.join(advice)}. "
        f"Then make model and trainer anew and run again."
    )


def read_log(state_file: Path) -> list[dict[str, Any]] | None:
    """The log history in a saved trainer_state.json; None if it is missing or damaged."""
    try:
        log = storage.read_json(state_file, most=storage.LOG_BYTES)["log_history"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return log if isinstance(log, list) and all(isinstance(entry, dict) for entry in log) else None


def last_intact(checkpoints: Path) -> Path | None:
    """The newest checkpoint whose every file is as it was when it was written."""
    return next((folder for folder in by_step(checkpoints) if storage.sealed(folder)), None)


def damaged(checkpoints: Path) -> list[Path]:
    """Checkpoints newer than the last intact one: cut short by a kill, or corrupted."""
    last = last_intact(checkpoints)
    folders = by_step(checkpoints)
    return folders[: folders.index(last)] if last else folders


def _restore_finished(trainer: Any, resume: Path) -> bool:
    """Put back the end of training; asked to resume there, the trainer would take one step more."""
    from transformers import TrainerState

    state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
    if state.global_step < state.max_steps:
        return False
    weights.load_weights(trainer.model, resume)
    trainer.state = state
    return True


def by_step(checkpoints: Path) -> list[Path]:
    """The checkpoints in a folder, whole or not, the newest first."""
    folders = [f for f in checkpoints.glob("checkpoint-*") if f.name.split("-")[1].isdigit()]
    return sorted(folders, key=lambda f: int(f.name.split("-")[1]), reverse=True)
