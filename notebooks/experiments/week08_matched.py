"""Week 8's second ablation experiment: GRPO's variants with updates, rates and clips matched.

    python notebooks/experiments/week08_matched.py

Runs of TRL's trainers from the shipped tiny DPO stage. Every run takes four batches of 64
completions and is then measured on held-out sums, sampled at temperature 1. Three questions, each
with a base of its own:

- *reuse*: one update per batch, four updates on its quarters, four updates on all of it, or
  batches a quarter as large; each at its own learning rate.
- *losses*: what acts only where the policy has left its sampler (clips, GSPO, CISPO, SAPO). All
  take four updates on a batch's quarters, as GSPO's paper does, at the rate chosen for that.
- *recipe*: what acts in the first update, too (groups, advantages, KL, and so on). All take one
  update per batch, at the rate chosen for that.

Rates, and GSPO's clip, are chosen on a tuning seed and on tuning prompts, which the comparison
doesn't use: the value with the highest score. All trials are in the record. The other clips and
coefficients are the published or usual ones: unlike GSPO's they don't depend on the length of the
answers.

The stages run in the order of `STAGES`, and the record is written after every seed, so an early
stop leaves whole comparisons. The result is data/results/week08/matched.json. Its runs are kept
when the experiment goes on later, perhaps on another machine: `earlier` says where they were made.
It repeats the question of week08_ablations.py, whose arms share one untuned rate and differ in
their number of updates.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
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
    sampled_sums,
    shipped,
    train,
    write_record,
)

from postlab.profile import get_profile

TARGET = RESULTS / "week08" / "matched.json"
SEEDS, TUNING_SEEDS = (0, 1, 2, 3, 4), (100,)
CODE = (
    "tinyworld",
    "evals.evaluation",
    "sampling.rollout",
    "sampling.decoding",
    "sampling.trl",
    "course.week08.resampling",
    "rewards",
)
SETTINGS: dict[str, Any] = {
    "batches": 4, "completions": 64, "rows": 512,
    "heldout_sums": 200, "tuning_sums": 100, "samples": 2,
}  # fmt: skip
# How the completions of a batch become updates. `updates` and `batches` are not the trainer's.
REUSE: dict[str, dict[str, Any]] = {
    "one update": {},
    "four quarters": {"per_device_train_batch_size": 16, "steps_per_generation": 4, "updates": 4},
    "four uses": {"num_iterations": 4, "updates": 4},
    "fresh quarters": {"per_device_train_batch_size": 16, "batches": 16},
}
RATES = {
    "one update": (4e-4, 8e-4, 1.6e-3),
    "four quarters": (2e-4, 4e-4, 8e-4),
    "four uses": (2e-4, 4e-4, 8e-4),
    "fresh quarters": (2e-4, 4e-4, 8e-4),
}
GSPO = {"importance_sampling_level": "sequence", "loss_type": "grpo"}
GSPO_CLIPS = ((3e-4, 4e-4), (3e-3, 4e-3), (3e-2, 4e-2))  # the first one is the paper's
LOSSES: dict[str, dict[str, Any]] = {
    "clip-higher": {"epsilon_high": 0.28},
    "no clip": {"epsilon": 10.0},  # a ratio of 0 lies inside, too
    "CISPO": {"loss_type": "cispo", "epsilon_high": 5.0},
    "SAPO": {"loss_type": "sapo"},
}
RECIPE: dict[str, dict[str, Any]] = {
    "groups of 2": {"num_generations": 2},
    "groups of 16": {"num_generations": 16},
    "no scaling": {"scale_rewards": "none"},
    "answer means": {"loss_type": "grpo"},
    "Dr. GRPO": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "RLOO": {"method": "rloo"},
    "KL 0.04": {"beta": 0.04},
    "entropy bonus": {"entropy_coef": 0.01},
    "dynamic sampling": {"dynamic": True},
    "overlong shaping": {"overlong": {"max_completion_len": 48, "soft_punish_cache": 16}},
}
# Names of arms and seeds, in the order in which they are run.
FEW, MORE = SEEDS[:3], SEEDS[3:]
STAGES: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...] = (
    (("one update", "four quarters", "GSPO"), FEW),
    (tuple(LOSSES), FEW),
    (("one update",), MORE),
    (("RLOO", "Dr. GRPO", "entropy bonus", "overlong shaping"), SEEDS),
    (("four quarters", "GSPO", *LOSSES), MORE),
    (("no scaling", "answer means", "KL 0.04", "dynamic sampling"), SEEDS),
    (("four uses", "fresh quarters"), SEEDS),
    (("groups of 2", "groups of 16"), SEEDS),
)
LOGGED = (
    *("reward", "rewards/math_reward/mean", "reward_std", "frac_reward_zero_std", "entropy"),
    *("grad_norm", "kl", "completions/mean_length", "completions/clipped_ratio"),
    *("clip_ratio/region_mean", "cispo_clip_ratio"),
)
OWN = ("updates", "batches", "method", "dynamic", "overlong")  # of a spec; the rest is TRL's


def start() -> list:
    """The shipped DPO stage on the held-out sums."""
    return sampled_sums(*policy(shipped("dpo")), SETTINGS, tuning=False)


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """The trainer's arguments for a spec, without `output_dir` and `seed`."""
    updates = spec.get("updates", 1)
    given = {name: value for name, value in spec.items() if name not in OWN}
    how = {
        **get_profile("tiny").grpo.trainer,
        "max_steps": spec.get("batches", SETTINGS["batches"]) * updates,
        "logging_steps": updates,
        "save_strategy": "no",
        **given,
    }
    if spec.get("method") == "rloo":  # its config knows fewer names
        import dataclasses

        import trl

        known = {field.name for field in dataclasses.fields(trl.RLOOConfig)}
        how = {name: value for name, value in how.items() if name in known}
    return how


