"""The run folder: a stage's weights, log and evaluation, reused only if what made them is the same.

`runs/<profile>/seed-<n>/<stage>/` holds manifest.json, trainer_state.json, model/, checkpoints/,
eval.jsonl and samples.jsonl. Everything except the trainer's checkpoints, which are sealed instead,
is written to a temporary sibling and renamed, and the manifest's "complete" comes last. A kill at
any moment therefore leaves either the old state or the new one. If what makes a run has changed,
the old run is moved to `<stage>.previous`. Left out: building the trainer, which is the notebook's
lesson.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab import storage
from postlab.profile import data_dir, stage_command
from postlab.redaction import redact
from postlab.runs import frames, machine, place, processes, space, training, weights
from postlab.runs import key as fingerprint
from postlab.runs.machine import run_root
from postlab.storage import ReadOnlyFolder, StageBusy

if TYPE_CHECKING:
    import pandas as pd

CHAIN = ("base", "sft", "dpo", "grpo")  # what every comparison contains, in order of training
BESIDE = ("cai", "prm", "multi")  # made by weeks 9 to 11, on branches of their own
STAGES = (*CHAIN, *BESIDE)  # the chain, then the others
PATIENCE_S = 60.0  # for a lock that is held for a moment: to copy a stage, or store an evaluation
# Training can change the objects it calls, such as a list that a reward appends to. Within this
# process, a run whose code differs from the stored one only by such a change is the same run.
_LEFT_BEHIND: dict[Path, dict[str, Any]] = {}


class MissingStage(RuntimeError):
    """A stage that is needed, such as the parent of another one, has not been trained yet."""


class DamagedStage(RuntimeError):
    """The saved weights of a stage are not those that its manifest describes."""


@dataclass(frozen=True)
class Run:
    """One stage of one profile and seed: its folder, and how to train, reuse and evaluate it."""

    profile_name: str
    seed: int
    stage: str
    parent: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.stage):
            raise ValueError(
                f"stage is {self.stage!r}; expected a name of a-z, 0-9, - and _, such as 'sft'"
            )

    @property
    def folder(self) -> Path:
        return run_root() / self.profile_name / f"seed-{self.seed}" / self.stage

    @property
    def checkpoints(self) -> Path:
        """The trainer's `output_dir`."""
        return self.folder / "checkpoints"

    @property
    def model_dir(self) -> Path:
        """The final weights, for `from_pretrained`."""
        return self.folder / "model"

    @property
    def manifest(self) -> dict[str, Any] | None:
        """What made the run and what it took; None if nothing was started, or it is damaged."""
        return storage.manifest(self.folder)

    @property
    def complete(self) -> bool:
        return (self.manifest or {}).get("status") == "complete"

    @property
    def log(self) -> list[dict[str, Any]]:
        """The trainer's log history of a complete run.

        Raises:
            DamagedStage: if its file is missing or damaged; the message says what to do.
        """
        log = training.read_log(self.folder / "trainer_state.json")
        if log is None:
            raise self._damage(["trainer_state.json"])
        return log

    @property
    def shown(self) -> str:
        """The folder as messages show it, without this machine's own path."""
        return f"runs/{self.profile_name}/seed-{self.seed}/{self.stage}"

    def train(self, trainer: Any) -> list[dict[str, Any]]:
        """Load the finished run, resume it, or train from the start, as the run's key allows.

        Args:
            trainer: any Hugging Face or TRL trainer with `output_dir=run.checkpoints`. Its
                callbacks are part of the key, except one whose class says `watches_only = True`:
                it logs or stops, and doesn't change what is trained.
        Returns:
            the log history, as in `trainer.state.log_history`.
        Raises:
            ValueError: if the trainer writes elsewhere, or what it trains is frozen.
            NaNLoss: if loss, gradient or weights stop being finite; the last checkpoint is kept.
            DiskFull: if a save fails for lack of space; what was saved before is intact.
            StageBusy: if another process is working on the same stage.
            ReadOnlyFolder: if there is something to train and the folder can't be written to.
            FileExistsError: if something stands in the way of what is saved at the end, such as a
                symbolic link in the place of model/; like a lack of space, it is found first.
            RuntimeError: if the launched processes don't form one group, or would train on
                different data or settings.
        """
        if Path(trainer.args.output_dir).resolve() != self.checkpoints.resolve():
            raise ValueError(
                f"the trainer writes to {Path(trainer.args.output_dir).name!r}; expected "
                f"output_dir=run.checkpoints, so that the run can be resumed"
            )
        weights.check_trainable(trainer.model)
        processes.check_group(trainer.accelerator.num_processes)
        parts = fingerprint.describe(trainer) | {"parent_weights": self._parent_weights()}
        if parts["code"] == _LEFT_BEHIND.get(self.folder, {}).get("after"):
            parts["code"] = _LEFT_BEHIND[self.folder]["before"]
        key = fingerprint.digest(parts)
        with ExitStack() as locks:  # the first process holds the lock for all of them

            def prepare() -> dict[str, Any]:
                locks.enter_context(self._lock(key))
                self._prepare(key, parts)
                if not self.complete:
                    self._check_place(trainer)
                return parts

            different = fingerprint.changes(processes.on_first(prepare), parts)
            if different:
                raise RuntimeError(
                    f"{self.stage}: the processes of this launch disagree on "
                    f"{', '.join(different[:6])}, so they would not train the same model. Use the "
                    f"same seed for these in every process."
                )
            if self.complete:
                weights.load_weights(trainer.model, self.model_dir)
                if trainer.is_world_process_zero():
                    print(f"{self.stage}: loaded from {self.shown}, made the same way; not trained")
                return self.log
            self._fit(trainer, key)
            processes.on_first(lambda: self._finish(trainer, key, parts))
            after = fingerprint.describe_code(trainer)
            _LEFT_BEHIND[self.folder] = {"before": parts["code"], "after": after}
        return list(trainer.state.log_history)

    def save_eval(
        self,
        frame: pd.DataFrame,
        key: str,
        *,
        eval_s: float = 0.0,
        notes: dict[str, Any] | None = None,
        of: str | None = None,
    ) -> None:
        """Store an evaluation: samples.jsonl, and eval.jsonl with one row of means per prompt.

        Args:
            frame: as `evals.evaluate` returns it.
            key: hash of what made it; `load_eval` is given the same.
            eval_s: seconds it took.
            notes: anything else to record in the manifest, such as what the key was computed from.
            of: hash of the weights that were evaluated, as in the manifest; None if unknown.
        Raises:
            StageBusy: if another process is working on the stage, or has replaced what was
                evaluated; nothing is written then.
            DiskFull: if there is no space for it; an earlier evaluation is kept.
        """
        processes.on_first(lambda: self._save_eval(frame, key, eval_s, notes or {}, of))

    def _save_eval(
        self, frame: pd.DataFrame, key: str, eval_s: float, notes: dict[str, Any], of: str | None
    ) -> None:
        needed = 4 * frame.memory_usage(deep=True).sum()
        with self._lock(wait_s=PATIENCE_S), self._disk("the evaluation", needed):
            manifest = self.manifest or {}
            trained = self.stage != "base"  # the base gets its folder by being evaluated
            if trained and (not self.complete or of not in (None, manifest.get("weights_sha256"))):
                raise StageBusy(
                    f"The run in {self.shown} was deleted or replaced while it was evaluated, so "
                    f"this evaluation was not stored. Load the stage and evaluate it again."
                )
            frames.write(frame, self.folder)
            manifest = manifest or self._identity() | {"status": "complete"}
            sha = storage.files_hash([self.folder / "samples.jsonl"])
            manifest["eval"] = {"key": key, "sha256": sha, "columns": list(frame.columns)} | notes
            manifest["eval_s"] = round(eval_s, 3)
            self._write(manifest | machine.spent(manifest))

    def save_curation(self, *, kept: int, dropped: Mapping[str, int]) -> None:
        """Note in the manifest what `curate` dropped of the stage's rows, for the card.

        It may also be what `curate` *would* have dropped, if the stage was trained on all rows: the
        number of rows in the manifest tells which. The key stays as it is, since it covers the rows
        that were trained on.

        Args:
            kept: how many rows stay.
            dropped: {reason: rows}.
        Raises:
            StageBusy: if another process is working on the stage.
            ValueError: if the stage isn't trained.
        """
        note = {"kept": kept, "dropped": dict(dropped)}

        def write() -> None:
            if (self.manifest or {}).get("curation") == note:
                return  # nothing to write, also where the folder is read-only
            with self._lock(wait_s=PATIENCE_S), self._disk("the manifest", 100_000):
                if not self.complete:
                    raise ValueError(f"{self.shown} isn't trained; expected a finished stage")
                self._write((self.manifest or {}) | {"curation": note})

        processes.on_first(write)

    def load_eval(self, key: str | None = None) -> pd.DataFrame | None:
        """The stored evaluation; None if there is none with this `key`, or if it is damaged."""
        stored = (self.manifest or {}).get("eval")
        try:
            if stored is None or (key is not None and stored["key"] != key):
                return None
            file = self.folder / "samples.jsonl"
            if not file.is_file() or storage.files_hash([file]) != stored["sha256"]:
                return None  # damaged, or the process was killed before it wrote the manifest
            return frames.read(self.folder, stored["columns"])
        except (OSError, TypeError, KeyError, ValueError):
            return None

    def _prepare(self, key: str, parts: dict[str, Any]) -> None:
        """Leave the folder either complete or ready for training under `key`."""
        old, hidden = self.manifest, fingerprint.unreadable(parts)
        if old and old.get("key") == key and not hidden:
            damaged = self._damaged() if self.complete else []
            if damaged:
                self._move_aside(f"damaged: {', '.join(damaged[:3])}")
            else:
                return
        elif old and old.get("shipped"):
            storage.remove_folder(self.folder)  # a copy: the original is in the package's data
        elif old and (self.complete or training.last_intact(self.checkpoints)):
            changed = fingerprint.changes(
                {name: old.get(name) for name in fingerprint.PARTS}, parts
            )
            why = f"changed since: {', '.join(changed[:6])}"
            if hidden and not changed:
                why = f"whether it is the same can't be told: {', '.join(hidden[:3])}"
            self._move_aside(why)
        elif old is None and any(self.folder.glob("*/*")):
            self._move_aside("nothing says what made it")
        with self._disk("the manifest", 100_000):
            self._write(self._identity() | {"status": "running", "key": key} | parts)

    def _fit(self, trainer: Any, key: str) -> None:
        if getattr(trainer, "_postlab_trained", None) == key:
            return  # trained in this process; only the saving failed
        with self._disk("a checkpoint", weights.bytes_needed(trainer.model)):
            spent = training.fit(trainer, stage=self.stage, checkpoints=self.checkpoints)
        trainer._postlab_trained, trainer._postlab_spent = key, spent

    def _check_place(self, trainer: Any) -> None:
        """See that what is saved at the end can be, so that no training is in vain."""
        model, checkpoint = weights.least_bytes(trainer.model, trainer.args)
        if getattr(trainer, "_postlab_trained", None) is not None:
            checkpoint = 0  # only the saving failed
        elif training.by_step(self.checkpoints):  # the next one may take the place of an old one
            checkpoint = max(checkpoint - model, 0)
        with self._disk("a trial file", 100_000):
            place.check(self.folder, self.shown)
        place.check_space(
            {self.checkpoints: checkpoint, self.folder: model},
            f"Nothing of {self.stage} was trained",
            advice=lambda: space.advice(self.checkpoints),
        )

    def _finish(self, trainer: Any, key: str, parts: dict[str, Any]) -> None:
        state, manifest = trainer.state, self.manifest
        if manifest is None:  # the folder was deleted under the run, which makes it again
            manifest = self._identity() | {"status": "running", "key": key} | parts
        if manifest.get("key") != key:
            raise StageBusy(
                f"{self.shown} now holds another run, which replaced this one while it trained. It "
                f"was left alone, and the trained model is still in this process: run this again "
                f"to move that run aside and save it."
            )
        if not weights.finite(trainer.model):
            raise training.nan_loss(
                self.stage, state.global_step, "weights not finite", trainer.args, self.checkpoints
            )
        with self._disk("the final model", weights.bytes_needed(trainer.model)):
            with storage.atomic_folder(self.model_dir) as folder:
                weights.save_weights(trainer.model, trainer.processing_class, folder)
            with storage.atomic_file(self.folder / "trainer_state.json") as file:
                state.save_to_json(str(file))
            files = {f"model/{n}": sha for n, sha in storage.folder_hashes(self.model_dir).items()}
            files["trainer_state.json"] = storage.file_hash(self.folder / "trainer_state.json")
            measured = trainer._postlab_spent | {
                "status": "complete",
                "steps": state.global_step,
                "weights_sha256": storage.weights_hash(self.model_dir),
                "files": files,
            }
            self._write(manifest | measured | machine.spent(manifest))

    def _parent_weights(self) -> str | None:
        if self.parent in (None, "base"):  # the base's weights are hashed with the model
            return None
        return storage.weights_hash(find_stage(self.profile_name, self.seed, self.parent))

    def _damaged(self) -> list[str]:
        """The files of a complete run that are missing or changed: weights, tokenizer, log, ..."""
        manifest = self.manifest or {}
        weights_sha = manifest.get("weights_sha256")
        if weights_sha is None or storage.weights_hash(self.model_dir) != weights_sha:
            return ["the weights in model/"]
        files = manifest.get("files", {})
        if not isinstance(files, dict):
            return ["manifest.json"]
        changed = storage.changed_files(self.folder, files)
        log = "trainer_state.json"  # manifests of earlier versions list no files
        if log not in files and training.read_log(self.folder / log) is None:
            changed.append(log)
        return changed

    def _damage(self, files: list[str]) -> DamagedStage:
        return DamagedStage(
            f"{self.shown} is not what its manifest.json describes: {', '.join(files[:3])} cut "
            f"short, changed or missing. Delete {self.shown} and run that stage's notebook again."
        )

    def _identity(self) -> dict[str, Any]:
        names = {"stage": self.stage, "parent": self.parent, "profile": self.profile_name}
        day = datetime.now(UTC).date().isoformat()
        return names | {"seed": self.seed, "date": day} | machine.describe_environment()

    def _move_aside(self, why: str) -> None:
        number, target = 1, self.folder.with_name(f"{self.stage}.previous")
        while target.exists():
            number += 1
            target = self.folder.with_name(f"{self.stage}.previous-{number}")
        storage.rename(self.folder, target)
        print(f"{self.stage}: the run in {self.shown} is now {target.name} ({why})")

    @contextmanager
    def _lock(self, key: str | None = None, *, wait_s: float = 0.0) -> Iterator[None]:
        """Lock the stage and remove what killed processes left of it.

        A read-only folder will do if the stage is complete under `key`.
        """
        busy = f"Another process works on {self.shown}: wait for it, or set another SEED."
        if processes.count() > 1:  # those of one launch reach the same lock together
            wait_s = PATIENCE_S
        with ExitStack() as lock:
            try:
                path = self.folder.with_name(f".{self.stage}.lock")
                lock.enter_context(storage.locked(path, busy, wait_s=wait_s))
                for left in (*storage.sweep(self.folder), *storage.sweep(self.checkpoints)):
                    print(
                        f"{self.stage}: {left.name} in {self.shown} was left by a killed process "
                        f"and can't be removed by this user; delete it yourself"
                    )
            except ReadOnlyFolder:
                manifest = self.manifest or {}
                if not (
                    key and manifest.get("key") == key and self.complete and not self._damaged()
                ):
                    raise
            yield

    def _disk(self, what: str, needed: int) -> Any:
        return storage.disk_guard(
            f"{what} of {self.stage}",
            self.folder,
            needed=needed,
            shown=self.shown,
            advice=lambda: space.advice(self.checkpoints),
        )

    def _write(self, manifest: dict[str, Any]) -> None:
        text = json.dumps(redact(manifest), indent=1, ensure_ascii=False)
        storage.atomic_text(self.folder / "manifest.json", text)


