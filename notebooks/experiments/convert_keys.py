"""Give the shipped stages the current keys, after a check; nothing is trained or generated.

    python notebooks/experiments/convert_keys.py

A key covers all the code that a run reaches, so a rewrite changes it even if no result changes.
Run this script after such a rewrite, and only then. It can't tell whether the code still does the
same thing: the tests can, and so can `make stages SEED=1` before and after the rewrite. This script
checks the rest. It runs each week's script with the shipped stages of seed 0. A stage is converted
only if its settings, LoRA, model, tokenizer, rows, parent's weights and versions match its
manifest; whether it was trained without padding is not compared. An evaluation is converted only if
its prompts and weights match, and scoring its answers again gives the same scores. Each manifest
records its earlier key and what was checked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "data" / "tiny-stages"
WEEKS = ("03", "05", "07", "09", "10", "11")
CHECKED_PARTS = ("config", "lora", "model", "tokenizer", "data", "parent_weights", "versions")


def converted_training(run: Any, key: str, parts: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a shipped stage under the current key.

    Raises:
        SystemExit: if anything differs besides the code's hashes.
    """
    from postlab.runs import changes
    from postlab.storage import file_hash, folder_hashes

    manifest = run.manifest
    before = {name: manifest.get(name) for name in CHECKED_PARTS}
    after = {name: parts.get(name) for name in CHECKED_PARTS}
    before["versions"], after["versions"] = map(_releases, (before["versions"], after["versions"]))
    # older manifests don't say whether padding was left out, which changes results only by rounding
    for side in (before, after):
        side["model"] = {k: v for k, v in side["model"].items() if k != "without_padding"}
    different = changes(before, after)
    if different:
        raise SystemExit(f"{run.stage}: not the same training: {', '.join(different)}")
    files = {f"model/{name}": sha for name, sha in folder_hashes(run.model_dir).items()}
    files["trainer_state.json"] = file_hash(run.folder / "trainer_state.json")
    return (
        manifest
        | parts
        | {"key": key, "files": files, "versions": manifest["versions"]}
        | noted(manifest, "training", manifest["key"], list(CHECKED_PARTS))
    )


def converted_evaluation(
    run: Any, frame: Any, suite: str, settings: dict[str, Any], key: str, notes: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of a shipped evaluation under the current key.

    Raises:
        SystemExit: if the prompts, a score or the weights differ from what they are now.
    """
    from postlab.evals import score_again, suite_rows
    from postlab.runs import changes

    rows = suite_rows(suite, settings["n"], settings["seed"])
    prompts = {str(row["id"]): row["prompt"][-1]["content"] for row in rows}
    if dict(zip(frame["id"], frame["prompt"], strict=True)) != prompts:
        raise SystemExit(f"{run.stage}: its prompts are not those of the suite {suite!r}")
    again = score_again(frame, suite, n=settings["n"], seed=settings["seed"])
    if not again.equals(frame):
        odd = [name for name in frame if not again[name].equals(frame[name])]
        raise SystemExit(f"{run.stage}: scored again, its answers differ in {', '.join(odd)}")
    manifest = run.manifest
    stored = manifest["eval"]
    # An evaluation of old says only in its manifest which versions it was made with.
    before = stored.get("made_by") or {"versions": manifest["versions"]}
    after = {name: notes["made_by"][name] for name in before}
    if "made_by" not in stored:
        before = {"versions": {name: before["versions"][name] for name in after["versions"]}}
    kept = before["versions"]
    before, after = ({**side, "versions": _releases(side["versions"])} for side in (before, after))
    notes = {**notes, "made_by": {**notes["made_by"], "versions": kept}}
    if different := changes(before, after):
        raise SystemExit(f"{run.stage}: not the same evaluation: {', '.join(different)}")
    if notes["made_by"]["weights"][0] != manifest.get(
        "weights_sha256", notes["made_by"]["weights"][0]
    ):
        raise SystemExit(f"{run.stage}: other weights than its manifest's")
    return (
        manifest
        | {"eval": stored | {"key": key} | notes}
        | noted(
            manifest,
            "evaluation",
            stored["key"],
            ["prompts", "every score of every answer", "weights", "versions"],
        )
    )


def _releases(versions: dict[str, str | None]) -> dict[str, str | None]:
    """Versions without the build's device: 2.13.0+cpu and 2.13.0 are one release, as in a key."""
    return {name: version and version.partition("+")[0] for name, version in versions.items()}


def noted(manifest: dict[str, Any], what: str, key: str, checked: list[str]) -> dict[str, Any]:
    """The manifest's list of conversions with this one added."""
    day = datetime.now(UTC).date().isoformat()
    entry = {"what": what, "date": day, "from_key": key, "the_same": checked}
    return {"converted": [*manifest.get("converted", []), entry]}


def convert(week: str) -> None:
    """Run a week's script with its tests for 'is this the same?' replaced by ones that convert."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    import stages

    from postlab import runs
    from postlab.lab import Lab

    run_class, prepare, load = runs.Run, runs.Run._prepare, runs.Run.load_eval
    train = runs.Run.train

    def written(run: Any, manifest: dict[str, Any]) -> None:
        run._write(manifest)
        shipped = {name: value for name, value in manifest.items() if name != "shipped"}
        text = json.dumps(shipped, indent=1, ensure_ascii=False)
        (SHIPPED / run.stage / "manifest.json").write_text(text, encoding="utf-8")

    def prepared(run: Any, key: str, parts: dict[str, Any]) -> None:
        manifest = run.manifest or {}
        if manifest.get("shipped") and manifest.get("key") != key:
            written(run, converted_training(run, key, parts))
            print(f"{run.stage}: training converted")
        prepare(run, key, parts)

    def evaluated(lab: Any, run: Any, model: Any, tokenizer: Any, ref: Any) -> Any:
        runs.adopt_shipped(run)
        key, notes, settings = lab._evaluation_key(run, model, tokenizer, ref)
        stored = (run.manifest or {}).get("eval") or {}
        if (run.manifest or {}).get("shipped") and (
            stored.get("key") != key or stored.get("scorers") != notes["scorers"]
        ):
            frame = load(run)
            suite = lab.profile.suite
            written(run, converted_evaluation(run, frame, suite, settings, key, notes))
            print(f"{run.stage}: evaluation converted")
        return plain(lab, run, model, tokenizer, ref)

    def trained(run: Any, trainer: Any) -> Any:
        runs.adopt_shipped(run)
        return train(run, trainer)

    plain = Lab._evaluate
    run_class.train = trained
    run_class._prepare = prepared
    Lab._evaluate = evaluated
    sys.argv = ["stages.py", week]
    stages.main()


def main() -> None:
    if len(sys.argv) == 2:
        convert(sys.argv[1])
        return
    for week in WEEKS:  # each in its own process, because Unsloth's patches can't be undone
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {
                "POSTLAB_RUNS": folder,
                "POSTLAB_PROFILE": "tiny",
                "POSTLAB_SEED": "0",
                "MPLBACKEND": "Agg",
            }
            subprocess.run([sys.executable, __file__, week], env=environment, check=True)


if __name__ == "__main__":
    main()
