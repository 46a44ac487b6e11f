"""Week 10's recorded experiment: credit for steps, with room to differ from the outcome.

    python notebooks/experiments/week10_credit_long.py

In week10_credit.py, all forms of credit led to nearly the same policy: 16 steps at a low rate, from
a start whose wrong replies were mostly blurted answers, which are a single step. With a residual
standard deviation of 0.2 to 0.3 points over its seeds, that design could have detected about a
point, but the policies had no room to differ by one. This design gives them room:

- *the start* is the shipped tiny GRPO stage, which works out nearly all of its sums;
- *the task* is sums of five and six terms at temperature 1.5, in training and in the looks. On 24
  training prompts of each size (8 replies per prompt), the start is right on 60% and 34%, 6% of the
  replies are blurted, and the first wrong step is spread over all steps. At temperature 1, 83% and
  67% of the groups had no variance. At most 2% of sums of seven or eight terms were right;
- 48 steps in place of 16, a rate chosen for each arm, five seeds in place of three, and two samples
  of each held-out prompt in place of one.

Arms: *outcome* and *to go*, as in week10_credit.py, whose trainer and checker this script uses.
(The third form there, *lowest to go*, was cut for time before any run.) *Rates*: each arm was
trained with three rates on a tuning seed (100), and measured on tuning prompts (training numbers,
no prompt of the looks). The one with the highest mean share right over its looks is taken for the
arm. All of that is in the record.

A look is the 120 held-out prompts of week10_credit.py, two samples each, every twelve steps. The
measure is the mean share right over the looks after the start; the share right at the end and that
at temperature 1 at the end are recorded as well. All arms of a seed see the same prompts.

Before the tuning runs, one run each of *outcome* and *to go* (rate 3e-4, seed 200) on the tuning
looks timed the design; both ended at 70% right. They have no record.

Every finished run is stored, so an interrupted experiment goes on where it stopped.
"""

from __future__ import annotations

import random
import tempfile
import time
from functools import partial
from typing import Any

import numpy as np
import week10_credit as base
from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    calling,
    command_line,
    functions_of,
    log_series,
    minutes,
    policy,
    shipped,
    write_record,
)
from week10_prm import Messages, right, sums

from postlab import process
from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "week10" / "credit_long.json"
SEEDS, TUNING_SEEDS = (0, 1, 2, 3, 4), (100,)
START, RATES = "grpo", (3e-4, 1e-3, 3e-3)
ARMS: dict[str, dict[str, Any]] = {
    "outcome": {},
    "to go": {"form": "to_go"},
}
SETTINGS: dict[str, Any] = {
    "temperature": 1.5,
    "looks": {"prompts": 120, "samples": 2, "every": 12, "new_tokens": 96},
    "tuning looks": {"prompts": 60, "samples": 3, "every": 16, "new_tokens": 96},
    "grpo": {
        "max_steps": 48, "per_device_train_batch_size": 32, "temperature": 1.5,
        "max_completion_length": 96, "save_strategy": "no",
    },
}  # fmt: skip


def look_prompts(kind: str) -> list[Messages]:
    """The prompts of the looks: held-out ones, or tuning prompts with training numbers."""
    count = SETTINGS[kind]["prompts"]
    if kind == "looks":
        return base.prompts_of("heldout", count, "looks")
    texts = sums(
        random.Random("week 10 credit tuning looks"), count, base.SETTINGS["terms"], heldout=False
    )
    return [[{"role": "user", "content": text}] for text in texts]


def look(model: Any, tokenizer: Any, step: int, kind: str, *, temperature: float) -> dict[str, Any]:
    """Sampled answers: right or not, and whether they were blurted."""
    how, prompts = SETTINGS[kind], look_prompts(kind)
    was = model.training
    replies = process.sample_solutions(
        model.eval(), tokenizer, prompts, n=how["samples"], temperature=temperature,
        new_tokens=how["new_tokens"], seed=0,
    )  # fmt: skip
    model.train(was)
    flat = [(p, x) for p, group in zip(prompts, replies, strict=True) for x in group]
    return {
        "step": step,
        "right": [int(right(p, x)) for p, x in flat],
        "blurted": [int(len(process.split_steps(x)) < 2) for _, x in flat],
        "answers": [[p[-1]["content"], x] for p, x in flat[:3]],
    }


def arguments(rate: float) -> dict[str, Any]:
    """GRPO's arguments, all but `output_dir` and `seed`."""
    return {**get_profile("tiny").grpo.trainer, **SETTINGS["grpo"], "learning_rate": rate}


