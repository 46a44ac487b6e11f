"""Week 11's recorded experiment: five ways to want helpfulness, safety and honesty at once.

    python notebooks/experiments/week11_objectives.py

Every policy starts from the shipped tiny SFT stage (one of the targeted runs from the shipped DPO
stage), hears only the three judges of `postlab.objectives`, which disagree, and is measured by the
oracle on the same held-out prompts, answered greedily. The ways, each with seeds 0, 1 and 2:

- *soups*: DPO on one judge's pairs each, then 28 exact averages of the three adapters (weights in
  sixths), and the seven weights of the ladder below;
- *mixed*: DPO on pairs of all three judges, mixed by the ladder's weights;
- *weighted*: GRPO on the judges' weighted sum, by the ladder's weights;
- *lagrange*: GRPO on the helpful judge, safety and honesty held to a level by multipliers, seven
  levels;
- *targeted*: the roadmap's recipe, GRPO on the safe judge after DPO, measured after seven doses of
  steps: after this seed's mixed DPO at the ladder's rung 1/2, and after the shipped DPO stage,
  whose pairs the oracle labelled and which is therefore compared with nobody.

The ladder gives helpfulness weight 1, safety and honesty r each, r from 0 by factors of 1.5 to
infinity. One arm more, *apart*, repeats a weighted run with TRL's other order, each reward
normalised before the sum. And what no training reached: the best of 16 samples of the start, by the
truth (the oracle's point) and by the judges' sum at the ladder's weights.

What was tried before these settings is in the notebook, under 'What we tried'.

Every finished run is kept under `runs/week11-objectives/`, so an interrupted experiment goes on
where it stopped; the result is data/results/week11/objectives.json. `seconds` are each run's own,
training and measuring, whenever it was made.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _common import (
    RESULTS,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    frozen,
    heldout_prompts,
    log_series,
    metric_series,
    policy,
    shipped,
    train,
    write_record,
)

from postlab import objectives as aims
from postlab.course import listed
from postlab.profile import get_profile
from postlab.tinyworld import tasks

TARGET = RESULTS / "week11" / "objectives.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld",
    "evals.evaluation",
    "evals.suites",
    "sampling.rollout",
    "sampling.decoding",
    "sampling.trl",
    "objectives.mixing",
    "objectives.judges",
    "objectives.soups",
)
NAMES = ("helpful", "safe", "honest")
FAMILIES = ("howto", "unsafe", "unknown", "facts")
METRICS = ("helpfulness", "over_refusal", "safety", "honesty", "facts")
LADDER = (0.0, 0.5, 0.75, 1.125, 1.6875, 2.53125, math.inf)
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
DOSES = (2, 4, 7, 10, 14, 19, 24)
LOGGED = {"silent": "frac_reward_zero_std", "length": "completions/mean_length"}
LOGGED |= {name: f"rewards/{name}/mean" for name in NAMES}  # NaN where no prompt is a judge's
SETTINGS: dict[str, Any] = {
    "heldout": 100,  # prompts a family
    "samples": 16,  # of the start, for what no training reached
    "parts": 6,  # of a soup's weight
    "dpo": {"max_steps": 24, "learning_rate": 2e-4},
    "grpo": {
        "max_steps": 24, "learning_rate": 6e-4, "max_completion_length": 40,
        "per_device_train_batch_size": 32, "save_strategy": "no", "lr_scheduler_type": "constant",
    },
    "dual": {"rate": 0.2, "begin": 1.5, "memory": 0.6},
    "targeted": {"learning_rate": 2e-4},
}  # fmt: skip


def rung(r: float) -> tuple[float, float, float]:
    """The weights of helpfulness 1, safety r and honesty r, scaled to add up to 1.

    >>> rung(0.5), rung(math.inf)
    ((0.5, 0.25, 0.25), (0.0, 0.5, 0.5))
    """
    if math.isinf(r):
        return 0.0, 0.5, 0.5
    return 1 / (1 + 2 * r), r / (1 + 2 * r), r / (1 + 2 * r)


def label(weights: Sequence[float]) -> str:
    """Weights in the name of the file that keeps a run.

    >>> label(rung(0.5))
    '0.5 0.25 0.25'
    """
    return " ".join(map(str, listed(weights)))


def measured(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Each metric of every held-out prompt, the same in every run, and the seconds it took."""
    from postlab.evals import evaluate

    begun = time.perf_counter()
    frame = evaluate(model.eval(), tokenizer, heldout_prompts(SETTINGS["heldout"], FAMILIES))
    metrics = metric_series(frame, METRICS)
    return {"metrics": metrics, "seconds": round(time.perf_counter() - begun, 2)}


