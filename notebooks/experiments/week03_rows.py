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

import argparse
import inspect
import os
import random
import shutil
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from postlab.fingerprint import digest
from postlab.lab import QUIET
from postlab.machine import run_root
from postlab.profile import get_profile
from postlab.recorded import finished, provenance, write_result
from postlab.sourcecode import package_source
from postlab.tinyworld import corpus, oracle, tasks

for name, value in QUIET.items():
    os.environ.setdefault(name, value)

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "data" / "results" / "week03" / "rows.json"
SEEDS = (0, 1, 2)
CODE = ("tinyworld.oracle", "tinyworld.corpus", "tinyworld.tasks", "tinyworld.words")
SIZES = (200, 800, 3200)
BATCH = 16
STEPS, MIX_STEPS = 200, 100  # 3,200 and 1,600 rows
PROMPTS = 80  # a family
SCORES = oracle.METRIC  # family: the metric that decides


def conditions() -> list[dict[str, Any]]:
    """Every run of one seed: experiment, condition, rows and steps."""
    made = [
        {"experiment": "quality", "rows": rows, "n": n, "steps": STEPS, "budget": "same compute"}
        for n in SIZES
        for rows in ("noisy", "clean")
    ]
    made += [made[-1] | {"rows": "scattered"}]
    made += [
        {"experiment": "quality", "rows": rows, "n": n, "steps": -(-n // BATCH)}
        | {"budget": "one epoch"}
        for n in SIZES[:-1]
        for rows in ("noisy", "clean")
    ]
    return made + [
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
        found = [row for row in rows if row["family"] == family][:count]
        assert len(found) == count, f"only {len(found)} rows of {family}, {count} are wanted"
        chosen += found
    return chosen


def spoilt(rows: list[dict], share: float, seed: int) -> list[dict]:
    """The same rows with a share of them given a wrong reply, whatever their family."""
    rng, found = random.Random(f"spoilt {seed}"), list(rows)
    able = [i for i, row in enumerate(rows) if oracle.judge(row) is not None]
    for index in rng.sample(able, round(share * len(able))):
        row = rows[index]
        item = oracle.read(row["prompt"][0]["content"])
        style = "worked" if item.family == "arithmetic" else None
        said = {"role": "assistant", "content": tasks.flaw(item, rng, style=style)}
        found[index] = row | {"completion": [said]}
    return found


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


def make(run: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one model and answer the held-out prompts: a string of 0 and 1 a family."""
    from unsloth import FastLanguageModel  # before trl, transformers and peft
    from datasets import Dataset  # isort: skip
    from trl import SFTConfig, SFTTrainer

    from postlab import evals
    from postlab.models import tiny_base

    profile, rows = get_profile("tiny"), rows_of(run, seed)
    random.Random(seed).shuffle(rows)
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(tiny_base()), load_in_4bit=False, max_seq_length=profile.max_length,
        dtype=profile.dtype, use_gradient_checkpointing=False,
    )  # fmt: skip
    model = FastLanguageModel.get_peft_model(model, **profile.lora, random_state=seed)
    how = dict(profile.sft.trainer) | {"max_steps": run["steps"], "save_strategy": "no"}
    work = run_root() / "week03-rows" / "trainer"
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
        args=SFTConfig(output_dir=str(work), seed=seed, **how),
    )
    begun = time.perf_counter()
    trainer.train()
    seconds = round(time.perf_counter() - begun, 1)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    shutil.rmtree(work, ignore_errors=True)
    suite = [row for row in tasks.heldout_suite(PROMPTS) if row["family"] in SCORES]
    frame = evals.evaluate(model, tokenizer, suite, seed=0)
    found = {
        "loss": round(losses[-1], 4),
        "train_s": seconds,
        "wrong_share": round(wrong_share(rows), 4),
        "families": dict(Counter(row["family"] for row in rows)),
        "lengths": frame.groupby("family")["length"].mean().round(1).to_dict(),
        "format": digits(frame["format"]),
        "over_refusal": digits(frame[frame["family"] == "howto"]["over_refusal"]),
        "scores": {},
    }
    for family, metric in SCORES.items():
        found["scores"][family] = digits(frame[frame["family"] == family][metric])
    return found


def digits(values: Any) -> str:
    """Scores of 0 and 1 in the order of the prompts, as text: half a million fit in a file."""
    return "".join(str(int(value)) for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10_000, help="make at most so many")
    left = parser.parse_args().runs
    profile = get_profile("tiny")
    settings = {
        "sft": dict(profile.sft.trainer), "lora": dict(profile.lora), "prompts": PROMPTS,
    }  # fmt: skip
    own = [inspect.getsource(step) for step in (pool, by_family, spoilt, rows_of, make)]
    key = digest(settings | {"code": package_source(*CODE), "own": own})[:12]
    parts, runs, begun = run_root() / "week03-rows", [], time.perf_counter()
    parts.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for run in conditions():
            part = parts / f"{key}-{name_of(run, seed)}.json"
            if not part.exists():
                if not left:
                    print("more runs are to be made: call this again")
                    return
                left -= 1
            found = finished(part, partial(make, run, seed), begun=begun)
            runs.append(run | {"seed": seed} | found)
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(
        command, seeds=SEEDS, packages=("torch", "transformers", "trl", "peft", "unsloth")
    )
    made_by["training_minutes"] = round(sum(run["train_s"] for run in runs) / 60, 1)
    result = {"provenance": made_by, "settings": settings, "runs": runs}
    write_result(TARGET, result)
    print(f"{TARGET.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