def run(arm: str, rate: float, seed: int, kind: str) -> dict[str, Any]:
    """Train one arm at one rate with one seed, and look at it on the way."""
    from datasets import Dataset
    from trl import GRPOConfig

    from postlab.sampling import rollout_func

    model, tokenizer = policy(shipped(START))
    config, begun = arguments(rate), time.process_time()
    looks: list[dict[str, Any]] = []
    hot, every = SETTINGS["temperature"], SETTINGS[kind]["every"]
    groups = config["per_device_train_batch_size"] // config["num_generations"]
    prompts = base.prompts_of("train", config["max_steps"] * groups, f"long {seed}")
    with tempfile.TemporaryDirectory() as folder:
        trainer = base.trainer_class()(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            reward_funcs=[base.outcome, base.sum_of_steps],
            rollout_func=rollout_func,
            args=GRPOConfig(
                output_dir=folder, seed=seed, **(config | {"reward_weights": [1.0, 0.0]})
            ),
        )
        trainer.form = ARMS[arm].get("form")

        def after_step(trainer: Any, step: int) -> None:
            if step % every == 0:
                looks.append(look(trainer.model, tokenizer, step, kind, temperature=hot))

        trainer.add_callback(calling(after_step, trainer))
        trainer.train()
    result = {"arm": arm, "rate": rate, "seed": seed, "looks": looks}
    if kind == "looks":
        last = SETTINGS["grpo"]["max_steps"]
        result["at temperature 1"] = look(trainer.model, tokenizer, last, kind, temperature=1.0)
        result["log"] = log_series(trainer.state.log_history, base.LOGGED)
    return result | {"cpu_seconds": round(time.process_time() - begun, 1)}


def at_start() -> dict[str, Any]:
    """The looks before any training, the same for all arms and seeds."""
    model, tokenizer = policy(shipped(START))
    hot = SETTINGS["temperature"]
    first = look(model, tokenizer, 0, "looks", temperature=hot)
    first["at temperature 1"] = look(model, tokenizer, 0, "looks", temperature=1.0)
    tuning = look(model, tokenizer, 0, "tuning looks", temperature=hot)
    return first | {"tuning": tuning["right"]}


def mean_right(one: dict[str, Any]) -> float:
    """The mean share right over a run's looks."""
    return float(np.mean([np.mean(look["right"]) for look in one["looks"]]))


def main() -> None:
    arms, begin = Arms(__file__, limit=command_line(__doc__).runs), adapter_hash(START)
    common = {
        "settings": SETTINGS, "start": begin, "log": base.LOGGED, "arguments": arguments(0.0),
        "base": [base.SETTINGS["terms"], functions_of(base.__file__)],
    }  # fmt: skip

    def stored(arm: str, rate: float, seed: int, kind: str) -> dict[str, Any]:
        settings = common | {"arm": ARMS[arm], "rate": rate, "kind": kind}
        key = arm_key(settings, *base.CODE, own=__file__)
        return arms.result(f"{kind} {arm} {rate} {seed}", key, partial(run, arm, rate, seed, kind))

    before = arms.result("start", arm_key(common, *base.CODE, own=__file__), at_start)
    # 1. A rate for each arm, on tuning prompts.
    tried, chosen = [], {}
    for arm in ARMS:
        for rate in RATES:
            runs = [stored(arm, rate, seed, "tuning looks") for seed in TUNING_SEEDS]
            shares = [[float(np.mean(one["right"])) for one in run["looks"]] for run in runs]
            tried.append(
                {"arm": arm, "rate": rate, "right": [listed(row) for row in shares]}
                | {"mean": round(float(np.mean(shares)), 4)}
                | {"cpu_seconds": sum(one["cpu_seconds"] for one in runs)}
            )
        chosen[arm] = max((t for t in tried if t["arm"] == arm), key=lambda t: t["mean"])["rate"]
    # 2. The comparison, on held-out prompts.
    runs = [stored(arm, chosen[arm], seed, "looks") for seed in SEEDS for arm in ARMS]
    took = minutes(one["cpu_seconds"] for one in (*tried, *runs))
    record = {
        "settings": SETTINGS, "arms": ARMS, "rates": RATES, "tuning": tried, "chosen": chosen,
        "start": before, "runs": runs,
    }  # fmt: skip
    write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took, start=begin[:12])


if __name__ == "__main__":
    main()
