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

What came before, all with seed 0. DPO of 60 steps at 4e-4 on the safe judge alone refused
everything, plain how-to's and facts included; 24 steps at 2e-4 leave a specialist that still
answers. GRPO with 24 steps at 4e-4 was not settled, 40 at 6e-4 cost more time than there was.
Multipliers: a rate of 1 and of 0.25 (40 steps) ran away while the policy was still learning, to 12
and to 5.7, and over-refusal rose to 55% at level 0.8; beginning at 1 with a rate of 0.1, the policy
learned to comply at once and then drew no refusal any more, so that no multiplier could reach it
(safety 0 to 17% at all seven levels). 1.5 and 0.2 were then chosen on levels 0.6 and 0.9. Targeted
runs at the other runs' rate, after DPO on equally mixed pairs, refused everything at the third
dose; hence a third of the rate, and a start that leans to helpfulness.

Every finished run is kept under `runs/week11-objectives/`, so an interrupted experiment goes on
where it stopped; the result is data/results/week11/objectives.json. `seconds` are each run's own,
training and measuring, whenever it was made.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from postlab import objectives as aims
from postlab.fingerprint import digest
from postlab.lab import Lab
from postlab.machine import run_root
from postlab.profile import get_profile
from postlab.recorded import finished, listed, provenance, write_result
from postlab.sourcecode import package_source
from postlab.tinyworld import tasks

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "data" / "results" / "week11" / "objectives.json"
SEEDS = (0, 1, 2)
CODE = (
    "tinyworld", "evals", "suites", "rollout", "decoding", "rollout_trl", "objectives",
    "objectives_judges", "objectives_soup",
)  # fmt: skip
NAMES = ("helpful", "safe", "honest")
ASKED = ("howto", "unsafe", "unknown", "facts")
METRICS = ("helpfulness", "over_refusal", "safety", "honesty", "facts")
LADDER = (0.0, 0.5, 0.75, 1.125, 1.6875, 2.53125, math.inf)
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
DOSES = (2, 4, 7, 10, 14, 19, 24)
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


def policy(folder: str | Path | None = None) -> tuple[Any, Any]:
    """The shipped SFT adapter, or another one, trainable, in float32, and its tokenizer."""
    from postlab.models import load_policy, trainable

    folder = folder or Lab(get_profile("tiny"), 0).checkpoint("sft")
    model, tokenizer = load_policy(folder, profile="tiny", bits=32)
    return trainable(model), tokenizer


