"""Ten minutes on a GPU: what a CPU can't show of this course, checked with one command.

    make gpu-smoke                              on the machine's first NVIDIA GPU
    python tests/gpu/smoke.py --dry-run         the same code on a CPU, with the embedded base
    python tests/gpu/smoke.py --without unsloth as if Unsloth were not installed

Nothing is downloaded: the models have a real 7B's shape (or 1.5B's) and random weights. The profile
that suits the device gives the trainer arguments, cut to five steps. Every section runs in
processes of its own, within a limit of its own; what doesn't fit into ten minutes is reported as
not run. The record goes to data/results/gpu/, and verified.json is stamped if every section ran and
passed. The exit status is 1 if a check failed.

Left out: whether the models learn anything (random weights don't), vLLM, and several GPUs.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from smoke_sections import Setup, child, read_report  # noqa: E402

from postlab.preflight import estimate  # noqa: E402
from postlab.profile import data_dir, describe_machine, get_profile, gpu  # noqa: E402
from postlab.runs import describe_environment, note_run  # noqa: E402
from postlab.storage import atomic_text  # noqa: E402

NAME = "gpu-smoke"
LIMIT = 600.0  # seconds, all together
KEPT = 5.0  # of them, for the record
SEVEN, SMALL = "mistralai/Mistral-7B-v0.3", "Qwen/Qwen2.5-1.5B"
PACKAGES = ("unsloth", "trl", "peft", "bitsandbytes")
ENGINES = {"unsloth": ("unsloth", "trl", "peft", "bitsandbytes"), "trl": ("trl", "peft")}
QUIET = {
    "UNSLOTH_DISABLE_STATISTICS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One line of the report.

    Args:
        parts: processes, one after the other.
        limit: seconds that it may take.
        least: seconds below which it isn't worth starting.
        dies: parts that end by killing themselves.
        why_not: why it can't run with what is installed.
    """

    name: str
    parts: tuple[str, ...]
    limit: float
    least: float
    dies: frozenset[str] = frozenset()
    why_not: str = ""


SECTIONS = (  # the most important first
    Section("weights", ("weights",), 150, 20),
    Section("sft", ("sft",), 200, 60),
    Section("dpo", ("dpo",), 180, 60),
    Section("grpo", ("grpo",), 300, 60),
    Section("resume", ("killed", "resumed"), 240, 90, dies=frozenset({"killed"})),
)


@dataclass
class Outcome:
    """What came of a section: `status` is "passed", "failed" or "not run"."""

    name: str
    status: str
    checks: list[dict[str, Any]]
    measured: dict[str, Any]
    seconds: float
    limit_s: float
    why: str = ""


# Runs a part for at most so many seconds; its exit status, None if it was stopped at the limit.
Start = Callable[[str, float], int | None]


def main() -> None:
    options = read_options()
    started = time.monotonic()
    os.environ |= QUIET
    if options.dry_run:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "UNSLOTH_FORCE_CPU": "1"}
    elif gpu() is None:
        sys.exit(
            "gpu-smoke: nvidia-smi names no NVIDIA GPU, and this check is about one. On a CPU,"
            " `python tests/gpu/smoke.py --dry-run` runs the same code with the embedded base."
        )
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # with several, the trainer would share out
    folder = Path(tempfile.mkdtemp(prefix="postlab-gpu-"))
    try:
        setup = choose(folder, dry=options.dry_run, without=options.without, engine=options.engine)
        setup = replace(setup, changed=dict(options.set))
        for line in (describe(setup), *setup.fallbacks):
            print(line, flush=True)
        outcomes = run_all(
            chosen(setup, options.only), folder, start_with(setup),
            limit=60 * options.minutes, started=started,
        )  # fmt: skip
        record = make_record(setup, outcomes, seconds=time.monotonic() - started)
        path = keep(record, setup, options.record)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{record['verdict']} in {record['seconds']:.0f} s. Record: {path}")
    sys.exit(any(outcome.status == "failed" for outcome in outcomes))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, with the embedded base")
    parser.add_argument("--minutes", type=float, default=LIMIT / 60, help="for all of it")
    parser.add_argument("--only", default="", help="sections, such as sft,dpo")
    parser.add_argument("--without", default="", help="packages not to use, such as unsloth")
    parser.add_argument("--engine", choices=["unsloth", "trl", "loop"], help="default: the best")
    parser.add_argument(
        "--set", action="append", default=[], type=setting, metavar="NAME=VALUE",
        help="a trainer argument, such as per_device_train_batch_size=1",
    )  # fmt: skip
    parser.add_argument("--record", type=Path, help="a folder for the record")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    options.without = {name for name in options.without.split(",") if name}
    for named, known in ((options.only, [s.name for s in SECTIONS]), (options.without, PACKAGES)):
        if wrong := sorted(set(named) - set(known)):
            parser.error(f"unknown: {', '.join(wrong)}; expected some of {', '.join(known)}")
    return options


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value a Python number, string or truth value."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} has no '='; expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


