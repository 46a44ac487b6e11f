"""What the recorded experiments share: stored arms, training, the reading of logs, and the record.

An experiment is a table of arms, a function that trains and measures one arm with one seed, and a
`main` that runs them all and writes data/results/weekNN/*.json:

    options = command_line(__doc__)
    arms = Arms(__file__, limit=options.runs)
    runs = arms.run_all(ARMS, SEEDS, run, key=key_of)
    write_record(__file__, TARGET, {"arms": ARMS, "runs": runs}, seeds=SEEDS)

Every finished arm is stored in a file of its own under the run folder, so an interrupted experiment
continues where it stopped. `Arms` can also keep the runs of an earlier record, so more seeds can be
added later, perhaps on another machine. Nothing here imports torch or a trainer before it is
needed, because Unsloth has to be imported first. Left out: the arms, the rewards and what is
measured, which are the experiments themselves.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from postlab.course import finished, listed, provenance, write_result
from postlab.lab import QUIET, Lab
from postlab.profile import get_profile
from postlab.runs import describe_environment, digest, package_source, run_root

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
PACKAGES = ("torch", "transformers", "trl", "peft")
# The functions below that shape a result: a change in them makes stored results stale.
SHAPING = ("frozen", "policy", "train", "calling", "log_series", "heldout_prompts", "metric_series")
SHAPING_IF_USED = ("sampled_sums",)  # only the results of experiments that use them
CODE_AT_START: dict[tuple[str, ...], str] = {}  # modules -> hash of their code when a run began
COLUMNS = {"sft": ["prompt", "completion"], "dpo": ["prompt", "chosen", "rejected"]}


# --- the command line -----------------------------------------------------------------------------


def command_line(doc: str | None, *, runs: bool = True, **options: Any) -> argparse.Namespace:
    """The options of an experiment's command. This also quiets the training libraries.

    Args:
        doc: the experiment's docstring, whose first line is the help text.
        runs: whether to add an option `--runs`, which limits `Arms`.
        options: further options by name, with the arguments of `add_argument`.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if runs:
        parser.add_argument("--runs", type=int, help="train at most this many new arms")
    for name, how in options.items():
        parser.add_argument(f"--{name}", **how)
    return parser.parse_args()


def in_own_process(script: str, *arguments: str, **environment: str) -> Any:
    """Run an experiment in a fresh process, and return the JSON that it prints in its last line."""
    command = [sys.executable, str(Path(script).resolve()), *arguments]
    env = QUIET | dict(os.environ) | environment
    process = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{process.stderr[-3000:]}")
    return json.loads(process.stdout.splitlines()[-1])


# --- arms and their stored results ----------------------------------------------------------------


def arm_key(settings: Mapping[str, Any], *code_modules: str, own: str) -> str:
    """A hash of what an arm's result depends on; a change in any of it makes a stored result stale.

    Args:
        settings: all that configures the arm: its arguments, the constants that the experiment's
            functions use, and the hash of the weights it starts from.
        code_modules: modules of postlab whose code shapes the result, such as "evals".
        own: the experiment's `__file__`. All its functions and classes count except `main`;
            comments and docstrings don't. The functions of this module in `SHAPING` count too, and
            those in `SHAPING_IF_USED` if the experiment uses them.
    """
    package = CODE_AT_START.get(code_modules) or package_source(*code_modules)
    CODE_AT_START[code_modules] = package
    own_code, shared = functions_of(own), functions_of(__file__)
    words = set(re.findall(r"\w+", " ".join(own_code.values())))
    kept = [
        code
        for name, code in shared.items()
        if name in SHAPING or (name in SHAPING_IF_USED and name in words)
    ]
    parts = {"settings": settings, "own": own_code, "shared": kept, "package": package}
    return digest(parts)[:12]


@cache
def functions_of(file: str) -> dict[str, str]:
    """A script's functions and classes except `main`, without comments and docstrings, by name.

    The file is read once: if it is edited during a run, the arms of that run keep their keys.
    """
    kinds = ast.FunctionDef | ast.ClassDef
    nodes = ast.parse(Path(file).read_text(encoding="utf-8")).body
    definitions = [node for node in nodes if isinstance(node, kinds) and node.name != "main"]
    for definition in definitions:
        for node in ast.walk(definition):
            if isinstance(node, kinds) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return {definition.name: ast.unparse(definition) for definition in definitions}


