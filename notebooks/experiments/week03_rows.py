"""Week 3's recorded experiments: which rows, and how many, make a good fine-tuning.

    python notebooks/experiments/week03_rows.py

*quality*: rows as their teachers wrote them ("noisy") against rows that the oracle found right
("clean"), 200, 800 or 3,200 of each, at the same compute (every run takes the same steps, few rows
are seen more often) and for one epoch each. "scattered" is 3,200 clean rows of which as many were
spoilt as are wrong among the noisy ones, but evenly over all families and by chance. All have the
same share of every family. *mix*: clean rows of all families, and the same number without one.

The recipe is that of the tiny profile through Unsloth; only the number of steps differs. A seed
decides rows, adapter and order. Every run ends with its held-out prompts answered greedily, the
same ones for all. A finished run is kept under `runs/week03-rows/`, so that an interrupted
experiment goes on where it stopped (`--runs N` makes at most N), and data/results/week03/rows.json
is written when all are there. No condition was tuned more than another.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import Any

from _common import (
    PACKAGES,
    RESULTS,
    Arms,
    arm_key,
    command_line,
    heldout_prompts,
    minutes,
    train,
    write_record,
)

from postlab.profile import get_profile
from postlab.tinyworld import corpus, oracle, tasks

TARGET = RESULTS / "week03" / "rows.json"
SEEDS = (0, 1, 2)
CODE = ("tinyworld.oracle", "tinyworld.corpus", "tinyworld.tasks", "tinyworld.words")
SIZES = (200, 800, 3200)
BATCH = 16
STEPS, MIX_STEPS = 200, 100  # 3,200 and 1,600 rows
PROMPTS = 80  # a family
SCORES = oracle.METRIC  # family: the metric that decides


def conditions() -> list[dict[str, Any]]:
    """Every run of one seed: experiment, condition, rows and steps."""
    runs = [
        {"experiment": "quality", "rows": rows, "n": n, "steps": STEPS, "budget": "same compute"}
        for n in SIZES
        for rows in ("noisy", "clean")
    ]
    runs += [runs[-1] | {"rows": "scattered"}]
    runs += [
        {"experiment": "quality", "rows": rows, "n": n, "steps": -(-n // BATCH)}
        | {"budget": "one epoch"}
        for n in SIZES[:-1]
        for rows in ("noisy", "clean")
    ]
    return runs + [
        {"experiment": "mix", "rows": "clean", "n": MIX_STEPS * BATCH, "steps": MIX_STEPS}
        | {"without": family}
        for family in (None, *tasks.FAMILIES)
    ]


def name_of(run: dict[str, Any], seed: int) -> str:
    parts = [run["experiment"], run["rows"], str(run["n"]), f"{run['steps']}steps"]
    return "-".join([*parts, run.get("without") or "", str(seed)]).replace("--", "-")


def pool(seed: int) -> tuple[list[dict], list[dict]]:
    """Rows as the teachers wrote them, and those of them that are right or cannot be judged."""
    rows = corpus.sft_rows(split="train", n=16_000, seed=1000 + seed)
    return rows, [row for row in rows if oracle.judge(row) is not False]


def by_family(rows: list[dict], n: int, *, without: str | None = None) -> list[dict]:
    """The first rows of each family, in its share of the SFT mix, `without` shared out."""
    mix = {family: part for family, part in corpus.SFT_MIX.items() if family != without}
    counts = {family: round(n * part / sum(mix.values())) for family, part in mix.items()}
    counts["arithmetic" if without != "arithmetic" else "facts"] += n - sum(counts.values())
    chosen: list[dict] = []
    for family, count in counts.items():
        matches = [row for row in rows if row["family"] == family][:count]
        assert len(matches) == count, f"only {len(matches)} rows of {family}, {count} are needed"
        chosen += matches
    return chosen


def spoilt(rows: list[dict], share: float, seed: int) -> list[dict]:
    """The same rows with a share of them given a wrong reply, whatever their family."""
    rng, spoilt_rows = random.Random(f"spoilt {seed}"), list(rows)
    able = [i for i, row in enumerate(rows) if oracle.judge(row) is not None]
    for index in rng.sample(able, round(share * len(able))):
        row = rows[index]
        item = oracle.read(row["prompt"][0]["content"])
        style = "worked" if item.family == "arithmetic" else None
        reply = {"role": "assistant", "content": tasks.flaw(item, rng, style=style)}
        spoilt_rows[index] = row | {"completion": [reply]}
    return spoilt_rows


def rows_of(run: dict[str, Any], seed: int) -> list[dict]:
    noisy, clean = pool(seed)
    if run["rows"] == "scattered":
        return spoilt(by_family(clean, run["n"]), wrong_share(by_family(noisy, run["n"])), seed)
    return by_family(
        noisy if run["rows"] == "noisy" else clean, run["n"], without=run.get("without")
    )


def wrong_share(rows: list[dict]) -> float:
    """Of the rows that the oracle can judge."""
    judged = [verdict for verdict in map(oracle.judge, rows) if verdict is not None]
    return judged.count(False) / len(judged)


def arguments(run: dict[str, Any]) -> dict[str, Any]:
    """The trainer's arguments of a run, all but `output_dir` and `seed`."""
    recipe = dict(get_profile("tiny").sft.trainer)
    return recipe | {"max_steps": run["steps"], "save_strategy": "no"}