def measured(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Each metric of every held-out prompt, the same in every run, and the seconds it took."""
    from postlab.evals import evaluate

    begun = time.perf_counter()
    suite = tasks.heldout_suite(n=SETTINGS["heldout"], seed=0)
    frame = evaluate(model, tokenizer, [row for row in suite if row["family"] in ASKED])
    metrics = {name: listed(frame[name].dropna()) for name in METRICS}
    return {"metrics": metrics, "seconds": round(time.perf_counter() - begun, 2)}


def start() -> dict[str, Any]:
    """The two starts, on the same prompts."""
    return {
        stage: measured(*policy(Lab(get_profile("tiny"), 0).checkpoint(stage)))
        for stage in ("sft", "dpo")
    }


def recipe(stage: str) -> dict[str, Any]:
    """The trainer's arguments, all but `output_dir`, `seed` and the weights of rewards."""
    own = {"save_strategy": "no", "warmup_steps": 4} if stage == "dpo" else {}
    return {**dict(getattr(get_profile("tiny"), stage).trainer), **own, **SETTINGS[stage]}


def preferred(weights: Sequence[float], seed: int, folder: Path) -> dict[str, Any]:
    """DPO on pairs mixed by weight; the adapter is kept in `folder`."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from postlab.packing import without_padding

    begun, given = time.perf_counter(), recipe("dpo")
    model, tokenizer = policy()
    n = given["max_steps"] * given["per_device_train_batch_size"]
    mix = dict(zip(NAMES, weights, strict=True))
    rows = aims.objective_rows(mix, n=n, seed=seed)
    with tempfile.TemporaryDirectory() as place:
        trainer = DPOTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows).remove_columns("objective"),
            args=DPOConfig(output_dir=place, seed=seed, **given),
        )
        with without_padding(trainer.model):
            trainer.train()
    seconds = time.perf_counter() - begun
    model = trainer.model.eval()
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        model.save_pretrained(made, selected_adapters=["default"])
        tokenizer.save_pretrained(made)
        shutil.copytree(made, folder, dirs_exist_ok=True)
    found = measured(model, tokenizer)
    return {"weights": listed(weights), "seed": seed, "train_s": round(seconds, 2)} | found


def souped(weights: Sequence[float], seed: int, corners: Mapping[str, Path]) -> dict[str, Any]:
    """An exact average of the three one-objective adapters."""
    from postlab.models import load_policy

    model, tokenizer = load_policy(corners["helpful"], profile="tiny", bits=32)
    for name, folder in corners.items():
        model.load_adapter(str(folder), adapter_name=name)
    aims.soup(model, dict(zip(NAMES, weights, strict=True)))
    return {"weights": listed(weights), "seed": seed} | measured(model.eval(), tokenizer)


def constraint(levels: Mapping[str, float], kept: list[dict[str, float]]) -> tuple[Any, Callable]:
    """A callback that moves the multipliers of TRL's reward weights, and how it is told.

    What is held to a level is the truth on the batch's prompts: the share of unsafe requests that
    were refused, of unanswerable ones that were admitted; a running mean, as a batch has few.
    """
    from transformers import TrainerCallback

    from postlab.tinyworld.oracle import read

    how, held = SETTINGS["dual"], {"safe": "safety", "honest": "honesty"}
    multipliers = dict.fromkeys(levels, how["begin"])
    means: dict[str, float] = {}

    def watch(prompts: list, completions: list, **columns: Any) -> list[float]:
        seen: dict[str, list[float]] = {}
        for prompt, completion in zip(prompts, completions, strict=True):
            item = read(prompt[-1]["content"])
            scores = tasks.score(item, completion[-1]["content"], True)
            for name, metric in held.items():
                if metric in scores:
                    seen.setdefault(name, []).append(scores[metric])
        for name, values in seen.items():
            now = sum(values) / len(values)
            old = means.get(name, now)
            means[name] = how["memory"] * old + (1 - how["memory"]) * now
        return [0.0] * len(prompts)

    class DualAscent(TrainerCallback):
        trainer: Any = None

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            for name, level in levels.items():
                if name in means:
                    multipliers[name] = aims.dual_step(
                        multipliers[name], means[name], level=level, rate=how["rate"]
                    )
                    self.trainer.reward_weights[NAMES.index(name)] = multipliers[name]
            kept.append({f"{k} multiplier": v for k, v in multipliers.items()} | dict(means))

    return DualAscent(), watch


def doser(trainer: Any, tokenizer: Any, doses: Sequence[int], looks: list[dict[str, Any]]) -> Any:
    """A callback that measures the policy after some numbers of steps."""
    from transformers import TrainerCallback

    class Doser(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in doses:
                looks.append(
                    {"dose": state.global_step} | measured(trainer.model.eval(), tokenizer)
                )
                trainer.model.train()

    return Doser()


def rewarded(
    weights: Sequence[float],
    seed: int,
    *,
    begin: str | Path | None = None,
    families: Sequence[str] = aims.FAMILIES,
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
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from postlab.packing import without_padding
    from postlab.rollout_trl import rollout_func

    begun, given = time.perf_counter(), recipe("grpo") | dict(how or {})
    model, tokenizer = policy(begin)
    groups = given["per_device_train_batch_size"] // given["num_generations"]
    rows = aims.prompts(n=given["max_steps"] * groups, seed=seed, families=families)
    kept: list[dict[str, float]] = []
    looks: list[dict[str, Any]] = []
    judges, own = [aims.judged(name) for name in NAMES], list(weights)
    if levels:
        callback, watch = constraint(levels, kept)
        judges, own = [*judges, watch], [*own, 0.0]
    if apart:
        given |= {"multi_objective_aggregation": "normalize_then_sum"}
    with tempfile.TemporaryDirectory() as place:
        trainer = GRPOTrainer(
            model=model,
            processing_class=tokenizer,
            reward_funcs=judges,
            train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(output_dir=place, seed=seed, reward_weights=own, **given),
            rollout_func=rollout_func,
        )
        if levels:
            callback.trainer = trainer
            trainer.add_callback(callback)
        if doses:
            trainer.add_callback(doser(trainer, tokenizer, doses, looks))
        with without_padding(trainer.model):
            trainer.train()
    seconds = time.perf_counter() - begun - sum(look["seconds"] for look in looks)
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    logged = {"silent": "frac_reward_zero_std", "length": "completions/mean_length"}
    logged |= {name: f"rewards/{name}/mean" for name in NAMES}
    found = {
        "weights": listed(weights),
        "seed": seed,
        "train_s": round(seconds, 2),
        "log": {
            name: listed(math.nan if entry[key] is None else entry[key] for entry in log)
            for name, key in logged.items()
        },  # a batch may hold no prompt that a judge has something to say of
    }
    if kept:
        found["dual"] = {
            name: listed(step.get(name, math.nan) for step in kept) for name in kept[-1]
        }
    if looks:
        return found | {"looks": looks, "seconds": sum(look["seconds"] for look in looks)}
    return found | measured(trainer.model.eval(), tokenizer)


def best_of(seed: int) -> dict[str, Any]:
    """The best of the start's own samples: by the truth, and by the judges with each weight."""
    from postlab.evals import evaluate
    from postlab.tinyworld.oracle import METRIC, read

    begun, n = time.perf_counter(), SETTINGS["samples"]
    suite = tasks.heldout_suite(n=SETTINGS["heldout"], seed=0)
    suite = [row for row in suite if row["family"] in ASKED]
    frame = evaluate(*policy(), suite, temperature=1.0, samples=n, seed=seed)
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
    found = {"seed": seed, "truth": {k: listed(v) for k, v in truth.items()}}
    found["judges"] = [{k: listed(v) for k, v in one.items()} for one in picked]
    return found | {"seconds": round(time.perf_counter() - begun, 2)}


def arms(seed: int, place: Path, part: Callable[..., dict[str, Any]]) -> dict[str, list]:
    """Every run of a seed, by its way; the adapters of DPO lie in `place`."""
    place.mkdir(parents=True, exist_ok=True)

    def trained(weights: Sequence[float]) -> tuple[dict[str, Any], Path]:
        name = "-".join(f"{w:.3f}" for w in weights)
        folder = place / name
        return part(f"dpo {name} {seed}", partial(preferred, weights, seed, folder)), folder

    ladder = [rung(r) for r in LADDER]
    corners = {n: trained([float(n == m) for m in NAMES]) for n in NAMES}
    folders = {name: folder for name, (_, folder) in corners.items()}
    mixed = [trained(weights)[0] for weights in ladder]
    lightly = trained(ladder[1])[1]
    soups = [*dict.fromkeys([*aims.simplex(SETTINGS["parts"]), *ladder])]
    shipped = Lab(get_profile("tiny"), 0).checkpoint("dpo")
    rough = ("unsafe", "rough")
    found: dict[str, list] = {"corners": [run for run, _ in corners.values()], "mixed": mixed}
    found["soups"] = [
        part(f"soup {label(w)} {seed}", partial(souped, w, seed, folders)) for w in soups
    ]
    found["weighted"] = [
        part(f"grpo {label(w)} {seed}", partial(rewarded, w, seed)) for w in ladder
    ]
    begin = SETTINGS["dual"]["begin"]
    found["lagrange"] = [
        part(
            f"lagrange {level} {seed}",
            partial(rewarded, (1.0, begin, begin), seed, levels={"safe": level, "honest": level}),
            dual=SETTINGS["dual"],
        )
        | {"level": level}
        for level in LEVELS
    ]
    for name, start_ in (("targeted", lightly), ("targeted, shipped", shipped)):
        run = partial(
            rewarded, (0.0, 1.0, 0.0), seed, begin=start_, families=rough, doses=DOSES,
            how=SETTINGS["targeted"],
        )  # fmt: skip
        file = f"{name.replace(', ', '-')} {seed}"
        found[name] = [part(file, run, targeted=SETTINGS["targeted"])]
    at = ladder[4]
    found["apart"] = [part(f"apart {seed}", partial(rewarded, at, seed, apart=True))]
    found["best of"] = [part(f"best of {seed}", partial(best_of, seed))]
    return found


def seconds_of(found: Any) -> float:
    """All seconds of training and measuring that runs say of themselves."""
    if isinstance(found, Mapping):
        own = found.get("train_s", 0.0) + found.get("seconds", 0.0)
        return own + sum(map(seconds_of, (v for k, v in found.items() if k != "looks")))
    return sum(map(seconds_of, found)) if isinstance(found, list | tuple) else 0.0


def main() -> None:
    parts = run_root() / "week11-objectives"
    parts.mkdir(parents=True, exist_ok=True)
    steps = (
        rung, policy, measured, start, recipe, preferred, souped, constraint, doser, rewarded,
        best_of,
    )  # fmt: skip
    begin = {
        stage: hashlib.sha256(
            (
                Path(Lab(get_profile("tiny"), 0).checkpoint(stage)) / "adapter_model.safetensors"
            ).read_bytes()
        ).hexdigest()
        for stage in ("sft", "dpo")
    }
    common = {k: v for k, v in SETTINGS.items() if k not in ("dual", "targeted")}
    made = {"own": [inspect.getsource(step) for step in steps], "settings": common}
    made |= {"package": package_source(*CODE), "start": begin}
    made |= {"recipes": [recipe("dpo"), recipe("grpo")], "names": [NAMES, ASKED, METRICS, DOSES]}
    key, begun = digest(made)[:12], time.perf_counter()

    def part(name: str, make: Callable[[], dict[str, Any]], **own: Any) -> dict[str, Any]:
        file = f"{digest(made | own)[:12]}-{name.replace(' ', '_')}.json"
        return finished(parts / file, make, begun=begun)

    starts = part("start", start)
    runs = {str(seed): arms(seed, parts / f"{key}-adapters-{seed}", part) for seed in SEEDS}
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(command, seeds=SEEDS, packages=("torch", "transformers", "trl", "peft"))
    # the corners of helpfulness and of the ladder's first rung are one run
    twice = sum(seconds_of(one["mixed"][0]) for one in runs.values())
    total = seconds_of(starts) + seconds_of(runs) - twice
    made_by |= {"compute_seconds": round(total), "start": {k: v[:12] for k, v in begin.items()}}
    write_result(
        TARGET,
        {
            "provenance": made_by,
            "settings": SETTINGS,
            "ladder": [rung(r) for r in LADDER],
            "levels": LEVELS,
            "doses": DOSES,
            "start": starts,
            "runs": runs,
        },
    )
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
