"""How far preflight's memory estimates are off, in cases where the peak is known.

    python bench/memory.py cpu                    # real training runs on this CPU, minutes
    python bench/memory.py held                   # the same with malloc as it is
    python bench/memory.py rows --rows FOLDER     # peaks that others measured on GPUs
    python bench/memory.py published              # peaks and speeds from public repositories

Each writes `data/results/preflight/<what>.json`. In `cpu` a case is a process of its own, which
trains a randomly initialised model with TRL's own trainer, two steps of two micro-batches; what is
measured is the process's peak resident memory less what it held after its imports and a toy's step,
with a malloc that returns what is freed. `held` leaves malloc as it is and compares with the
estimate's `reserved_gib`. `rows` reads `vram_measured.jsonl` in FOLDER ($POSTLAB_REAL_ROWS).
Left out: a GPU of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from postlab.preflight import estimate
from postlab.profile import PROJECTIONS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results" / "preflight"
GIB = 2**30

SHAPES = {
    "19M": dict(
        model_type="llama", num_hidden_layers=10, hidden_size=384, num_attention_heads=6,
        num_key_value_heads=2, head_dim=64, intermediate_size=1024, vocab_size=8192,
        tie_word_embeddings=True,
    ),
    "72M": dict(
        model_type="qwen2", num_hidden_layers=14, hidden_size=640, num_attention_heads=10,
        num_key_value_heads=2, head_dim=64, intermediate_size=1792, vocab_size=16384,
        tie_word_embeddings=True,
    ),
    "218M": dict(
        model_type="qwen3", num_hidden_layers=12, hidden_size=1024, num_attention_heads=16,
        num_key_value_heads=8, head_dim=64, intermediate_size=3072, vocab_size=32768,
        tie_word_embeddings=False,
    ),
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    dict(stage="sft", shape="19M", lora_rank=0, checkpointing=False, batch=8, length=256),
    dict(stage="sft", shape="19M", lora_rank=16, checkpointing=True, batch=8, length=256),
    dict(stage="sft", shape="72M", lora_rank=0, checkpointing=True, batch=4, length=256),
    dict(stage="sft", shape="72M", lora_rank=16, checkpointing=False, batch=4, length=256),
    dict(stage="dpo", shape="72M", lora_rank=16, checkpointing=True, batch=4, length=256),
    dict(stage="grpo", shape="72M", lora_rank=16, checkpointing=True, batch=8, length=160,
         new_tokens=128),
    dict(stage="sft", shape="218M", lora_rank=0, checkpointing=True, batch=2, length=256),
    dict(stage="sft", shape="218M", lora_rank=16, checkpointing=True, batch=2, length=256),
]  # fmt: skip
ACCUMULATION = 2

# Which TRL a row was measured with is not in the rows. The project's pull requests say it: #15634
# (RTX 3070 Laptop, torch 2.13) names 1.12; #17366, whose peaks for Qwen3-8B are the same to three
# decimals as the RTX 3080 Ti's, verified 1.9.2.
TRL_OF_GPU = {"RTX 3070 Laptop 8GB": "1.12", "RTX 3080 Ti Laptop 16GB": "1.9"}
ROWS_SOURCE = "CoursIA project (github.com/jsboige/CoursIA), PostTraining/_measurements"

# Further peaks of the same project, for more sizes; no formula was fitted to any of them.
FURTHER = [
    dict(model="Qwen/Qwen3-4B", new_tokens=96, trl="1.12", gib=4.096, file="2026-09-11_4b"),
    dict(model="Qwen/Qwen3-8B", new_tokens=96, trl="1.12", gib=7.406, file="2026-09-11_8b"),
    dict(model="Qwen/Qwen3-8B", new_tokens=224, trl="1.9", gib=10.465,
         file="2026-09-22_envelope8b"),
    dict(model="Qwen/Qwen3-14B", new_tokens=96, trl="1.9", gib=11.638,
         file="2026-10-06_9b14b_4090"),
    dict(model="Qwen/Qwen3-14B", new_tokens=288, trl="1.9", gib=15.73,
         file="2026-10-06_9b14b_4090"),
]  # fmt: skip


def provenance(command: str) -> dict[str, Any]:
    """What made a result: command, commit, date, device and versions."""
    from postlab.runs import describe_environment

    made = {"command": command, "date": datetime.now(UTC).isoformat(timespec="seconds")}
    asked = ["git", "status", "--porcelain", "--", "postlab", "bench"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    described = describe_environment()
    if done.returncode == 0 and done.stdout.strip():
        described["commit"] = f"{described['commit']}+changes"
    return made | described


def write(name: str, result: dict[str, Any], out: Path = RESULTS) -> Path:
    """Write one result, and say where."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    lists = {key: value for key, value in result.items() if key in ("figures", "left_out")}
    text = json.dumps({k: v for k, v in result.items() if k not in lists}, indent=1)
    for key, rows in lists.items():  # one a line
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        text = f'{text[:-2]},\n "{key}": [\n{lines}\n ]\n}}'
    path.write_text(text + "\n")
    print(f"wrote {path.name}")
    return path