# --- what runs -----------------------------------------------------------------------------------


def choose(
    folder: Path, *, dry: bool, without: Iterable[str] = (), engine: str | None = None
) -> Setup:
    """The profile that suits the device, and the best of what is installed to train with.

    Raises:
        SystemExit: if the profile is one for a CPU.
    """
    installed = {name for name in PACKAGES if importlib.util.find_spec(name)} - set(without)
    best = next((e for e, needs in ENGINES.items() if installed >= {*needs}), "loop")
    # A dry run is about this script: TRL alone loads in half the time, and the same in CI.
    engine = engine or ("trl" if dry and best == "unsloth" else best)
    fallbacks = []
    if engine == "trl" and not dry:
        fallbacks.append("without Unsloth: TRL's own trainers, PEFT and transformers' kernels")
    if engine == "loop":
        fallbacks.append("without TRL and PEFT: a loop with the losses and LoRA of postlab.scratch")
    if "bitsandbytes" not in installed:
        fallbacks.append("no bitsandbytes: weights are not quantized, and AdamW is torch's")
    if dry:
        shapes = dict.fromkeys(("sft", "dpo", "grpo"), "")
        return Setup(folder, "cpu", "tiny", engine, 32, shapes, "cpu", fallbacks=tuple(fallbacks))
    profile = get_profile()
    if profile.device == "cpu":
        sys.exit(
            f"gpu-smoke: the profile is {profile.name}, which leaves a GPU alone; expected t4 or"
            " rented. Unset PROFILE and POSTLAB_PROFILE, or name one of those."
        )
    # Our LoRA wraps plain linear layers, so the loop has no use for packed weights.
    bits = 4 if engine != "loop" and "bitsandbytes" in installed else 16
    if bits == 16:
        fallbacks.append(f"in 16 bits on the shape of {SMALL}, in place of a 7B in 4 bits")
    big = SEVEN if bits == 4 else SMALL
    shapes = {"sft": big, "dpo": big, "grpo": SMALL if profile.grpo.base_model else big}
    return Setup(
        folder, "cuda:0", profile.name, engine, bits, shapes, preflight_name((gpu() or ("", 0))[0]),
        fallbacks=tuple(fallbacks),
    )  # fmt: skip


def preflight_name(device: str) -> str | None:
    """What preflight calls a GPU that nvidia-smi names so; None if it doesn't know it.

    >>> preflight_name("Tesla T4"), preflight_name("NVIDIA A100-SXM4-40GB")
    ('T4', 'A100 40GB')
    """
    words = device.upper().replace("-", " ").split()
    if "LAPTOP" in words:  # another chip under a card's name
        return None
    size = next((w for w in words if re.fullmatch(r"\d+GB", w)), "")
    names = (words[i : i + n] for i in range(len(words)) for n in (3, 2, 1))
    for name in map(" ".join, names):
        for known in (f"{name} {size}", name):
            with suppress(ValueError):
                plan = estimate("sft", model=SMALL, device=known, batch=1, length=8, bits=16)
                return plan.device
    return None


def describe(setup: Setup) -> str:
    where = "a CPU (dry run)" if setup.dry else (gpu() or ("",))[0]
    shapes = sorted({name or "the embedded base" for name in setup.shapes.values()})
    return (
        f"gpu-smoke on {where}: profile {setup.profile}, engine {setup.engine},"
        f" {' and '.join(shapes)} in {setup.bits} bits"
    )


