"""Which cards hold which training, as preflight estimates it: `python recipes/what_fits.py`.

One row of 1,024 tokens at a time, gradient checkpointing, LoRA of rank 16, AdamW. Several cards
share weights, gradients and optimizer states (FSDP). Full fine-tuning keeps float32 weights, as
accelerate does with mixed precision; its figures are those of a float32 model and a little high.
Estimates: nobody has recorded these runs. Left out: offloading to the CPU, which needs less.
"""

from __future__ import annotations

from postlab.preflight import estimate

MODELS = {"7B": "mistralai/Mistral-7B-v0.3", "70B": "meta-llama/Llama-3.1-70B"}
METHODS = {"QLoRA": (4, 16), "LoRA": (16, 16), "full": (32, 0)}
CARDS = {"24 GB": "RTX 4090", "48 GB": "RTX A6000", "80 GB": "A100 80GB"}
NUMBERS = (1, 2, 4, 8)


def rows() -> list[list[str]]:
    """The table's rows: for each model, method and card the GiB that each of N cards needs."""
    found = []
    for size, model in MODELS.items():
        for method, (bits, rank) in METHODS.items():
            for card, device in CARDS.items():
                cells = []
                for number in NUMBERS:
                    made = estimate(
                        "sft",
                        model=model,
                        device=device,
                        batch=1,
                        length=1024,
                        bits=bits,
                        lora_rank=rank,
                        devices=number,
                        parallel="fsdp" if number > 1 else "ddp",
                    )
                    cells.append(f"{'✓' if made.fits else '–'} {made.reserved_gib:.0f}")
                found.append([size, method, card, *cells])
    return found


def table() -> str:
    """The rows in Markdown."""
    head = ["model", "method", "card", *(f"{number} ×" for number in NUMBERS)]
    lines = [head, ["---"] * len(head), *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