def resident_gib(what: str) -> float:
    """`VmRSS`, resident now, or `VmHWM`, the most so far; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024 / GIB
    raise RuntimeError(f"/proc/self/status has no {what}: run this on Linux")


def return_blocks() -> None:
    """Let malloc return every freed block of 64 KiB or more at once.

    As a rule glibc keeps those of up to 32 MiB in its heap, in holes between others which are in
    use. Without that, what is resident is what is allocated. A KV cache that grows by a token a
    time, and gradients of adapters, come in blocks of less than a MiB.
    """
    import ctypes

    threshold = -3  # M_MMAP_THRESHOLD; setting it also stops glibc from raising it
    if not ctypes.CDLL(None).mallopt(threshold, 2**16):
        raise RuntimeError("mallopt refused: run this on Linux with glibc")


def forget_peak() -> None:
    """Let VmHWM start again from what is resident now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


# cpu: real runs


def config_folder(shape: str, folder: Path) -> Path:
    """A folder with the config of a shape, for `estimate` and for transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[shape]))
    return folder


def predict(case: dict[str, Any], folder: Path) -> Any:
    """Preflight's estimate of a CPU case."""
    asked = {key: value for key, value in case.items() if key not in ("stage", "shape")}
    model = config_folder(case["shape"], folder)
    return estimate(
        case["stage"], model=model, device="cpu", bits=32, accumulation=ACCUMULATION, **asked
    )


