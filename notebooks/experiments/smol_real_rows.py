"""SmolLM2-135M on rows that people wrote: QLoRA SFT, then DPO, through Unsloth, on a CPU.

    POSTLAB_PROFILE=smol POSTLAB_REAL_ROWS=<folder> python notebooks/experiments/smol_real_rows.py

The folder holds `short_instructions.json` and `short_preferences.json` (the rows of chapter 7 of
LLMs-from-scratch: short tasks, and a polite and an impolite reply to each). The trainers' arguments
are those of the profile. Held-out loss and held-out preference accuracy, before and after, go to
data/results/smol/real_rows.json; no row does. About 25 minutes on two cores; an interrupted run
goes on from its checkpoint.

Left out: other seeds (this is one), generated answers, and any claim about other data: the tasks of
train and held-out rows are alike, and the preference is one of manners.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

# isort: split
import torch
from _common import RESULTS, command_line, command_of, machine_provenance
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import postlab
from postlab.chat import encode
from postlab.course import write_result
from postlab.datasets import instruction_rows, preference_rows
from postlab.models import float32_adapters
from postlab.scratch.losses import token_logps
from postlab.stats import bootstrap_interval, paired_difference, wilson

HELDOUT = 100  # the last instructions; the pairs are about the same tasks
BATCH = 10
TARGET = RESULTS / "smol" / "real_rows.json"


def split(rows: list[dict], heldout: set[str]) -> tuple[list[dict], list[dict]]:
    """Rows to train on and rows to judge by: those whose prompt is in `heldout`."""
    parts: tuple[list[dict], list[dict]] = ([], [])
    for row in rows:
        parts[row["prompt"][-1]["content"] in heldout].append(row)
    return parts


def reply_logps(model: Any, tokenizer: Any, rows: list[dict], max_length: int) -> torch.Tensor:
    """Log-probability of each row's reply, nats, and its number of tokens: (N, 2)."""
    batches = []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            batch = encode(rows[start : start + BATCH], tokenizer, max_length=max_length)
            ids, attended = batch["input_ids"], batch["attention_mask"]
            logits = model(input_ids=ids, attention_mask=attended).logits[:, :-1].float()
            mask = batch["loss_mask"][:, 1:]
            logps = (token_logps(logits, ids[:, 1:]) * mask).sum(1)
            batches.append(torch.stack([logps, mask.sum(1).float()], dim=1))
    model.train()
    return torch.cat(batches)


def losses(model: Any, tokenizer: Any, rows: list[dict], max_length: int) -> list[float]:
    """Mean negative log-probability of each row's reply, nats a token."""
    logps = reply_logps(model, tokenizer, rows, max_length)
    return (-logps[:, 0] / logps[:, 1]).tolist()


def preferences(model: Any, tokenizer: Any, rows: list[dict], max_length: int) -> torch.Tensor:
    """log p(chosen) - log p(rejected) of each pair, nats."""
    sides = []
    for side in ("chosen", "rejected"):
        replies = [{"prompt": row["prompt"], "completion": row[side]} for row in rows]
        sides.append(reply_logps(model, tokenizer, replies, max_length)[:, 0])
    return sides[0] - sides[1]


def before_and_after(before: list[float], after: list[float]) -> dict[str, Any]:
    """Two means and the paired difference, with 95% intervals over rows."""
    return {
        "before": vars(bootstrap_interval(before)),
        "after": vars(bootstrap_interval(after)),
        "difference": vars(paired_difference(before, after)),
    }


def main() -> None:
    command_line(__doc__, runs=False)
    folder = Path(os.environ.get("POSTLAB_REAL_ROWS", ""))
    files = [folder / f"short_{kind}.json" for kind in ("instructions", "preferences")]
    if not all(path.is_file() for path in files):
        sys.exit("$POSTLAB_REAL_ROWS must name a folder with " + ", ".join(f.name for f in files))
    lab = postlab.start(profile="smol")
    instructions = instruction_rows(str(files[0]), split="train")
    pairs = preference_rows(str(files[1]), split="train")
    sft, dpo, length = lab.profile.sft, lab.profile.dpo, lab.profile.max_length

    model, tokenizer = FastLanguageModel.from_pretrained(
        lab.checkpoint("base"), max_seq_length=length, load_in_4bit=True, dtype=lab.profile.dtype,
        use_gradient_checkpointing=False,
    )  # fmt: skip
    model = FastLanguageModel.get_peft_model(model, **lab.profile.lora, random_state=lab.seed)
    questions = {row["prompt"][-1]["content"] for row in instructions[-HELDOUT:]}
    train, heldout = split(instructions, questions)
    train_pairs, held_pairs = split(pairs, questions)
    base_loss = losses(model, tokenizer, heldout, length)
    run = lab.run("real-sft", parent="base")
    trainer = SFTTrainer(
        model=float32_adapters(model),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(train),
        args=SFTConfig(output_dir=str(run.checkpoints), seed=lab.seed, **sft.trainer),
    )
    sft_log = run.train(trainer)
    model = trainer.model
    sft_loss = losses(model, tokenizer, heldout, length)

    start = preferences(model, tokenizer, held_pairs, length)
    run = lab.run("real-dpo", parent="real-sft")
    trainer = DPOTrainer(
        model=float32_adapters(model),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(train_pairs),
        args=DPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **dpo.trainer),
    )
    dpo_log = run.train(trainer)
    model = trainer.model
    end = preferences(model, tokenizer, held_pairs, length)
    dpo_loss = losses(model, tokenizer, heldout, length)
    command = f"POSTLAB_PROFILE=smol POSTLAB_REAL_ROWS=<folder> {command_of(__file__)}"
    right = [(margins > 0).float().tolist() for margins in (start, end)]
    result = {
        "provenance": machine_provenance(__file__, seeds=[lab.seed]) | {"command": command},
        "rows": {  # to train on, to judge by
            "instructions": [len(train), len(heldout)],
            "pairs": [len(train_pairs), len(held_pairs)],
            "dropped": {"instructions": instructions.dropped, "pairs": pairs.dropped},
        },
        "steps": {"sft": sft.trainer["max_steps"], "dpo": dpo.trainer["max_steps"]},
        "train_s": {"sft": sft_log[-1]["train_runtime"], "dpo": dpo_log[-1]["train_runtime"]},
        "heldout_loss_sft": before_and_after(base_loss, sft_loss),
        "heldout_loss_dpo": before_and_after(sft_loss, dpo_loss),
        "heldout_preference_accuracy": before_and_after(*right),
        "margin_moved_towards_chosen": vars(wilson(int((end > start).sum()), len(end))),
    }  # fmt: skip
    write_result(TARGET, result)


if __name__ == "__main__":
    main()
