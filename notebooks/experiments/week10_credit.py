"""Week 10's recorded experiment: does credit for each step teach faster than the outcome?

    python notebooks/experiments/week10_credit.py

GRPO from the shipped tiny SFT stage on sums of five and six terms, where a policy that samples at
temperature 1 blurts a quarter of its answers and makes its other mistakes inside worked solutions.
All arms see the same prompts in the same order, the same number of samples and steps of the
optimizer, and the same learning rate. They differ in one thing, the advantages:

- *outcome*: 1 if the final answer is right, one advantage per reply;
- *sum of steps*: the sum of the checker's step scores, one advantage per reply (the reward of
  week10_prm.py);
- *to go*: DeepSeekMath's process supervision, one advantage per token (`step_advantages`);
- *lowest to go*: the minimum in place of the sum (PURE's idea).

The checker is the oracle, which judges each step by itself, given the steps before it
(`oracle_labels(..., alone=True)`): a right addition to a wrong total is right. With the labels of
the rest of the week, where every step after a wrong one is wrong, *lowest to go* would be the
outcome under another name.

A look is 120 held-out prompts (held-out numbers), one sample each at temperature 1, every four
steps. The measure is the mean share right over the looks after the start (how fast it came), and
the share right at the end. A seed decides the training prompts and all sampling in training; the
looks' sampling is the same everywhere.

What was chosen before the runs, and on what. The task, on 12 training prompts (96 replies: five
terms 72% right, six terms 42%, six terms at temperature 1.5 12%), because sums of three and four
terms are learnt within 20 steps under every reward. A first run (*outcome*, seed 0, the rate 4e-4
of week10_prm.py, planned for 24 steps) was stopped after 15: its samples were right in 75 to 100%
from step 4 on, so all arms would have met at the ceiling. The rate is now the profile's own for
GRPO, 1e-4, and there are 16 steps. That first run has no record. A fifth arm, *own step* (the
normalised score of a token's own step alone), was planned and cut for time; it has no result.
Nothing was tuned per arm.

Every finished run is stored, so an interrupted experiment goes on where it stopped.
"""

from __future__ import annotations

import random
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

TARGET = RESULTS / "week10" / "credit.json"
SEEDS = (0, 1, 2)
CODE = ("tinyworld", "sampling.decoding", "process.labels", "process.credit", "process.steps")
ARMS: dict[str, dict[str, Any]] = {
    "outcome": {"reward": "outcome"},
    "sum of steps": {"reward": "sum"},
    "to go": {"reward": "outcome", "form": "to_go"},
    "lowest to go": {"reward": "outcome", "form": "min"},
}
SETTINGS: dict[str, Any] = {
    "terms": (5, 6),  # in turn
    "looks": {"prompts": 120, "samples": 1, "every": 4, "new_tokens": 96},
    "grpo": {
        "max_steps": 16, "per_device_train_batch_size": 32, "learning_rate": 1e-4,
        "max_completion_length": 96, "save_strategy": "no",
    },
}  # fmt: skip
LOGGED = {
    "step": "step", "outcome": "rewards/outcome/mean", "sum": "rewards/sum/mean",
    "length": "completions/mean_length", "grad_norm": "grad_norm",
}  # fmt: skip


def prompts_of(split: str, count: int, name: str) -> list[Messages]:
    """Different sums as conversations, held out or not."""
    rng = random.Random(f"week 10 credit {split} {name}")
    texts = sums(rng, count, SETTINGS["terms"], heldout=split == "heldout")
    return [[{"role": "user", "content": text}] for text in texts]


def checked(prompt: Messages, reply: str) -> list[int]:
    """The checker's score of each step; a blank reply has one wrong step."""
    steps = process.split_steps(reply)
    return process.oracle_labels(prompt[-1]["content"], steps, alone=True) or [0]


def outcome(prompts: list, completions: list, **columns: Any) -> list[float]:
    """The reward for the final answer, in TRL's protocol."""
    return [right(p, c[-1]["content"].strip()) for p, c in zip(prompts, completions, strict=True)]


def sum_of_steps(prompts: list, completions: list, **columns: Any) -> list[float]:
    """The sum of the step scores, in TRL's protocol."""
    replies = [c[-1]["content"] for c in completions]
    return [float(sum(checked(p, x))) for p, x in zip(prompts, replies, strict=True)]


sum_of_steps.__name__ = "sum"


