"""Week 6's recorded experiment: what each seed of the main chain does on each held-out prompt.

    python notebooks/experiments/week06_seeds.py

For each seed, SFT and DPO of the tiny profile are trained as weeks 3 and 5 train them (the training
code is that of week07_seeds.py), and both answer the held-out prompts greedily. Seed 0 is the chain
that ships. Every finished seed is kept under `runs/week06-seeds/`, so an interrupted experiment
goes on where it stopped; the result is written to data/results/week06/seeds.json.

Kept: for each seed, stage and metric a string with one digit per prompt, 1 for yes and 0 for no.
The prompts are those of `heldout_suite(n=200)` that the metric applies to, in their order.
`data/results/tiny/summary.json` has the intervals of these chains, but nothing per prompt, and
without that the variance can't be split.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from week07_seeds import trained

# isort: split
from _common import PACKAGES, RESULTS, Arms, arm_key, command_line, minutes, write_record

from postlab.lab import Lab
from postlab.profile import get_profile
from postlab.runs import digest

TARGET = RESULTS / "week06" / "seeds.json"
SEEDS = tuple(range(8))
CODE = ("tinyworld", "evals.evaluation", "evals.forms", "sampling.decoding")
PROMPTS = 200  # per family
METRICS = (
    *("arithmetic", "lists", "facts"),
    *("helpfulness", "over_refusal", "safety", "honesty", "format"),
)


def answered(model: Any, tokenizer: Any) -> dict[str, Any]:
    """What a model does on the held-out prompts, as `digits` has it."""
    from postlab.evals import evaluate
    from postlab.tinyworld.tasks import heldout_suite

    suite = [row for row in heldout_suite(n=PROMPTS) if row["family"] != "arithmetic_sampled"]
    return digits(evaluate(model.eval(), tokenizer, suite))


def digits(frame: Any) -> dict[str, Any]:
    """A digit per held-out prompt by metric, and a hash of the prompts' ids."""
    frame = frame[frame["family"] != "arithmetic_sampled"]
    scores = {name: "".join(str(int(value)) for value in frame[name].dropna()) for name in METRICS}
    return {"ids": digest([*frame["id"]]), "scores": scores}


def run_seed(seed: int) -> dict[str, Any]:
    """Train a seed's SFT and DPO, and answer with both; seed 0 is read from what ships."""
    lab, begun = Lab(get_profile("tiny"), seed), time.perf_counter()
    stages, keys = {}, {}
    for stage, parent in (("sft", "base"), ("dpo", "sft")):
        if seed == 0:
            stages[stage], keys[stage] = digits(lab.results(stage)[stage]), "shipped"
            continue
        run, model, tokenizer = trained(lab, stage, parent)
        stages[stage], keys[stage] = answered(model, tokenizer), run.manifest["key"]
    took = round(time.perf_counter() - begun, 1)
    return {"seed": seed, "keys": keys, "seconds": took, "stages": stages}


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    profile = get_profile("tiny")
    recipes = {stage: dict(getattr(profile, stage).trainer) for stage in ("sft", "dpo")}
    key = arm_key({"recipes": recipes, "prompts": PROMPTS}, *CODE, own=__file__)
    chains = [arms.result(f"seed {seed}", key, partial(run_seed, seed)) for seed in SEEDS]
    assert len({stage["ids"] for chain in chains for stage in chain["stages"].values()}) == 1
    seeds = [
        {
            "seed": chain["seed"],
            "keys": chain["keys"],
            "scores": {stage: part["scores"] for stage, part in chain["stages"].items()},
        }
        for chain in chains
    ]
    record = {"prompts": PROMPTS, "seeds": seeds}
    write_record(
        __file__, TARGET, record, seeds=SEEDS, packages=(*PACKAGES, "unsloth"),
        minutes=minutes(chain["seconds"] for chain in chains),
    )  # fmt: skip


if __name__ == "__main__":
    main()
