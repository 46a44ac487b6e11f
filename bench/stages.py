"""Is a training step slower our way than in a plain TRL script? Ratios of seconds a step.

    python bench/stages.py --pairs 5 --steps 20

`ours` is what the notebooks do: Unsloth loads and adapts the model, TRL trains, `Run.train` keeps
the run folder. `plain` is transformers, PEFT and the same TRL trainer, without Unsloth and run
folder. Both get the same model, rows, config and seed, and fresh adapters on the base. Unsloth
patches a whole process, so each measurement is a process of its own; pairs alternate in order (ours
first, then plain first), which cancels slow drift of the machine. A pair's ratio is its mean
seconds a step, ours over plain; the interval is Student's t on the log ratios of the pairs.

Measured is the time from one step's end to the next: data, forward, backward, update, logging and
checkpoints as configured. In GRPO every completion has the full length (the end of turn is
suppressed until then), so that both sample and train the same number of tokens.
The machine should be otherwise idle: one starved step shows in the interval of the whole stage.
Left out: imports, loading, saving the final model, memory, and speed on a GPU unless run on one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("ours", "plain")
COLUMNS = {
    "sft": ["prompt", "completion"],
    "dpo": ["prompt", "chosen", "rejected"],
    "grpo": ["prompt", "answer"],
}
WARM_UP = 2  # steps before the measured ones: allocator, caches, first batches
SLOWER = 1.05  # a ratio's whole interval above this means that we are slower
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "unsloth", "unsloth_zoo")


@dataclass(frozen=True)
class Ratio:
    """Ours over plain, of seconds a step: geometric mean over pairs and its 95% interval."""

    ratio: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """`slower` only if the whole interval lies above SLOWER, `faster` if it lies below 1."""
        return "slower" if self.low > SLOWER else "faster" if self.high < 1 else "not shown slower"


def paired_ratio(
    ours: Sequence[float], plain: Sequence[float], *, confidence: float = 0.95
) -> Ratio:
    """The mean ratio of paired times, by Student's t on their logarithms.

    Args:
        ours: seconds a step, a number a pair.
        plain: the same pairs, the other side.
    Raises:
        ValueError: if there are fewer than two pairs or a time is not positive.

    >>> r = paired_ratio([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    >>> round(r.ratio, 6), round(r.low, 4), round(r.high, 4)
    (2.0, 0.3575, 11.189)
    """
    from scipy.stats import t

    if len(ours) != len(plain) or len(ours) < 2:
        raise ValueError(f"{len(ours)} and {len(plain)} times; expected two pairs or more")
    if min(*ours, *plain) <= 0:
        raise ValueError(f"a time of {min(*ours, *plain)} s; expected positive seconds a step")
    logs = [math.log(a / b) for a, b in zip(ours, plain, strict=True)]
    n, mean = len(logs), math.fsum(logs) / len(logs)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / (n - 1) / n)
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * spread
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


# One measurement, in a process of its own.


def child(side: str, stage: str, *, model: str, rows: str, steps: int, seed: int) -> dict[str, Any]:
    """Train WARM_UP + steps steps one way; returns seconds a step, tokens, parameters, loss."""
    if side == "ours":
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        import unsloth  # noqa: F401  (before trl, transformers and peft)
    from postlab.profile import get_profile

    profile = get_profile("tiny")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POSTLAB_RUNS"] = folder
        run = None
        if side == "ours":
            from postlab.runs import Run

            run = Run(profile.name, seed, stage)
        policy, tokenizer = (_unsloth_policy if side == "ours" else _plain_policy)(
            profile, _base(model), seed
        )
        output = run.checkpoints if run else Path(folder) / "plain"
        trainer = _trainer(stage, profile, policy, tokenizer, rows, WARM_UP + steps, seed, output)
        seconds = _timed(trainer, run)
        counted = [
            entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry
        ]
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert side == "ours" or "unsloth" not in sys.modules, (
        "plain TRL must not see Unsloth's patches"
    )
    return {
        "seconds": seconds[WARM_UP:],
        "tokens": counted[-1] if counted else None,
        "trained": sum(p.numel() for p in policy.parameters() if p.requires_grad),
        "loss": losses[0] if losses else None,
    }


def _base(model: str) -> str:
    if model:
        return model
    from postlab.models import tiny_base

    return str(tiny_base())


def _unsloth_policy(profile: Any, base: str, seed: int) -> tuple[Any, Any]:
    from unsloth import FastLanguageModel

    policy, tokenizer = FastLanguageModel.from_pretrained(
        base,
        max_seq_length=profile.max_length,
        dtype=_dtype(profile),
        load_in_4bit=profile.load_in_4bit,
    )
    policy = FastLanguageModel.get_peft_model(policy, **profile.lora, random_state=seed)
    return policy, tokenizer


def _plain_policy(profile: Any, base: str, seed: int) -> tuple[Any, Any]:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    policy = AutoModelForCausalLM.from_pretrained(base, dtype=_dtype(profile))
    # The one argument that is Unsloth's; TRL's config turns checkpointing on or off here.
    lora = {k: v for k, v in profile.lora.items() if k != "use_gradient_checkpointing"}
    policy = get_peft_model(policy, LoraConfig(**lora, task_type="CAUSAL_LM"))
    return policy, AutoTokenizer.from_pretrained(base)


def _dtype(profile: Any) -> Any:
    import torch

    return getattr(torch, profile.dtype) if profile.dtype else None


def _trainer(
    stage: str,
    profile: Any,
    policy: Any,
    tokenizer: Any,
    rows: str,
    steps: int,
    seed: int,
    to: Path,
) -> Any:
    import trl
    from datasets import Dataset

    settings = getattr(profile, stage)
    config = dict(settings.trainer) | {"max_steps": steps, "seed": seed, "output_dir": str(to)}
    extra: dict[str, Any] = {}
    if stage == "grpo":
        from postlab.rewards import math_reward

        extra["reward_funcs"] = [math_reward]
        full = {"min_new_tokens": config["max_completion_length"]}
        config["generation_kwargs"] = dict(config.get("generation_kwargs") or {}) | full
    kind = stage.upper()
    return getattr(trl, f"{kind}Trainer")(
        model=policy,
        args=getattr(trl, f"{kind}Config")(**config),
        train_dataset=Dataset.from_list(_rows(stage, settings, rows, seed)).select_columns(
            COLUMNS[stage]
        ),
        processing_class=tokenizer,
        **extra,
    )


def _rows(stage: str, settings: Any, rows: str, seed: int) -> list[dict[str, Any]]:
    """The stage's training rows, or made-up sums of the same shape for a model of your own."""
    if rows == "synthetic":
        return [_made_up(stage, i) for i in range(1024)]
    from postlab import datasets

    loader = {"sft": "instruction_rows", "dpo": "preference_rows", "grpo": "math_rows"}[stage]
    load = getattr(datasets, loader)
    return load(settings.source, split="train", n=settings.rows, seed=seed)


def _made_up(stage: str, i: int) -> dict[str, Any]:
    a, b = 2 + i % 50, 3 + i % 47
    prompt = [{"role": "user", "content": f"What is {a}+{b}?"}]
    good = [{"role": "assistant", "content": f"{a}+{b}={a + b}. #### {a + b}"}]
    bad = [{"role": "assistant", "content": f"#### {a + b + 1}"}]
    return {
        "sft": {"prompt": prompt, "completion": good},
        "dpo": {"prompt": prompt, "chosen": good, "rejected": bad},
        "grpo": {"prompt": prompt, "answer": str(a + b)},
    }[stage]


def _timed(trainer: Any, run: Any) -> list[float]:
    """Train, through the run folder if there is one; seconds from step end to step end."""
    from transformers import TrainerCallback

    stamps: list[float] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

    trainer.add_callback(Clock())
    run.train(trainer) if run else trainer.train()
    return [b - a for a, b in zip(stamps, stamps[1:], strict=False)]


# The comparison.


def measure(args: argparse.Namespace, stage: str, pair: int) -> dict[str, dict[str, Any]]:
    """One pair: both sides in fresh processes, ours first in even pairs."""
    found = {}
    for side in SIDES if pair % 2 == 0 else SIDES[::-1]:
        with tempfile.TemporaryDirectory() as folder:  # Unsloth caches where it stands
            done = subprocess.run(
                child_command(args, side, stage, pair),
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
        if done.returncode:
            raise RuntimeError(f"{stage}, {side}: the child failed\n{done.stderr[-3000:]}")
        found[side] = json.loads(done.stdout.splitlines()[-1])
    for same in ("trained", "tokens"):
        if found["ours"][same] != found["plain"][same]:
            counts = {side: found[side][same] for side in SIDES}
            raise RuntimeError(f"{stage}: the sides did different work, {same} {counts}")
    return found


def child_command(args: argparse.Namespace, side: str, stage: str, seed: int) -> list[str]:
    """The command of one measurement; `parse` reads it back."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", side, "--stage", stage]
    command += ["--steps", str(args.steps), "--seed", str(seed), "--rows", args.rows]
    return command + (["--model", str(Path(args.model).resolve())] if args.model else [])


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `--child` is for the processes that this file starts itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="pairs of processes a stage")
    parser.add_argument("--steps", type=int, default=20, help=f"steps measured, after {WARM_UP}")
    parser.add_argument("--stage", choices=COLUMNS, help="only this stage")
    parser.add_argument("--model", default="", help="a folder instead of the embedded base")
    parser.add_argument("--rows", choices=("profile", "synthetic"), default="profile")
    parser.add_argument("--out", type=Path, default=ROOT / "data/results/bench/stages.json")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.steps < 1 or args.pairs < 2:
        parser.error(
            "expected --steps of 1 or more and --pairs of 2 or more: an interval needs two"
        )
    if args.child and not args.stage:
        parser.error("--child needs --stage")
    return args


def provenance(argv: Sequence[str]) -> dict[str, Any]:
    """What made these numbers: command, commit, date, device, versions."""
    import torch

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    device = f"{_cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return {
        "command": " ".join(["python", "bench/stages.py", *argv]),
        "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    if args.child:
        with contextlib.redirect_stdout(sys.stderr):  # the last line of stdout is the result
            options = {"model": args.model, "rows": args.rows}
            found = child(args.child, args.stage, steps=args.steps, seed=args.seed, **options)
        print(json.dumps(found))
        return
    result: dict[str, Any] = {"provenance": provenance(argv), "warm_up": WARM_UP, "stages": {}}
    print(f"{'stage':6}{'ours s/step':>13}{'plain s/step':>14}{'ratio':>8}   95% interval  verdict")
    for stage in [args.stage] if args.stage else COLUMNS:
        pairs = [measure(args, stage, pair) for pair in range(args.pairs)]
        mean = {s: [math.fsum(p[s]["seconds"]) / args.steps for p in pairs] for s in SIDES}
        r = paired_ratio(mean["ours"], mean["plain"])
        ours, plain = (math.fsum(mean[s]) / args.pairs for s in SIDES)
        print(
            f"{stage:6}{ours:13.3f}{plain:14.3f}{r.ratio:8.3f}   {r.low:.3f} to {r.high:.3f}"
            f"  {r.verdict}",
            flush=True,
        )
        result["stages"][stage] = asdict(r) | {"verdict": r.verdict, "pairs": pairs}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