@cache
def trainer_class() -> Any:
    """GRPO's trainer with one advantage per token from step scores."""
    import torch
    from trl import GRPOTrainer

    class StepGRPOTrainer(GRPOTrainer):
        form: str | None = None

        def _generate_and_score_completions(self, inputs: list) -> dict[str, Any]:
            batch = super()._generate_and_score_completions(inputs)
            if self.form is None:
                return batch
            # 1. The completions without padding, and the step that each token belongs to.
            mask, ids = batch["completion_mask"].bool(), batch["completion_ids"]
            rows = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
            steps = torch.full(ids.shape, -1)
            for b, numbers in enumerate(process.token_steps(rows, self.processing_class)):
                steps[b, mask[b]] = torch.tensor(numbers)
            # 2. The checker's scores, as wide as the longest solution.
            texts = self.processing_class.batch_decode(rows, skip_special_tokens=True)
            found = [checked(one["prompt"], x) for one, x in zip(inputs, texts, strict=True)]
            scores = torch.zeros(len(rows), int(steps.max()) + 1)
            for b, row in enumerate(found):
                scores[b, : len(row)] = torch.tensor(row, dtype=torch.float32)
            # 3. One advantage per token takes the place of one per reply: TRL's loss takes both.
            batch["advantages"] = process.step_advantages(
                scores, steps, group_size=self.num_generations, form=self.form
            )
            return batch

    return StepGRPOTrainer


def look(model: Any, tokenizer: Any, step: int) -> dict[str, Any]:
    """Sampled answers to the held-out prompts: right or not, and the number of steps."""
    how = SETTINGS["looks"]
    prompts = prompts_of("heldout", how["prompts"], "looks")
    was = model.training
    replies = process.sample_solutions(
        model.eval(), tokenizer, prompts, n=how["samples"], new_tokens=how["new_tokens"], seed=0
    )
    model.train(was)
    flat = [(p, x) for p, group in zip(prompts, replies, strict=True) for x in group]
    return {
        "step": step,
        "right": listed(right(p, x) for p, x in flat),
        "blurted": listed(len(process.split_steps(x)) < 2 for _, x in flat),
        "answers": [[p[-1]["content"], x] for p, x in flat[:3]],
    }


def arguments() -> dict[str, Any]:
    """GRPO's arguments, all but `output_dir` and `seed`."""
    return {**get_profile("tiny").grpo.trainer, **SETTINGS["grpo"]}


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed, and look at it on the way."""
    from _common import calling
    from datasets import Dataset
    from trl import GRPOConfig

    from postlab.sampling import rollout_func

    model, tokenizer = policy(shipped("sft"))
    config, how, begun = arguments(), ARMS[arm], time.process_time()
    looks: list[dict[str, Any]] = []
    groups = config["per_device_train_batch_size"] // config["num_generations"]
    prompts = prompts_of("train", config["max_steps"] * groups, str(seed))
    weights = [float(how["reward"] == name) for name in ("outcome", "sum")]
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class()(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            reward_funcs=[outcome, sum_of_steps],
            rollout_func=rollout_func,
            args=GRPOConfig(output_dir=folder, seed=seed, **(config | {"reward_weights": weights})),
        )
        trainer.form = how.get("form")

        def after_step(trainer: Any, step: int) -> None:
            if step % SETTINGS["looks"]["every"] == 0:
                looks.append(look(trainer.model, tokenizer, step))

        trainer.add_callback(calling(after_step, trainer))
        trainer.train()
    return {
        "arm": arm,
        "seed": seed,
        "log": log_series(trainer.state.log_history, LOGGED),
        "looks": looks,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def at_start() -> dict[str, Any]:
    """The look before any training, the same for all arms and seeds."""
    return look(*policy(shipped("sft")), 0)


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    begin, runs = adapter_hash("sft"), []
    common = {"settings": SETTINGS, "start": begin, "log": LOGGED, "arguments": arguments()}
    before = arms.result("start", arm_key(common, *CODE, own=__file__), at_start)
    for arm, seed in ((arm, seed) for seed in SEEDS for arm in ARMS):
        key = arm_key(common | {"arm": ARMS[arm]}, *CODE, own=__file__)
        runs.append(arms.result(f"{arm} {seed}", key, partial(run, arm, seed)))
        took = minutes(one["cpu_seconds"] for one in runs)
        record = {"settings": SETTINGS, "arms": ARMS, "start": before, "runs": runs}
        write_record(__file__, TARGET, record, seeds=SEEDS, training_minutes=took, start=begin[:12])


if __name__ == "__main__":
    main()
