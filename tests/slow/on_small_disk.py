"""Every write of a run on a disk that is full just then: `python on_small_disk.py MOUNT`.

MOUNT is a small file system that this process may fill, and remount. A tiny trainer runs; before
the write in question the disk is filled to the last page, or but for one, so that the write itself
fails, wherever a library makes it. Prints a JSON object a line: {"kind", "error", "message", ...}.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

MOUNT = Path(sys.argv[1]).resolve()
os.environ |= {"POSTLAB_RUNS": str(MOUNT / "runs"), "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).parents[1] / "unit")]

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from tiny_model import build_tiny  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoTokenizer,
    TrainerCallback,
    set_seed,
)
from trl import SFTConfig, SFTTrainer  # noqa: E402

from postlab import storage  # noqa: E402
from postlab.report import write_report  # noqa: E402
from postlab.runs import Run  # noqa: E402

PAGE = os.sysconf("SC_PAGE_SIZE")
FILLER = MOUNT / "filler"
FRAME = pd.DataFrame(
    {
        "id": [f"{n}" for n in range(40)],
        "family": "facts",
        "prompt": "Who are you? " * 20,
        "sample": 0,
        "answer": "A model. " * 20,
        "closed": True,
        "facts": [n % 3 / 2 for n in range(40)],
        "length": 9.0,
        "kl": float("nan"),
    }
)


def fill(pages: int) -> None:
    """Leave so many free pages."""
    with FILLER.open("ab", buffering=0) as file:
        for size in (1 << 20, PAGE):
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue
        file.truncate(file.tell() // PAGE * PAGE - pages * PAGE)


class At(TrainerCallback):
    """Do something at a step."""

    watches_only = True

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


@contextmanager
def before_writing(name: str, action: Callable[[], object], *, when: int = 1):
    """Do something once a temporary of this name was asked for `when` times."""
    plain, count = {n: getattr(Path, n) for n in ("touch", "mkdir")}, 0

    def wrapped(of: str):
        def call(self, *args, **kwargs):
            nonlocal count
            plain[of](self, *args, **kwargs)
            if self.name.startswith(f".{name}.tmp-"):
                count += 1
                if count == when:
                    action()

        return call

    for of in plain:
        setattr(Path, of, wrapped(of))
    try:
        yield
    finally:
        for of, method in plain.items():
            setattr(Path, of, method)


def trainer(base: Path, run: Run, *callbacks) -> SFTTrainer:
    set_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    lora = LoraConfig(r=8, lora_alpha=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
    rows = [
        {
            "prompt": [{"role": "user", "content": f"What is {n} + 2?"}],
            "completion": [{"role": "assistant", "content": f"The answer is {n + 2}."}],
        }
        for n in range(16)
    ]
    settings = {"max_steps": 6, "save_steps": 2, "logging_steps": 1, "learning_rate": 1e-2}
    settings |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "seed": 3}
    return SFTTrainer(
        model=get_peft_model(model, lora),
        args=SFTConfig(output_dir=run.checkpoints, report_to="none", **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        callbacks=list(callbacks),
    )


def read_only(folder: Path) -> None:
    """By a mount over the folder: the disk itself can't be, while the lock's file is open."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)


def limit(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if size >= 0 else hard, hard))


def all_clear() -> None:
    for folder in MOUNT.glob("runs/*/seed-*/*"):  # an error where none is mounted
        subprocess.run(["umount", "--lazy", folder], stderr=subprocess.DEVNULL)
    limit(-1)
    FILLER.unlink(missing_ok=True)


def outcome(run: Run) -> dict:
    losses = [entry["loss"] for entry in run.log if "loss" in entry]
    return {"losses": losses, "weights": storage.weights_hash(run.model_dir)}