def find_stage(profile_name: str, seed: int, stage: str) -> Path:
    """The folder of a stage's final weights; a shipped stage of tiny is copied into `runs/` first.

    Args:
        profile_name: 'tiny', 'smol', 't4' or 'rented'.
        seed: the seed that the stage was trained with.
        stage: a name such as 'sft'.
    Returns:
        The folder, for `from_pretrained`.
    Raises:
        MissingStage: if it has not been trained; the message names the command that trains it.
        DamagedStage: if a file is not the one that the manifest describes.
    """
    run = Run(profile_name, seed, stage)
    if not run.complete:
        adopt_shipped(run)
    if not run.complete:
        raise missing_stage(run)
    if damaged := run._damaged():
        raise run._damage(damaged)
    return run.model_dir


def missing_stage(run: Run, what: str = "") -> MissingStage:
    """The error for a missing stage or evaluation; it names the command that makes it."""
    place = next(folder for folder in run.folder.absolute().parents if folder.exists())
    advice = "Make it with: "
    if not os.access(place, os.W_OK):
        advice = (
            "That folder is read-only. Set POSTLAB_RUNS to a folder you can write to (copy there "
            "the stages it starts from), then make it with: "
        )
    return MissingStage(
        f"There is no {what}{run.stage} for profile {run.profile_name}, seed {run.seed} yet "
        f"({run.shown}). {advice}"
        f"{stage_command(run.profile_name, run.stage, run.seed)}"
    )


