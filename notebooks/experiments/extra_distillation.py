"""Recorded experiment of the extra on distillation: a dense teacher against a sparse reward.

    python notebooks/experiments/extra_distillation.py

The student is the shipped SFT stage, the teacher the shipped GRPO stage, the task the sums of three
numbers, of which the student gets few right: it says a number without working the sum out. Three
ways of learning from the same training prompts, 8 completions a step, at a constant rate:

- `GRPO`: 2 prompts x 4 samples, rewarded for the right number (TRL's GRPOTrainer)
- `reverse KL`, `forward KL`: the student samples, the teacher scores (TRL's DistillationTrainer)

Every method has the same two learning rates to choose from, judged with one tuning seed on
held-out prompts that the results don't use. Recorded at each measured step: completion tokens
trained on, tokens passed through a model (`passes`: a forward pass counts 1, a backward pass 2),
CPU seconds of training (one thread, without the measurements; on a busy machine), and every
held-out sum right or wrong.

Forgetting: the shipped DPO stage is trained on the teacher's worked sums alone (`narrow`), then
distilled from its own earlier self on prompts of the other families (`restored`). Each stage
answers held-out prompts of every family.

Every finished run is kept under `runs/extra-distillation/`. The result is
data/results/extras/distillation.json; its runs are kept when seeds are added, and `earlier` says
where they were made.
"""

from __future__ import annotations

import json
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
    calling,
    command_line,
    frozen,
    metric_series,
    minutes,
    policy,
    shipped,
    write_record,
)

from postlab.course import listed
from postlab.profile import get_profile

TARGET = RESULTS / "extras" / "distillation.json"
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 100
CODE = (
    "tinyworld", "evals.evaluation", "sampling.rollout", "sampling.decoding", "sampling.trl",
    "rewards",
)  # fmt: skip
STEPS = {"GRPO": 12, "reverse KL": 8, "forward KL": 8}
RATES = (3e-4, 1e-3)
SETTINGS: dict[str, Any] = {
    "student": "sft", "teacher": "grpo", "completions": 8, "group": 4, "new_tokens": 64,
    "rows": 900, "measured": [1, 2, 3, 4, 6, 8, 12], "measured_in_tuning": [2, 4, 6],
    "heldout_sums": 60, "tuning_sums": 30, "terms": 3, "heldout_others": 20,
}  # fmt: skip
FORGETTING: dict[str, Any] = {
    "start": "dpo", "narrow_steps": 24, "narrow_rate": 2e-3, "restore_steps": 12,
    "restore_rate": 1e-3,
}  # fmt: skip
METRICS = ("arithmetic", "lists", "facts", "helpfulness", "safety", "over_refusal", "honesty")


@cache
def prompts(part: str) -> list[dict[str, Any]]:
    """Held-out prompts: "sums" and "others" for results, "tuning" sums that neither uses."""
    from postlab.tinyworld.tasks import FAMILIES, MOST_PROMPTS, heldout_suite

    suite = heldout_suite(n=MOST_PROMPTS if part == "tuning" else 200)
    rows = [row for row in suite if row.get("temperature", 0) == 0]  # the sums occur sampled, too
    if part == "others":
        names = [family for family in FAMILIES if family != "arithmetic"]
        n = SETTINGS["heldout_others"]
        return [row for f in names for row in [r for r in rows if r["family"] == f][:n]]
    sums = short([row for row in rows if row["family"] == "arithmetic"])
    return (
        sums[-SETTINGS["tuning_sums"] :] if part == "tuning" else sums[: SETTINGS["heldout_sums"]]
    )