def train_and_answer(run: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one model and answer the held-out prompts: a string of 0 and 1 per family."""
    from unsloth import FastLanguageModel  # before trl, transformers and peft

    from postlab import evals
    from postlab.models import tiny_base

    profile, rows = get_profile("tiny"), rows_of(run, seed)
    random.Random(seed).shuffle(rows)
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(tiny_base()), load_in_4bit=False, max_seq_length=profile.max_length,
        dtype=profile.dtype, use_gradient_checkpointing=False,
    )  # fmt: skip
    model = FastLanguageModel.get_peft_model(model, **profile.lora, random_state=seed)
    trained = train("sft", model, tokenizer, rows, seed=seed, arguments=arguments(run))
    losses = [entry["loss"] for entry in trained.log if "loss" in entry]
    frame = evals.evaluate(model, tokenizer, heldout_prompts(PROMPTS, SCORES), seed=0)
    return {
        "loss": round(losses[-1], 4),
        "train_s": round(trained.seconds, 1),
        "wrong_share": round(wrong_share(rows), 4),
        "families": dict(Counter(row["family"] for row in rows)),
        "lengths": frame.groupby("family")["length"].mean().round(1).to_dict(),
        "format": digits(frame["format"]),
        "over_refusal": digits(frame[frame["family"] == "howto"]["over_refusal"]),
        "scores": {
            family: digits(frame[frame["family"] == family][metric])
            for family, metric in SCORES.items()
        },
    }


def digits(values: Any) -> str:
    """Scores of 0 and 1 in the order of the prompts, as text: half a million fit in a file."""
    return "".join(str(int(value)) for value in values)


def main() -> None:
    arms = Arms(__file__, limit=command_line(__doc__).runs)
    profile = get_profile("tiny")
    settings = {
        "sft": dict(profile.sft.trainer), "lora": dict(profile.lora), "prompts": PROMPTS,
    }  # fmt: skip
    runs = []
    for seed in SEEDS:
        for run in conditions():
            key = arm_key(settings | {"run": run}, *CODE, own=__file__)
            result = arms.result(name_of(run, seed), key, partial(train_and_answer, run, seed))
            runs.append(run | {"seed": seed} | result)
    record = {"settings": settings, "runs": runs}
    took = minutes(run["train_s"] for run in runs)
    packages = (*PACKAGES, "unsloth")
    write_record(__file__, TARGET, record, seeds=SEEDS, packages=packages, training_minutes=took)


if __name__ == "__main__":
    main()
