"""Week 5's recorded experiment: DPO on pairs from the policy itself, against pairs from elsewhere.

    python notebooks/experiments/week05_onpolicy.py

Three sources of pairs for the same training, from the shipped tiny SFT adapter:

- "offline": the embedded world's own pairs, whose chosen reply is always a right one and whose
  rejected reply is a typical mistake, whatever the policy would say
- "on-policy once": replies of the SFT model to training prompts, sampled before training; the
  world's oracle says which are right, and a prompt with right and wrong replies makes a pair
- "iterative": the same, but sampled again from the current policy in every round

Every arm trains in the same rounds with the same number of pairs and updates. A round starts with a
new optimiser and with the current policy as its reference, and has a constant rate after warm-up.
So the arms differ in their pairs only. They differ in cost as well: "offline" samples nothing.

Each arm has two rates to choose from, with one tuning seed and on tuning prompts (as in
week05_losses.py, whose held-out prompts are used here, too). A seed decides prompts, order and
samples. Every finished run is kept under `runs/week05-onpolicy/`; the result is written to
data/results/week05/onpolicy.json.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from functools import partial
from typing import Any

from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    functions_of,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)
from week05_losses import FAMILIES, TUNING_SEED, measure, score
from week05_losses import __file__ as measured_by

from postlab.profile import get_profile

TARGET = RESULTS / "week05" / "onpolicy.json"
SEEDS = tuple(range(8))
CODE = ("tinyworld", "evals.evaluation", "sampling.rollout", "sampling.kl")
SETTINGS: dict[str, Any] = {
    "rounds": 3, "steps_a_round": 8, "pairs_a_step": 8, "warmup_steps": 2, "beta": 0.5,
    "samples": 4, "temperature": 1.0, "prompts_at_a_time": 64, "most_prompts": 1280,
}  # fmt: skip
RATES = (4e-4, 1.6e-3)
ARMS = ("offline", "on-policy once", "iterative")


def arguments(rate: float) -> dict[str, Any]:
    """All of the trainer's arguments but `output_dir` and `seed`, for one round."""
    return {
        **get_profile("tiny").dpo.trainer, "loss_type": ["sigmoid"], "loss_weights": None,
        "beta": SETTINGS["beta"], "learning_rate": rate, "save_strategy": "no",
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": SETTINGS["warmup_steps"],
        "max_steps": SETTINGS["steps_a_round"],
        "per_device_train_batch_size": SETTINGS["pairs_a_step"], "logging_steps": 1,
    }  # fmt: skip


def right_or_not(prompt: list[dict], answer: str, closed: bool) -> dict[str, float]:
    """The oracle's verdict on an answer, as a metric; an answer that didn't end is wrong."""
    from postlab.tinyworld.oracle import judge

    row = {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}
    return {"right": float(closed and bool(judge(row)))}


def sampled_pairs(
    model: Any, tokenizer: Any, stream: list[dict], count: int, seed: int
) -> tuple[list[dict], dict[str, Any]]:
    """Pairs of a right and a wrong reply that the policy gave to the same prompt.

    Args:
        stream: rows with the prompts to ask; those used up are removed from it.
        count: how many pairs.
    Returns:
        The pairs, and what they cost: prompts, and the share of all replies that were right.
    """
    from postlab.evals import evaluate

    at_a_time = SETTINGS["prompts_at_a_time"]
    rng, pairs, asked, right = random.Random(seed), [], 0, []
    while len(pairs) < count:
        if asked >= SETTINGS["most_prompts"]:
            raise RuntimeError(f"{len(pairs)} of {count} pairs after {asked} prompts")
        rows, stream[:] = stream[:at_a_time], stream[at_a_time:]
        suite = [
            {"id": f"{asked + i}", "family": row["family"], "prompt": row["prompt"],
             "score": partial(right_or_not, row["prompt"]), "kl": False, "max_new_tokens": 72}
            for i, row in enumerate(rows)
        ]  # fmt: skip
        answers = evaluate(
            model, tokenizer, suite, seed=seed,
            temperature=SETTINGS["temperature"], samples=SETTINGS["samples"],
        )  # fmt: skip
        asked += len(rows)
        right += answers["right"].tolist()
        for row, (_, group) in zip(rows, answers.groupby("id", sort=False), strict=True):
            good = group[(group["right"] == 1)]["answer"].tolist()
            bad = group[(group["right"] == 0) & (group["answer"] != "")]["answer"].tolist()
            if good and bad and len(pairs) < count:
                texts = {"chosen": rng.choice(good), "rejected": rng.choice(bad)}
                pairs.append(row | {side: [{"role": "assistant", "content": text}]
                                    for side, text in texts.items()})  # fmt: skip
    return pairs, {"prompts": asked, "right": round(sum(right) / len(right), 3)}