def run(spec: dict[str, Any], seed: int, *, tuning: bool = False) -> dict[str, Any]:
    """Train one spec with one seed: its log, what it cost, and its held-out sums."""
    from trl.rewards import get_soft_overlong_punishment

    from postlab.course.week08 import dynamic_sampling
    from postlab.datasets import math_rows
    from postlab.rewards import math_reward
    from postlab.sampling import rollout_func

    grpo, how = get_profile("tiny").grpo, arguments(spec)
    model, tokenizer = policy(shipped("dpo"))
    rows = math_rows(grpo.source, split="train", n=SETTINGS["rows"], seed=seed)
    rows = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows]
    rewards: list[Any] = [math_reward]
    more: dict[str, Any] = {"rollout_func": rollout_func}
    if spec.get("dynamic"):
        distinct = list({str(row["prompt"]): row for row in rows}.values())
        more["rollout_func"], rewards[0] = dynamic_sampling(distinct, math_reward)
    if "overlong" in spec:
        rewards.append(get_soft_overlong_punishment(**spec["overlong"]))
    method = spec.get("method", "grpo")
    if method == "rloo":  # it has no such argument, and samples by itself
        del more["rollout_func"]
    trained = train(
        method, model, tokenizer, rows,
        seed=seed, arguments=how, packed=True, reward_funcs=rewards, **more,
    )  # fmt: skip
    entries = [entry for entry in trained.log if "reward" in entry]
    present = [name for name in LOGGED if name in entries[0]]
    log = log_series(trained.log, present)
    size = how["per_device_train_batch_size"] * how.get("steps_per_generation", 1)
    counts = getattr(more.get("rollout_func"), "sampled", None) or [size] * len(entries)
    counts = counts[: len(entries)]
    lengths = log["completions/mean_length"]
    return {
        "seed": seed,
        "updates": how["max_steps"],
        "sampled": counts,
        "tokens": round(sum(n * t for n, t in zip(counts, lengths, strict=True))),
        "log": log,
        "end": {"arithmetic": sampled_sums(trained.model, tokenizer, SETTINGS, tuning=tuning)},
        "train_s": round(trained.seconds, 1),
    }


def key_of(spec: dict[str, Any]) -> str:
    """What a run of a spec depends on, hashed."""
    settings = {
        "spec": spec, "settings": SETTINGS, "recipe": dict(get_profile("tiny").grpo.trainer),
        "start": adapter_hash("dpo"), "kept": LOGGED,
    }  # fmt: skip
    return arm_key(settings, *CODE, own=__file__)


