"""A research proposal: read from YAML, checked, and registered before anything runs.

Registration writes the proposal, its SHA-256 and the time into the capstone's folder, and the
evaluations are kept in the same folder, so a prediction can't be written after its results there.
That protects from hindsight, not from fraud: someone who rewrites the whole folder can make a new
hash. If you need more, publish the hash before you train, in a commit or a post.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.evals import METRICS
from postlab.overlay import check_kind, check_names, did_you_mean, laid_over, read_yaml, shown
from postlab.profile import LORA, PROFILES, get_profile, trl_arguments
from postlab.storage import atomic_text, read_json

if TYPE_CHECKING:
    import pandas as pd

DIRECTIONS = ("higher", "lower", "no change")
STAGES = ("sft", "dpo", "grpo")
ANALYSIS = "paired by prompt, seeds as unit, Holm"  # what `judge` does; there is no other
SEEDS = 3  # with fewer, an interval over seeds is too wide to say anything
FILE = "registration.json"
LARGEST = 1_000_000  # bytes of a registration
_NAME = re.compile(r"\w[\w.+ -]{0,39}")


@dataclass(frozen=True)
class Arm:
    """What an arm changes.

    Args:
        trainer: TRL's arguments, laid over the profile's for the stage.
        lora: arguments of the adapter, laid over the profile's.
        data: what the notebook does to the rows, such as {"rows": 160, "label_error": 0.2}.
    """

    trainer: Mapping[str, Any] = field(default_factory=dict)
    lora: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """`metric` of `arm` minus that of `against` will be higher, lower, or not change.

    Args:
        smallest_effect: the smallest difference that would matter, in the metric's unit (0.05 is
            five points of a share); for "no change", the margin.
    """

    metric: str = ""
    arm: str = ""
    against: str = ""
    direction: str = ""
    smallest_effect: float = 0.0
    because: str = ""


@dataclass(frozen=True)
class Proposal:
    """One question, and all that is decided about it before the first run.

    Args:
        why: why the answer matters.
        if_supported, if_refuted: what somebody would do after either answer.
        profile: of postlab, or a YAML file of your own.
        stage: "sft", "dpo" or "grpo", whose settings the arms change.
        shared: what all arms change.
        arms: {name: what it changes}; the baseline may change nothing.
        baseline_because: why the arm compared against is the strongest cheap one.
        chosen_on: where the settings come from; not the prompts that the answer is measured on.
        seeds: three or more; each arm is trained once with each.
        prompts: held-out prompts a family.
        also: further metrics that will be looked at; they count in Holm's correction.
        spread: standard deviation over seeds of the difference, from earlier runs; None if unknown.
        budget_minutes: of all runs together, evaluation included.
        stopping: when a run, or the whole, is stopped early.
    """

    question: str = ""
    why: str = ""
    if_supported: str = ""
    if_refuted: str = ""
    profile: str = ""
    stage: str = ""
    prediction: Prediction = Prediction()
    shared: Arm = Arm()
    arms: Mapping[str, Arm] = field(default_factory=dict)
    baseline_because: str = ""
    chosen_on: str = ""
    seeds: list[int] = field(default_factory=list)
    prompts: int = 0
    also: list[str] = field(default_factory=list)
    spread: float | None = None
    budget_minutes: float = 0.0
    stopping: str = ""
    analysis: str = ""

    def settings(self, arm: str) -> dict[str, Any]:
        """An arm's arguments for TRL, without `output_dir` and `seed`."""
        stage = getattr(get_profile(self.profile), self.stage)
        return {**stage.trainer, **self.shared.trainer, **self.arms[arm].trainer}

    def lora(self, arm: str) -> dict[str, Any]:
        """An arm's arguments for the adapter."""
        profile = get_profile(self.profile)
        return {**profile.lora, **self.shared.lora, **self.arms[arm].lora}

    def data(self, arm: str) -> dict[str, Any]:
        """What an arm does to the rows."""
        return {**self.shared.data, **self.arms[arm].data}

    @property
    def sha256(self) -> str:
        """Of the proposal as JSON with sorted keys."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Registration:
    """A proposal, its hash, and when it was registered (UTC, ISO 8601)."""

    proposal: Proposal
    sha256: str
    time: str


def read_proposal(path: Path | str) -> Proposal:
    """The proposal in a YAML file, each field checked.

    Raises:
        OSError: if there is no such file.
        ValueError, TypeError: names the file and the field, what it holds, and what was expected.
    """
    return _built(read_yaml(Path(path)), f"{path}, ")


def _built(values: Mapping[str, Any], where: str) -> Proposal:
    check_names(values, vars(Proposal()), where)
    parts: dict[str, Any] = dict(values)
    for name in ("prediction", "shared", "arms"):
        check_kind(parts.get(name, {}), frozenset(["dict"]), where + name)
    arms = {}
    for name, changes in parts.pop("arms", {}).items():
        place = f"{where}arms.{name}"
        check_kind(changes, frozenset(["dict"]), place)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(
                f"{place}: the name of an arm is {shown(name)}; expected up to 40 letters, digits,"
                " spaces and '_.+-', as it names a folder"
            )
        arms[name] = laid_over(Arm(), changes, f"{place}.")
    proposal = laid_over(Proposal(arms=arms), parts, where)
    _check(proposal, where)
    return proposal


def _check(proposal: Proposal, where: str) -> None:
    def fault(name: str, value: Any, expected: str) -> ValueError:
        return ValueError(f"{where}{name} is {shown(value)}; expected {expected}")

    predicted, arms = proposal.prediction, proposal.arms
    texts = {f"prediction.{name}": value for name, value in vars(predicted).items()}
    for name, value in {**vars(proposal), **texts}.items():
        if isinstance(value, str) and not value.strip():
            raise ValueError(f"{where}{name} is missing; fill it in before anything runs")
    for name, value, known in (
        ("stage", proposal.stage, STAGES), ("analysis", proposal.analysis, (ANALYSIS,)),
        ("prediction.direction", predicted.direction, DIRECTIONS),
    ):  # fmt: skip
        if value not in known:
            raise fault(name, value, " or ".join(map(repr, known)))
    profile = get_profile(proposal.profile)  # with an error of its own
    if profile.name in PROFILES:  # another suite may have metrics of its own
        for name in (predicted.metric, *proposal.also):
            if name not in METRICS:
                raise fault("metric", name, f"a known one: {did_you_mean(name, METRICS)}")
    counts = {
        "prediction.smallest_effect": predicted.smallest_effect, "prompts": proposal.prompts,
        "budget_minutes": proposal.budget_minutes,
    }  # fmt: skip
    for name, count in counts.items():
        if count <= 0:
            raise fault(name, count, "a number above 0")
    if proposal.spread is not None and proposal.spread < 0:
        raise fault("spread", proposal.spread, "a standard deviation, or null")
    seeds = proposal.seeds
    if len(set(map(str, seeds))) != len(seeds) or any(
        type(seed) is not int or seed < 0 for seed in seeds
    ):
        raise fault("seeds", seeds, "different whole numbers, 0 or more")
    if len(seeds) < SEEDS:
        raise fault("seeds", seeds, f"{SEEDS} or more: one seed says what happened once")
    for name in ("arm", "against"):
        if getattr(predicted, name) not in arms:
            known_arms = did_you_mean(getattr(predicted, name), arms) if arms else "some arms"
            raise fault(f"prediction.{name}", getattr(predicted, name), f"an arm: {known_arms}")
    if len({name.lower() for name in arms}) != len(arms):
        raise fault("arms", list(arms), "names that differ in more than their capitals")
    arguments = trl_arguments(proposal.stage)
    places = {"shared": proposal.shared} | {f"arms.{name}": arm for name, arm in arms.items()}
    for place, arm in places.items():
        check_names(arm.lora, (*profile.lora, *LORA), f"{where}{place}.lora.")
        for name, value in arm.trainer.items():
            if name in ("output_dir", "seed"):
                raise ValueError(f"{where}{place}.trainer.{name} is set by the notebook")
            if arguments:  # empty where TRL isn't installed
                check_names([name], arguments, f"{where}{place}.trainer.")
                check_kind(value, arguments[name], f"{where}{place}.trainer.{name}")
    made = [(proposal.settings(n), proposal.lora(n), proposal.data(n)) for n in arms]
    for index, (name, one) in enumerate(zip(arms, made, strict=True)):
        if one in made[:index]:
            twin = list(arms)[made.index(one)]
            raise ValueError(f"{where}arms.{name} is the same as {twin!r}; expected a change")


def register(proposal: Proposal, to: Path | str) -> Registration:
    """Write down a proposal before its first run; the same one again keeps its first time.

    Args:
        to: the capstone's folder, where `keep` puts the evaluations.
    Raises:
        FileExistsError: if the folder has results, and another proposal or none.
        ValueError: if what is registered there has been tampered with.
    """
    folder, now = Path(to), datetime.now(UTC).isoformat(timespec="seconds")
    known = read_registration(folder) if (folder / FILE).exists() else None
    if known and known.sha256 == proposal.sha256:
        return known
    if results := sorted(path.name for path in folder.rglob("seed-*.jsonl")):
        there = f"the proposal {known.sha256[:12]}" if known else "no registration"
        raise FileExistsError(
            f"{folder} holds {len(results)} evaluations and {there}; a proposal that is written or "
            "changed after its results is a new one: register it in a new folder, with new seeds"
        )
    folder.mkdir(parents=True, exist_ok=True)
    record = {"sha256": proposal.sha256, "registered": now, "proposal": asdict(proposal)}
    atomic_text(folder / FILE, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return Registration(proposal, proposal.sha256, now)


def read_registration(folder: Path | str) -> Registration:
    """What `register` wrote.

    Raises:
        FileNotFoundError: if nothing is registered there.
        ValueError: if the proposal isn't the one that was hashed.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no {FILE}; call register(proposal, to=...) first")
    record = read_json(path, most=LARGEST)
    try:
        proposal = _built(record["proposal"], f"{path}, ")
        sha256, time = str(record["sha256"]), str(record["registered"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} isn't a registration: {error}") from error
    if proposal.sha256 != sha256:
        raise ValueError(
            f"{path}: its proposal has the hash {proposal.sha256[:12]} and was registered as "
            f"{sha256[:12]}; it was changed afterwards. Bring back the registered one"
        )
    return Registration(proposal, sha256, time)


def keep(frame: pd.DataFrame, folder: Path | str, *, arm: str, seed: int) -> Path:
    """Keep the evaluation of one run beside the registration, which has to be there.

    Raises:
        FileNotFoundError, ValueError: as `read_registration`, or if the arm isn't registered.
    """
    arms = read_registration(folder).proposal.arms
    if arm not in arms:
        raise ValueError(f"arm is {arm!r}; {did_you_mean(arm, arms)}")
    path = Path(folder) / arm / f"seed-{seed}.jsonl"
    path.parent.mkdir(exist_ok=True)
    text = frame.to_json(orient="records", lines=True, force_ascii=False, double_precision=15)
    atomic_text(path, text)
    return path


def kept(folder: Path | str) -> dict[str, dict[int, pd.DataFrame]]:
    """The evaluations that `keep` wrote: {arm: {seed: frame}}."""
    import pandas as pd

    frames: dict[str, dict[int, pd.DataFrame]] = {}
    for path in sorted(Path(folder).glob("*/seed-*.jsonl")):
        if not (number := path.stem.removeprefix("seed-")).isdecimal():
            raise ValueError(f"{path} is not an evaluation that `keep` wrote; move it elsewhere")
        seed = int(number)
        lines = path.read_text(encoding="utf-8").split("\n")  # `read_json` would guess at dates
        frames.setdefault(path.parent.name, {})[seed] = pd.DataFrame(
            [json.loads(line) for line in lines if line]
        )
    return frames
