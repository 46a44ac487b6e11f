"""Week 5's recorded experiment: learning rate and beta of DPO, and the losses beside DPO, trained.

    python notebooks/experiments/week05_losses.py

Short runs of TRL's trainers from the shipped tiny SFT adapter. All runs have the week's recipe
(optimiser, LoRA, batches of pairs from the same generator) but the loss, and the same number of
pairs and updates. Three parts:

- the grid: plain DPO with every combination of rate and beta, one seed, measured on tuning prompts
  and on held-out ones, with the trainer's log and what the doctor says about it
- the trials: each loss with two rates and two values of its beta, the same seed, on tuning prompts
  only; DPO's four trials are cells of the grid
- the comparison: each loss with its best trial's rate and beta, several seeds, held-out prompts

Tuning prompts are held-out prompts that no result uses. The score that trials are chosen by is the
mean of six shares, one per family of tasks. A seed decides the pairs and their order, the same for
all losses (KTO gets the same pairs as single replies); every run starts from the SFT of seed 0.

Two losses of the week's table are left out: cDPO, which DPOTrainer doesn't offer by name, and
APO-down, which assumes that the policy is already better than the chosen replies. Here the chosen
replies are right by construction.

Every finished run is kept under `runs/week05-losses/`. The result is
data/results/week05/losses.json; its runs are kept when seeds are added, and `earlier` says where
they were made.
"""

from __future__ import annotations

import tempfile
import time
from functools import cache, partial
from typing import Any

from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    metric_series,
    minutes,
    policy,
    shipped,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week05" / "losses.json"
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 100
CODE = ("tinyworld", "evals.evaluation", "sampling.rollout", "sampling.kl")
SETTINGS: dict[str, Any] = {
    "steps": 24, "pairs_a_step": 8, "warmup_steps": 4,
    "tuning_prompts_a_family": 30, "heldout_prompts_a_family": 50,
}  # fmt: skip
GRID = {"rates": (1e-4, 4e-4, 1.6e-3, 6.4e-3), "betas": (0.05, 0.5, 5.0)}
RATES = (4e-4, 1.6e-3)  # of the trials
FLIPPED = 0.1  # the share of flipped labels that robust assumes; here no label is flipped
# What sets each loss apart, and the two values of its beta that were tried.
LOSSES: dict[str, dict[str, Any]] = {
    "DPO": {"trainer": "dpo", "loss_type": ["sigmoid"], "betas": (0.05, 0.5)},
    "IPO": {"trainer": "dpo", "loss_type": ["ipo"], "betas": (0.1, 1.0)},
    "hinge": {"trainer": "dpo", "loss_type": ["hinge"], "betas": (0.05, 0.5)},
    "robust": {"trainer": "dpo", "loss_type": ["robust"], "label_smoothing": FLIPPED,
               "betas": (0.05, 0.5)},
    "SimPO": {"trainer": "cpo", "loss_type": "simpo", "cpo_alpha": 0.0, "betas": (2.0, 10.0)},
    "ORPO": {"trainer": "orpo", "betas": (0.1, 1.0)},
    "KTO": {"trainer": "kto", "loss_type": "kto", "betas": (0.05, 0.5)},
    "APO-zero": {"trainer": "dpo", "loss_type": ["apo_zero"], "betas": (0.05, 0.5)},
}  # fmt: skip
OURS = ("trainer", "betas")  # the entries above that are no argument of a trainer
FAMILIES = ("arithmetic", "lists", "facts", "helpfulness", "safety", "honesty")  # by their metric
METRICS = (*FAMILIES, "over_refusal", "length", "kl")
LOGGED = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")


@cache
def prompts(part: str) -> list[dict[str, Any]]:
    """The first held-out prompts of every family, or the last, which serve for tuning."""
    from postlab.tinyworld.tasks import FAMILIES as families
    from postlab.tinyworld.tasks import MOST_PROMPTS, heldout_suite

    n = SETTINGS[f"{part}_prompts_a_family"]
    rows = [r for r in heldout_suite(n=MOST_PROMPTS) if r.get("temperature", 0) == 0]
    of = {family: [r for r in rows if r["family"] == family] for family in families}
    return [r for f in families for r in (of[f][-n:] if part == "tuning" else of[f][:n])]


def score(measured: dict[str, list]) -> float:
    """The mean of the six families' shares."""
    return sum(sum(measured[name]) / len(measured[name]) for name in FAMILIES) / len(FAMILIES)


