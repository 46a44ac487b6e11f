"""Week 4's recorded experiment: PPO and DPO from the same pairs, three seeds, several betas.

    python notebooks/experiments/week04_preferences.py                # preferences.json
    python notebooks/experiments/week04_preferences.py --matched yes  # matched.json, after it

It runs the notebook's own functions (the cells tagged "shared" of its source) for longer, measures
gold, proxy and KL on the way, and writes data/results/week04/preferences.json. Every finished run
is kept under `runs/week04-preferences/`, so an interrupted experiment goes on where it stopped. A
seed decides pairs, samples and updates; the policy all runs start from is the tiny profile's SFT of
seed 0, and there is only that one. No rate was tuned for one method more than for the other: both
train all weights with Adam from the same rate, falling to 0.

The second command trains DPO once more, at PPO's beta of 1.0, and pairs each run with PPO's
recorded run on the same pairs. It chooses no setting: rate, steps and prompts are those of the
first command, which no result of this comparison has influenced.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from _common import (
    RESULTS,
    ROOT,
    Arms,
    adapter_hash,
    arm_key,
    command_line,
    command_of,
    minutes,
    shipped,
    write_record,
)

from postlab.scratch import losses, ppo

NOTEBOOK = ROOT / "notebooks" / "src" / "week04_preference_theory.py"
TARGET = RESULTS / "week04" / "preferences.json"
SEEDS = (0, 1, 2)
CODE = ("scratch.ppo", "scratch.sampling", "scratch.losses", "scratch.policy_gradient")
CODE += ("scratch.tokens", "tinyworld")  # a run is repeated when one of them changes
SETTINGS = {
    "pairs": 200,
    "heldout_pairs": 400,
    "lr": 2e-4,
    "prompts_a_family": 40,
    "ppo": {"betas": [0.0, 0.3, 1.0], "steps": 60, "batch_size": 48},
    "dpo": {"betas": [0.1, 0.5], "steps": 60, "batch_size": 16},
    "measured_after": [0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 50, 60],
}
MATCHED = 1.0  # the beta at which PPO and DPO are compared


def shared_cells(source: str) -> str:
    """The code of the cells that the notebook and this experiment have in common."""
    cells = re.split(r"^# %%", source, flags=re.MULTILINE)
    return "\n".join(cell.partition("\n")[2] for cell in cells if 'tags=["shared"]' in cell)


def notebook(code: str) -> dict[str, Any]:
    """The notebook's functions, with policy and tokenizer loaded."""
    names: dict[str, Any] = {"dpo_loss": losses.dpo_loss}
    exec(compile(code, str(NOTEBOOK), "exec"), names)  # our own source, as the notebook runs it
    names["sft"], names["tokenizer"] = names["load_sft"](shipped("sft"))
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


def run(
    names: dict[str, Any],
    method: str,
    beta: float,
    seed: int,
    *,
    measured_after: Sequence[int] = SETTINGS["measured_after"],
) -> dict[str, Any]:
    """Train one policy; its curve, where its probability went, some last words, and seconds."""
    which = {"method": method, "beta": beta, "seed": seed}
    reward = names["scorer"](reward_model(names, seed)[0])
    rows = names["manners"]("train", SETTINGS["pairs"], seed)
    policy, curve, samples = names["learner"](names["sft"]), [], []
    begun, idle = time.perf_counter(), 0.0

    def watch(step: int) -> None:
        nonlocal idle
        paused = time.perf_counter()
        if step in measured_after:
            frame = names["measure"](policy, reward, n=SETTINGS["prompts_a_family"], seed=seed)
            means = frame[["proxy", "gold", "kl"]].mean().to_dict()
            means |= frame.groupby("family")["gold"].mean().to_dict()
            rounded = {name: round(float(value), 4) for name, value in means.items()}
            curve.append(which | {"step": step} | rounded)
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
    support = names["support"](policy, heldout[:150]).round(4).to_dict("records")
    return {
        "curve": curve,
        "support": [which | row for row in support],
        "samples": [which | row for row in samples],
        "train_s": seconds,
    }


def matched(arms: Arms, key: str, names: dict[str, Any]) -> None:
    """DPO at PPO's beta beside PPO's recorded runs, seed by seed: matched.json."""
    last = SETTINGS["ppo"]["steps"]
    earlier = json.loads(TARGET.read_text(encoding="utf-8"))
    ends = [row for row in earlier["curves"]
            if (row["method"], row["beta"], row["step"]) == ("ppo", MATCHED, last)]  # fmt: skip
    runs = [
        arms.result(
            f"matched dpo {seed}", key,
            partial(run, names, "dpo", MATCHED, seed, measured_after=(last,)),
        )
        for seed in SEEDS
    ]  # fmt: skip
    record = {
        "settings": SETTINGS | {"beta": MATCHED, "ppo_from": earlier["provenance"]},
        "ends": ends + [row for one in runs for row in one["curve"]],
        "support": [row for one in runs for row in one["support"]],
    }
    write_record(
        __file__, TARGET.with_name("matched.json"), record, seeds=SEEDS,
        packages=("torch", "transformers", "peft"),
        command=f"{command_of(__file__)} --matched yes",
        training_minutes=minutes(one["train_s"] for one in runs),
    )  # fmt: skip


def main() -> None:
    options = command_line(__doc__, matched={"help": "compare at the same beta"})
    arms = Arms(__file__, limit=options.runs)
    code = shared_cells(NOTEBOOK.read_text(encoding="utf-8"))
    settings = {"settings": SETTINGS, "notebook": code, "start": adapter_hash("sft")}
    key, names = arm_key(settings, *CODE, own=__file__), notebook(code)
    if options.matched:
        return matched(arms, key, names)
    runs = [
        arms.result(f"{method} {beta:g} {seed}", key, partial(run, names, method, beta, seed))
        for seed in SEEDS
        for method in ("ppo", "dpo")
        for beta in SETTINGS[method]["betas"]
    ]
    record = {
        "settings": SETTINGS,
        "reward_models": [reward_model(names, seed)[1] for seed in SEEDS],
        "curves": [row for one in runs for row in one["curve"]],
        "support": [row for one in runs for row in one["support"]],
        "samples": [row for one in runs for row in one["samples"]],
    }
    write_record(
        __file__, TARGET, record, seeds=SEEDS, packages=("torch", "transformers", "peft"),
        training_minutes=minutes(one["train_s"] for one in runs),
    )  # fmt: skip


if __name__ == "__main__":
    main()