def main() -> None:
    base = build_tiny(MOUNT / "base", hidden=32, layers=1)
    whole = Run("whole", 0, "sft")
    whole.train(trainer(base, whole))
    expected = outcome(whole)
    base_run = Run("tiny", 0, "base")
    base_run.save_eval(FRAME, "base")
    run = Run("tiny", 0, "sft", "base")

    def training(callbacks=()) -> None:
        run.train(trainer(base, run, *callbacks))

    def evaluating() -> None:
        run.save_eval(FRAME.assign(facts=0.5), "new")

    def attempt(kind: str, work, after, *, again=None, kept=lambda: True) -> None:
        """Let `work` fail; then see what is kept, and that `again` succeeds with room."""
        report = {"kind": kind, "error": None, "message": ""}
        try:
            work()
        except Exception as error:
            report |= {"error": type(error).__name__, "message": str(error)}
        all_clear()
        report["kept"] = bool(kept())
        (again or work)()
        report["right"] = bool(after())
        litter = [*MOUNT.rglob(".*.tmp-*"), *MOUNT.rglob(".*.old-*")]
        report["litter"] = [path.name for path in litter]
        print(json.dumps(report), flush=True)

    def trained_alike() -> bool:
        return run.complete and outcome(run) == expected

    def fresh() -> None:
        shutil.rmtree(MOUNT / "runs" / "tiny" / "seed-0" / "sft", ignore_errors=True)

    def last(step: int) -> Callable[[], bool]:
        return lambda: storage.sealed(run.checkpoints / f"checkpoint-{step}")

    def during(name: str, action, *, when: int = 1):
        def work() -> None:
            with before_writing(name, action, when=when):
                training()

        return work

    for pages in (0, 1):
        full = f", {pages} pages free"
        for kind, work, kept in (
            ("checkpoint", lambda p=pages: training([At(3, lambda: fill(p))]), last(2)),
            ("seal", during("sha256.json", lambda p=pages: fill(p), when=2), last(2)),
            ("model", during("model", lambda p=pages: fill(p)), last(6)),
            ("log", during("trainer_state.json", lambda p=pages: fill(p)), last(6)),
            ("first manifest", during("manifest.json", lambda p=pages: fill(p)), lambda: True),
            ("last manifest", during("manifest.json", lambda p=pages: fill(p), when=2), last(6)),
        ):
            fresh()
            attempt(kind + full, work, trained_alike, again=training, kept=kept)
        for name in ("samples.jsonl", "eval.jsonl", "manifest.json"):
            run.save_eval(FRAME, "old")

            def evaluation(name=name, p=pages) -> None:
                with before_writing(name, lambda: fill(p)):
                    evaluating()

            # between the two files the evaluation is neither: it is made again, the model is not
            old = lambda: run.complete and run.load_eval("new") is None  # noqa: E731
            new = lambda: run.load_eval("new")["facts"].eq(0.5).all()  # noqa: E731
            attempt(f"evaluation, {name}" + full, evaluation, new, again=evaluating, kept=old)
        write_report("tiny")
        folder = MOUNT / "runs" / "tiny"
        for name in ("summary.json", "stages.png", "report.html"):
            before = (folder / name).read_bytes()

            def reporting(name=name, p=pages) -> None:
                with before_writing(name, lambda: fill(p)):
                    write_report("tiny")

            same = lambda f=folder / name, b=before: f.read_bytes() == b  # noqa: E731
            again = lambda: write_report("tiny")  # noqa: E731
            attempt(f"report, {name}" + full, reporting, lambda: True, again=again, kept=same)
    fresh()
    work = during("model", lambda: limit(2000))
    attempt("model, limited size of a file", work, trained_alike, again=training, kept=last(6))
    fresh()
    work = lambda: training([At(3, lambda: read_only(run.folder))])  # noqa: E731
    attempt("checkpoint, turned read-only", work, trained_alike, again=training, kept=last(2))
    fresh()
    work = during("model", lambda: read_only(run.folder))
    attempt("model, turned read-only", work, trained_alike, again=training, kept=last(6))


if __name__ == "__main__":
    main()
