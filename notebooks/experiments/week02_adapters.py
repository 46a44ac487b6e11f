"""Full fine-tuning, LoRA and QLoRA on the same task: quality, memory and time, several seeds.

    python notebooks/experiments/week02_adapters.py
    python notebooks/experiments/week02_adapters.py --more

The first command writes data/results/week02/adapters.json, which the notebook of week 2 shows. It
takes about 25 minutes on two idle cores; stop it whenever you like, it goes on where it was. The
task: the SFT rows of three families of the tiny world, those whose answers are nearly all right.
Every method chooses its learning rate from the same ladder, on rows drawn with seeds that the
comparison doesn't use. About a quarter of these rows also occur among those of a run (the tiny
world repeats itself), none among its held-out rows. Every run of the comparison is a process of its
own, so that its peak memory is its own.

The second command adds runs with the same recipe and writes data/results/week02/more.json: five
more seeds of full fine-tuning, LoRA 8, LoRA 16 and QLoRA 16, at the rates of adapters.json, and
five of adapters on the attention alone (rank 16) and on the MLPs alone (rank 12), whose learning
rates are chosen as for the other methods. It measures quality only. Runs that more.json already has
are kept; one run of adapters.json is repeated, to see whether this machine gives the same numbers.

Left out: other tasks, larger models, batch sizes, dropout and schedules. The embedded model has
1.4 million parameters: this shows mechanism, not capability.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import accumulate, islice
from pathlib import Path
from statistics import median
from typing import Any

from _common import (
    RESULTS,
    ROOT,
    Arms,
    arm_key,
    command_line,
    frozen,
    heldout_prompts,
    in_own_process,
    machine_provenance,
)

TARGET = RESULTS / "week02" / "adapters.json"
MORE = RESULTS / "week02" / "more.json"
CODE = (
    "datasets",
    "chat.encoding",
    "evals.evaluation",
    "scratch.losses",
    "scratch.nf4",
    "tinyworld",
)
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT),
}  # fmt: skip
RANKS = (1, 2, 4, 8, 16, 32, 64)
METHODS = ("full", *(f"lora-{r}" for r in RANKS), "qlora-16")
# The question of section 6: does the best learning rate move with the rank, alpha being fixed?
SCALINGS = tuple(f"{kind}-{r}" for kind in ("fixed", "rslora") for r in (4, 16, 64))
SEEDS = (0, 1, 2)
LADDER = [float(f"{10 ** (k / 4):.1e}") for k in range(-20, -3)]  # of rates, four a decade
# What `--more` adds. The arms and the number of seeds were set before any of these runs.
MORE_SEEDS = (3, 4, 5, 6, 7)
PAIRS = (("full", "lora-8"), ("lora-16", "qlora-16"))
# Adapters on some of the layers only, with nearly as many parameters as each other.
LAYERS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
LAYER_ARMS = ("attention-16", "mlp-12")
LAYER_SEEDS = (0, 1, 2, 3, 4)
REPEATED = ("lora-8", 0)
START = slice(8, 13)  # 0.001 to 0.01
FAMILIES = {"lists": "lists", "facts": "facts", "howto": "helpfulness"}  # and what counts as right


@dataclass(frozen=True)
class Recipe:
    """What all methods share; only the learning rate is chosen for each."""

    steps: int = 200
    batch: int = 16
    warmup: int = 8
    max_length: int = 256
    alpha_over_r: float = 2.0
    fixed_alpha: float = 16.0
    heldout_rows: int = 384
    prompts: int = 200
    pages: int = 96
    sweep_steps: int = 100
    sweep_seeds: tuple[int, ...] = (100, 200)
    sweep_rows: int = 256
    timed_turns: int = 16


RECIPE = Recipe()


# --- one run --------------------------------------------------------------------------------------


def build(method: str, *, seed: int, exact: bool = True) -> tuple[Any, Any]:
    """The embedded base, ready to be trained by one method, and its tokenizer.

    With exact=False a QLoRA run computes with the dequantised weights in fp32: the same numbers
    (on a CPU bitsandbytes dequantises and multiplies), four times faster, without the saving.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from postlab.models import load_policy
    from postlab.profile import PROJECTIONS
    from postlab.scratch.nf4 import quantize

    kind, _, rank = method.partition("-")
    four_bits = kind == "qlora"
    policy, tokenizer = load_policy("", profile="tiny", bits=4 if four_bits and exact else 32)
    if four_bits and not exact:
        for name, weight in policy.named_parameters():
            if name.rsplit(".", 2)[-2] in PROJECTIONS:
                weight.data = quantize(weight.data, double_quant=True).dequantize()
    if kind == "full":
        return policy.train().requires_grad_(True), tokenizer
    r = int(rank)
    alpha = RECIPE.fixed_alpha if kind in ("fixed", "rslora") else RECIPE.alpha_over_r * r
    torch.manual_seed(seed)
    config = LoraConfig(
        r=r, lora_alpha=alpha, use_rslora=kind == "rslora", task_type="CAUSAL_LM",
        target_modules=list(LAYERS.get(kind, PROJECTIONS)),
    )  # fmt: skip
    return get_peft_model(policy, config).train(), tokenizer