def tuned(arms: Arms, name: str, specs: Sequence[dict[str, Any]]) -> tuple[dict, list[dict]]:
    """The best of some specs by their mean on tuning seeds and prompts, and all of the trials."""
    trials = []
    for spec in specs:
        made = [
            arms.result(f"tuning {seed}", key_of(spec),
                        partial(run, spec, seed, tuning=True))
            for seed in TUNING_SEEDS
        ]  # fmt: skip
        scores = [100 * share(one) for one in made]
        trials.append(
            {"name": name, "spec": spec, "scores": [round(score, 2) for score in scores],
             "clipped": [mean_clip(one["log"]) for one in made]}
        )  # fmt: skip
        print(trials[-1], flush=True)
    return max(trials, key=lambda trial: sum(trial["scores"]))["spec"], trials


def share(made: dict[str, Any]) -> float:
    """The share of right answers at the end of a run."""
    right = made["end"]["arithmetic"]
    return sum(right) / len(right)


def mean_clip(log: dict[str, list]) -> float | None:
    """The mean share of tokens (RLOO, GSPO: answers) that a clip takes the gradient from."""
    series = log.get("clip_ratio/region_mean") or log.get("cispo_clip_ratio")
    return round(sum(series) / len(series), 5) if series else None


class Table:
    """Every arm's group, base and spec, tuned when it is first asked for; and all trials."""

    def __init__(self, arms: Arms) -> None:
        self.arms, self.trials = arms, []
        self.table: dict[str, dict[str, Any]] = {}

    def spec(self, name: str) -> dict[str, Any]:
        """An arm's spec; its base is put into the table first."""
        if name in self.table:
            return self.table[name]["how"]
        if name in REUSE:
            group, base = "reuse", None if name == "one update" else "one update"
            specs = [{**REUSE[name], "learning_rate": rate} for rate in RATES[name]]
        elif name == "GSPO":
            group, base = "losses", "four quarters"
            reused = self.spec(base)
            specs = [reused | GSPO | {"epsilon": a, "epsilon_high": b} for a, b in GSPO_CLIPS]
        else:
            group, base = (
                ("losses", "four quarters") if name in LOSSES else ("recipe", "one update")
            )
            specs = [self.spec(base) | (LOSSES | RECIPE)[name]]
        earlier = self.arms.record.get("arms", {}).get(name)
        if earlier is not None:  # its runs are kept, so its spec is, too
            if earlier["how"] not in specs:
                sys.exit(f"{TARGET.name} has another spec of {name}: move it away, or undo that.")
            spec = earlier["how"]
            trials = [trial for trial in self.arms.record["tuning"] if trial["name"] == name]
        elif len(specs) > 1:
            spec, trials = tuned(self.arms, name, specs)
        else:
            spec, trials = specs[0], []
        self.trials += trials
        self.table[name] = {"group": group, "base": base, "how": spec}
        return spec


def main() -> None:
    settings = {
        "settings": SETTINGS, "recipe": dict(get_profile("tiny").grpo.trainer),
        "weights": {"dpo": adapter_hash("dpo")},
    }  # fmt: skip
    limit = command_line(__doc__).runs
    arms = Arms(__file__, limit=limit, record=TARGET, settings=settings)
    table = Table(arms)
    for name in arms.record.get("arms", {}):
        table.spec(name)
    before = arms.record.get("start") or arms.result("start", key_of({}), start)
    runs: list[dict[str, Any]] = []
    for names, seeds in STAGES:
        for seed in seeds:
            for name in names:
                spec = table.spec(name)
                made = arms.kept("runs", {"arm": name, "seed": seed}) or arms.result(
                    f"{name} {seed}", key_of(spec), partial(run, spec, seed)
                )
                runs.append({"arm": name} | made)
                print(name, seed, round(share(made), 3),
                      mean_clip(made["log"]), flush=True)  # fmt: skip
            every = arms.with_kept("runs", runs, "arm", "seed")
            record = settings | {"arms": table.table, "tuning": table.trials, "start": before}
            write_record(
                __file__, TARGET, record | {"runs": every} | arms.history(),
                seeds=sorted({one["seed"] for one in every}),
                training_minutes=minutes(one["train_s"] for one in every),
            )  # fmt: skip


if __name__ == "__main__":
    main()