def short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sums of as many numbers as the settings say."""
    plus = SETTINGS["terms"] - 1
    return [row for row in rows if row["prompt"][-1]["content"].count("+") == plus]


def measure(model: Any, tokenizer: Any, part: str) -> dict[str, list]:
    """Each metric of every prompt of a part, answered greedily."""
    from postlab.evals import evaluate

    return metric_series(evaluate(model, tokenizer, prompts(part)), METRICS)


class Curve:
    """What a run has cost and what it can do, at the steps where that is measured.

    Args:
        part: the prompts that are answered.
        cost: passes of each token: 1 sampling, 3 training, and 1 where a teacher scores.
    """

    def __init__(self, part: str, cost: int) -> None:
        self.part, self.cost, self.tokens, self.whole, self.spent = part, cost, 0, 0, 0.0
        self.at = SETTINGS["measured" if part == "sums" else "measured_in_tuning"]
        self.rows: dict[str, list] = {
            name: [] for name in ("step", "tokens", "passes", "cpu_s", "right")
        }

    def count(self, prompts: list, completions: list) -> None:
        """Add the tokens of some completions and of their prompts."""
        self.tokens += sum(map(len, completions))
        self.whole += sum(map(len, prompts)) + sum(map(len, completions))

    def start(self) -> None:
        self.begun = time.process_time()

    def after_step(self, trainer: Any, step: int) -> None:
        """Measure, if that is due; its time isn't counted."""
        if step not in self.at:
            return
        before = time.process_time()
        right = measure(trainer.model, trainer.processing_class, self.part)["arithmetic"]
        row = {
            "step": step, "tokens": self.tokens, "passes": self.whole * self.cost,
            "cpu_s": round(before - self.begun - self.spent, 2), "right": right,
        }  # fmt: skip
        for name, value in row.items():
            self.rows[name].append(value)
        self.spent += time.process_time() - before


def common(steps: int, rate: float, batch: int) -> dict[str, Any]:
    """The arguments that all trainers share: a constant rate, no warm-up, nothing saved."""
    from postlab.profile import get_profile

    kept = ("use_cpu", "bf16", "fp16", "gradient_checkpointing", "dataloader_pin_memory", "optim",
            "max_grad_norm", "weight_decay", "report_to", "disable_tqdm")  # fmt: skip
    tiny = {name: get_profile("tiny").grpo.trainer[name] for name in kept}
    return tiny | {
        "max_steps": steps, "learning_rate": rate, "lr_scheduler_type": "constant",
        "per_device_train_batch_size": batch, "save_strategy": "no", "logging_steps": 1,
    }  # fmt: skip


def distil(
    model: Any, tokenizer: Any, teacher: Any, rows: list, curve: Curve | None, *,
    seed: int, steps: int, rate: float, beta: float = 1.0,
) -> Any:  # fmt: skip
    """Train the student on its own samples with TRL's DistillationTrainer; the trained model."""
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    from postlab.sampling import sample_with_engine

    with tempfile.TemporaryDirectory() as folder:
        trainer = DistillationTrainer(
            model=model, teacher_model=teacher, processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
            args=DistillationConfig(
                output_dir=folder, seed=seed, beta=beta, temperature=1.0,
                max_completion_length=SETTINGS["new_tokens"],
                **common(steps, rate, SETTINGS["completions"]),
            ),
        )  # fmt: skip
        sample_with_engine(trainer)
        if curve is not None:
            sampled = trainer._generate_single_turn

            def counted(asked: list, *rest: Any) -> list:
                completions = sampled(asked, *rest)
                curve.count(asked, completions)
                return completions

            trainer._generate_single_turn = counted
            trainer.add_callback(calling(curve.after_step, trainer))
            curve.start()
        trainer.train()
    return trainer.model


