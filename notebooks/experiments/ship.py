"""Ship a real run with the package: `make stages && python notebooks/experiments/ship.py [smol]`.

Copies the comparison of every seed into data/results/<profile>, beside the seeds that were shipped
before, and, for `tiny`, seed 0's stages into data/tiny-stages (for notebooks that are opened
without the earlier ones), those of weeks 9 to 11 too where they were made (`make stages ALL=1`).
For `smol` also how many of a sum's draws were right, for pass@k. Left out: checkpoints, and the
path of this machine's base, which a loader fills in (`models.repair_adapter`).
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from postlab.profile import STAGE_WEEKS, data_dir
from postlab.report import draw_stages
from postlab.runs import CHAIN, STAGES, note_run, run_root
from postlab.storage import atomic_folder

MANIFEST = "manifest.json"
KEPT = ("trainer_state.json", "eval.jsonl", "samples.jsonl")


def ship(runs: Path, data: Path) -> None:
    """Copy the runs of a profile, from the folder called like it, into the package's `data`.

    A seed that is made again takes the place of the one shipped before, with all its stages.

    Raises:
        FileNotFoundError: if a stage or the comparison is missing.
        ValueError: if a stage beside the main line is another SFT's child: nobody could adopt it.
    """
    seeds = sorted(runs.glob("seed-*"))
    if runs.name == "tiny" and runs / "seed-0" in seeds:
        for stage in _made(runs / "seed-0"):
            with atomic_folder(data / "tiny-stages" / stage) as folder:
                _ship_stage(runs / "seed-0" / stage, folder)
    results = data / "results" / runs.name
    results.mkdir(parents=True, exist_ok=True)
    summary = json.loads((runs / "summary.json").read_text(encoding="utf-8"))
    for seed in seeds:
        stages = _made(seed)
        for old in results.glob(f"{seed.name}-*.{MANIFEST}"):
            old.unlink()
        for stage in stages:
            _copy_manifest(seed / stage / MANIFEST, results / f"{seed.name}-{stage}.{MANIFEST}")
    _ship_comparison(summary, results)
    if runs.name == "smol":
        _ship_draws(seeds, results / "draws.json")
    if runs / "seed-0" in seeds:
        _note_verified(runs, data)


def _ship_comparison(summary: dict[str, Any], results: Path) -> None:
    """Write summary.json and stages.png of these seeds and of the others that are shipped."""
    target = results / "summary.json"
    if target.exists():
        before = json.loads(target.read_text(encoding="utf-8"))["stages"]
        made = {entry["seed"] for entry in summary["stages"]}
        summary["stages"] += [entry for entry in before if entry["seed"] not in made]
        summary["stages"].sort(key=lambda entry: entry["seed"])  # stable: stages keep their order
    manifests = [json.loads(f.read_text(encoding="utf-8")) for f in results.glob(f"*.{MANIFEST}")]
    summary["wall_s"] = round(sum(made.get("wall_s") or 0.0 for made in manifests), 3)
    summary["peak_rss_gb"] = max(made.get("peak_rss_gb") or 0.0 for made in manifests)
    target.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (results / "stages.png").write_bytes(draw_stages(summary))


def _ship_draws(seeds: list[Path], target: Path) -> None:
    """Write {seed: {stage: {"n": draws of a sum, "right": how many of each were}}}, sums by id."""
    told = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    for seed in seeds:
        told[seed.name] = stages = {}
        for stage in _made(seed):
            text = (seed / stage / "samples.jsonl").read_text(encoding="utf-8")
            rows = [json.loads(line) for line in text.split("\n") if line]
            draws = [row for row in rows if row["family"] == "arithmetic_sampled"]
            right = dict.fromkeys(sorted(row["id"] for row in draws), 0)
            for row in draws:
                right[row["id"]] += round(row["arithmetic_sampled"])
            stages[stage] = {"n": len(draws) // len(right), "right": list(right.values())}
    text = json.dumps(dict(sorted(told.items())), indent=None, separators=(",", ":"))
    target.write_text(text + "\n", encoding="utf-8")


def _made(seed: Path) -> list[str]:
    """The main line, whether it is there or not, and what else was made of it, whole."""
    there = {stage: _manifest(seed / stage) for stage in STAGES if stage not in CHAIN}
    whole = {stage: made for stage, made in there.items() if made.get("status") == "complete"}
    for stage, made in whole.items():
        if made["parent_weights"] != _manifest(seed / made["parent"]).get("weights_sha256"):
            raise ValueError(
                f"{seed.name}/{stage} was made from another {made['parent']} than the one beside "
                f"it; make it again: make week N={STAGE_WEEKS[stage]} SEED={seed.name[5:]}"
            )
    return [stage for stage in STAGES if stage in CHAIN or stage in whole]


def _manifest(stage: Path) -> dict[str, Any]:
    file = stage / MANIFEST
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _ship_stage(source: Path, target: Path) -> None:
    trained = source.name != "base"
    _copy_manifest(source / MANIFEST, target / MANIFEST)
    for name in KEPT:
        if trained or name != "trainer_state.json":
            shutil.copyfile(source / name, target / name)
    if trained:
        shutil.copytree(source / "model", target / "model")
        config = target / "model" / "adapter_config.json"
        if config.exists():  # a process reward model is whole
            _name_base(config)


def _copy_manifest(source: Path, target: Path) -> None:
    """Without the mark of a copy, which a stage carries that came with the package itself."""
    made = json.loads(source.read_text(encoding="utf-8"))
    made.pop("shipped", None)
    target.write_text(json.dumps(made, indent=1, ensure_ascii=False), encoding="utf-8")


def _note_verified(runs: Path, data: Path) -> None:
    for stage, week in [*STAGE_WEEKS.items(), ("grpo", "12")]:
        if made := _manifest(runs / "seed-0" / stage):
            note_run(data, runs.name, [f"week{week}"], date=made["date"], device=made["device"])


def _name_base(config: Path) -> None:
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = "tiny-base"
    settings["target_modules"] = sorted(settings["target_modules"])  # a set: its order wanders
    config.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "tiny"
    ship(run_root() / chosen, data_dir())