class Arms:
    """The stored results of an experiment, one file per arm and seed, and the runs of its record.

    Runs that the record has are kept, because another processor gives slightly different numbers:
    if they were made again, a record with more seeds would change the old ones, too.

    Args:
        script: the experiment's `__file__`; the folder in the run folder is named after it.
        limit: train at most this many new arms, then stop; None means no limit.
        record: the record whose runs are kept, if the file exists.
        settings: the entries of the record on which all of its runs depend, as they are today.
    Raises:
        SystemExit: if the record has other settings, or doesn't say which.
    """

    def __init__(
        self,
        script: str,
        *,
        limit: int | None = None,
        record: Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.record: dict[str, Any] = {}
        if record is not None and record.exists():
            self.record = json.loads(record.read_text(encoding="utf-8"))
            _refuse_others(record.name, self.record, settings or {})
        self.folder = run_root() / Path(script).stem.replace("_", "-")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.limit, self.begun = limit, time.perf_counter()

    def result(self, name: str, key: str, run: Callable[[], Any]) -> Any:
        """The stored result with this name and key; if there is none, `run` computes it."""
        part = self.folder / f"{key}-{file_name(name)}.json"
        if self.limit is not None and not part.exists():
            if self.limit == 0:
                sys.exit("There are more arms to train: run the same command again.")
            self.limit -= 1
        return finished(part, run, begun=self.begun)

    def run_all(
        self,
        arms: Iterable[str],
        seeds: Sequence[int],
        run: Callable[[str, int], Mapping[str, Any]],
        *,
        key: Callable[[str], str],
    ) -> list[dict[str, Any]]:
        """The results of every arm with every seed, starting with all arms of the first seed.

        Args:
            run: trains and measures one arm with one seed.
            key: an arm's `arm_key`.
        """
        return [
            self.result(f"{arm} {seed}", key(arm), partial(run, arm, seed))
            for seed in seeds
            for arm in arms
        ]

    def kept(self, part: str, which: Mapping[str, Any], **settings: Any) -> dict[str, Any] | None:
        """A run that the record has; None if it doesn't have it.

        Args:
            part: the record's list that the run is in, such as "runs".
            which: the entries that tell the run from the others, such as its arm and seed.
            settings: further entries that it must have, such as its learning rate.
        Raises:
            SystemExit: if the record has this run with other settings.
        """
        for run in self.record.get(part, []):
            if _same(run, which):
                _refuse_others(f"{part}: {dict(which)}", run, settings)
                return run
        return None

    def with_kept(
        self, part: str, runs: Sequence[Mapping[str, Any]], *names: str
    ) -> list[Mapping[str, Any]]:
        """Some runs, and after them those of the record's list that aren't among them.

        Args:
            part: the record's list.
            names: the entries that tell its runs from each other.
        """
        done = {tuple(run[name] for name in names) for run in runs}
        others = self.record.get(part, [])
        return [*runs, *(run for run in others if tuple(run[n] for n in names) not in done)]

    def history(self) -> dict[str, list[dict[str, Any]]]:
        """{"earlier": where the kept runs come from}, to be added to the new record.

        Each entry is the provenance of an earlier record, the oldest first: its seeds, commit and
        versions say when which runs were made.
        """
        if not self.record:
            return {}
        return {"earlier": [*self.record.get("earlier", []), self.record["provenance"]]}


def _same(entries: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(name in entries and entries[name] == value for name, value in values.items())


def _refuse_others(what: str, entries: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Exit if some of the settings, compared as JSON, aren't among the entries."""
    today = json.loads(json.dumps(settings))
    others = [name for name, value in today.items() if not _same(entries, {name: value})]
    if others:
        sys.exit(
            f"{what} can't be kept: it doesn't have today's {', '.join(others)}. "
            "Undo the change, or move the record away to make all of its runs again."
        )


def file_name(name: str) -> str:
    """An arm's name with dashes in place of characters that a file name should not contain.

    >>> file_name("noise 40%, robust 0"), file_name("beta 0.05 1")
    ('noise-40-robust-0', 'beta-0.05-1')
    """
    return re.sub(r"[^\w.+]+", "-", name)


# --- policies and training ------------------------------------------------------------------------


def shipped(stage: str) -> str:
    """The folder of a stage of the tiny profile, seed 0, as shipped with postlab."""
    return Lab(get_profile("tiny"), 0).checkpoint(stage)


def frozen(folder: str | Path) -> tuple[Any, Any]:
    """The policy in an adapter's folder, frozen and in float32, and its tokenizer."""
    from postlab.models import load_policy

    return load_policy(str(folder), profile="tiny", bits=32)


def policy(folder: str | Path) -> tuple[Any, Any]:
    """The policy in an adapter's folder, in float32 with a trainable adapter, and its tokenizer."""
    from postlab.models import trainable

    model, tokenizer = frozen(folder)
    return trainable(model), tokenizer


def adapter_hash(stage: str) -> str:
    """SHA-256 of the weights of a shipped stage that arms start from."""
    return hashlib.sha256(
        (Path(shipped(stage)) / "adapter_model.safetensors").read_bytes()
    ).hexdigest()


@dataclass(frozen=True)
class Trained:
    """A trained policy, the trainer's log history, and the seconds that training took."""

    model: Any
    log: list[dict[str, Any]]
    seconds: float


def train(
    method: str,
    model: Any,
    tokenizer: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    seed: int,
    arguments: Mapping[str, Any],
    packed: bool = False,
    after_step: Callable[[Any, int], None] | None = None,
    **more: Any,
) -> Trained:
    """Train a policy with TRL's trainer in a scratch folder that is removed afterwards.

    Args:
        method: "sft", "dpo" or "grpo".
        rows: for SFT and DPO only the columns that the trainer needs are passed on.
        arguments: those of the trainer's configuration, without `output_dir` and `seed`.
        packed: skip the padding of a batch (`postlab.runs.without_padding`).
        after_step: called after every step with the trainer and the number of the step.
        more: further arguments of the trainer, such as `reward_funcs`.
    """
    import trl
    from datasets import Dataset

    from postlab.runs import without_padding

    rows = [{name: row[name] for name in COLUMNS.get(method, row)} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        config = getattr(trl, f"{method.upper()}Config")
        trainer = getattr(trl, f"{method.upper()}Trainer")(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows),
            args=config(output_dir=folder, seed=seed, **arguments),
            **more,
        )
        if after_step is not None:
            trainer.add_callback(calling(after_step, trainer))
        begun = time.perf_counter()
        with without_padding(trainer.model) if packed else nullcontext():
            trainer.train()
        seconds = time.perf_counter() - begun
    return Trained(trainer.model, trainer.state.log_history, seconds)


def calling(after_step: Callable[[Any, int], None], trainer: Any) -> Any:
    """A callback of the trainer that calls a function after every step."""
    from transformers import TrainerCallback

    class AfterStep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            after_step(trainer, state.global_step)

    return AfterStep()


# --- reading logs and evaluations -----------------------------------------------------------------


def log_series(
    log: Sequence[Mapping[str, Any]], names: Iterable[str] | Mapping[str, str]
) -> dict[str, list]:
    """The series of a GRPO trainer's log, each as a list of rounded numbers.

    Args:
        log: the trainer's log history.
        names: the trainer's names of the series to keep, or {name in the record: trainer's name}.
    Returns:
        {name: one number per logged step}, with None if a batch has no value. The KL divergence is
        left out if the trainer did not log it, which is the case with a beta of 0.

    >>> log_series([{"reward": 0.5, "step": 1}, {"train_loss": 0.1}], ["reward", "kl"])
    {'reward': [0.5]}
    """
    keys = names if isinstance(names, Mapping) else {name: name for name in names}
    entries = [entry for entry in log if "reward" in entry]
    return {
        name: listed(math.nan if entry[key] is None else entry[key] for entry in entries)
        for name, key in keys.items()
        if key != "kl" or key in entries[0]
    }


def heldout_prompts(count: int, families: Iterable[str]) -> list[dict[str, Any]]:
    """The held-out prompts of some families, `count` of each and the same in every run."""
    from postlab.tinyworld.tasks import heldout_suite

    kept = set(families)
    return [row for row in heldout_suite(n=count) if row["family"] in kept]


def sampled_sums(
    model: Any, tokenizer: Any, settings: Mapping[str, Any], *, tuning: bool
) -> list[float | None]:
    """The share of right answers to each held-out sum, sampled at temperature 1.

    Args:
        settings: "heldout_sums", the number of sums that a comparison uses; "tuning_sums", the
            number of those after them; and "samples", the answers to each.
        tuning: take the sums that the comparison doesn't use.
    """
    from postlab.evals import evaluate

    count = settings["heldout_sums"]
    sums = heldout_prompts(count + settings["tuning_sums"], ["arithmetic"])
    sums = sums[count:] if tuning else sums[:count]
    frame = evaluate(model.eval(), tokenizer, sums, temperature=1.0, samples=settings["samples"])
    return listed(frame.groupby("id", sort=False)["arithmetic"].mean())


def metric_series(frame: Any, metrics: Iterable[str]) -> dict[str, list]:
    """Each metric's value for every held-out prompt that it applies to, rounded.

    Args:
        frame: what `postlab.evals.evaluate` returns.
    """
    return {name: listed(frame[name].dropna().astype(float)) for name in metrics if name in frame}


# --- the record -----------------------------------------------------------------------------------


def command_of(script: str) -> str:
    """The command that runs an experiment, as its record names it."""
    return f"python {Path(script).resolve().relative_to(ROOT).as_posix()}"


def minutes(seconds: Iterable[float]) -> float:
    """The sum of seconds, in minutes, to one decimal."""
    return round(sum(seconds) / 60, 1)


def machine_provenance(script: str, *, seeds: Sequence[int]) -> dict[str, Any]:
    """Command, date and seeds, with the full description of the machine."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    return {
        "command": command_of(script),
        "date": today,
        "seeds": list(seeds),
        **describe_environment(),
    }


def write_record(
    script: str,
    target: Path,
    record: Mapping[str, Any],
    *,
    seeds: Sequence[int],
    packages: Sequence[str] = PACKAGES,
    **measured: Any,
) -> None:
    """Write an experiment's record, with its provenance first.

    Args:
        script: the experiment's `__file__`.
        record: what was run and measured.
        packages: those whose versions are recorded.
        measured: further entries of the provenance, such as `training_minutes`.
    """
    origin = provenance(command_of(script), seeds=seeds, packages=packages) | measured
    write_result(target, {"provenance": origin, **record})
    print(f"{target.relative_to(ROOT)} written", file=sys.stderr)