def child(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a toy, which loads what the libraries load late, then the case; returns its peak."""
    import datasets  # noqa: F401  (all imports before memory is first read)
    import peft  # noqa: F401
    import torch
    import trl  # noqa: F401

    torch.manual_seed(0)
    imports = resident_gib("VmRSS")
    toy = dict(batch=2, length=48, num_hidden_layers=1, hidden_size=64, intermediate_size=64)
    train(case | toy | (dict(new_tokens=8) if "new_tokens" in case else {}), folder / "toy")
    gc.collect()
    before = resident_gib("VmRSS")
    forget_peak()
    parameters = train(case, folder)
    return {
        "parameters": parameters,
        "imports_gib": imports,
        "before_gib": before,
        "measured_gib": resident_gib("VmHWM") - before,
    }


def train(case: dict[str, Any], folder: Path) -> int:
    """Two steps of the case with TRL's trainer; returns the model's number of parameters."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data" / "tiny-base")
    config = AutoConfig.from_pretrained(config_folder(case["shape"], folder))
    for name in ("num_hidden_layers", "hidden_size", "intermediate_size"):
        setattr(config, name, case.get(name, getattr(config, name)))
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    common = dict(
        output_dir=str(folder / "out"), use_cpu=True, bf16=False, max_steps=2, save_strategy="no",
        gradient_accumulation_steps=ACCUMULATION, gradient_checkpointing=case["checkpointing"],
        report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    adapters = None
    if case["lora_rank"]:
        lora = dict(r=case["lora_rank"], lora_alpha=16, target_modules=list(PROJECTIONS))
        adapters = LoraConfig(**lora, task_type="CAUSAL_LM")
    how = dict(model=model, processing_class=tokenizer, peft_config=adapters)
    batch, length = case["batch"], case["length"]
    if case["stage"] == "sft":
        ids = torch.randint(10, len(tokenizer), (4 * batch, length)).tolist()
        args = SFTConfig(**common, per_device_train_batch_size=batch, max_length=length)
        trainer = SFTTrainer(**how, args=args, train_dataset=Dataset.from_dict({"input_ids": ids}))
    elif case["stage"] == "dpo":
        long = "one and two and three " * length  # cut to max_length
        row = {"prompt": "count: ", "chosen": long, "rejected": "no, " + long}
        args = DPOConfig(**common, per_device_train_batch_size=batch // 2, max_length=length)
        trainer = DPOTrainer(**how, args=args, train_dataset=Dataset.from_list([row] * 4 * batch))
    else:
        new = case["new_tokens"]
        prompt = tokenizer.decode(torch.randint(10, 200, (length - new,)).tolist())
        args = GRPOConfig(
            **common, per_device_train_batch_size=batch, num_generations=batch,
            max_completion_length=new, generation_kwargs={"min_new_tokens": new},
        )  # fmt: skip
        trainer = GRPOTrainer(
            **how, args=args, train_dataset=Dataset.from_list([{"prompt": prompt}] * 4 * batch),
            reward_funcs=lambda completions, **kwargs: [float(len(c)) for c in completions],
        )  # fmt: skip
    parameters = sum(p.numel() for n, p in model.named_parameters() if "lora_" not in n)
    trainer.train()
    return parameters


def cpu(*, held: bool) -> dict[str, Any]:
    """Every case in a process of its own, beside its estimate: of what is allocated or held."""
    cases = []
    for number, case in enumerate(CASES):
        with tempfile.TemporaryDirectory() as folder:
            asked = predict(case, Path(folder))
            predicted = asked.reserved_gib - IMPORTS_GIB if held else asked.total_gib
            command = [sys.executable, __file__, "child", "--case", str(number), "--dir", folder]
            found = case | _child([*command, "--as-usual"] if held else command)
        found |= {"predicted_gib": predicted, "error": predicted / found["measured_gib"] - 1}
        print(
            f"{case['stage']:5}{case['shape']:>5} rank {case['lora_rank']:<3}"
            f"measured {found['measured_gib']:.3f}  predicted {predicted:.3f} GiB"
            f"  {found['error']:+.1%}",
            flush=True,
        )
        cases.append(found)
    return {"accumulation": ACCUMULATION, "cases": cases}


def _child(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[2:]}: the child failed\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# rows: what others measured


def grpo_estimate(model: str, *, batch: int, prompt: int, new_tokens: int, trl: str) -> Any:
    """Preflight's estimate of the rows' recipe."""
    return estimate(
        "grpo", model=model, device="RTX 4090", batch=batch, length=prompt + new_tokens,
        new_tokens=new_tokens, bits=4, lora_rank=8, group=8, accumulation=4, trl=trl,
    )  # fmt: skip


def rows(folder: Path) -> dict[str, Any]:
    """Errors of the measured rows, and of the slope in the completion's length."""
    measured = (folder / "vram_measured.jsonl").read_text().splitlines()
    cases = []
    for row in map(json.loads, measured):
        size = dict(batch=row["batch"], prompt=row["prompt_tokens"])
        size["new_tokens"] = row["completion_tokens"]
        trl = TRL_OF_GPU[row["gpu"]]
        found = {version: grpo_estimate(row["model"], **size, trl=version) for version in TRLS}
        peak, reserved = row["max_allocated_gib"], row["max_reserved_gib"]
        cases.append(
            {"model": row["model"], "gpu": row["gpu"], "trl": trl} | size
            | {
                "measured_gib": peak, "predicted_gib": found[trl].total_gib,
                "error": found[trl].total_gib / peak - 1,
                "error_by_trl": {v: e.total_gib / peak - 1 for v, e in found.items()},
                "measured_reserved_gib": reserved,
                "predicted_reserved_gib": found[trl].reserved_gib - CONTEXT_GIB,
            }
        )  # fmt: skip
    further = []
    for case in FURTHER:
        size = dict(batch=8, prompt=10, new_tokens=case["new_tokens"], trl=case["trl"])
        predicted = grpo_estimate(case["model"], **size).total_gib
        further.append(case | {"predicted_gib": predicted, "error": predicted / case["gib"] - 1})
    return {"source": ROWS_SOURCE, "cases": cases, "slope": slope(cases), "further": further}


IMPORTS_GIB = 1.0  # in `reserved_gib` on a CPU
TRLS = ("1.9", "1.12", "1.14")
LINKS_GIB = 1.0  # in `reserved_gib` of several devices
CONTEXT_GIB = 0.5  # in `reserved_gib`, not in what the rows call reserved


def slope(cases: list[dict[str, Any]]) -> dict[str, float]:
    """GiB a token of completion, between the shortest and longest rows of one model and TRL."""
    same = [c for c in cases if c["model"] == "Qwen/Qwen3-8B"]
    low, high = min(same, key=lambda c: c["new_tokens"]), max(same, key=lambda c: c["new_tokens"])
    tokens = high["new_tokens"] - low["new_tokens"]
    measured, predicted = (
        (high[key] - low[key]) / tokens for key in ("measured_gib", "predicted_gib")
    )
    return {"measured": measured, "predicted": predicted, "error": predicted / measured - 1}


# published: peaks and speeds from public repositories


def judge(figure: dict[str, Any]) -> dict[str, Any]:
    """A published figure beside preflight's estimate of the same settings.

    Peaks are compared with what their authors read: PyTorch's allocated or reserved memory, what
    the driver shows, or, where they don't say, the whole range from the one to the other. Speeds
    are a device's share.
    """
    settings, count = figure["settings"], figure["settings"].get("devices", 1)
    e = estimate(**settings)
    outside = CONTEXT_GIB + (LINKS_GIB if count > 1 else 0)  # of what PyTorch reserves
    if figure["what"] == "peak":
        low, high = e.reserved_range_gib
        ours = {
            "allocated": (e.total_gib, *e.total_range_gib),
            "reserved": tuple(x - outside for x in (e.reserved_gib, low, high)),
            "driver": (e.reserved_gib, low, high),
            "unknown": (e.reserved_gib, e.total_range_gib[0], high),
        }[figure["meter"]]
    else:
        ours = tuple(speed / count for speed in (e.tokens_per_s, *e.tokens_per_s_range))
        if figure["unit"] == "s/step":
            tokens = settings["batch"] * settings.get("accumulation", 1) * settings["length"]
            ours = tokens / ours[0], tokens / ours[2], tokens / ours[1]
    middle, low, high = (round(x, 3) for x in ours)
    return figure | {
        "estimate": middle, "low": low, "high": high,
        "inside": low <= figure["value"] <= high, "error": round(middle / figure["value"] - 1, 3),
    }  # fmt: skip


def summary(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """By half: how many lie inside, how wide the ranges are, and how far the middles are off."""

    def line(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        widths = [(f["high"] - f["low"]) / (f["high"] + f["low"]) for f in chosen]
        inside = sum(f["inside"] for f in chosen)
        return {
            "figures": len(chosen), "inside": inside, "share": round(inside / len(chosen), 3),
            "median_half_width": round(statistics.median(widths), 3),
            "median_error": round(statistics.median(abs(f["error"]) for f in chosen), 3),
        }  # fmt: skip

    halves = {half: [f for f in figures if f["half"] == half] for half in ("calibration", "test")}
    return {
        half: {
            kind: line([f for f in chosen if kind in (f["what"], "all")])
            for kind in ("peak", "speed", "all")
        }
        for half, chosen in (halves | {"both": figures}).items()
    }


def published() -> dict[str, Any]:
    """The recorded figures, estimated again; figures and settings are kept as they are."""
    recorded = json.loads((RESULTS / "published.json").read_text())
    figures = [judge(figure) for figure in recorded["figures"]]
    kept = {key: recorded[key] for key in ("halves", "meters", "left_out")}
    return kept | {"summary": summary(figures), "figures": figures}


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cpu", "held", "rows", "published", "child"))
    parser.add_argument("--rows", type=Path, default=os.environ.get("POSTLAB_REAL_ROWS"))
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dir", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--as-usual", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.what == "child":
        with contextlib.redirect_stdout(sys.stderr):  # the last line of stdout is the result
            if not args.as_usual:
                return_blocks()
            found = child(CASES[args.case], args.dir)
        print(json.dumps(found))
        return
    if args.what == "rows" and not args.rows:
        parser.error("expected --rows FOLDER or $POSTLAB_REAL_ROWS")
    make = {
        "cpu": lambda: cpu(held=False),
        "held": lambda: cpu(held=True),
        "rows": lambda: rows(Path(args.rows)),
        "published": published,
    }
    result = make[args.what]()
    write(args.what, {"provenance": provenance(f"python bench/memory.py {args.what}")} | result)


if __name__ == "__main__":
    main()