def adopt_shipped(run: Run) -> bool:
    """Copy the stage shipped with tiny into `runs/`, if it has this seed and nothing is there yet.

    A stage outside the main chain is copied only if its parent is the shipped one too. Next to an
    SFT stage that was trained here, it would be the child of a different model.

    Returns:
        Whether it was copied now; nothing can be copied into a read-only folder.
    """
    source = data_dir() / "tiny-stages" / run.stage
    if run.profile_name != "tiny" or run.manifest or not (source / "manifest.json").exists():
        return False
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    if manifest.get("seed") != run.seed:
        return False
    if run.stage not in CHAIN:
        parent = Run(run.profile_name, run.seed, manifest["parent"])
        adopt_shipped(parent)
        if (parent.manifest or {}).get("weights_sha256") != manifest["parent_weights"]:
            return False
    try:
        # Another process that copies it takes a moment; one that trains it has a manifest there.
        with run._lock(wait_s=PATIENCE_S), run._disk("the shipped stage", 20_000_000):
            if run.manifest is None:
                with storage.atomic_folder(run.folder) as folder:
                    shutil.copytree(source, folder, dirs_exist_ok=True)
                    text = json.dumps(manifest | {"shipped": True}, indent=1, ensure_ascii=False)
                    (folder / "manifest.json").write_text(text, encoding="utf-8")
                    (folder / "checkpoints").mkdir()  # a trainer needs it when it starts
    except ReadOnlyFolder:
        return False
    return True