def start() -> dict[str, Any]:
    """The two starts, on the same prompts."""
    return {stage: measured(*policy(shipped(stage))) for stage in ("sft", "dpo")}


def recipe(stage: str) -> dict[str, Any]:
    """The trainer's arguments, all but `output_dir`, `seed` and the weights of rewards."""
    own = {"save_strategy": "no", "warmup_steps": 4} if stage == "dpo" else {}
    return {**dict(getattr(get_profile("tiny"), stage).trainer), **own, **SETTINGS[stage]}


def preferred(weights: Sequence[float], seed: int, folder: Path) -> dict[str, Any]:
    """DPO on pairs mixed by weight; the adapter is kept in `folder`."""
    begun, arguments = time.perf_counter(), recipe("dpo")
    model, tokenizer = policy(shipped("sft"))
    n = arguments["max_steps"] * arguments["per_device_train_batch_size"]
    rows = aims.objective_rows(dict(zip(NAMES, weights, strict=True)), n=n, seed=seed)
    trained = train("dpo", model, tokenizer, rows, seed=seed, arguments=arguments, packed=True)
    seconds = time.perf_counter() - begun
    model = trained.model.eval()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        model.save_pretrained(scratch, selected_adapters=["default"])
        tokenizer.save_pretrained(scratch)
        shutil.copytree(scratch, folder, dirs_exist_ok=True)
    run = {"weights": listed(weights), "seed": seed, "train_s": round(seconds, 2)}
    return run | measured(model, tokenizer)


def souped(weights: Sequence[float], seed: int, corners: Mapping[str, Path]) -> dict[str, Any]:
    """An exact average of the three one-objective adapters."""
    model, tokenizer = frozen(corners["helpful"])
    for name, folder in corners.items():
        model.load_adapter(str(folder), adapter_name=name)
    aims.soup(model, dict(zip(NAMES, weights, strict=True)))
    return {"weights": listed(weights), "seed": seed} | measured(model, tokenizer)


def constraint(
    levels: Mapping[str, float], history: list[dict[str, float]]
) -> tuple[Callable[[Any, int], None], Callable[..., list[float]]]:
    """Dual ascent: what moves the multipliers, TRL's reward weights, and what it watches.

    Returns:
        a function to call after each step, and a reward of 0 that measures the truth on the way.

    What is held to a level is the truth on the batch's prompts: the share of unsafe requests that
    were refused, of unanswerable ones that were admitted; a running mean, as a batch has few.
    """
    from postlab.tinyworld.oracle import read

    how, held = SETTINGS["dual"], {"safe": "safety", "honest": "honesty"}
    multipliers = dict.fromkeys(levels, how["begin"])
    means: dict[str, float] = {}

    def watch(prompts: list, completions: list, **columns: Any) -> list[float]:
        values_of: dict[str, list[float]] = {}
        for prompt, completion in zip(prompts, completions, strict=True):
            item = read(prompt[-1]["content"])
            scores = tasks.score(item, completion[-1]["content"], True)
            for name, metric in held.items():
                if metric in scores:
                    values_of.setdefault(name, []).append(scores[metric])
        for name, values in values_of.items():
            now = sum(values) / len(values)
            old = means.get(name, now)
            means[name] = how["memory"] * old + (1 - how["memory"]) * now
        return [0.0] * len(prompts)

    def ascend(trainer: Any, step: int) -> None:
        for name, level in levels.items():
            if name in means:
                multipliers[name] = aims.dual_step(
                    multipliers[name], means[name], level=level, rate=how["rate"]
                )
                trainer.reward_weights[NAMES.index(name)] = multipliers[name]
        history.append({f"{k} multiplier": v for k, v in multipliers.items()} | dict(means))

    return ascend, watch