def answers(model: Any, tokenizer: Any, part: str) -> Any:
    """The frame of answers to a part's prompts; with the KL from SFT on held-out prompts only."""
    from postlab.evals import evaluate

    model.set_adapter("default")
    return evaluate(model, tokenizer, prompts(part), ref="ref" if part == "heldout" else None)


def measure(model: Any, tokenizer: Any, part: str) -> dict[str, list]:
    """Each metric of every prompt of a part."""
    return metric_series(answers(model, tokenizer, part), METRICS)


def arguments(loss: str, rate: float, beta: float) -> dict[str, Any]:
    """All of the trainer's arguments but `output_dir` and `seed`."""
    recipe = dict(get_profile("tiny").dpo.trainer)
    for name in ("loss_type", "loss_weights", "beta"):
        recipe.pop(name)
    spec = {name: value for name, value in LOSSES[loss].items() if name not in OURS}
    if loss == "KTO":
        spec["train_sampling_strategy"] = "sequential"  # the trainer asks for it
    if loss == "SimPO":
        spec["simpo_gamma"] = beta / 2  # the paper's ratio of gamma to beta, 0.5 nats a token
    single = 2 if LOSSES[loss]["trainer"] == "kto" else 1  # its batch counts replies, not pairs
    return {
        **recipe, **spec, "beta": beta, "learning_rate": rate, "save_strategy": "no",
        "max_steps": SETTINGS["steps"], "warmup_steps": SETTINGS["warmup_steps"],
        "per_device_train_batch_size": single * SETTINGS["pairs_a_step"], "logging_steps": 1,
    }  # fmt: skip


def trainer_of(loss: str, model: Any, tokenizer: Any, rows: list, args: dict[str, Any]) -> Any:
    """TRL's trainer of a loss, ready to train."""
    import trl
    from datasets import Dataset
    from trl.data_utils import unpair_preference_dataset
    from trl.experimental import cpo, orpo

    from postlab.sampling import end_of_turn, render

    kind = LOSSES[loss]["trainer"]
    trainer, config = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig), "kto": (trl.KTOTrainer, trl.KTOConfig),
        "cpo": (cpo.CPOTrainer, cpo.CPOConfig), "orpo": (orpo.ORPOTrainer, orpo.ORPOConfig),
    }[kind]  # fmt: skip
    rows = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    if kind in ("cpo", "orpo"):
        # Given messages, these two add a second end of turn after the template's last newline.
        end = tokenizer.decode([end_of_turn(tokenizer)])
        rows = [
            {"prompt": render(tokenizer, row["prompt"])}
            | {side: row[side][0]["content"] + end for side in ("chosen", "rejected")}
            for row in rows
        ]
    dataset = Dataset.from_list(rows)
    if kind == "kto":  # it takes the rows in their order, which is: all chosen, then all rejected
        dataset = unpair_preference_dataset(dataset).shuffle(seed=args["seed"])
    return trainer(
        model=model, processing_class=tokenizer, train_dataset=dataset, args=config(**args)
    )


def run(loss: str, rate: float, beta: float, seed: int, parts: tuple[str, ...]) -> dict[str, Any]:
    """Train one loss with one rate, beta and seed, and measure it on some parts of the prompts."""
    from postlab.datasets import preference_rows
    from postlab.doctor import diagnose
    from postlab.runs import without_padding

    # 1. Train on this seed's pairs.
    count = SETTINGS["steps"] * SETTINGS["pairs_a_step"]
    rows = list(preference_rows("tinyworld", split="train", n=count, seed=seed))
    model, tokenizer = policy(shipped("sft"))
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        args = arguments(loss, rate, beta) | {"output_dir": folder, "seed": seed}
        trainer = trainer_of(loss, model, tokenizer, rows, args)
        with without_padding(trainer.model):
            trainer.train()
    cpu_s = time.process_time() - begun

    # 2. Measure it. Losses without a reference have no adapter "ref" yet, which the KL needs.
    model, log = trainer.model.eval(), trainer.state.log_history
    if "ref" not in model.peft_config:
        model.load_adapter(shipped("sft"), adapter_name="ref")
    frames = {part: answers(model, tokenizer, part) for part in parts}
    measured = {part: metric_series(frame, METRICS) for part, frame in frames.items()}
    last = frames[parts[-1]].groupby("family", sort=False).head(1)

    # 3. The log, rounded, and what the doctor reads from the whole of it.
    entries = [entry for entry in log if "rewards/margins" in entry]
    logged = [name for name in LOGGED if all(name in entry for entry in entries)]
    kept = {name: listed(entry[name] for entry in entries) for name in logged}
    found = [
        {"code": f.code, "severity": f.severity, "evidence": f.evidence} for f in diagnose(log)
    ]
    return {
        "loss": loss, "rate": rate, "beta": beta, "seed": seed, **measured,
        "samples": last[["family", "prompt", "answer"]].to_dict("records"),
        "log": kept, "doctor": found, "cpu_s": round(cpu_s, 1),
    }  # fmt: skip