def task_rows(split: str, n: int, seed: int) -> list[dict]:
    """The first n rows of the families that are trained and judged."""
    from postlab.datasets import instruction_rows

    rows = instruction_rows("tinyworld", split=split, n=4 * n, seed=seed)
    return [row for row in rows if row["family"] in FAMILIES][:n]


def encoded(rows: Sequence[dict], tokenizer: Any, size: int) -> list[dict[str, Any]]:
    """Rows as padded batches of `size`."""
    from postlab.chat import encode

    starts = range(0, len(rows), size)
    return [encode(rows[i : i + size], tokenizer, max_length=RECIPE.max_length) for i in starts]


def batch_loss(policy: Any, batch: dict[str, Any]) -> Any:
    """Mean negative log-probability of the trained tokens, nats."""
    from postlab.scratch.losses import sft_loss

    logits = policy(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return sft_loss(logits[:, :-1], batch["input_ids"][:, 1:], batch["loss_mask"][:, 1:])


def train(policy: Any, batches: Sequence[dict[str, Any]], *, lr: float) -> Any:
    """AdamW over the batches, once, the rate warmed up and then linear to nought."""
    import torch

    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    for step, batch in enumerate(batches):
        share = min((step + 1) / RECIPE.warmup, 1 - step / len(batches))
        optimizer.param_groups[0]["lr"] = lr * share
        batch_loss(policy, batch).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def mean_loss(policy: Any, batches: Sequence[dict[str, Any]]) -> float:
    """Nats a trained token, over all of them."""
    import torch

    total, tokens = 0.0, 0
    policy.eval()
    with torch.no_grad():
        for batch in batches:
            count = int(batch["loss_mask"][:, 1:].sum())
            total += batch_loss(policy, batch).item() * count
            tokens += count
    policy.train()
    return total / tokens


def document_loss(policy: Any, tokenizer: Any) -> float:
    """Nats a token on pages like those of pretraining, never seen: what tuning made it forget."""
    from postlab.tinyworld.corpus import documents

    pages = sorted(islice(documents(seed=2), RECIPE.pages), key=len)  # little padding
    how = {"padding": True, "padding_side": "right", "truncation": True, "max_length": 512}
    batches = []
    for start in range(0, len(pages), 16):
        batch = tokenizer(pages[start : start + 16], return_tensors="pt", **how)
        batches.append({**batch, "loss_mask": batch["attention_mask"]})
    return mean_loss(policy, batches)


def right_answers(policy: Any, tokenizer: Any) -> dict[str, str]:
    """By family, a 1 for each held-out prompt that is answered right and a 0 for each other one."""
    from postlab.evals import evaluate

    frame = evaluate(policy, tokenizer, heldout_prompts(RECIPE.prompts, FAMILIES))
    return {
        family: "".join("01"[int(v)] for v in frame.loc[frame["family"] == family, metric])
        for family, metric in FAMILIES.items()
    }


def one_run(method: str, seed: int, lr: float) -> dict[str, Any]:
    """Train and measure one method with one seed, in this process."""
    import bitsandbytes  # noqa: F401  (imported by every method, so that no peak holds an import)
    import peft  # noqa: F401

    tokenizer, batches = training_data(seed)
    before = _reset_peak()
    policy, _ = build(method, seed=seed)
    begun = time.perf_counter()
    optimizer = train(policy, batches, lr=lr)
    measured = {
        "method": method, "seed": seed, "lr": lr,
        "trainable": sum(p.numel() for p in policy.parameters() if p.requires_grad),
        "train_s": round(time.perf_counter() - begun, 1),
        "process_mib": round(_status_mib("VmHWM") - before, 1),
        "memory_mib": memory_mib(policy, optimizer, max(batches, key=_tokens)),
    }  # fmt: skip
    return measured | quality(policy, tokenizer)


def quality_run(method: str, seed: int, lr: float) -> dict[str, Any]:
    """The same run without what it costs: trained in this process, and its quality measured."""
    tokenizer, batches = training_data(seed)
    policy, _ = build(method, seed=seed)
    train(policy, batches, lr=lr)
    trainable = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    entry = {"method": method, "seed": seed, "lr": lr, "trainable": trainable}
    return entry | quality(policy, tokenizer)


def training_data(seed: int) -> tuple[Any, list[dict[str, Any]]]:
    """The tokenizer, and the batches of one seed's run in their order."""
    _, tokenizer = frozen("")
    rows = task_rows("train", RECIPE.steps * RECIPE.batch, seed)
    return tokenizer, encoded(rows, tokenizer, RECIPE.batch)


def quality(policy: Any, tokenizer: Any) -> dict[str, Any]:
    """Held-out loss, loss on documents, and which held-out prompts are answered right."""
    heldout = task_rows("heldout", RECIPE.heldout_rows, 0)
    policy.eval()
    return {
        "loss": round(mean_loss(policy, encoded(heldout, tokenizer, 64)), 5),
        "document_loss": round(document_loss(policy, tokenizer), 5),
        "right": right_answers(policy, tokenizer),
    }


def base_run() -> dict[str, Any]:
    """The same figures for the base, untrained."""
    policy, tokenizer = build("full", seed=0)
    heldout = task_rows("heldout", RECIPE.heldout_rows, 0)
    return {
        "parameters": sum(p.numel() for p in policy.parameters()),
        "loss": round(mean_loss(policy, encoded(heldout, tokenizer, 64)), 5),
        "document_loss": round(document_loss(policy, tokenizer), 5),
    }


def memory_mib(policy: Any, optimizer: Any, batch: dict[str, Any]) -> dict[str, float]:
    """MiB that a training step needs: what is there all the time, counted tensor by tensor, and
    the peak of what one forward and backward pass allocates besides, from torch's own events.
    """
    from torch.profiler import ProfilerActivity, profile

    weights = sum(p.numel() * p.element_size() for p in policy.parameters())
    for parameter in policy.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:  # the constants of a 4-bit weight
            nested = (state.absmax, state.state2.absmax, state.offset)
            weights += sum(t.numel() * t.element_size() for t in nested)
    gradients = sum(p.numel() * p.element_size() for p in policy.parameters() if p.requires_grad)
    moments = [t for state in optimizer.state.values() for t in state.values()]
    batch_loss(policy, batch).backward()  # gradients are there, as from a second micro-batch on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        batch_loss(policy, batch).backward()
    optimizer.zero_grad()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    bytes_by_part = {
        "weights": weights,
        "gradients": gradients,
        "optimizer": sum(t.numel() * t.element_size() for t in moments),
        "activations": max(accumulate(changes)),
    }
    return {name: round(count / 2**20, 3) for name, count in bytes_by_part.items()}


def step_seconds() -> dict[str, float]:
    """Median seconds of a training step by method, the methods taking turns in one process."""
    batches, _ = sweep_data(RECIPE.sweep_seeds[0])
    policies = {method: build(method, seed=0)[0] for method in METHODS}
    taken: dict[str, list[float]] = {method: [] for method in METHODS}
    for turn in range(RECIPE.timed_turns):
        for method, policy in policies.items():
            begun = time.perf_counter()
            train(policy, batches[:4], lr=1e-4)
            if turn:  # the first turn warms up
                taken[method].append((time.perf_counter() - begun) / 4)
    return {method: round(median(seconds), 4) for method, seconds in taken.items()}


def _tokens(batch: dict[str, Any]) -> int:
    return batch["input_ids"].numel()


def _reset_peak() -> float:
    """Forget this process's peak; return what it holds now, MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mib("VmRSS")


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


# --- the learning rates ---------------------------------------------------------------------------


@cache
def sweep_data(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Batches to train on and batches to judge by: both of the training split, other seeds."""
    _, tokenizer = frozen("")
    rows = task_rows("train", RECIPE.sweep_steps * RECIPE.batch, seed)
    judge = task_rows("train", RECIPE.sweep_rows, seed + 1)
    return encoded(rows, tokenizer, RECIPE.batch), encoded(judge, tokenizer, 64)


def sweep_point(method: str, lr: float, seed: int) -> float:
    """Loss on rows drawn with another seed, after a short run with a seed of its own.

    About one in eight of these rows also occurs among those that the run was trained on.
    """
    policy, _ = build(method, seed=seed, exact=False)
    batches, judge = sweep_data(seed)
    train(policy, batches, lr=lr)
    return round(mean_loss(policy, judge), 5)


def sweep(method: str, arms: Arms, key: str) -> dict[float, list[float]]:
    """Losses by learning rate: five rungs of the ladder, and on while the best is at an edge."""
    low, high = START.start, START.stop
    while True:
        losses = {
            lr: [
                arms.result(
                    f"sweep {method} {lr:g} {seed}", key, partial(sweep_point, method, lr, seed)
                )
                for seed in RECIPE.sweep_seeds
            ]
            for lr in LADDER[low:high]
        }
        best = best_rate(losses)
        if best == LADDER[low] and low > 0:
            low -= 1
        elif best == LADDER[high - 1] and high < len(LADDER):
            high += 1
        else:
            return losses


def best_rate(losses: dict[float, list[float]]) -> float:
    """The rate with the lowest loss, seeds averaged."""
    return min(losses, key=lambda lr: sum(losses[lr]))


# --- everything -----------------------------------------------------------------------------------


def fresh_run(method: str, seed: int, lr: float) -> dict[str, Any]:
    """`one_run` in a process of its own."""
    arguments = ("--run", method, "--seed", str(seed), "--lr", repr(lr))
    return in_own_process(__file__, *arguments, **ENVIRONMENT)


def experiment(arms: Arms) -> dict[str, Any]:
    """All learning rates, then all runs; what adapters.json holds."""
    import torch

    key = arm_key({"recipe": asdict(RECIPE), "families": FAMILIES}, *CODE, own=__file__)
    sweeps = {method: sweep(method, arms, key) for method in (*METHODS, *SCALINGS)}
    rates = {method: best_rate(sweeps[method]) for method in METHODS}
    runs = [
        arms.result(f"{m} {seed} {rates[m]:g}", key, partial(fresh_run, m, seed, rates[m]))
        for seed in SEEDS
        for m in METHODS
    ]
    threads = {"threads": torch.get_num_threads()}
    return {
        "provenance": machine_provenance(__file__, seeds=SEEDS) | threads,
        "recipe": asdict(RECIPE),
        "base": arms.result("base", key, base_run),
        "learning_rates": [
            {"method": m, "lr": lr, "losses": losses}
            for m, by_rate in sweeps.items()
            for lr, losses in by_rate.items()
        ],
        "step_s": arms.result("step_s", key, step_seconds),
        "runs": runs,
    }


def more(limit: int | None) -> None:
    """The runs that `--more` adds, in phases; more.json is written after each seed."""
    import torch

    from postlab.storage import atomic_text

    settings = {"recipe": asdict(RECIPE), "families": FAMILIES}
    arms = Arms(__file__, limit=limit, record=MORE, settings=settings)
    key = arm_key(settings, *CODE, own=__file__)
    first = json.loads(TARGET.read_text(encoding="utf-8"))
    if first["recipe"] != json.loads(json.dumps(asdict(RECIPE))):
        raise SystemExit("adapters.json has another recipe: make it again first.")
    rates = {run["method"]: run["lr"] for run in first["runs"]}
    origin = machine_provenance(__file__, seeds=()) | {"threads": torch.get_num_threads()}
    origin["command"] += " --more"
    record: dict[str, Any] = {"provenance": origin, **settings, "learning_rates": [], "runs": []}
    record |= arms.history()
    runs: list[dict[str, Any]] = []

    def train_one(method: str, seed: int) -> dict[str, Any]:
        lr = rates[method]
        name = f"more {method} {seed} {lr:g}"
        return arms.result(name, key, partial(quality_run, method, seed, lr))

    def add(methods: Sequence[str], seeds: Sequence[int]) -> None:
        for seed in seeds:
            for method in methods:
                which = {"method": method, "seed": seed}
                kept = arms.kept("runs", which, lr=rates[method])
                runs.append(kept or train_one(method, seed))
            record["runs"] = arms.with_kept("runs", runs, "method", "seed")
            origin["seeds"] = sorted({entry["seed"] for entry in record["runs"]})
            atomic_text(MORE, as_text(record))

    # 1. Does this machine give what the first record has?
    again = train_one(*REPEATED)
    there = next(r for r in first["runs"] if (r["method"], r["seed"]) == REPEATED)
    record["repeated"] = {
        "method": REPEATED[0], "seed": REPEATED[1],
        "loss": [there["loss"], again["loss"]], "same_answers": there["right"] == again["right"],
    }  # fmt: skip
    # 2. More seeds of two methods, then of two others.
    for pair in PAIRS:
        add(pair, MORE_SEEDS)
    # 3. Adapters on some of the layers, at their own rates.
    for method in LAYER_ARMS:
        losses = sweep(method, arms, key)
        rates[method] = best_rate(losses)
        record["learning_rates"] += [
            {"method": method, "lr": lr, "losses": values} for lr, values in losses.items()
        ]
    add(LAYER_ARMS, LAYER_SEEDS)


def as_text(result: dict[str, Any]) -> str:
    """JSON with a line a row of each list: it reads well, in a diff too."""
    parts = []
    for name, value in result.items():
        rows = [json.dumps(row) for row in value] if isinstance(value, list) else []
        text = "[\n  " + ",\n  ".join(rows) + "\n ]" if rows else json.dumps(value)
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    options = command_line(
        __doc__,
        run={"choices": METHODS, "help": "one run in this process, as JSON"},
        seed={"type": int, "default": 0},
        lr={"type": float, "default": 3e-3},
        more={"action": "store_true", "help": "more seeds, and adapters on some of the layers"},
    )
    os.environ.update(ENVIRONMENT)
    if options.run:
        print("\n" + json.dumps(one_run(options.run, options.seed, options.lr)))
        return
    if options.more:
        more(options.runs)
        return
    from postlab.storage import atomic_text

    atomic_text(TARGET, as_text(experiment(Arms(__file__, limit=options.runs))))


if __name__ == "__main__":
    main()
