"""`make stages` in short steps, killed at random: `python killed_stages.py SEED KILLS DRAW`.

A process of its own for every week, as make starts them, but forked from one that has loaded the
libraries: every moment then falls into work on the run folders. $POSTLAB_RUNS is the folder for the
undisturbed runs and the killed ones. Prints one JSON object a line: a kill and what it left, then
each comparison with the undisturbed run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

WEEKS = ("03", "05", "07", "12")
STAGES = ("sft", "dpo", "grpo")
SHORT = {"max_steps": 8, "save_steps": 2, "logging_steps": 1}
LIMIT_S = 900
ROOT = Path(__file__).resolve().parents[2]


def load() -> None:
    """Import what the weeks import, with the settings of `postlab.start`; shorten the stages."""
    from postlab.lab import QUIET

    os.environ |= QUIET | {"UNSLOTH_FORCE_CPU": "1", "UNSLOTH_FORCE_GPU_PATH": "1"}
    os.environ |= {"POSTLAB_PROFILE": "tiny", "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}
    import unsloth  # noqa: F401, I001 (before transformers)
    import matplotlib.pyplot  # noqa: F401
    import torch
    import trl  # noqa: F401

    import postlab.profile

    torch.set_num_threads(1)  # a forked child hangs in a pool of threads that it doesn't have
    tiny = postlab.profile.PROFILES["tiny"]
    stages = {}
    for name in STAGES:
        stage = getattr(tiny, name)
        stages[name] = dataclasses.replace(stage, rows=400, trainer=dict(stage.trainer) | SHORT)
    postlab.profile.PROFILES["tiny"] = dataclasses.replace(tiny, eval_prompts=2, **stages)


def week(number: str) -> None:
    script = str(ROOT / "notebooks" / "stages.py")
    sys.argv = [script, number]
    runpy.run_path(script, run_name="__main__")


def forked(work, log: Path) -> int:
    """Do `work` in a forked process; returns its number."""
    child = os.fork()
    if child:
        return child
    output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def all_weeks(runs: Path, log: Path) -> None:
    os.setsid()  # so that one signal kills the week as well
    os.environ["POSTLAB_RUNS"] = str(runs)
    for number in WEEKS:
        if os.waitstatus_to_exitcode(os.waitpid(forked(lambda n=number: week(n), log), 0)[1]):
            raise SystemExit(f"week {number} failed")


def make_stages(
    runs: Path, log: Path, *, kill_after: float = LIMIT_S, of_a_write: bool = False
) -> bool:
    """Run the main job, or kill it after so many seconds; True if it came to its end.

    Half of the kills count from the job's next manifest or checkpoint, so that they fall into the
    training, the evaluation and the saving of each stage, and not into the cells before them.
    """

    def saved() -> list[int]:
        files = [*runs.glob("*/*/*/manifest.json"), *runs.glob("*/*/*/checkpoints/*/sha256.json")]
        times = []
        for file in files:
            with suppress(FileNotFoundError):  # an old checkpoint that is being deleted
                times.append(file.stat().st_mtime_ns)
        return sorted(times)

    job, before = forked(lambda: all_weeks(runs, log), log), saved()
    waiting, until = of_a_write, time.monotonic() + kill_after
    while waiting or time.monotonic() < until:
        if waiting and saved() != before:
            waiting, until = False, time.monotonic() + kill_after
        ended, status = os.waitpid(job, os.WNOHANG)
        if ended:
            assert status == 0, log.read_text(encoding="utf-8")[-4000:]
            return True
        time.sleep(0.02 if waiting else 0.005)
    os.killpg(job, signal.SIGKILL)
    os.waitpid(job, 0)
    assert kill_after < LIMIT_S, log.read_text(encoding="utf-8")[-4000:]
    return False


def outcome(runs: Path, seed: int) -> dict:
    """What a finished job left: its summary and losses without timings, its weights, its litter."""
    summary = json.loads((runs / "tiny" / "summary.json").read_text(encoding="utf-8"))
    for name in ("wall_s", "peak_rss_gb"):
        del summary[name]
    for entry in summary["stages"]:
        for name in ("train_s", "eval_s"):
            del entry[name]
    folder = runs / "tiny" / f"seed-{seed}"
    logs, weights = {}, {}
    for stage in STAGES:
        state = json.loads((folder / stage / "trainer_state.json").read_text(encoding="utf-8"))
        logs[stage] = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
        manifest = json.loads((folder / stage / "manifest.json").read_text(encoding="utf-8"))
        weights[stage] = manifest["weights_sha256"]
    litter = sorted(
        path.relative_to(runs).as_posix()
        for pattern in (".*.tmp-*", ".*.old-*", "*.previous*")
        for path in runs.rglob(pattern)
    )
    return {"summary": summary, "losses": logs, "weights": weights, "litter": litter}


def left_by_a_kill(runs: Path, seed: int) -> str:
    """Where the job was: the last stage with a folder, and what is in that."""
    folder = runs / "tiny" / f"seed-{seed}"
    stage = next((s for s in reversed(STAGES) if (folder / s / "manifest.json").exists()), None)
    if stage is None:
        return "before sft"
    manifest = json.loads((folder / stage / "manifest.json").read_text(encoding="utf-8"))
    if manifest["status"] == "complete":
        return f"{stage} complete, {'' if 'eval' in manifest else 'not '}evaluated"
    saved = [int(p.name[11:]) for p in (folder / stage / "checkpoints").glob("checkpoint-*")]
    return f"{stage} at checkpoint {max(saved, default=0)}"


def main() -> None:
    seed, kills, draw = (int(text) for text in sys.argv[1:4])
    runs = Path(os.environ["POSTLAB_RUNS"])
    os.environ["POSTLAB_SEED"] = str(seed)
    load()
    random_moments = random.Random(draw)
    whole, killed, log = runs / "whole", runs / "killed", runs.with_suffix(".log")
    begun = time.monotonic()
    assert make_stages(whole, log)
    length = time.monotonic() - begun
    expected = outcome(whole, seed)
    done = 0
    while True:
        if done < kills:
            of_a_write = random_moments.random() < 0.5
            moment = random_moments.uniform(0, length / (20 if of_a_write else 2))
            if not make_stages(killed, log, kill_after=moment, of_a_write=of_a_write):
                done += 1
                line = {"kill": done, "s": round(moment, 2), "of_a_write": of_a_write}
                print(json.dumps(line | {"left": left_by_a_kill(killed, seed)}), flush=True)
                continue
        else:
            assert make_stages(killed, log)
        got = outcome(killed, seed)
        same = {name: got[name] == expected[name] for name in got}
        print(json.dumps({"same": same, "litter": got["litter"], "whole_s": length}), flush=True)
        if done == kills:
            return
        shutil.rmtree(killed)  # it was quicker than the kills: once more from nothing


if __name__ == "__main__":
    main()