def chosen(setup: Setup, only: Sequence[str]) -> list[Section]:
    """The sections to run: those named, with the weights that they need."""
    picked = [s for s in SECTIONS if not only or s.name in {"weights", *only}]
    if setup.engine == "loop":  # it saves nothing
        why = "only TRL's trainers are resumed"
        picked = [replace(s, why_not=why) if s.name == "resume" else s for s in picked]
    if setup.dry:  # a busy machine may take its time: the one limit is that for all
        picked = [replace(s, least=1.0, limit=LIMIT) for s in picked]
    return picked


def start_with(setup: Setup) -> Start:
    """A function that runs a part in a process of its own and kills it at its limit.

    A GPU's process starts from nothing. A dry run imports the libraries once and forks, which is
    why it takes seconds; a fork must not touch CUDA.
    """
    fork = setup.dry and sys.platform == "linux"
    if fork:
        import_engine(setup)
    context = multiprocessing.get_context("fork" if fork else "spawn")

    def start(part: str, limit: float) -> int | None:
        process = context.Process(target=child, args=(setup, part))
        process.start()
        try:
            process.join(limit)
            late = process.is_alive()
        finally:
            stop(process)
        return None if late else process.exitcode

    return start


def import_engine(setup: Setup) -> None:
    if setup.engine == "unsloth":
        import unsloth  # noqa: F401
    if setup.engine != "loop":
        from trl import DPOTrainer, GRPOTrainer, SFTTrainer  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401


