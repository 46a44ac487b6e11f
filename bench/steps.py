"""What a training step costs our way, through Unsloth, in a plain TRL script, in plain PyTorch.

    python bench/steps.py --rounds 5 --steps 20

The sides are those of bench/sides.py, which does one measurement in a process of its own, since
Unsloth patches a whole process. A round has one of each; their order is turned by one every round,
which cancels slow drift of the machine. A round's ratio is the mean seconds a step over those of
plain TRL; the interval is Student's t on the log ratios of the rounds.

Measured is the time from one step's end to the next: data, sampling, forward, backward, update,
logging and checkpoints as configured. SFT and DPO see the same batches on every side, and the
largest difference between the losses of a step is given; GRPO's answers differ by luck, so its
losses are compared in a further pair, where plain TRL trains on the answers that ours drew.

`floor` is the least that a step's real tokens could take on this machine: their matrix products,
forward, backward through frozen weights, reference and sampling, at the speed of a large product
measured here. Sampling is bound by memory as well; bench/rollouts.py gives its roofline.

The machine should be otherwise idle: one starved step shows in the interval of the whole stage.
`--clock cpu` counts CPU seconds instead, for a machine that others use as well; set
OMP_NUM_THREADS=1 then, because waiting threads would count.

Left out: imports, loading (of the reward's LaTeX parser too), saving the final model, memory, and
speed on a GPU unless run on one.
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from roofline import machine  # noqa: E402
from sides import CLOCKS, COLUMNS, SIDES, WARM_UP, measure  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
OTHERS = tuple(side for side in SIDES if side != "plain")
# Products a token: 2 forward, 2 backward, 2 for a forward pass more (DPO's reference, sampling).
PRODUCTS = {"sft": 4, "dpo": 6, "grpo": 6}
SLOWER = 1.05  # a ratio's whole interval above this means that we are slower
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "unsloth", "unsloth_zoo")


@dataclass(frozen=True)
class Ratio:
    """A side over plain TRL, of seconds a step: geometric mean of the rounds, 95% interval."""

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


def one_round(args: argparse.Namespace, stage: str, number: int) -> dict[str, dict[str, Any]]:
    """A measurement of each side in fresh processes; every round begins with the next side."""
    turn = number % len(SIDES)
    found = {
        side: _child(child_command(args, side, stage, number))
        for side in SIDES[turn:] + SIDES[:turn]
    }
    for same in ("trained",) if stage == "grpo" else ("trained", "tokens"):
        counts = {side: one[same] for side, one in found.items()}
        if len(set(counts.values())) > 1:
            raise RuntimeError(f"{stage}: the sides did different work, {same} {counts}")
    return found


def loss_gaps(args: argparse.Namespace, stage: str, found: dict[str, Any]) -> dict[str, float]:
    """The largest difference between a side's loss of a step and plain TRL's, of the same batches.

    Args:
        found: a round. GRPO's is not asked: two further runs train on the same answers.
    """
    if stage == "grpo":
        with tempfile.TemporaryDirectory() as folder:
            answers = str(Path(folder) / "answers.json")
            ours, plain = (
                _child([*child_command(args, side, stage, 0), how, answers])
                for side, how in (("ours", "--record"), ("plain", "--replay"))
            )
        found = {"ours": ours, "plain": plain}
    return {
        side: max(abs(a - b) for a, b in zip(one["losses"], found["plain"]["losses"], strict=True))
        for side, one in found.items()
        if side != "plain"
    }


def _child(command: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:  # Unsloth caches where it stands
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:6])}: the child failed\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def child_command(args: argparse.Namespace, side: str, stage: str, seed: int) -> list[str]:
    """The command of one measurement; `parse` reads it back."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", side, "--stage", stage]
    command += ["--steps", str(args.steps), "--seed", str(seed), "--rows", args.rows]
    command += ["--clock", args.clock]
    return command + (["--model", str(Path(args.model).resolve())] if args.model else [])


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `--child` is for the processes that this file starts itself."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side")
    parser.add_argument("--steps", type=int, default=20, help=f"steps measured, after {WARM_UP}")
    parser.add_argument("--stage", choices=COLUMNS, help="only this; the others' record is kept")
    parser.add_argument("--model", default="", help="a folder instead of the embedded base")
    parser.add_argument("--rows", choices=("profile", "synthetic"), default="profile")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    parser.add_argument("--out", type=Path, default=ROOT / "data/results/bench/steps.json")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    for hidden in ("--record", "--replay"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.steps < 1 or args.rounds < 2:
        parser.error(
            "expected --steps of 1 or more and --rounds of 2 or more: an interval needs two"
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
    words = list(argv)
    if "--out" in words:  # where the record went doesn't change what is in it
        del words[words.index("--out") : words.index("--out") + 2]
    return {
        "command": " ".join(["python", "bench/steps.py", *words]),
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
            options = {"model": args.model, "rows": args.rows, "steps": args.steps}
            options["clock"] = args.clock
            found = measure(
                args.child, args.stage, seed=args.seed, **options,
                record=args.record, replay=args.replay,
            )  # fmt: skip
        print(json.dumps(found))
        return
    speed = machine()
    print(f"this machine: {speed['gflops']:.0f} GFLOP/s, {speed['gbytes']:.0f} GB/s")
    made = {"provenance": provenance(argv), "machine": speed}
    result: dict[str, Any] = made | {"stages": {}}
    if args.stage and args.out.exists():  # the other stages' record stays, and what made it
        result = json.loads(args.out.read_text())
    for stage in [args.stage] if args.stage else COLUMNS:
        rounds = [one_round(args, stage, number) for number in range(args.rounds)]
        found = summary(args, stage, rounds, speed["gflops"])
        result["stages"][stage] = found | (made if args.stage else {})
        print(table(stage, found), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


def summary(
    args: argparse.Namespace, stage: str, rounds: list[dict[str, Any]], gflops: float
) -> dict[str, Any]:
    """Each side's mean seconds a step and ratio to plain TRL, the gaps of the losses, the floor."""
    each = {s: [math.fsum(r[s]["seconds"]) / args.steps for r in rounds] for s in SIDES}
    ratios = {side: paired_ratio(each[side], each["plain"]) for side in OTHERS}
    plain = [r["plain"] for r in rounds]
    tokens = math.fsum(one["tokens"] / len(one["losses"]) for one in plain) / len(plain)
    return {
        "seconds": {side: math.fsum(times) / len(times) for side, times in each.items()},
        "ratio": {side: asdict(r) | {"verdict": r.verdict} for side, r in ratios.items()},
        "largest_loss_gap": loss_gaps(args, stage, rounds[0]),
        "floor": PRODUCTS[stage] * plain[0]["multiplied"] * tokens / gflops / 1e9,
        "rounds": rounds,
    }


def table(stage: str, found: dict[str, Any]) -> str:
    """The lines that are printed of a stage."""
    lines = [f"{stage}: plain TRL {found['seconds']['plain']:.3f} s a step"]
    for side in OTHERS:
        r, gap = found["ratio"][side], found["largest_loss_gap"].get(side)
        lines.append(
            f"  {side:8}{found['seconds'][side]:.3f} s, {r['ratio']:.2f} of it"
            f" ({r['low']:.2f} to {r['high']:.2f}), {r['verdict']}"
            + ("" if gap is None else f"; losses within {gap:.0e}")
        )
    return "\n".join([*lines, f"  {'floor':8}{found['floor']:.3f} s"])


if __name__ == "__main__":
    main()