def run(arm: str, rate: float, seed: int, part: str) -> dict[str, Any]:
    """Train one arm with one rate and seed in rounds, and measure it on a part of the prompts."""
    from postlab.datasets import preference_rows

    size = SETTINGS["steps_a_round"] * SETTINGS["pairs_a_step"]
    count = size * SETTINGS["rounds"]
    most = SETTINGS["most_prompts"] * SETTINGS["rounds"]
    stream = list(preference_rows("tinyworld", split="train", n=most, seed=seed))
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        start, rounds, shown, ready = shipped("sft"), [], [], []
        for number in range(SETTINGS["rounds"]):
            # 1. This round's pairs.
            model, tokenizer = policy(start)
            cost: dict[str, Any] = {}
            if arm == "offline" and not ready:
                ready = stream[:count]
            if arm == "on-policy once" and not ready:
                ready, cost = sampled_pairs(model.eval(), tokenizer, stream, count, seed)
            if arm == "iterative":
                ready, cost = sampled_pairs(model.eval(), tokenizer, stream, size, seed)
            pairs, ready = ready[:size], ready[size:]
            tokens = {
                side: sum(len(tokenizer(p[side][0]["content"])["input_ids"]) for p in pairs) / size
                for side in ("chosen", "rejected")
            }
            rounds.append(
                {"families": dict(Counter(p["family"] for p in pairs)), **cost}
                | {f"{side} tokens": round(mean, 2) for side, mean in tokens.items()}
            )
            shown += [
                {"round": number + 1, "family": p["family"], "prompt": p["prompt"][0]["content"]}
                | {side: p[side][0]["content"] for side in ("chosen", "rejected")}
                for p in pairs[:6]
            ]

            # 2. A round of DPO, with the current policy as its reference.
            args = arguments(rate)
            trained = train("dpo", model.train(), tokenizer, pairs, seed=seed, arguments=args,
                            packed=True)  # fmt: skip
            start = f"{folder}/{number}"
            trained.model.save_pretrained(start, selected_adapters=["default"])
            tokenizer.save_pretrained(start)
    cpu_s = time.process_time() - begun

    # 3. Measure it, with the KL from SFT.
    model = trained.model.eval()
    model.delete_adapter("ref")
    model.load_adapter(shipped("sft"), adapter_name="ref")
    return {
        "arm": arm, "rate": rate, "seed": seed, part: measure(model, tokenizer, part),
        "rounds": rounds, "pairs": shown if seed == 0 else [], "cpu_s": round(cpu_s, 1),
    }  # fmt: skip


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    measuring = [functions_of(measured_by)[name] for name in ("prompts", "measure", "score")]

    def result(name: str, arm: str, rate: float, seed: int, part: str) -> dict[str, Any]:
        base = {"settings": SETTINGS, "arguments": arguments(rate), "part": part}
        base |= {"measuring": measuring}
        key = arm_key(base | {"start": adapter_hash("sft")}, *CODE, own=__file__)
        return arms.result(
            f"{name} {arm} {rate:g} {seed}", key, partial(run, arm, rate, seed, part)
        )

    record: dict[str, Any] = {"settings": SETTINGS, "rates": RATES, "tuning_seed": TUNING_SEED}
    tried = [result("trial", arm, rate, TUNING_SEED, "tuning") for arm in ARMS for rate in RATES]
    record["families"] = FAMILIES
    record["trials"] = [
        {"arm": one["arm"], "rate": one["rate"], "score": round(score(one["tuning"]), 4)}
        for one in tried
    ]
    best = {
        arm: max((row for row in record["trials"] if row["arm"] == arm), key=lambda r: r["score"])
        for arm in ARMS
    }
    record["best"], record["runs"] = {arm: row["rate"] for arm, row in best.items()}, []
    for seed in SEEDS:
        record["runs"] += [
            result("final", arm, rate, seed, "heldout") for arm, rate in record["best"].items()
        ]
        spent = minutes(one["cpu_s"] for one in tried + record["runs"])
        done = SEEDS[: SEEDS.index(seed) + 1]
        write_record(__file__, TARGET, record, seeds=done, training_cpu_minutes=spent)


if __name__ == "__main__":
    main()
