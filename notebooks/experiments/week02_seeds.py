"""Week 2's comparison on fresh seeds, and which layers to adapt.

    python notebooks/experiments/week02_seeds.py

writes data/results/week02/seeds.json. About 20 CPU minutes; stop it whenever you like, it goes on
where it was. Task, steps and held-out prompts are those of week02_adapters.py, and so are the
learning rates of the methods it knows. Two questions:

1. Three seeds of week02_adapters.py put some methods ahead of full fine-tuning. Does that hold on
   seeds that nobody has looked at? The methods were chosen before the first run: the one
   that looked best, the usual default, and that default in four bits.
2. With the same number of trained parameters, is it better to adapt all layers, or only those of
   the attention, or only those of the MLP? The two new methods choose their rates as all others
   did, on rows and seeds of their own.

Left out: memory and time, which week02_adapters.py measures; further tasks and models. The embedded
model has 1.4 million parameters: this shows mechanism, not capability.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import week02_adapters as adapters
from _common import RESULTS, Arms, arm_key, command_line, frozen, minutes, write_record

TARGET = RESULTS / "week02" / "seeds.json"
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
LAYERS = {"attention-38": ATTENTION, "mlp-28": MLP}  # as many parameters as LoRA 16 on all layers
METHODS = ("full", "lora-8", "lora-16", "qlora-16")
SEEDS = (3, 4, 5, 6)


def build(method: str, *, seed: int) -> tuple[Any, Any]:
    """The embedded base, ready to be trained by one method, and its tokenizer.

    QLoRA computes with the dequantised weights in fp32, which gives the same numbers faster.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    if method not in LAYERS:
        return adapters.build(method, seed=seed, exact=False)
    policy, tokenizer = frozen("")
    r = int(method.partition("-")[2])
    torch.manual_seed(seed)
    config = LoraConfig(
        r=r, lora_alpha=adapters.RECIPE.alpha_over_r * r, target_modules=list(LAYERS[method]),
        task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(policy, config).train(), tokenizer


def sweep_point(method: str, lr: float, seed: int) -> dict[str, float]:
    """Loss on rows that were not trained, after a short run with a seed of its own."""
    begun = time.process_time()
    policy, _ = build(method, seed=seed)
    batches, judge = adapters.sweep_data(seed)
    adapters.train(policy, batches, lr=lr)
    loss = round(adapters.mean_loss(policy, judge), 5)
    return {"loss": loss, "cpu_s": round(time.process_time() - begun, 1)}


def sweep(method: str, arms: Arms, key: str) -> dict[float, list[dict[str, float]]]:
    """Points by learning rate: five rungs of the ladder, and on while the best is at an edge."""
    low, high = adapters.START.start, adapters.START.stop
    while True:
        points = {
            lr: [
                arms.result(
                    f"sweep {method} {lr:g} {seed}", key, partial(sweep_point, method, lr, seed)
                )
                for seed in adapters.RECIPE.sweep_seeds
            ]
            for lr in adapters.LADDER[low:high]
        }
        best = best_rate(points)
        if best == adapters.LADDER[low] and low > 0:
            low -= 1
        elif best == adapters.LADDER[high - 1] and high < len(adapters.LADDER):
            high += 1
        else:
            return points


def best_rate(points: dict[float, list[dict[str, float]]]) -> float:
    """The rate with the lowest loss, seeds averaged."""
    return adapters.best_rate({lr: [p["loss"] for p in at] for lr, at in points.items()})


def one_run(method: str, seed: int, lr: float) -> dict[str, Any]:
    """Train and measure one method with one seed."""
    begun = time.process_time()
    recipe = adapters.RECIPE
    policy, tokenizer = build(method, seed=seed)
    rows = adapters.task_rows("train", recipe.steps * recipe.batch, seed)
    adapters.train(policy, adapters.encoded(rows, tokenizer, recipe.batch), lr=lr)
    heldout = adapters.encoded(adapters.task_rows("heldout", recipe.heldout_rows, 0), tokenizer, 64)
    policy.eval()
    return {
        "method": method, "seed": seed, "lr": lr,
        "trainable": sum(p.numel() for p in policy.parameters() if p.requires_grad),
        "loss": round(adapters.mean_loss(policy, heldout), 5),
        "document_loss": round(adapters.document_loss(policy, tokenizer), 5),
        "right": adapters.right_answers(policy, tokenizer),
        "cpu_s": round(time.process_time() - begun, 1),
    }  # fmt: skip


def main() -> None:
    options = command_line(__doc__)
    arms = Arms(__file__, limit=options.runs)
    settings = {"recipe": asdict(adapters.RECIPE), "families": adapters.FAMILIES}
    key = arm_key(settings, *adapters.CODE, own=__file__)
    first = json.loads(adapters.TARGET.read_text(encoding="utf-8"))
    rates = {run["method"]: run["lr"] for run in first["runs"]}

    def runs(methods: Any) -> list[dict[str, Any]]:
        return [
            arms.result(f"{m} {seed} {rates[m]:g}", key, partial(one_run, m, seed, rates[m]))
            for seed in SEEDS
            for m in methods
        ]

    fresh = runs(METHODS)
    sweeps = {method: sweep(method, arms, key) for method in LAYERS}
    rates |= {method: best_rate(points) for method, points in sweeps.items()}
    layers = runs(LAYERS)
    points = [
        {"method": m, "lr": lr, "losses": [p["loss"] for p in at]}
        for m, by_rate in sweeps.items()
        for lr, at in by_rate.items()
    ]
    seconds = [run.pop("cpu_s") for run in (*fresh, *layers)]
    seconds += [p["cpu_s"] for by_rate in sweeps.values() for at in by_rate.values() for p in at]
    record = {"recipe": asdict(adapters.RECIPE), "learning_rates": points, "runs": fresh + layers}
    write_record(__file__, TARGET, record, seeds=SEEDS, cpu_minutes=minutes(seconds))


if __name__ == "__main__":
    main()
