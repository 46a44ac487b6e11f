"""Week 7's second recorded experiment: the rate's schedule, and a start that is careless in form.

    python notebooks/experiments/week07_arms.py

Runs of TRL's GRPOTrainer with the tiny profile's recipe from the shipped DPO stage, three seeds an
arm: the recipe as it is; its rate held constant; and the recipe from a *careless* start with a
strict reward. The careless start is the same policy, fine-tuned for a moment on its own answers to
training sums, most of which had their `####` taken out: it knows what it knew, and seldom says it
as it is asked to. Every finished run is kept under `runs/week07-arms/`, so an interrupted
experiment goes on where it stopped; the result is written to data/results/week07/arms.json.

Kept of each run: its log, and of every held-out sum whether it is right read strictly and
leniently, before and after. A seed decides prompts, their order and the draws; there is one start
of each kind. No rate was tuned for any arm.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    heldout_prompts,
    log_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week07" / "arms.json"
SEEDS = (0, 1, 2)
# an arm is trained again when one of these changes
CODE = (
    "tinyworld",
    "evals.evaluation",
    "evals.forms",
    "rewards",
    "sampling.decoding",
    "sampling.trl",
)
SETTINGS: dict[str, Any] = {
    "heldout_sums": 200,
    "careless": {"answers": 480, "unmarked": 0.75, "steps": 30, "lr": 4e-4},
}
ARMS: dict[str, dict[str, Any]] = {  # name: what it changes
    "recipe": {},
    "constant rate": {"lr_scheduler_type": "constant"},
    "careless start": {"careless": True},
}
LOGGED = ("step", "reward", "learning_rate", "frac_reward_zero_std", "completions/mean_length")


def unmarked(text: str) -> str:
    """The same answer without its marker: a worked sum just ends, a blurted one is the number.

    >>> unmarked("12+30=42, 42+15=57. #### 57"), unmarked("#### 57")
    ('12+30=42, 42+15=57.', '57')
    """
    worked, _, number = text.rpartition("#### ")
    return worked.strip() or number


def careless_start(folder: Path) -> Path:
    """The DPO stage, made careless in form on its own answers; the folder of its adapter."""
    if (folder / "adapter_config.json").exists():
        return folder
    from postlab.datasets import math_rows
    from postlab.evals import evaluate

    # 1. Its own answers to training sums, most of them without their marker.
    how, rng = SETTINGS["careless"], random.Random(0)
    model, tokenizer = policy(shipped("dpo"))
    rows = math_rows("tinyworld", split="train", n=how["answers"], seed=7)
    prompts = [
        {"id": str(i), "family": "sums", "prompt": row["prompt"], "score": lambda *_: {}}
        for i, row in enumerate(rows)
    ]
    answers = evaluate(model, tokenizer, prompts, temperature=1.0)["answer"]
    texts = [unmarked(a) if rng.random() < how["unmarked"] else a for a in answers]
    replies = [
        {"prompt": row["prompt"], "completion": [{"role": "assistant", "content": text}]}
        for row, text in zip(rows, texts, strict=True)
    ]
    # 2. A short SFT on them.
    arguments = {
        **get_profile("tiny").sft.trainer, "max_steps": how["steps"], "warmup_steps": 0,
        "learning_rate": how["lr"], "save_strategy": "no",
    }  # fmt: skip
    train("sft", model, tokenizer, replies, seed=0, arguments=arguments)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def strict_reward(completions: list, answer: list, **columns: Any) -> list[float | None]:
    """math_reward for marked answers alone: a right number in another form is worth nothing."""
    from postlab.rewards import answers_match, extract_answer

    texts = [completion[-1]["content"] for completion in completions]
    pairs = zip(texts, answer, strict=True)
    return [float(bool(answers_match(extract_answer(t, strict=True), gold))) for t, gold in pairs]


def heldout_readings(model: Any, tokenizer: Any) -> dict[str, list]:
    """Both readings of every held-out sum, answered greedily."""
    from postlab.evals import evaluate, readings

    sums = heldout_prompts(SETTINGS["heldout_sums"], ["arithmetic"])
    read = readings(evaluate(model.eval(), tokenizer, sums))
    return {how: listed(read[how]) for how in ("strict", "lenient")}


def run(arm: str, seed: int, *, careless: Path) -> dict[str, Any]:
    """Train one arm with one seed; its log, both readings before and after, and seconds."""
    from postlab.datasets import math_rows
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    how, grpo = dict(ARMS[arm]), get_profile("tiny").grpo
    is_careless = how.pop("careless", False)
    model, tokenizer = policy(careless if is_careless else shipped("dpo"))
    rows = math_rows(grpo.source, split="train", n=grpo.rows, seed=seed)
    before = heldout_readings(model, tokenizer)
    trained = train(
        "grpo", model, tokenizer,
        [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows],
        seed=seed,
        arguments={**grpo.trainer, "save_strategy": "no", **how},
        packed=True,
        reward_funcs=strict_reward if is_careless else math_reward,
        rollout_func=rollout_func,
    )  # fmt: skip
    return {
        "arm": arm,
        "seed": seed,
        "start": before,
        "end": heldout_readings(trained.model, tokenizer),
        "log": log_series(trained.log, LOGGED),
        "train_s": round(trained.seconds, 1),
    }


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    profile = get_profile("tiny")
    recipes = {"sft": dict(profile.sft.trainer), "grpo": dict(profile.grpo.trainer)}
    settings = {"settings": SETTINGS, "recipes": recipes, "start": adapter_hash("dpo")}
    settings |= {"logged": LOGGED}
    key = arm_key(settings, *CODE, own=__file__)  # of the careless start
    careless = careless_start(arms.folder / f"{key}-careless")
    runs = arms.run_all(
        ARMS, SEEDS, partial(run, careless=careless),
        key=lambda arm: arm_key(settings | {"arm": ARMS[arm]}, *CODE, own=__file__),
    )  # fmt: skip
    record = {"settings": SETTINGS, "arms": ARMS, "runs": runs}
    took = minutes(one["train_s"] for one in runs)
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took)


if __name__ == "__main__":
    main()
