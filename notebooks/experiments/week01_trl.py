"""Week 1's measure for the learner's training loop: TRL's losses on the same ten batches.

    python notebooks/experiments/week01_trl.py

`SFTTrainer` fine-tunes all weights of the embedded base, one step per batch of 16 rows in their
order, AdamW without weight decay, a learning rate that falls linearly to zero, gradients clipped at
1. Writes data/results/week01/trl.json with the loss of every step, which `tests/unit/course`
compares with the reference loop's. Left out: Unsloth, adapters, and packing.
"""

from __future__ import annotations

import tempfile
from typing import Any

from _common import RESULTS, command_line, shipped, write_record

TARGET = RESULTS / "week01" / "trl.json"
STEPS, BATCH, RATE, MAX_LENGTH, SEED = 10, 16, 2e-3, 256, 0


def losses_of_trl() -> dict[str, Any]:
    import datasets
    import torch
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from postlab.datasets import instruction_rows

    folder = shipped("base")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = instruction_rows("tinyworld", split="train", n=1280, seed=SEED)  # as in the notebook
    rows = [
        {"prompt": row["prompt"], "completion": row["completion"]}
        for row in whole
        if len(row["prompt"]) == 1
    ]
    with tempfile.TemporaryDirectory() as output:
        arguments = trl.SFTConfig(
            output_dir=output, use_cpu=True, bf16=False, report_to="none", seed=SEED,
            max_length=MAX_LENGTH, per_device_train_batch_size=BATCH, max_steps=STEPS,
            learning_rate=RATE, lr_scheduler_type="linear", weight_decay=0.0, max_grad_norm=1.0,
            optim="adamw_torch", train_sampling_strategy="sequential", logging_steps=1,
            gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = trl.SFTTrainer(
            model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows[: STEPS * BATCH]),
            processing_class=tokenizer,
        )
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "loss": [round(entry["loss"], 5) for entry in log],
        "learning_rate": [entry["learning_rate"] for entry in log],
        "tokens_trained": [int(batch["labels"].ne(-100).sum()) for batch in _batches(trainer)],
    }


def _batches(trainer: Any) -> list[dict[str, Any]]:
    return list(trainer.get_train_dataloader())[:STEPS]


def main() -> None:
    command_line(__doc__, runs=False)
    settings = {
        "steps": STEPS, "batch": BATCH, "learning_rate": RATE, "max_length": MAX_LENGTH,
        "optimizer": "AdamW, no weight decay", "schedule": "linear to zero", "max_grad_norm": 1.0,
    }  # fmt: skip
    write_record(__file__, TARGET, {"settings": settings} | losses_of_trl(), seeds=[SEED])


if __name__ == "__main__":
    main()