def reinforce(
    model: Any, tokenizer: Any, rows: list, curve: Curve, *, seed: int, steps: int, rate: float
) -> Any:
    """Train with TRL's GRPOTrainer and the verifier; the trained model."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    def counted(asked: list, trainer: Any) -> dict:
        out = rollout_func(asked, trainer)
        curve.count(out["prompt_ids"], out["completion_ids"])
        return out

    recipe = get_profile("tiny").grpo.trainer
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model, processing_class=tokenizer, reward_funcs=math_reward, rollout_func=counted,
            train_dataset=Dataset.from_list(
                [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
            ),
            args=GRPOConfig(
                output_dir=folder, seed=seed,
                **recipe
                | common(steps, rate, SETTINGS["completions"])
                | {"num_generations": SETTINGS["group"]},
            ),
        )  # fmt: skip
        trainer.add_callback(calling(curve.after_step, trainer))
        curve.start()
        trainer.train()
    return trainer.model


def teachers_answers(rows: list, seed: int) -> list[dict[str, Any]]:
    """Rows for SFT: the teacher's answer to each prompt, sampled at temperature 1."""
    from postlab.evals import evaluate

    asked = [
        {"id": str(i), "family": "sums", "prompt": row["prompt"], "score": lambda *_: {"none": 0.0},
         "max_new_tokens": SETTINGS["new_tokens"], "temperature": 1.0}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    answers = evaluate(*frozen(shipped(SETTINGS["teacher"])), asked, seed=seed)["answer"]
    return [
        {"prompt": row["prompt"], "completion": [{"role": "assistant", "content": answer}]}
        for row, answer in zip(rows, answers, strict=True)
    ]


def imitate(model: Any, tokenizer: Any, rows: list, *, seed: int, steps: int, rate: float) -> Any:
    """Train with TRL's SFTTrainer on the teacher's answers to prompts; the trained model."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = random.Random(seed).sample(rows, steps * SETTINGS["completions"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model, processing_class=tokenizer,
            train_dataset=Dataset.from_list(teachers_answers(rows, seed)),
            args=SFTConfig(
                output_dir=folder, seed=seed, packing=False, completion_only_loss=True,
                max_length=256, **common(steps, rate, SETTINGS["completions"]),
            ),
        )  # fmt: skip
        trainer.train()
    return trainer.model


def run(arm: str, seed: int, *, rate: float, part: str = "sums") -> dict[str, Any]:
    """Train one method with one seed and rate; its curve, and the other families at its end."""
    from postlab.datasets import math_rows

    model, tokenizer = policy(shipped(SETTINGS["student"]))
    rows = short(math_rows("tinyworld", split="train", n=SETTINGS["rows"], seed=seed))
    steps = STEPS[arm] if part == "sums" else max(SETTINGS["measured_in_tuning"])
    curve = Curve(part, 5 if arm.endswith("KL") else 4)
    how: dict[str, Any] = {"seed": seed, "steps": steps, "rate": rate}
    if arm == "GRPO":
        trained = reinforce(model, tokenizer, rows, curve, **how)
    else:
        teacher, _ = frozen(shipped(SETTINGS["teacher"]))
        beta = 0.0 if arm == "forward KL" else 1.0
        trained = distil(model, tokenizer, teacher, rows, curve, beta=beta, **how)
    others = measure(trained.eval(), tokenizer, "others") if part == "sums" else {}
    return {
        "arm": arm, "seed": seed, "rate": rate, "curve": curve.rows, "others": others,
        "train_s": curve.rows["cpu_s"][-1],
    }  # fmt: skip


def forget(seed: int) -> dict[str, Any]:
    """Narrow SFT on sums, then distillation from the earlier self on everything else."""
    from postlab.datasets import math_rows
    from postlab.tinyworld import tasks

    begun = time.process_time()
    model, tokenizer = policy(shipped(FORGETTING["start"]))
    sums = short(math_rows("tinyworld", split="train", n=SETTINGS["rows"], seed=seed))
    model = imitate(
        model, tokenizer, sums, seed=seed, steps=FORGETTING["narrow_steps"],
        rate=FORGETTING["narrow_rate"],
    )  # fmt: skip
    narrow = both(model, tokenizer)
    rng = random.Random(seed)
    others = [family for family in tasks.FAMILIES if family != "arithmetic"]
    rows = []
    for index in range(FORGETTING["restore_steps"] * SETTINGS["completions"]):
        item = tasks.draw(others[index % len(others)], rng, "train")
        rows.append({"prompt": [{"role": "user", "content": tasks.ask(item, rng, "train")}]})
    earlier, _ = frozen(shipped(FORGETTING["start"]))
    model = distil(
        model.train(), tokenizer, earlier, rows, None, seed=seed,
        steps=FORGETTING["restore_steps"], rate=FORGETTING["restore_rate"],
    )  # fmt: skip
    took = round(time.process_time() - begun, 1)
    restored = both(model, tokenizer)
    return {"seed": seed, "narrow": narrow, "restored": restored, "train_s": took}


def both(model: Any, tokenizer: Any) -> dict[str, list]:
    """The sums and the other families, held out."""
    return measure(model.eval(), tokenizer, "sums") | measure(model.eval(), tokenizer, "others")


def key_of(arm: str, rate: float) -> str:
    """What a run of an arm depends on, hashed."""
    more = FORGETTING if arm == "forgetting" else STEPS.get(arm)
    settings = {
        "arm": [arm, more], "rate": rate, "settings": SETTINGS,
        "start": [adapter_hash(name) for name in ("sft", "dpo", "grpo")],
    }  # fmt: skip
    return arm_key(settings, *CODE, own=__file__)


def score(trial: dict[str, Any]) -> float:
    """The mean accuracy over the measured steps of a tuning run: early counts."""
    shares = [sum(right) / len(right) for right in trial["curve"]["right"]]
    return sum(shares) / len(shares)


def main() -> None:
    settings = {
        "settings": SETTINGS, "steps": STEPS, "forgetting_settings": FORGETTING,
        "recipe": dict(get_profile("tiny").grpo.trainer),
        "weights": {name: adapter_hash(name) for name in ("sft", "dpo", "grpo")},
    }  # fmt: skip
    limit = command_line(__doc__).runs
    arms = Arms(__file__, limit=limit, record=TARGET, settings=settings)
    trials = {
        arm: [
            arms.kept("tuning", {"arm": arm, "rate": rate}, seed=TUNING_SEED)
            or arms.result(
                f"tuning {arm} {rate:g}", key_of(arm, rate),
                partial(run, arm, TUNING_SEED, rate=rate, part="tuning"),
            )
            for rate in RATES
        ]
        for arm in STEPS
    }  # fmt: skip
    chosen = {arm: max(tried, key=score)["rate"] for arm, tried in trials.items()}
    print("rates chosen:", chosen, flush=True)
    runs = [
        arms.kept("runs", {"arm": arm, "seed": seed}, rate=chosen[arm])
        or arms.result(
            f"{arm} {seed}", key_of(arm, chosen[arm]), partial(run, arm, seed, rate=chosen[arm])
        )
        for seed in SEEDS
        for arm in STEPS
    ]
    forgetting = [
        arms.kept("forgetting", {"seed": seed})
        or arms.result(f"forgetting {seed}", key_of("forgetting", 0), partial(forget, seed))
        for seed in SEEDS
    ]
    every_trial = [trial for tried in trials.values() for trial in tried]
    record = {
        **settings, "rates": RATES, "tuning_seed": TUNING_SEED,
        "tuning": [{**trial, "score": round(score(trial), 4)} for trial in every_trial],
        "chosen": chosen, "stages": {stage: stage_of(stage) for stage in ("sft", "dpo", "grpo")},
        "runs": runs, "forgetting": forgetting,
    }  # fmt: skip
    took = minutes(one["train_s"] for one in [*every_trial, *runs, *forgetting])
    write_record(__file__, TARGET, record | arms.history(), seeds=SEEDS, training_minutes=took)


def stage_of(stage: str) -> dict[str, list]:
    """A shipped stage on the prompts of the results, from the evaluation that ships with it."""
    from postlab.profile import data_dir

    path = data_dir() / "tiny-stages" / stage / "eval.jsonl"
    text = path.read_text(encoding="utf-8")
    answers = [json.loads(line) for line in text.splitlines()]
    rows = {row["id"]: row for row in answers if row["family"] != "arithmetic_sampled"}
    asked = [rows[row["id"]] for part in ("sums", "others") for row in prompts(part)]
    values = {name: [row[name] for row in asked if row.get(name) is not None] for name in METRICS}
    return {name: listed(column) for name, column in values.items()}


if __name__ == "__main__":
    main()