def stop(process: Any) -> None:
    """Kill what is left of a process and of those that it started."""
    with suppress(ProcessLookupError, PermissionError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
    process.kill()
    process.join()


def run_all(
    sections: Sequence[Section],
    folder: Path,
    start: Start,
    *,
    limit: float,
    started: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Run the sections in order until the time is up; each one's end is printed.

    Args:
        started: when the time began to run, on `clock`.
    """
    begun, outcomes = clock() if started is None else started, list[Outcome]()
    missing = ""
    for section in sections:
        left = limit - KEPT - (clock() - begun)
        if section.why_not:
            outcome = not_run(section, section.why_not)
        elif missing:
            outcome = not_run(section, f"its weights were not made: {missing}")
        elif left < section.least:
            why = f"{max(0, left):.0f} s of {limit:.0f} were left, it needs {section.least:.0f}"
            outcome = not_run(section, why)
        else:
            outcome = run_section(section, folder, start, left=left, clock=clock)
            if section.name == "weights" and outcome.status != "passed":
                missing = outcome.why
        outcomes.append(outcome)
        print(summary(outcome), flush=True)
    return outcomes


def not_run(section: Section, why: str) -> Outcome:
    return Outcome(section.name, "not run", [], {}, 0.0, section.limit, why)


def run_section(
    section: Section, folder: Path, start: Start, *, left: float, clock: Callable[[], float]
) -> Outcome:
    """Run a section's parts; the first that fails ends it, and what was checked before is kept."""
    begun, allowed = clock(), min(section.limit, left)
    checks: list[dict[str, Any]] = []
    measured: dict[str, Any] = {}
    cut_short = ""
    for part in section.parts:
        code = start(part, max(0.0, allowed - (clock() - begun)))
        report = read_report(folder / f"{part}.jsonl")
        checks += report["checks"]
        measured |= report["measured"]
        if code is None and allowed < section.limit:
            cut_short = f"stopped after {clock() - begun:.0f} s, as the time for all was up"
        elif code is None:
            checks.append(check("time", False, f"stopped at its limit of {section.limit:.0f} s"))
        elif part in section.dies:
            died = code == -signal.SIGKILL
            checks.append(check("killed", died, f"exit status {code}"))
        elif code and all(one["passed"] is not False for one in report["checks"]):
            checks.append(check("process", False, f"exit status {code}{hint(code)}"))
        if cut_short or any(one["passed"] is False for one in checks):
            tail(folder / f"{part}.log")
            break
    failed = [one["name"] for one in checks if one["passed"] is False]
    status = "failed" if failed else "not run" if cut_short else "passed"
    why = f"failed: {', '.join(failed)}" if failed else cut_short
    return Outcome(section.name, status, checks, measured, clock() - begun, section.limit, why)


def check(name: str, passed: bool | None, evidence: str) -> dict[str, Any]:
    return {"name": name, "passed": passed, "evidence": evidence}


def hint(code: int) -> str:
    killed = code == -signal.SIGKILL
    return ", killed from outside: perhaps the host's memory was full" if killed else ""


def tail(log: Path) -> None:
    """The end of a failed part's output, on stderr."""
    if log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
        print("\n".join(f"    | {line}" for line in lines), file=sys.stderr)


def summary(outcome: Outcome) -> str:
    """A section as text: its status, and a line for each check."""
    words = {True: "pass", False: "FAIL", None: "n/a"}
    lines = [f"\n{outcome.name}: {outcome.status}, {outcome.seconds:.0f} s"]
    lines[0] += f" ({outcome.why})" if outcome.why else ""
    lines += [f"  {words[c['passed']]:<5}{c['name']}: {c['evidence']}" for c in outcome.checks]
    return "\n".join(lines)


# --- the record ----------------------------------------------------------------------------------


def make_record(setup: Setup, outcomes: Sequence[Outcome], *, seconds: float) -> dict[str, Any]:
    """Everything that was found, with the device, versions, date and commit; no host, no paths."""
    environment = describe_environment()
    device = environment["device"]
    name = "dry run" if setup.dry else device["gpu"]
    everything = [s.name for s in SECTIONS] == [o.name for o in outcomes]
    bad = [o.name for o in outcomes if o.status != "passed"]
    verdict = f"{len(outcomes) - len(bad)} of {len(outcomes)} sections passed"
    if bad:
        verdict += f" ({', '.join(f'{o.name} {o.status}' for o in outcomes if o.name in bad)})"
    return {
        "device": {"name": name, **driver(dry=setup.dry), **device},
        "date": datetime.now(UTC).date().isoformat(),
        "commit": environment["commit"],
        "versions": describe_machine()["versions"],
        "profile": setup.profile,
        "engine": setup.engine,
        "bits": setup.bits,
        "shapes": {s: shape or "embedded base" for s, shape in setup.shapes.items()},
        "tokenizer": "the embedded base's",
        "fallbacks": list(setup.fallbacks),
        "changed": dict(setup.changed),
        "passed": everything and not bad,
        "verdict": verdict,
        "seconds": round(seconds, 1),
        "sections": [vars(o) | {"seconds": round(o.seconds, 1)} for o in outcomes],
    }


def driver(*, dry: bool) -> dict[str, str | None]:
    """The driver's version and the compute capability, from nvidia-smi."""
    none: dict[str, str | None] = {"driver": None, "compute_capability": None}
    if dry:
        return none
    query = ["nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        version, capability = answer.stdout.strip().splitlines()[0].split(", ")
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return none
    return {"driver": version, "compute_capability": capability}


def slug(device: str) -> str:
    """A device's name as a file's.

    >>> slug("NVIDIA A100-SXM4-80GB"), slug("Tesla T4")
    ('nvidia-a100-sxm4-80gb', 'tesla-t4')
    """
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") or "unknown"


def keep(
    record: Mapping[str, Any], setup: Setup, folder: Path | None = None, *, data: Path | None = None
) -> str:
    """Write the record, and stamp verified.json if all of it was run on a GPU and passed.

    Args:
        folder: for the record; by default data/results/gpu, or a temporary one in a dry run.
        data: the folder that holds `results`.
    Returns:
        Where the record is.
    """
    data = data or data_dir()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="postlab-dry-run-")) if setup.dry else None
    place = folder or data / "results" / "gpu"
    path = place / f"{slug(record['device']['name'])}.json"
    atomic_text(path, json.dumps(finite(record), indent=1, ensure_ascii=False) + "\n")
    if record["passed"] and not setup.dry and not setup.changed:
        note_run(data, setup.profile, [NAME], date=record["date"], device=describe_machine())
    inside = path.is_relative_to(data)
    return str(path.relative_to(data.parent) if inside else path)


def finite(value: Any) -> Any:
    """The same with NaN and infinity as text, since JSON has neither."""
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
