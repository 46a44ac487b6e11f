"""Week 4's recorded experiment: PPO and DPO from the same pairs, three seeds, several betas.

    python notebooks/experiments/week04_preferences.py

It runs the notebook's own functions (the cells tagged "shared" of its source) for longer, measures
gold, proxy and KL on the way, and writes data/results/week04/preferences.json. Every finished run
is kept under `runs/week04-preferences/`, so an interrupted experiment goes on where it stopped. A
seed decides pairs, samples and updates; the policy all runs start from is the tiny profile's SFT of
seed 0, and there is only that one. No rate was tuned for one method more than for the other: both
train all weights with Adam from the same rate, falling to 0.
"""

from __future__ import annotations

import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from postlab.fingerprint import digest
from postlab.lab import Lab
from postlab.machine import run_root
from postlab.profile import get_profile
from postlab.recorded import finished, provenance, write_result
from postlab.scratch import losses, ppo
from postlab.sourcecode import package_source

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "src" / "week04_preference_theory.py"
TARGET = ROOT / "data" / "results" / "week04" / "preferences.json"
SEEDS = (0, 1, 2)
CODE = ("scratch.ppo", "scratch.sampling", "scratch.losses", "scratch.policy_gradient")
CODE += ("scratch.tokens", "tinyworld")  # a run is made again when a line in them changes
SETTINGS = {
    "pairs": 200,
    "heldout_pairs": 400,
    "lr": 2e-4,
    "prompts_a_family": 40,
    "ppo": {"betas": [0.0, 0.3, 1.0], "steps": 60, "batch_size": 48},
    "dpo": {"betas": [0.1, 0.5], "steps": 60, "batch_size": 16},
    "measured_after": [0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 50, 60],
}


def shared_cells(source: str) -> str:
    """The code of the cells that the notebook and this experiment have in common."""
    cells = re.split(r"^# %%", source, flags=re.MULTILINE)
    return "\n".join(cell.partition("\n")[2] for cell in cells if 'tags=["shared"]' in cell)


def notebook(code: str) -> dict[str, Any]:
    """The notebook's functions, with policy and tokenizer loaded."""
    names: dict[str, Any] = {
        "bradley_terry_loss": losses.bradley_terry_loss,
        "dpo_loss": losses.dpo_loss,
    }
    exec(compile(code, str(NOTEBOOK), "exec"), names)  # our own source, as the notebook runs it
    lab = Lab(get_profile("tiny"), 0)
    names["sft"], names["tokenizer"] = names["load_sft"](lab.checkpoint("sft"))
    names["END"] = names["end_of_turn"](names["tokenizer"])
    return names


def reward_model(names: dict[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """A reward model of this seed's pairs, and how often it is right on held-out ones."""
    torch.manual_seed(seed)
    rows = names["manners"]("train", SETTINGS["pairs"], seed)
    model = names["fit"](names["RewardModel"](names["sft"]), rows)
    heldout = names["manners"]("heldout", SETTINGS["heldout_pairs"], seed + 100)
    better, worse = (model(side) for side in names["both_sides"](heldout))
    right = (better > worse).float()
    return model, {"seed": seed, "accuracy": round(float(right.mean()), 4), "n": len(heldout)}


def run(names: dict[str, Any], method: str, beta: float, seed: int) -> dict[str, Any]:
    """Train one policy; its curve, where its probability went, some last words, and seconds."""
    which = {"method": method, "beta": beta, "seed": seed}
    reward = names["scorer"](reward_model(names, seed)[0])
    rows = names["manners"]("train", SETTINGS["pairs"], seed)
    policy, curve, samples = names["learner"](names["sft"]), [], []
    begun, idle = time.perf_counter(), 0.0

    def watch(step: int) -> None:
        nonlocal idle
        paused = time.perf_counter()
        if step in SETTINGS["measured_after"]:
            frame = names["measure"](policy, reward, n=SETTINGS["prompts_a_family"], seed=seed)
            found = frame[["proxy", "gold", "kl"]].mean().to_dict()
            found |= frame.groupby("family")["gold"].mean().to_dict()
            shown = {name: round(float(value), 4) for name, value in found.items()}
            curve.append(which | {"step": step} | shown)
            samples[:] = frame.groupby("family", sort=False).head(1).to_dict("records")
        idle += time.perf_counter() - paused

    watch(0)
    how = {name: SETTINGS[method][name] for name in ("steps", "batch_size")}
    how |= {"beta": beta, "lr": SETTINGS["lr"], "seed": seed, "watch": watch}
    if method == "dpo":
        names["train_dpo"](policy, rows, **how)
    else:
        prompts = names["asked"](rows)
        critic = ppo.ValueHead(names["sft"].config.hidden_size)
        how |= {"ref": names["sft"], "value_head": critic, "eos": names["END"]}
        ppo.train(policy, prompts, reward, max_new_tokens=40, **how)
    seconds = round(time.perf_counter() - begun - idle, 1)
    heldout = names["manners"]("heldout", SETTINGS["heldout_pairs"], seed + 100)
    given = names["support"](policy, heldout[:150]).round(4).to_dict("records")
    return {
        "curve": curve,
        "support": [which | row for row in given],
        "samples": [which | row for row in samples],
        "train_s": seconds,
    }


def main() -> None:
    code = shared_cells(NOTEBOOK.read_text(encoding="utf-8"))
    made = {"settings": SETTINGS, "code": code, "package": package_source(*CODE)}
    key, parts = digest(made)[:12], run_root() / "week04-preferences"
    parts.mkdir(parents=True, exist_ok=True)
    names, runs, begun = notebook(code), [], time.perf_counter()
    for seed in SEEDS:
        for method in ("ppo", "dpo"):
            for beta in SETTINGS[method]["betas"]:
                part = parts / f"{key}-{method}-{beta:g}-{seed}.json"
                runs.append(finished(part, partial(run, names, method, beta, seed), begun=begun))
    command = f"python {Path(__file__).resolve().relative_to(ROOT)}"
    made_by = provenance(command, seeds=SEEDS, packages=("torch", "transformers", "peft"))
    made_by["training_minutes"] = round(sum(part["train_s"] for part in runs) / 60, 1)
    result = {
        "provenance": made_by,
        "settings": SETTINGS,
        "reward_models": [reward_model(names, seed)[1] for seed in SEEDS],
        "curves": [row for part in runs for row in part["curve"]],
        "support": [row for part in runs for row in part["support"]],
        "samples": [row for part in runs for row in part["samples"]],
    }
    write_result(TARGET, result)
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