def start() -> dict[str, Any]:
    """What the SFT stage that all runs start from scores."""
    model, tokenizer = policy(shipped("sft"))
    model.load_adapter(shipped("sft"), adapter_name="ref")
    return {part: measure(model.eval(), tokenizer, part) for part in ("tuning", "heldout")}


def main() -> None:
    recipe = dict(get_profile("tiny").dpo.trainer)
    weights = {"sft": adapter_hash("sft")}
    settings = {"settings": SETTINGS, "losses": LOSSES, "recipe": recipe, "weights": weights}
    limit = command_line(__doc__).runs
    arms = Arms(__file__, limit=limit, record=TARGET, settings=settings)
    base = {
        "settings": SETTINGS,
        "metrics": METRICS,
        "logged": LOGGED,
        "start": weights["sft"],
    }
    trained: list[dict[str, Any]] = []  # in addition to the runs that are kept

    def result(name: str, loss: str, rate: float, beta: float, seed: int, *parts: str) -> dict:
        depends_on = base | {"loss": LOSSES[loss], "arguments": arguments(loss, rate, beta)}
        key = arm_key(depends_on | {"parts": parts}, *CODE, own=__file__)
        trained.append(
            arms.result(f"{name} {loss} {rate:g} {beta:g} {seed}", key,
                        partial(run, loss, rate, beta, seed, parts))
        )  # fmt: skip
        return trained[-1]

    record: dict[str, Any] = {"settings": SETTINGS, "grid_of": GRID, "rates": RATES}
    record |= {"tuning_seed": TUNING_SEED, "losses": LOSSES, "families": FAMILIES}
    record |= {"recipe": recipe, "weights": weights}
    record["start"] = arms.record.get("start") or arms.result(
        "start", arm_key(base, *CODE, own=__file__), start
    )

    # 1. The grid.
    record["grid"] = [
        arms.kept("grid", {"rate": rate, "beta": beta}, loss="DPO", seed=TUNING_SEED)
        or result("grid", "DPO", rate, beta, TUNING_SEED, "tuning", "heldout")
        for rate in GRID["rates"]
        for beta in GRID["betas"]
    ]

    # 2. The trials; DPO's are taken from the grid.
    cells = {("DPO", one["rate"], one["beta"]): one for one in record["grid"]}
    record["trials"], record["best"] = [], {}
    for loss, spec in LOSSES.items():
        rows = []
        for rate in RATES:
            for beta in spec["betas"]:
                which = {"loss": loss, "rate": rate, "beta": beta}
                row = arms.kept("trials", which)
                if row is None:
                    one = cells.get((loss, rate, beta))
                    one = one or result("trial", loss, rate, beta, TUNING_SEED, "tuning")
                    row = which | {"score": round(score(one["tuning"]), 4)}
                rows.append(row)
        record["trials"] += rows
        record["best"][loss] = max(rows, key=lambda row: row["score"])

    # 3. The comparison on held-out prompts.
    record["runs"] = []
    for seed in SEEDS:
        for loss, row in record["best"].items():
            rate, beta = row["rate"], row["beta"]
            one = arms.kept("runs", {"loss": loss, "seed": seed}, rate=rate, beta=beta)
            one = one or result("final", loss, rate, beta, seed, "heldout")
            record["runs"].append({k: v for k, v in one.items() if k not in ("log", "samples")})
    earlier = arms.record.get("provenance", {}).get("training_cpu_minutes", 0)
    spent = round(earlier + minutes(one["cpu_s"] for one in trained), 1)
    write_record(__file__, TARGET, record | arms.history(), seeds=SEEDS, training_cpu_minutes=spent)


if __name__ == "__main__":
    main()
