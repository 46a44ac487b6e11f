"""Week 3's recorded comparison: the same fine-tuning through Unsloth and through plain TRL.

    python notebooks/experiments/week03_unsloth_trl.py

Both get the same model, rows, LoRA, arguments and seed. Unsloth patches the whole process, so each
measurement is a process of its own; pairs alternate in order. Of each: seconds to import and to
load, seconds a step (the first two left out), peak resident memory, and the loss of every step.
The code of both is kept with the result: it is what the notebook shows and counts. Writes
data/results/week03/unsloth_trl.json. Left out: a GPU, where Unsloth's kernels are; bench/steps.py
times steps more carefully.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import tempfile
import time
from typing import Any

from _common import PACKAGES, RESULTS, command_line, in_own_process, write_record

from postlab.profile import get_profile

TARGET = RESULTS / "week03" / "unsloth_trl.json"
SIDES = ("unsloth", "trl")
PAIRS, STEPS, WARM_UP, SEED = 3, 60, 2, 0


def unsloth_model(base: str, profile: Any, seed: int) -> Any:
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        base,
        max_seq_length=profile.max_length,
        dtype=profile.dtype,
        load_in_4bit=profile.load_in_4bit,
        use_gradient_checkpointing=False,
    )
    model = FastLanguageModel.get_peft_model(model, **profile.lora, random_state=seed)
    return model, tokenizer


def trl_model(base: str, profile: Any, seed: int) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    quantise = None
    if profile.load_in_4bit:
        from transformers import BitsAndBytesConfig

        quantise = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=profile.dtype, quantization_config=quantise
    )
    lora = {k: v for k, v in profile.lora.items() if k != "use_gradient_checkpointing"}
    model = get_peft_model(model, LoraConfig(**lora, task_type="CAUSAL_LM"))
    return model, AutoTokenizer.from_pretrained(base)


def child(side: str) -> dict[str, Any]:
    """Train once, one way, and say what it took."""
    marks = [time.perf_counter()]
    if side == "unsloth":
        import unsloth  # noqa: F401
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    marks.append(time.perf_counter())
    from transformers import TrainerCallback

    from postlab.datasets import instruction_rows
    from postlab.models import tiny_base

    profile = get_profile("tiny")
    rows = instruction_rows(profile.sft.source, split="train", n=profile.sft.rows, seed=SEED)
    make = unsloth_model if side == "unsloth" else trl_model
    marks.append(time.perf_counter())
    model, tokenizer = make(str(tiny_base()), profile, SEED)
    marks.append(time.perf_counter())
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    how = dict(profile.sft.trainer) | {"save_strategy": "no", "logging_steps": 1}
    how |= {"max_steps": STEPS, "seed": SEED}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
            args=SFTConfig(output_dir=folder, **how),
            callbacks=[Clock()],
        )
        trainer.train()
    assert side == "unsloth" or "unsloth" not in sys.modules, "plain TRL must be plain"
    steps = [b - a for a, b in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)]
    return {
        "side": side,
        "import_s": round(marks[1] - marks[0], 1),
        "load_s": round(marks[3] - marks[2], 2),
        "step_s": round(sum(steps) / len(steps), 4),
        "peak_gb": round(peak_gb(), 2),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "loss": [round(e["loss"], 5) for e in trainer.state.log_history if "loss" in e],
    }


def peak_gb() -> float:
    """The most memory that this process held at once, GB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def body(function: Any) -> str:
    """The lines of a function, moved to the margin, its signature and return left out."""
    lines = inspect.getsource(function).rstrip().split("\n")[1:-1]
    return "\n".join(line[4:] for line in lines)


def main() -> None:
    side = {"choices": SIDES, "help": argparse.SUPPRESS}
    options = command_line(__doc__, runs=False, side=side)
    if options.side:
        print("\n" + json.dumps(child(options.side)))
        return
    runs, begun = [], time.perf_counter()
    for pair in range(PAIRS):
        for one in SIDES if pair % 2 == 0 else SIDES[::-1]:
            runs.append({"pair": pair} | in_own_process(__file__, "--side", one))
            print(f"pair {pair}, {one}: {time.perf_counter() - begun:.0f} s", flush=True)
    code = {"unsloth": body(unsloth_model), "trl": body(trl_model)}
    record = {"steps": STEPS, "code": code, "runs": runs}
    write_record(__file__, TARGET, record, seeds=[SEED], packages=(*PACKAGES, "unsloth"))


if __name__ == "__main__":
    main()
