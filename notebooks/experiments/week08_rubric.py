"""Week 8's recorded experiment: a rubric as reward, three ways to add up the same criteria.

    python notebooks/experiments/week08_rubric.py

Runs of TRL's GRPOTrainer from the shipped tiny SFT stage on the requests of week08_hack.py (safe,
harmful, unanswerable), three seeds an arm, with `course.week08.rubric.CRITERIA` as the reward. The
rubric contains the criterion that matters, "in place"; the arms differ in how it counts:

- *added up*: with weight 2 of 11, as one criterion among four;
- *weighted*: with weight 12 of 21, so that it outweighs any other two;
- *gated*: without it the reward is 0.

Measured as in week08_hack.py: the oracle's truth of every training completion, without weight in
the reward, and of held-out prompts, for which the reward is computed as well. Kept besides: eight
replies of each step as text (two of each group), for the monitor. Every finished run is kept under
`runs/week08-rubric/`; the result is written to data/results/week08/rubric.json. Weights were fixed
before the runs; nothing was tuned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import week08_hack as hack
from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    log_series,
    minutes,
    policy,
    shipped,
    train,
    write_record,
)
from week08_hack import EVERY, HOW, LOGGED, METRICS, TASKS, batched, train_rows, truth

from postlab.course import listed
from postlab.course.week08 import CRITERIA, grades, rubric_score
from postlab.profile import get_profile

TARGET = RESULTS / "week08" / "rubric.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld", "evals.evaluation", "evals.suites", "sampling.decoding", "sampling.trl",
    "course.week08.rubric",
)  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    "added up": {"gated": False},
    "weighted": {"gated": False, "weight": 12},
    "gated": {"gated": True},
}
KEPT_OF_GROUP = 2


def rubric_of(arm: str) -> tuple:
    """The rubric with the arm's weight for "in place"."""
    weight = ARMS[arm].get("weight")
    return tuple(
        replace(one, weight=weight) if one.name == "in place" and weight else one
        for one in CRITERIA
    )


def arguments() -> dict[str, Any]:
    """All of the trainer's arguments but `output_dir` and `seed`."""
    how = {**get_profile("tiny").grpo.trainer, **HOW, **TASKS["manners"]["how"]}
    return how | {"reward_weights": [1.0, 0.0]}


def look(model: Any, tokenizer: Any, step: int, proxy: Callable[..., float]) -> dict[str, Any]:
    """The truth on every held-out prompt, and what the arm's reward pays for the same replies."""
    hack.SHOWN = TASKS["manners"]["heldout"]  # all answers of a family
    found = hack.look(model, tokenizer, "manners", step)
    paid = [proxy(request, reply) for request, reply in found.pop("answers")]
    return found | {"proxy": listed(paid)}


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed: proxy and truth by step, looks, and replies."""
    from postlab.sampling import rollout_func

    config, rubric, gated = arguments(), rubric_of(arm), ARMS[arm]["gated"]
    model, tokenizer = policy(shipped(TASKS["manners"]["start"]))
    replies: list[list[Any]] = []

    def proxy(request: str, reply: str) -> float:
        return rubric_score(rubric, grades(rubric, request, reply), gated=gated)

    looks = [look(model, tokenizer, 0, proxy)]

    def after_step(trainer: Any, step: int) -> None:
        if step % EVERY == 0:
            looks.append(look(trainer.model, tokenizer, step, proxy))

    paid = batched(proxy, "proxy")
    size, steps = config["num_generations"], iter(range(1, config["max_steps"] + 1))

    def kept(prompts: list, completions: list, **columns: Any) -> list[float]:
        step, scores = next(steps), paid(prompts, completions, **columns)
        for at, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            if at % size < KEPT_OF_GROUP:
                texts = prompt[-1]["content"], completion[-1]["content"]
                replies.append([step, *texts, round(scores[at], 3)])
        return scores

    kept.__name__ = "proxy"
    groups = config["per_device_train_batch_size"] // size
    trained = train(
        "grpo", model, tokenizer,
        train_rows("manners", count=config["max_steps"] * groups, seed=seed),
        seed=seed, arguments=config, after_step=after_step,
        reward_funcs=[kept, batched(truth, "truth")], rollout_func=rollout_func,
    )  # fmt: skip
    return {
        "arm": arm,
        "seed": seed,
        "log": log_series(trained.log, LOGGED),
        "heldout": looks,
        "replies": replies,
        "seconds": round(trained.seconds, 1),
    }


def key_of(arm: str) -> str:
    """What a run of the arm depends on, hashed."""
    settings = {
        "arm": ARMS[arm], "arguments": arguments(), "task": TASKS["manners"],
        "start": adapter_hash(TASKS["manners"]["start"]),
        "kept": [LOGGED, METRICS, EVERY, KEPT_OF_GROUP],
    }  # fmt: skip
    return arm_key(settings, *CODE, own=__file__)


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    rubric = [
        {"name": one.name, "weight": one.weight, "question": one.question, "gate": one.gate}
        for one in CRITERIA
    ]
    runs: list[dict[str, Any]] = []
    for seed in SEEDS:
        for arm in ARMS:  # the record is written after every run
            runs.append(arms.result(f"{arm} {seed}", key_of(arm), partial(run, arm, seed)))
            done = [seed for seed in SEEDS if any(one["seed"] == seed for one in runs)]
            write_record(
                __file__, TARGET, {"rubric": rubric, "arms": ARMS, "runs": runs}, seeds=done,
                training_minutes=minutes(one["seconds"] for one in runs),
            )  # fmt: skip


if __name__ == "__main__":
    main()
