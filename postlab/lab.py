"""What a notebook opens with: the profile, the seed, the paths, and one small table.

`lab = postlab.start(week=3)` imports neither torch nor transformers, so that the notebook can
import Unsloth before them. Left out: building models and trainers, which the notebooks teach.
"""

from __future__ import annotations

import html
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from postlab import runs, storage
from postlab.install import restart_needed
from postlab.profile import (
    PROFILES,
    STAGE_WEEKS,
    Profile,
    StageConfig,
    check_own,
    describe_machine,
    get_profile,
    gpu,
)
from postlab.progress import in_notebook
from postlab.runs import (
    Run,
    changes,
    digest,
    find_stage,
    join_launch,
    last_run,
    on_first,
    trace_code,
    versions,
)
from postlab.storage import ReadOnlyFolder, StageBusy

if TYPE_CHECKING:
    import pandas as pd

WEEKS = 12
WEEK_STAGES = {int(week): stage for stage, week in STAGE_WEEKS.items()}
EMBEDDED_WEEKS = (1, 2, 4, 8)  # they use the embedded model whatever the profile
BOTH_WEEKS = (9, 10, 11)  # the embedded model, and in their last section the profile's own
PARENT = "parent"  # name of the parent's adapter while `kl` is measured
QUIET = {
    # Unsloth fetches a file from the Hub to count uses: no privacy, and a stall without network.
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


@dataclass
class Lab:
    """A notebook's profile and seed, and the stages trained under them."""

    profile: Profile
    seed: int
    week: int | None = None

    def __repr__(self) -> str:
        return f"Lab(profile={self.profile.name!r}, seed={self.seed}, week={self.week})"

    @cached_property
    def base(self) -> str:
        """The base model for `from_pretrained`: a folder for tiny and smol, else its Hub id."""
        from postlab.models import resolve_base

        return resolve_base(self.profile.base_model)

    @property
    def folder(self) -> Path:
        """The folder that holds the stages of this profile and seed."""
        return runs.run_root() / self.profile.name / f"seed-{self.seed}"

    def run(self, stage: str, parent: str | None = "base") -> Run:
        """The run folder of a stage that starts from `parent`.

        Args:
            stage: a name from the course, such as 'sft', or a name of your own.
            parent: the stage whose weights it starts from; None if it has none.
        Returns:
            The run; `run.train(trainer)` trains it, or loads it if it is already trained.
        Raises:
            MissingStage: if the parent has not been trained; the message names the command for it.
            ReadOnlyFolder: if the stage is not trained yet, and its folder can't be written to.
        """
        if parent not in (None, "base"):
            find_stage(self.profile.name, self.seed, parent)
        run = Run(self.profile.name, self.seed, stage, parent)
        if not run.complete:
            with storage.writing_to(run.checkpoints):  # as a trainer would, with a clear message
                pass
        return run

    def checkpoint(self, stage: str) -> str:
        """A folder or Hub id for `from_pretrained`: "base", or a stage trained here or shipped."""
        if stage == "base":
            return self.base
        folder = find_stage(self.profile.name, self.seed, stage)
        if (folder / "adapter_config.json").exists():
            from postlab.models import loadable_adapter

            folder = loadable_adapter(folder)  # its path to the base may no longer exist
        return str(folder)

    def evaluate(
        self,
        run: Run | str,
        model: Any,
        tokenizer: Any,
        *,
        ref: Any = None,
        caveats: Mapping[str, str] | None = None,
    ) -> pd.DataFrame:
        """Answer and score the profile's held-out prompts, or load the stored evaluation.

        In a launch of several processes, the first one does this and all of them get the result.

        Args:
            run: a complete run, or the name of a stage, which may be "base".
            model: the policy of that stage; for "base", adapters are switched off.
            ref: what `kl` is measured from, as in `evals.evaluate`; by default the stage's parent.
            caveats: {metric, or "" for all: what a reader of its numbers must know and can't see
                from them}, stored with the evaluation for `claims`; None keeps those stored before.
        Returns:
            One row per prompt and sample, as from `evals.evaluate`.
        Raises:
            TypeError, ValueError: if `caveats` isn't a mapping of text, or names no metric.
            ValueError: if the stage is not trained yet.
        """
        _check_caveats(caveats)
        run = Run(self.profile.name, self.seed, run) if isinstance(run, str) else run
        if run.stage != "base" and not run.complete:
            raise ValueError(f"{run.stage} is not trained yet: call run.train(trainer) first")
        return on_first(lambda: self._evaluate(run, model, tokenizer, ref, caveats))

    def _evaluate(
        self, run: Run, model: Any, tokenizer: Any, ref: Any, caveats: Mapping[str, str] | None
    ) -> pd.DataFrame:
        from postlab import evals
        from postlab.evals import score_again

        shipped = runs.adopt_shipped(run)  # used if prompts, weights, versions match
        suite, parent = self.profile.suite, (run.manifest or {}).get("parent")
        key, notes, settings = self._evaluation_key(run, model, tokenizer, ref)
        frame = run.load_eval(key)
        if frame is None and run.stage == "base":
            frame = self._base_of_another_seed(run, key, notes)
        stored = (run.manifest or {}).get("eval") or {}
        stored_s = (run.manifest or {}).get("eval_s", 0.0)
        if noted := stored.get("caveats") if caveats is None else dict(caveats):
            notes["caveats"] = noted
        if frame is not None:
            whence = "the one shipped with postlab" if shipped else run.shown
            print(f"{run.stage}: evaluation loaded from {whence}")
            if stored.get("scorers") == notes["scorers"]:
                if caveats is not None and noted != (stored.get("caveats") or {}):
                    self._save(run, frame, key, notes, eval_s=stored_s)
                return frame
            frame = score_again(frame, suite, n=settings["n"], seed=settings["seed"])
            print(f"{run.stage}: its answers were scored again, since the code that scores changed")
            self._save(run, frame, key, notes, eval_s=stored_s)
            return frame
        changed = changes(stored.get("made_by") or {}, notes["made_by"])
        if stored.get("made_by") and changed:
            print(f"{run.stage}: evaluated again; changed since: {', '.join(changed[:4])}")
        begun = time.perf_counter()
        with self._reference(model, run.stage, parent, ref) as ref:
            frame = evals.evaluate(model, tokenizer, suite, ref=ref, **settings)
        self._save(run, frame, key, notes, eval_s=time.perf_counter() - begun)
        return frame

    def _base_of_another_seed(
        self, run: Run, key: str, notes: dict[str, Any]
    ) -> pd.DataFrame | None:
        """The base has no seed: its evaluation under another one of this profile is copied."""
        for folder in sorted(self.folder.parent.glob("seed-*")):
            seed = folder.name.removeprefix("seed-")
            if not seed.isdecimal() or int(seed) == self.seed:
                continue
            other = Run(self.profile.name, int(seed), "base")
            frame, made = other.load_eval(key), other.manifest or {}
            if frame is not None:  # where the scoring code has changed, `_evaluate` scores again
                scorers = made["eval"].get("scorers")
                self._save(
                    run, frame, key, notes | {"scorers": scorers}, eval_s=made.get("eval_s", 0.0)
                )
                return run.load_eval(key)
        return None

    def _evaluation_key(
        self, run: Run, model: Any, tokenizer: Any, ref: Any
    ) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """A key of what an evaluation's answers depend on, notes that explain it, and settings."""
        from postlab.evals import answer_inputs, scorer_hash

        suite, parent = self.profile.suite, (run.manifest or {}).get("parent")
        # Every seed gets the same prompts, so that seeds can be compared too.
        settings: dict[str, Any] = {"n": self.profile.eval_prompts, "seed": 0}
        settings["samples"] = self.profile.eval_samples
        made_by = {
            "answers": answer_inputs(model, tokenizer, suite, temperature=0.0, **settings),
            "ref": self._ref_identity(model, ref),
            "weights": [self._weights(run.stage), parent and self._weights(parent)],
            # TRL and Unsloth only train: answers come from the policy's `generate` or our engine
            "versions": {n: v for n, v in versions().items() if n not in ("trl", "unsloth")},
        }
        notes = {
            "scorers": scorer_hash(suite, n=settings["n"], seed=settings["seed"]),
            "made_by": made_by,
        }
        return digest(made_by), notes, settings

    def _save(
        self, run: Run, frame: pd.DataFrame, key: str, notes: dict[str, Any], *, eval_s: float
    ) -> None:
        weights, _ = notes["made_by"]["weights"]
        of = None if run.stage == "base" else weights
        try:
            run.save_eval(frame, key, eval_s=eval_s, notes=notes, of=of)
        except (ReadOnlyFolder, StageBusy) as error:  # what took minutes is still of use
            print(f"{run.stage}: evaluated, but the results could not be saved. {error}")

    def _ref_identity(self, model: Any, ref: Any) -> str | None:
        """What the caller measures `kl` from: "base", a hash of the weights, or None by default."""
        if ref is None or ref == "base":
            return ref
        named = (model if isinstance(ref, str) else ref).state_dict()
        if isinstance(ref, str):  # an adapter of the model
            named = {name: value for name, value in named.items() if f".{ref}." in name}
        return trace_code(named).sha256

    def results(self, *needed: str) -> dict[str, pd.DataFrame]:
        """The evaluations of this seed's stages, for a comparison.

        Args:
            needed: the stages, in this order; by default base, sft, dpo and grpo, followed by those
                stages of weeks 9 to 11 that have been evaluated.
        Raises:
            MissingStage: if a stage has no evaluation; the message names the command that makes it.
        """
        frames: dict[str, Any] = {}
        for stage in needed or runs.STAGES:
            run = Run(self.profile.name, self.seed, stage)
            runs.adopt_shipped(run)
            frame = run.load_eval()
            if frame is not None:
                frames[stage] = frame
                self._note_stale(run)
            elif needed or stage in runs.CHAIN:
                raise runs.missing_stage(run, "evaluation of ")
        return frames

    def chain(self, stage: str) -> list[str]:
        """The stages that lead to one that is trained here or shipped, that one included.

        GRPO's chain is base, sft, dpo, grpo, except on `t4`: there GRPO starts from a smaller
        model, its chain is sft-small, grpo, and it isn't compared with the 7B stages.

        Args:
            stage: the last of them, such as 'grpo'.
        Returns:
            Names, in order of training; "base" comes first if the first stage starts from it.
        Raises:
            MissingStage: if the stage, or one before it, has not been trained.
        """
        names: list[str] = []
        current: str | None = stage
        while current not in (None, "base"):
            find_stage(self.profile.name, self.seed, current)
            names.insert(0, current)
            current = (Run(self.profile.name, self.seed, current).manifest or {}).get("parent")
        return names if current is None else ["base", *names]

    def not_here(self, why: str) -> None:
        """Print why a cell does not apply to this profile; the notebook continues."""
        print(f"Skipped under {self.profile.name}: {why}")

    def report(self) -> Path:
        """Write summary.json, stages.png and report.html of this profile; return the report."""
        from postlab.report import write_report

        return on_first(lambda: write_report(self.profile.name))

    def _weights(self, stage: str) -> str | None:
        if stage == "base":
            local = Path(self.base)
            return storage.weights_hash(local) if local.is_dir() else self.base
        run = Run(self.profile.name, self.seed, stage)
        runs.adopt_shipped(run)
        return (run.manifest or {}).get("weights_sha256")

    def _note_stale(self, run: Run) -> None:
        manifest = run.manifest or {}
        parent, then = manifest.get("parent"), manifest.get("parent_weights")
        if parent and then and then != self._weights(parent):
            week = STAGE_WEEKS.get(run.stage)
            print(
                f"Note: {run.stage} was made from another {parent} than the one there now; "
                f"week {week} makes it again."
            )

    @contextmanager
    def _reference(self, model: Any, stage: str, parent: str | None, ref: Any) -> Iterator[Any]:
        """What `kl` is measured from; an adapter that is loaded for this is removed afterwards."""
        adapters = getattr(model, "peft_config", None)
        if stage == "base":
            with model.disable_adapter() if adapters else nullcontext():
                yield ref
        elif ref is not None or not adapters or parent in (None, "base"):
            yield "base" if ref is None and adapters and parent == "base" else ref
        else:
            training = model.training
            model.load_adapter(self.checkpoint(parent), adapter_name=PARENT, is_trainable=False)
            try:
                yield PARENT
            finally:
                model.delete_adapter(PARENT)
                model.train(training)


def start(
    *, week: int | None = None, profile: str | Path | Profile | None = None, seed: int = 0
) -> Lab:
    """Open a notebook: choose the profile and seed, and show one small table.

    This sets UNSLOTH_DISABLE_STATISTICS=1 (Unsloth would fetch a file from the Hub to count uses)
    and switches off the other libraries' telemetry and chatter, without overriding variables that
    are already set. Under torchrun or accelerate it joins the launch (`postlab.runs.join_launch`).

    Args:
        week: the notebook's week, from 1 to 12, for the table; None for a notebook of your own.
        profile: tiny, smol, t4 or rented, a YAML file of your own (`postlab.profile.read_profile`),
            or a `Profile`; by default $POSTLAB_PROFILE, or what suits the machine.
        seed: for data and training; $POSTLAB_SEED overrides it.
    Returns:
        The lab: `lab.profile`, `lab.run("sft")`, `lab.evaluate(...)`, `lab.results()`.
    Raises:
        TypeError: if the week is not a whole number, or a setting of your profile of a wrong type.
        ValueError: if there is no such week or profile, if your profile or its suite has a fault,
            if $POSTLAB_SEED is not a whole number, or if this is one of several processes that
            could not train together.
    """
    _check_week(week)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    raw_seed = os.environ.get("POSTLAB_SEED") or seed
    try:
        seed = int(raw_seed)
    except ValueError:
        raise ValueError(
            f"POSTLAB_SEED is {raw_seed!r}; expected a whole number, such as 0"
        ) from None
    lab = Lab(_chosen(profile), seed, week)
    join_launch(lab.profile.device, gpu=gpu)
    if lab.profile.device == "cpu":  # these profiles use the CPU even if there is a GPU
        os.environ.setdefault("UNSLOTH_FORCE_CPU", "1")
        # Despite its name this only keeps Unsloth from MLX, on a Mac that has it.
        os.environ.setdefault("UNSLOTH_FORCE_GPU_PATH", "1")
    if lab.profile.base_model in ("", "smol"):  # nothing is downloaded, and loading takes no time
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:  # trainers seed it again before they start
        sys.modules["torch"].manual_seed(seed)
    if "transformers" in sys.modules and "unsloth" not in sys.modules:
        print("Note: transformers was imported before unsloth; restart, and import unsloth first.")
    if note := restart_needed():
        print(note)
    _show(_table(lab))
    return lab


def _chosen(profile: str | Path | Profile | None) -> Profile:
    """The profile, and if it is one of your own, with its faults found before anything is loaded.

    One of postlab's own in other settings is refused: its runs would be mixed with the real one's.
    """
    if not isinstance(profile, Profile):
        profile = get_profile(profile)
    elif profile.name not in PROFILES or profile != get_profile(profile.name):
        check_own(profile, "profile, ")
    if profile.name not in PROFILES:
        from postlab.evals import SUITES, suite_rows

        names = profile.suite.split("+") if isinstance(profile.suite, str) else ["a file, or rows"]
        if not set(names) <= set(SUITES):  # ours are read when they are asked
            suite_rows(profile.suite, profile.eval_prompts, 0)
    return profile


def _check_week(week: Any) -> None:
    if week is None:
        return
    expected = f"expected a whole number from 1 to {WEEKS}, such as postlab.start(week=5)"
    if isinstance(week, bool) or not isinstance(week, Integral):
        raise TypeError(f"week is {week!r}, a {type(week).__name__}; {expected}")
    if not 1 <= int(week) <= WEEKS:
        raise ValueError(f"week is {week}; {expected}")


def _check_caveats(caveats: Any) -> None:
    """A note on a misspelt metric would reach no reader."""
    if caveats is None:
        return
    from postlab.evals import METRICS

    expected = 'expected {metric, or "" for all: text}, such as {"safety": "labelled by a judge"}'
    if not isinstance(caveats, Mapping):
        raise TypeError(f"caveats is {caveats!r:.80}, a {type(caveats).__name__}; {expected}")
    for metric, text in caveats.items():
        if metric not in ("", *METRICS):
            raise ValueError(f"caveats names {metric!r}; {expected}; metrics: {', '.join(METRICS)}")
        if not isinstance(text, str) or not text.strip():
            raise TypeError(f"caveats[{metric!r}] is {text!r:.80}; {expected}")


def _table(lab: Lab) -> dict[str, str]:
    profile = lab.profile
    stage = getattr(profile, WEEK_STAGES.get(lab.week or 0, ""), None)
    machine = describe_machine()
    device = f"{machine['cpus']} CPU cores, {machine['ram_gib']} GiB"
    if machine["gpu"]:
        device = f"{machine['gpu']}, {machine['gpu_gib']} GiB; {device}"
    base = {"": "tinyworld base (embedded)", "smol": "SmolLM2-135M-Instruct"}
    # week 10 goes on from GRPO's model, which a T4 keeps apart from the others
    begins = profile.grpo if lab.week == 10 else stage
    model = getattr(begins, "base_model", None) or profile.base_model
    table = {
        "profile": f"{profile.name}, seed {lab.seed}",
        "device": device,
        "model": base.get(model, model) + (", 4-bit" if profile.load_in_4bit else ""),
    }
    if lab.week in EMBEDDED_WEEKS and profile.name != "tiny":
        table["model"] = f"{base['']}: this notebook uses it in every profile"
        if lab.week == 8:
            table["model"] += "; section 7 reads your own profile's runs"
    if lab.week in BOTH_WEEKS and profile.base_model:
        table["model"] = f"{base['']}; in the last section {table['model']}"
    if stage is not None:
        rows = "all rows" if stage.rows is None else f"{stage.rows:,} rows"
        # a file of your own is known by its name
        source = Path(stage.source).name if Path(stage.source).is_absolute() else stage.source
        table["data"] = f"{source}, {rows}"
        if stage.minutes:
            table["time"] = _minutes(profile, stage)
    return table | {"verified": last_run(profile.name, f"week{lab.week or 0:02d}")}


def _minutes(profile: Profile, stage: StageConfig) -> str:
    """What training and evaluating a stage takes, with what its notebook trains before it."""
    stages = [stage] + ([stage.warm_start] if stage.warm_start else [])
    training = sum(one.minutes for one in stages)
    evaluation = sum(one.eval_minutes for one in stages)
    text = f"about {training:g} min of training and {evaluation:g} of evaluation on such a device"
    # The other profiles' minutes come from recorded runs.
    return text if profile.device == "cpu" else f"{text} (estimate)"


def _show(table: dict[str, str]) -> None:
    width = max(len(name) for name in table)
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in table.items())
    if not in_notebook():
        print(text)
        return
    from IPython.display import display

    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in table.items()
    )
    display({"text/html": f"<table>{cells}</table>", "text/plain": text}, raw=True)