def rewarded(
    weights: Sequence[float],
    seed: int,
    *,
    begin: str | Path | None = None,
    families: Sequence[str] = aims.PROMPT_FAMILIES,
    levels: Mapping[str, float] | None = None,
    doses: Sequence[int] = (),
    apart: bool = False,
    how: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """GRPO on the judges' weighted sum.

    Args:
        levels: what multipliers hold the truth of an objective to; they replace its weight.
        doses: steps after which to measure, besides the end.
        apart: normalise each reward before the sum.
        how: arguments of the trainer in place of the recipe's.
    """
    from postlab.sampling import rollout_func

    begun, arguments = time.perf_counter(), recipe("grpo") | dict(how or {})
    if apart:
        arguments |= {"multi_objective_aggregation": "normalize_then_sum"}
    model, tokenizer = policy(begin or shipped("sft"))
    groups = arguments["per_device_train_batch_size"] // arguments["num_generations"]
    rows = aims.prompts(n=arguments["max_steps"] * groups, seed=seed, families=families)
    judges, reward_weights = [aims.judge_reward(name) for name in NAMES], list(weights)
    history: list[dict[str, float]] = []
    looks: list[dict[str, Any]] = []
    ascend = None
    if levels:
        ascend, watch = constraint(levels, history)
        judges, reward_weights = [*judges, watch], [*reward_weights, 0.0]

    def after_step(trainer: Any, step: int) -> None:
        if ascend:
            ascend(trainer, step)
        if step in doses:
            looks.append({"dose": step} | measured(trainer.model, tokenizer))
            trainer.model.train()

    trained = train(
        "grpo", model, tokenizer, rows, seed=seed,
        arguments={"reward_weights": reward_weights, **arguments},
        packed=True, after_step=after_step, reward_funcs=judges, rollout_func=rollout_func,
    )  # fmt: skip
    seconds = time.perf_counter() - begun - sum(look["seconds"] for look in looks)
    run = {
        "weights": listed(weights),
        "seed": seed,
        "train_s": round(seconds, 2),
        "log": log_series(trained.log, LOGGED),
    }
    if history:
        run["dual"] = {
            name: listed(step.get(name, math.nan) for step in history) for name in history[-1]
        }
    if looks:
        return run | {"looks": looks, "seconds": sum(look["seconds"] for look in looks)}
    return run | measured(trained.model, tokenizer)


def best_of(seed: int) -> dict[str, Any]:
    """The best of the start's own samples: by the truth, and by the judges with each weight."""
    from postlab.evals import evaluate
    from postlab.tinyworld.oracle import METRIC, read

    begun, n = time.perf_counter(), SETTINGS["samples"]
    suite = heldout_prompts(SETTINGS["heldout"], FAMILIES)
    frame = evaluate(*policy(shipped("sft")), suite, temperature=1.0, samples=n, seed=seed)
    truth = {name: [] for name in METRICS}
    picked = [{name: [] for name in METRICS} for _ in LADDER]
    for _, rows in frame.groupby("id", sort=False):
        item, answers = read(rows["prompt"].iloc[0]), rows["answer"].tolist()
        worth = [[judge(item, text) or 0.0 for judge in aims.JUDGES.values()] for text in answers]
        sums = [
            [sum(w * x for w, x in zip(rung(r), one, strict=True)) for one in worth] for r in LADDER
        ]
        right = rows[METRIC[item.family]].tolist()
        for chosen, into in zip([right, *sums], [truth, *picked], strict=True):
            at = chosen.index(max(chosen))  # the first of the best: luck, and the same in each run
            for name in METRICS:
                value = rows[name].iloc[at]
                into[name] += [] if math.isnan(value) else [value]
    return {
        "seed": seed,
        "truth": {k: listed(v) for k, v in truth.items()},
        "judges": [{k: listed(v) for k, v in one.items()} for one in picked],
        "seconds": round(time.perf_counter() - begun, 2),
    }


def ways(seed: int, place: Path, part: Callable[..., dict[str, Any]]) -> dict[str, list]:
    """Every run of a seed, by its way; the adapters of DPO lie in `place`."""
    place.mkdir(parents=True, exist_ok=True)

    def dpo(weights: Sequence[float]) -> tuple[dict[str, Any], Path]:
        name = "-".join(f"{w:.3f}" for w in weights)
        folder = place / name
        return part(f"dpo {name} {seed}", partial(preferred, weights, seed, folder)), folder

    ladder = [rung(r) for r in LADDER]
    corners = {n: dpo([float(n == m) for m in NAMES]) for n in NAMES}
    folders = {name: folder for name, (_, folder) in corners.items()}
    mixed = [dpo(weights)[0] for weights in ladder]
    lightly = dpo(ladder[1])[1]
    soups = [*dict.fromkeys([*aims.simplex(SETTINGS["parts"]), *ladder])]
    begin = SETTINGS["dual"]["begin"]
    runs: dict[str, list] = {"corners": [run for run, _ in corners.values()], "mixed": mixed}
    runs["soups"] = [
        part(f"soup {label(w)} {seed}", partial(souped, w, seed, folders)) for w in soups
    ]
    runs["weighted"] = [part(f"grpo {label(w)} {seed}", partial(rewarded, w, seed)) for w in ladder]
    runs["lagrange"] = [
        part(
            f"lagrange {level} {seed}",
            partial(rewarded, (1.0, begin, begin), seed, levels={"safe": level, "honest": level}),
            dual=SETTINGS["dual"],
        )
        | {"level": level}
        for level in LEVELS
    ]
    for name, folder in (("targeted", lightly), ("targeted, shipped", shipped("dpo"))):
        run = partial(
            rewarded, (0.0, 1.0, 0.0), seed, begin=folder, families=("unsafe", "rough"),
            doses=DOSES, how=SETTINGS["targeted"],
        )  # fmt: skip
        runs[name] = [part(f"{name} {seed}", run, targeted=SETTINGS["targeted"])]
    runs["apart"] = [part(f"apart {seed}", partial(rewarded, ladder[4], seed, apart=True))]
    runs["best of"] = [part(f"best of {seed}", partial(best_of, seed))]
    return runs


def seconds_of(runs: Any) -> float:
    """All seconds of training and measuring that runs say of themselves."""
    if isinstance(runs, Mapping):
        own = runs.get("train_s", 0.0) + runs.get("seconds", 0.0)
        return own + sum(map(seconds_of, (v for k, v in runs.items() if k != "looks")))
    return sum(map(seconds_of, runs)) if isinstance(runs, list | tuple) else 0.0


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    begin = {stage: adapter_hash(stage) for stage in ("sft", "dpo")}
    settings = {
        "settings": {k: v for k, v in SETTINGS.items() if k not in ("dual", "targeted")},
        "start": begin, "recipes": [recipe("dpo"), recipe("grpo")],
        "kept": [NAMES, FAMILIES, METRICS, LOGGED, LADDER, DOSES],
    }  # fmt: skip

    def part(name: str, run: Callable[[], dict[str, Any]], **own: Any) -> dict[str, Any]:
        return arms.result(name, arm_key(settings | own, *CODE, own=__file__), run)

    key = arm_key(settings, *CODE, own=__file__)
    starts = part("start", start)
    runs = {str(seed): ways(seed, arms.folder / f"{key}-adapters-{seed}", part) for seed in SEEDS}
    # the corners of helpfulness and of the ladder's first rung are one run
    twice = sum(seconds_of(one["mixed"][0]) for one in runs.values())
    total = seconds_of(starts) + seconds_of(runs) - twice
    record = {
        "settings": SETTINGS,
        "ladder": [rung(r) for r in LADDER],
        "levels": LEVELS,
        "doses": DOSES,
        "start": starts,
        "runs": runs,
    }
    write_record(
        __file__, TARGET, record, seeds=SEEDS,
        compute_seconds=round(total), start={k: v[:12] for k, v in begin.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
